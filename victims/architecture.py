"""Victims and surrogates by name: open_clip's architectures and this suite's small ones, built from a seed."""

import logging
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import open_clip
import torch
from open_clip.factory import get_model_config

from benchmark.core.cache_dir import user_path
from benchmark.core.digests import file_sha256
from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError
from benchmark.core.parameters import check_ranges, ranged
from benchmark.core.precision import Precision
from benchmark.core.registry import convert, unknown
from benchmark.core.seeding import derive_seed, seeded_globals
from benchmark.core.spec import Spec
from victims.clip import Clip
from victims.tokens import VOCABULARY_SIZE

CONFIGS = Path(__file__).parent / "configs"


@cache
def model_names() -> tuple[str, ...]:
    """Names of all models in scope: our small ones first, then open_clip's with CLIP's own BPE tokenizer."""
    open_clip.add_model_config(CONFIGS)
    ours = sorted(path.stem for path in CONFIGS.glob("*.json"))
    theirs = [name for name in open_clip.list_models() if name not in ours and _has_clip_tokenizer(name)]
    return (*ours, *theirs)


def _has_clip_tokenizer(name: str) -> bool:
    config = get_model_config(name)
    text = config["text_cfg"]
    others = {"hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs"} & set(text)
    return not others and text.get("vocab_size", VOCABULARY_SIZE) == VOCABULARY_SIZE and "multimodal_cfg" not in config


@dataclass(frozen=True)
class Architecture:
    """A CLIP model by name: one of open_clip's, or a JSON file under ``victims/configs``.

    Attributes:
        name: e.g. ``tiny``, ``RN50``, ``ViT-B-32``.
        pretrained: an open_clip tag or a checkpoint file to start from; ``None`` starts from scratch. A file brings
            weights alone: images are then normalised with OpenAI's mean and standard deviation, and the activation is
            that of ``name``. Weights that were trained with others have to be named by their tag.
        repeat: which of several victims of one seed, which share data and poison; all random choices of its training,
            start weights among them, are its own.
    """

    name: str
    pretrained: str | None = None
    repeat: int = ranged(1, 1)

    def __post_init__(self) -> None:
        check_ranges(f"victim {self.name}", self)

    @classmethod
    def from_spec(cls, spec: Spec) -> "Architecture":
        """Check a spec such as ``RN50``, ``ViT-B-32[pretrained=FILE]`` or ``tiny[repeat=2]``.

        Raises:
            UsageError: unknown model, a model with another tokenizer than CLIP's, an unknown parameter or checkpoint.
        """
        if spec.name not in model_names():
            if spec.name in open_clip.list_models():
                raise UsageError(
                    f"victim '{spec.name}' uses another tokenizer than CLIP's BPE (or a captioning decoder), "
                    "so triggers do not carry over to it; it is out of scope"
                )
            raise UsageError(unknown("victim", spec.name, list(model_names())))
        if others := spec.params.keys() - {"pretrained", "repeat"}:
            raise UsageError(unknown(f"parameter of victim {spec.name}", min(others), ["pretrained", "repeat"]))
        pretrained = spec.params.get("pretrained")
        if pretrained == "none":
            pretrained = None
        if pretrained and (file := user_path(pretrained)).is_file():
            pretrained = str(file)
        elif pretrained:
            tags = open_clip.list_pretrained_tags_by_model(spec.name)
            if pretrained not in tags:
                raise UsageError(
                    f"{spec}: '{pretrained}' is neither a file nor a tag of {spec.name} ({tags or 'none'})"
                )
            _require_activation(spec, pretrained)
        return cls(spec.name, pretrained, convert(spec.params.get("repeat", 1), int, f"victim {spec.name}: repeat"))

    def __str__(self) -> str:
        given = {"pretrained": self.pretrained, "repeat": self.repeat if self.repeat > 1 else None}
        return str(Spec(self.name, {key: str(value) for key, value in given.items() if value is not None}))

    def identity(self) -> list[Any]:
        """What decides the model besides the seed: its name and configuration, the checkpoint's content or tag, and
        which repeat it is unless the first.
        """
        return self._identity

    def __getstate__(self) -> dict[str, Any]:
        # Not the identity: where this is read, another file may lie at the checkpoint's path.
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def _identity(self) -> list[Any]:
        # All cells share the object, and a checkpoint is large.
        model_names()
        file = Path(self.pretrained or "")
        start = file_sha256(file) if self.pretrained and file.is_file() else self.pretrained
        return [self.name, get_model_config(self.name), start, *self._repeat]

    def seed_of(self, seed: int) -> int:
        """What a victim's random choices derive from, where a cell has that seed."""
        return derive_seed(seed, "victim", *self._repeat)

    @property
    def _repeat(self) -> list[int]:
        return [self.repeat] if self.repeat > 1 else []

    @cached_property
    def resolution(self) -> int:
        """Input resolution in pixels."""
        model_names()
        return int(get_model_config(self.name)["vision_cfg"].get("image_size", 224))

    def build(self, seed: int, device: torch.device, precision: Precision = "auto", plain: bool = False) -> "Clip":
        """The model with weights drawn from ``seed`` (or read from the checkpoint), on ``device``; see :class:`Clip`.

        Raises:
            UsageError: the checkpoint cannot be fetched or read, or a ResNet is to be shared among CPU processes.
        """
        model_names()
        with seeded_globals(derive_seed(seed, "weights")), _quiet():
            try:
                model = open_clip.create_model(
                    self.name, pretrained=self.pretrained, precision="fp32", weights_only=True
                )
            except Exception as error:  # what is read where weights are expected raises errors of every kind
                if self.pretrained is None:
                    raise
                raise UsageError(f"cannot load the victim {self}: {_reason(error)}") from error
        return Clip(Processes.current().synchronised(model, device), device, precision, plain)


def _require_activation(spec: Spec, tag: str) -> None:
    """Refuse weights that were trained with another activation: open_clip warns and computes with the wrong one.

    Raises:
        UsageError: OpenAI's and a few others' have QuickGELU, and open_clip has models of their own for these.
    """
    trained = bool(open_clip.get_pretrained_cfg(spec.name, tag).get("quick_gelu", False))
    if trained != bool(get_model_config(spec.name).get("quick_gelu", False)):
        other = f"{spec.name}-quickgelu" if trained else spec.name.removesuffix("-quickgelu")
        raise UsageError(f"{spec}: these weights were trained with another activation; take {other}[pretrained={tag}]")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UnpicklingError) or "weights_only" in text:
        return "not a file of weights alone"  # PyTorch would advise to unpickle it anyway, which may execute code
    return textwrap.shorten(f"{type(error).__name__}: {text}", 240, placeholder=" …")


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns on the root logger that a model from scratch has no pretrained weights; that is the point."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
