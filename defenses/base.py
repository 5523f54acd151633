"""The defense contract: hooks in a victim's training; unless overridden, each leaves the training as it is."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.core.errors import UsageError
from benchmark.core.parameters import check_ranges, describe_fields
from benchmark.core.registry import Registry, label_of
from benchmark.data import CaptionDataset

Reduction = Literal["mean", "none"]
Rows = NDArray[np.int64]
Score = Callable[[Rows], NDArray[np.float32]]


@dataclass(frozen=True)
class HookContext:
    """Where training stands when a hook is called.

    Attributes:
        seed: the seed of this step (of this epoch, for rows and captions); all of a hook's random choices derive from
            it.
        progress: share of the training done, from 0 at the first step to below 1 at the last.
        epoch: number of the epoch, from 1.
        training: a seed that is the same in all hooks of a training, for choices that last.
        photo: for ``on_rows``, the training set's :attr:`~benchmark.data.CaptionDataset.photo`.
        caption_photos: for ``on_captions``, (R,) the photo that each caption describes; ``None``: each its own.
    """

    seed: int
    progress: float
    epoch: int = 1
    training: int = 0
    photo: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)
    caption_photos: NDArray[np.int64] | None = field(default=None, repr=False, compare=False)

    def torch_generator(self, device: torch.device | None = None) -> torch.Generator:
        """For this moment; on a GPU if that is the device, as at 224 px a CPU draws slower than a GPU trains."""
        on_gpu = device is not None and device.type == "cuda"
        return torch.Generator(device if on_gpu else "cpu").manual_seed(self.seed)

    def numpy_generator(self) -> np.random.Generator:
        """A numpy generator for this moment."""
        return np.random.default_rng(self.seed)


class Loss(Protocol):
    """The CLIP loss of a batch's images and their captions, in nats; it leaves the model as it is."""

    def __call__(self, images: torch.Tensor, /, reduction: Reduction = "mean") -> torch.Tensor:
        """The loss of images (B, 3, H, W) in [0, 1]: a scalar; with ``none`` (B,), one for each image and caption."""


class Contrast(Protocol):
    """The symmetric InfoNCE loss at the victim's logit scale, in nats."""

    def __call__(self, first: torch.Tensor, second: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of two sets of unit-norm features (B, D), a scalar; ``targets`` (B, B), by default the identity."""


@dataclass(frozen=True)
class LossInputs:
    """What a batch's loss is computed from.

    Attributes:
        images: (B, 3, H, W) float in [0, 1], after all other hooks.
        tokens: (B, L) int64, the captions' tokens, with zeros after the last.
        image_features: (B, D) float of unit length, with gradient.
        text_features: the same of the captions.
        targets: (B, B), image rows × caption columns, rows summing to one.
        epoch_tokens: (R, L') int64, the tokens of all captions of the epoch.
        encode_images: from images (N, 3, H, W) to features (N, D), in training mode, with gradient; the number of
            processes (:class:`benchmark.core.distributed.Processes`) must divide N.
        encode_tokens: from tokens (N, L) of the epoch's vocabulary to features (N, D), with gradient; N likewise.
        contrast: the CLIP loss of two sets of features.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    image_features: torch.Tensor
    text_features: torch.Tensor
    targets: torch.Tensor
    epoch_tokens: torch.Tensor
    encode_images: Callable[[torch.Tensor], torch.Tensor]
    encode_tokens: Callable[[torch.Tensor], torch.Tensor]
    contrast: Contrast


HOOKS = ("on_dataset", "on_rows", "on_captions", "on_images", "on_batch", "adversarial", "loss")
"""The hooks' names, in the order in which training calls them."""


class Defense:
    """Base of all defenses: hooks in the order in which training calls them.

    A subclass is a dataclass (``@dataclass(frozen=True)``) whose fields are the defense's parameters; ranges given with
    :func:`benchmark.core.parameters.ranged` are checked. It overrides at least one hook.

    Images are floats in [0, 1] before the model's normalisation. A hook returns new tensors and leaves its arguments
    as they are.

    Raises:
        TypeError: where the class is made: a method that looks like a misspelled hook.

    Attributes:
        version: of the defense's code. It is part of the cell's address, so raise it with every change of what the
            defense does. A plugin may leave it as it is: its file is part of the address.
        changes_nothing: whether it leaves everything as it is on purpose, and so overrides no hook.
        needs_clean: whether its scraper has clean data of its own; only then does :meth:`on_dataset` get them.
        moves_pixels: whether :meth:`adversarial` only adds a small perturbation to the images, as PGD does. Then an
            attack can be crafted through the defense: the gradient at the returned images is used as the gradient at
            the given images. ``False`` if the hook changes images in any other way.
    """

    version: ClassVar[int] = 1
    changes_nothing: ClassVar[bool] = False
    needs_clean: ClassVar[bool] = False
    moves_pixels: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in vars(cls):
            meant = difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.85)
            if not hasattr(Defense, name) and (meant or name.startswith("on_")):
                guess = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(HOOKS)}"
                raise TypeError(f"{cls.__name__}.{name} is no hook of a defense; {guess}")

    def __post_init__(self) -> None:
        check_ranges(f"defense {DEFENSES.name_of(type(self))}", self)

    @property
    def has_hooks(self) -> bool:
        """Whether it overrides a hook, or says that it changes nothing."""
        overridden = any(getattr(type(self), hook) is not getattr(Defense, hook) for hook in HOOKS)
        return overridden or self.changes_nothing

    @property
    def changes_images(self) -> bool:
        """Whether :meth:`on_images` does anything with these parameters."""
        return type(self).on_images is not Defense.on_images

    @property
    def chooses_pairs(self) -> bool:
        """Whether :meth:`on_rows` does anything with these parameters."""
        return type(self).on_rows is not Defense.on_rows

    @property
    def is_adversarial(self) -> bool:
        """Whether :meth:`adversarial` does anything with these parameters."""
        return type(self).adversarial is not Defense.adversarial

    @property
    def has_own_loss(self) -> bool:
        """Whether :meth:`loss` is not CLIP's."""
        return type(self).loss is not Defense.loss

    @property
    def passes(self) -> int:
        """About how many passes through the model a training step takes; plain training takes 1.

        Above 1 if :meth:`adversarial` or :meth:`loss` is overridden. It stands in for a victim's training time where
        that is not known: the longest work starts first.
        """
        return 1 + self.is_adversarial + self.has_own_loss

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        """Once, before training: the set to train on, with as many images and captions.

        Args:
            train: what the owner has published.
            clean: with ``needs_clean``, the same rows before they were protected; :meth:`describe` then has to say that
                the scraper has clean data. Without ``needs_clean``, ``train`` itself.
            at: the moment before the first epoch.
        """
        return train

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        """Once per epoch: the pairs to train on, at least one.

        If the hook returns fewer pairs than it was given, they are repeated in the same order until the epoch has its
        old length. This hook runs before :meth:`on_captions` and :meth:`on_images`, so ``score`` judges pairs as they
        were published. In ``prefix-drop+clip-score-filter``, for example, captions are scored with their trigger,
        although the victim never trains on it.

        A run also calls it for every epoch before any work, to see that a batch is left. There ``score`` raises an
        error, which the hook must not catch.

        Args:
            rows: (R, 2) int64, an image's index and which of its own captions, in the epoch's order; no pair is twice
                among those that come back.
            score: from pairs (R, 2) to the cosine similarity (R,) of image and caption to the victim as it is now.
            at: the moment in training.
        """
        return rows

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """Once per epoch: the epoch's caption strings, one per row, trigger included; returns as many."""
        return captions

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """Every step: (B, 3, H, W) float in [0, 1]; returns the same shape, in [0, 1]."""
        return images

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Every step, for mixing: images and the (B, B) targets, image rows × caption columns, rows summing to one."""
        return images, targets

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        """Every step, for adversarial examples: returns images to train on.

        Args:
            images: (B, 3, H, W) float in [0, 1].
            loss: of such images and the batch's captions; it leaves batch-norm statistics and weight gradients
                untouched.
            at: the moment in training.
        """
        return images

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        """Every step: the loss to descend, a scalar in nats; by default CLIP's."""
        return batch.contrast(batch.image_features, batch.text_features, batch.targets)

    def label(self) -> str:
        """The name in tables, one printable line; by default the registered name: ``my-filter`` is ``My filter``."""
        return label_of(DEFENSES.name_of(type(self)))

    def describe(self) -> str:
        """The strength in words, for the lines under a table; by default the parameters with their values."""
        return describe_fields(self)


class Composed(Defense):
    """Several defenses one after the other, as in ``cutout+random-swap``.

    Attributes:
        parts: the defenses in their order.

    Raises:
        UsageError: more than one of them has a loss of its own.
    """

    def __init__(self, parts: Sequence[Defense]) -> None:
        self.parts = tuple(parts)
        self._with_loss = [number for number, part in enumerate(parts) if part.has_own_loss]
        if len(self._with_loss) > 1:
            names = " and ".join(DEFENSES.name_of(type(parts[number])) for number in self._with_loss)
            raise UsageError(f"{names} each have a loss of their own and cannot be combined")
        self.needs_clean = any(part.needs_clean for part in self.parts)  # type: ignore[misc]

    @property
    def changes_images(self) -> bool:
        """Whether a part does."""
        return any(part.changes_images for part in self.parts)

    @property
    def chooses_pairs(self) -> bool:
        """Whether a part does."""
        return any(part.chooses_pairs for part in self.parts)

    @property
    def is_adversarial(self) -> bool:
        """Whether a part is."""
        return any(part.is_adversarial for part in self.parts)

    @property
    def has_own_loss(self) -> bool:
        """Whether a part has one."""
        return bool(self._with_loss)

    @property
    def passes(self) -> int:
        """Those of plain training, and what each part adds."""
        return 1 + sum(part.passes - 1 for part in self.parts)

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        """Each part in turn; see :meth:`Defense.on_dataset`."""
        for number, part in enumerate(self.parts):
            train = part.on_dataset(train, clean if part.needs_clean else train, _own(at, number))
        return train

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        """Each part in turn, while a pair is left; see :meth:`Defense.on_rows`."""
        for number, part in enumerate(self.parts):
            if not np.size(rows):
                break
            rows = part.on_rows(rows, score, _own(at, number))
        return rows

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """Each part in turn; see :meth:`Defense.on_captions`."""
        for number, part in enumerate(self.parts):
            captions = part.on_captions(captions, _own(at, number))
        return captions

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        """Each part in turn; see :meth:`Defense.on_images`."""
        for number, part in enumerate(self.parts):
            images = part.on_images(images, _own(at, number))
        return images

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each part in turn; see :meth:`Defense.on_batch`."""
        for number, part in enumerate(self.parts):
            images, targets = part.on_batch(images, targets, _own(at, number))
        return images, targets

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        """Each part in turn; see :meth:`Defense.adversarial`."""
        for number, part in enumerate(self.parts):
            images = part.adversarial(images, loss, _own(at, number))
        return images

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        """That of the part which has one of its own; see :meth:`Defense.loss`."""
        for number in self._with_loss:
            return self.parts[number].loss(batch, _own(at, number))
        return super().loss(batch, at)


def _own(at: HookContext, number: int) -> HookContext:
    """The moment as one part sees it, so that two parts of one kind do not draw the same numbers."""
    return replace(at, seed=at.seed + number, training=at.training + number)


DEFENSES: Registry[Defense] = Registry("defense", "defenses", Defense)
