"""The poison: a bounded 8-bit perturbation per image and a text trigger per image, and where they come from."""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from attacks.placement import FRONT, Place, placed
from benchmark.core.atomic_files import replacing, temporary_folder
from benchmark.core.errors import DamagedPoison, PoisonError, UsageError, in_one_line
from benchmark.core.strict_json import Amount, Number, as_kind, parse_json
from benchmark.data import CaptionDataset, LazyImages
from victims.tokens import has_special_token

_CHUNK = 128  # images of noise hashed at a time


@dataclass(frozen=True)
class Poison:
    """What an attack adds to a training set.

    Making one raises :class:`PoisonError` if noise or triggers are not as described here.

    Attributes:
        delta: (N, 3, H, W) int8 in steps of 1/255, in memory or memory-mapped; ``None`` for captions only.
        trigger: N strings of k words each, separated by blanks, or ``None`` for images only. They are printable text
            without CLIP's special tokens, as a caption file keeps them on one line and a tokenizer reads them. One
            without a word leaves the captions of its image as they are.
        eps: the bound on ``delta``, in 1/255.
        fingerprint: of the clean training set this poison belongs to.
        per_row: one perturbation per image–caption pair instead of one per image; N is then the number of pairs.
        provenance: attack, parameters, seed, surrogate, versions and crafting log, for the record: values of JSON, all
            numbers finite. ``seconds`` is a number and ``loss_per_round`` a list of numbers.
        place: where the triggers stand in their captions.
    """

    delta: NDArray[np.int8] | None
    trigger: list[str] | None
    eps: int
    fingerprint: str
    per_row: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)
    place: Place = FRONT

    def __post_init__(self) -> None:
        try:
            for name in ("eps", "fingerprint", "per_row", "trigger"):
                as_kind(getattr(self, name), _Header.__annotations__[name], name)
            if not isinstance(self.place, Place):
                raise TypeError(f"place: Expected `Place`, such as Place('end'), got `{type(self.place).__name__}`")
            as_kind(asdict(self.place), Place, "place")
            as_kind(self.provenance, _Provenance, "provenance")
            json.dumps(self.provenance, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PoisonError(f"not a poison: {error}") from error
        if self.delta is not None:
            if not isinstance(self.delta, np.ndarray):
                raise PoisonError(f"a perturbation is a NumPy array of int8, got a {type(self.delta).__name__}")
            if self.delta.dtype != np.int8:
                raise PoisonError(f"a perturbation is int8, got {self.delta.dtype}")
            if self.delta.ndim != 4 or 0 in self.delta.shape[1:]:
                raise PoisonError(f"a perturbation is (N, 3, H, W), got {self.delta.shape}")
            # The counts are compared first: a file with a wrong count may hold terabytes of noise, which would all be
            # read to find the largest value.
            if self.trigger is not None and len(self.trigger) != len(self.delta):
                raise DamagedPoison(f"there are {len(self.trigger):,} triggers for {len(self.delta):,} images")
            if self.largest > self.eps:
                raise DamagedPoison(
                    f"the poison exceeds its bound: |δ| reaches {self.largest}/255, ε is {self.eps}/255"
                )
        for row, trigger in enumerate(self.trigger or []):
            if not trigger.isprintable():
                raise PoisonError(f"the trigger of row {row} has a line break or control character: {trigger!a}")
            if has_special_token(trigger):
                raise PoisonError(f"the trigger of row {row} has a special token of CLIP's: {trigger!a}")

    @cached_property
    def largest(self) -> int:
        """The largest |δ|, in 1/255; 0 without noise."""
        return 0 if self.delta is None else max(int(self.delta.max(initial=0)), -int(self.delta.min(initial=0)))

    def protect(self, dataset: CaptionDataset) -> CaptionDataset:
        """The protected data set, as it would be published: 8-bit images and captions with their trigger.

        The noise is added as images are read, so neither the images nor the noise are copied.

        Raises:
            PoisonError: the poison was crafted for other data.
        """
        if dataset.fingerprint != self.fingerprint:
            raise PoisonError(
                f"the poison belongs to other data (fingerprint {self.fingerprint[:12]}…) "
                f"than {dataset.name} ({dataset.fingerprint[:12]}…)"
            )
        base = dataset.by_row() if self.per_row else dataset
        images, captions = base.images, base.captions
        if self.delta is not None:
            if self.delta.shape != base.images.shape:
                raise PoisonError(f"the poison is {self.delta.shape}, the images are {base.images.shape}")
            images = LazyImages(base.images, noise=self.delta)
        if self.trigger is not None:
            if len(self.trigger) != len(base):
                raise PoisonError(f"the poison has {len(self.trigger)} triggers for {len(base)} images")
            captions = [
                [placed(trigger, caption, self.place) for caption in own]
                for trigger, own in zip(self.trigger, base.captions, strict=True)
            ]
        return replace(base, images=images, captions=captions)

    def save(self, path: Path) -> None:
        """Write the poison as safetensors, atomically: one byte per pixel value, the rest and a hash in the header.

        Raises:
            UsageError: the folder cannot be written to, or the disk is full.
        """
        content = {
            "format": "unlearnable-bench poison 1",
            "eps": self.eps,
            "fingerprint": self.fingerprint,
            "per_row": self.per_row,
            "trigger": self.trigger,
            "provenance": self.provenance,
            # Left out for triggers in front, so that such files keep their bytes.
            **({} if self.place == FRONT else {"place": asdict(self.place)}),
        }
        header = json.dumps(content)
        tensors = {} if self.delta is None else {"delta": np.ascontiguousarray(self.delta)}
        # The library writes into a file that it names itself: in this folder it goes once a killed process has left it.
        with replacing(path) as temporary, temporary_folder(path.parent, path.name) as folder:
            written = folder / path.name
            try:
                save_file(tensors, written, metadata={"poison": header, "sha256": _digest(header, self.delta)})
            except SafetensorError as error:  # an OSError reaches Python as this
                if found := re.search(r"\(os error (\d+)\)", str(error)):
                    raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
                raise UsageError(f"cannot write {path}: {in_one_line(error)}") from error
            written.replace(temporary)

    @staticmethod
    def is_whole(path: Path) -> bool:
        """Whether a file has a poison's header and the length that this names; its content is not read.

        A file that cannot be read now may be whole.
        """
        try:
            with path.open("rb"), safe_open(path, framework="pt") as file:
                return {"poison", "sha256"} <= (file.metadata() or {}).keys()
        except SafetensorError:
            return False
        except OSError:
            return True

    @classmethod
    def load(cls, path: Path) -> "Poison":
        """Read a poison, check its bound and its hash; the noise is memory-mapped. Nothing in the file is executed.

        Raises:
            DamagedPoison: beyond its own ε, or not the content that was saved.
            PoisonError: no such file, not a poison, or a trigger that no caption file or tokenizer would keep.
        """
        if not path.is_file():
            raise PoisonError(f"no poison file {path}")
        try:
            # Opened first, as the library calls every file that it cannot open a missing one. As numpy arrays it would
            # copy tensors into memory; as torch tensors it maps them.
            with path.open("rb"), safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                delta = file.get_tensor("delta").numpy() if "delta" in file.keys() else None  # noqa: SIM118
            if delta is not None:
                delta.flags.writeable = False
            poison = cls(delta=delta, **vars(as_kind(parse_json(metadata["poison"]), _Header)))
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise PoisonError(f"{path} is not a readable poison file: {error}") from error
        if metadata.get("sha256") != _digest(metadata["poison"], delta):
            raise DamagedPoison(f"{path} is damaged: its content does not match its SHA-256")
        return poison


class _Provenance(TypedDict, total=False):
    """What is read from a poison's provenance, which may hold more."""

    seconds: Amount
    loss_per_round: list[Number]


@dataclass(frozen=True)
class _Header:
    """What a file says of its poison, besides the noise."""

    eps: Annotated[int, Meta(ge=0, le=127)]
    fingerprint: str
    per_row: bool
    trigger: list[str] | None
    provenance: dict[str, Any]
    place: Place = FRONT


def _digest(header: str, delta: NDArray[np.int8] | None) -> str:
    """SHA-256 of a poison's header, the noise's shape and the noise, read in parts, as it may not fit in memory."""
    digest = hashlib.sha256(header.encode())
    if delta is not None:
        digest.update(repr(delta.shape).encode())
        for start in range(0, len(delta), _CHUNK):
            digest.update(np.ascontiguousarray(delta[start : start + _CHUNK]).data)
    return digest.hexdigest()
