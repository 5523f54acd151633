"""The poison: a bounded 8-bit perturbation per image and a text trigger per image, and where they come from."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from benchmark.data import CaptionDataset, LazyImages
from benchmark.errors import PoisonError
from benchmark.files import replacing


@dataclass(frozen=True)
class Poison:
    """What an attack adds to a training set.

    Attributes:
        delta: (N, 3, H, W) int8 in steps of 1/255, in memory or memory-mapped; ``None`` for captions only.
        trigger: N strings of k words each, blank-separated, or ``None`` for images only.
        eps: the bound on ``delta``, in 1/255.
        fingerprint: of the clean training set this poison belongs to.
        per_row: one perturbation per image–caption pair instead of one per image; N is then the number of pairs.
        provenance: attack, parameters, seed, surrogate, versions and crafting log, for the record.
    """

    delta: NDArray[np.int8] | None
    trigger: list[str] | None
    eps: int
    fingerprint: str
    per_row: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.delta is not None:
            if self.delta.dtype != np.int8:
                raise PoisonError(f"a perturbation is int8, got {self.delta.dtype}")
            largest = max(int(self.delta.max(initial=0)), -int(self.delta.min(initial=0)))
            if largest > self.eps:
                raise PoisonError(f"the poison exceeds its bound: |δ| reaches {largest}/255, ε is {self.eps}/255")

    def protect(self, dataset: CaptionDataset) -> CaptionDataset:
        """The protected data set, as it would be published: 8-bit images and captions with the trigger in front.

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
                [f"{trigger} {caption}" for caption in own]
                for trigger, own in zip(self.trigger, base.captions, strict=True)
            ]
        return replace(base, images=images, captions=captions)

    def save(self, path: Path) -> None:
        """Write the poison as safetensors, atomically: one byte per pixel value, the rest in the header."""
        header = {
            "format": "unlearnable-bench poison 1",
            "eps": self.eps,
            "fingerprint": self.fingerprint,
            "per_row": self.per_row,
            "trigger": self.trigger,
            "provenance": self.provenance,
        }
        tensors = {} if self.delta is None else {"delta": np.ascontiguousarray(self.delta)}
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"poison": json.dumps(header)})

    @classmethod
    def load(cls, path: Path) -> "Poison":
        """Read a poison and check its bound; the noise is memory-mapped. Nothing in the file is executed.

        Raises:
            PoisonError: no such file, not a poison, or beyond its own ε.
        """
        if not path.is_file():
            raise PoisonError(f"no poison file {path}")
        try:
            # As numpy arrays the library would copy tensors into memory; as torch tensors it maps them.
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["poison"])
                delta = file.get_tensor("delta").numpy() if "delta" in file.keys() else None  # noqa: SIM118
            if delta is not None:
                delta.flags.writeable = False
            fields = {name: header[name] for name in ("eps", "fingerprint", "per_row", "trigger", "provenance")}
            return cls(delta=delta, **fields)
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise PoisonError(f"{path} is not a readable poison file: {error}") from error
