"""A victim's training, read top to bottom: rows, defense hooks, loss, step, evaluation."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError, VictimDiverged
from benchmark.core.progress import Progress, Silent
from benchmark.core.seeding import derive_seed, numpy_generator, seeded_globals
from benchmark.data import CaptionDataset
from defenses.base import Defense, HookContext, LossInputs, Reduction
from victims.clip import Clip, clamp_scale, clip_loss, fixed_model, to_device
from victims.defense_effect import Changes
from victims.evaluate import pair_scores
from victims.optimizers import make_optimizer, set_lr
from victims.recipe import Recipe
from victims.tokens import trim
from victims.training_state import load_state, training_state


@dataclass
class TrainingLog:
    """What a training leaves behind besides the weights.

    Attributes:
        loss: mean training loss of each epoch, nats, as the victim saw it (under its defense).
        changes: what the defense changed.
    """

    loss: list[float] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)


def steps_per_epoch(dataset: CaptionDataset, recipe: Recipe) -> int:
    """Steps an epoch takes.

    Raises:
        UsageError: the data set has fewer rows than one batch, or a batch cannot be split evenly among the processes.
    """
    Processes.current().shard(recipe.batch_size)
    rows = len(dataset.pairs) if recipe.rows == "pairs" else len(np.unique(dataset.photos))
    if rows < recipe.batch_size:
        raise UsageError(
            f"{dataset.name}: {rows} training rows are fewer than one batch of {recipe.batch_size}; "
            "give more data or a smaller --batch-size"
        )
    return rows // recipe.batch_size


def train(
    model: Clip,
    dataset: CaptionDataset,
    recipe: Recipe,
    defense: Defense,
    *,
    seed: int,
    clean: CaptionDataset | None = None,
    after_epoch: Callable[[int, Sequence[float]], str] = lambda epoch, losses: "",
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    repeats: bool = False,
) -> TrainingLog:
    """Train a victim on a (protected) data set under a defense.

    Args:
        model: the model to train, in place.
        dataset: training split, clean or protected: one code path for both.
        recipe: the training's settings.
        defense: hooks into the training.
        seed: of the rows' order and of the defense; the same for every attack and defense, so that cells are paired.
        clean: the training split before it was protected, for defenses with ``needs_clean``; by default ``dataset``.
        after_epoch: called after each epoch with its number, from 1, and the losses of all epochs so far; the text that
            it returns is shown behind the loss.
        progress: advanced at every step.
        checkpoint: read at the start and written after epochs, so that a training goes on where a killed one stopped.
        repeats: whether a batch may hold a pair twice if a defense leaves few pairs; for timing, not for results.

    Raises:
        UsageError: there are fewer rows than a batch, ``clean`` does not have as many rows as ``dataset``, a defense
            leaves fewer pairs than a batch, or it returns data, pairs, captions, images or targets of another kind,
            number or shape than it was given, or a loss that cannot be descended.
        VictimDiverged: the loss is not finite, or a weight is NaN.
    """
    progress, checkpoint, processes = progress or Silent(), checkpoint or Checkpoint(), Processes.current()
    part = processes.shard(recipe.batch_size)
    steps = steps_per_epoch(dataset, recipe)
    total = steps * recipe.epochs
    lasting = derive_seed(seed, "defense")
    published = dataset
    dataset = defense.on_dataset(
        published,
        _owned(published, clean) if defense.needs_clean else published,
        HookContext(derive_seed(seed, "dataset"), 0.0, training=lasting),
    )
    if not isinstance(dataset, CaptionDataset):
        raise UsageError(f"on_dataset returns no CaptionDataset, but {type(dataset).__name__}")
    if [*map(len, dataset.captions)] != [*map(len, published.captions)]:
        raise UsageError(
            f"on_dataset returns {len(dataset):,} images with {len(dataset.pairs):,} captions for {len(published):,} "
            f"with {len(published.pairs):,}, or not as many for each; pairs are left out in on_rows"
        )
    table = model.token_table(torch.zeros(1, dtype=torch.long))
    optimizer = make_optimizer(model, recipe, (recipe.beta1, recipe.beta2))
    table.follow(optimizer)
    log = TrainingLog()
    finished, note = 0, ""
    if (state := checkpoint.load()) is not None:
        with checkpoint.restoring():
            load_state(state["training"], model, optimizer, table)
            finished, log = state["epoch"], TrainingLog(state["loss"], Changes(**state["changes"]))
            if not 0 < finished == len(log.loss) < recipe.epochs:
                raise ValueError(f"{finished} epochs, {len(log.loss)} losses")
        progress.resume(finished * steps)
    step = finished * steps
    for epoch in range(finished + 1, recipe.epochs + 1):
        given, at_epoch = _epoch(dataset, recipe, seed, epoch)
        kept = _kept(defense, given, model, dataset, 0 if repeats else recipe.batch_size, at_epoch)
        log.changes.see_pairs(len(given), len(kept))
        rows: NDArray[np.int64] = np.resize(kept if len(kept) else given, given.shape)
        described = replace(at_epoch, caption_photos=dataset.photos[rows[:, 0]])
        defended = _texts(defense.on_captions([dataset.captions[i][j] for i, j in rows], described))
        if len(defended) != len(rows):
            raise UsageError(f"on_captions returns {len(defended)} captions for {len(rows)}")
        if epoch == 1:
            log.changes.see_captions([published.captions[i][j] for i, j in rows], defended)
        tokens = model.tokenizer(defended)
        table.admit(tokens, optimizer)
        losses = torch.zeros(steps, device=model.device)
        model.train()
        for number in range(steps):
            batch = slice(number * recipe.batch_size, (number + 1) * recipe.batch_size)
            set_lr(optimizer, schedule(step, total, recipe))
            images = _images(dataset, rows[batch, 0], model)
            at = HookContext(derive_seed(seed, "step", step), step / total, epoch, lasting)
            # Dropout and stochastic depth, which some victims have, draw from the global state.
            with seeded_globals(derive_seed(seed, "dropout", step, processes.rank)):
                loss, seen, plain = _step_loss(model, images, trim(tokens[batch]), tokens, defense, at)
            before = images if dataset is published else _images(published, rows[batch, 0], model)
            log.changes.see_images(before, seen, part)
            log.changes.see_loss(plain, loss)
            optimizer.zero_grad(set_to_none=True)
            model.backward(loss)
            processes.all_reduce_gradients(model.parameters(), replicated=model.log_scale)
            optimizer.step()
            clamp_scale(model)
            losses[number] = loss.detach()
            step += 1
            progress.advance(note)
        log.loss.append(float(losses.mean()))
        if not math.isfinite(log.loss[-1]):
            raise VictimDiverged(f"the training loss is {log.loss[-1]} in epoch {epoch}")
        _require_numbers(model, epoch)
        note = f"epoch {epoch}/{recipe.epochs}, loss {log.loss[-1]:.2f}{after_epoch(epoch, log.loss)}"
        if checkpoint.is_due(epoch, recipe.epochs):
            training = training_state(model, optimizer, table)
            counted = {"epoch": epoch, "loss": log.loss, "changes": log.changes.state()}
            checkpoint.save({"training": training, **counted})
    table.take_out(model.tower)
    return log


def _require_numbers(model: Clip, epoch: int) -> None:
    """Raise :class:`VictimDiverged` if a weight or buffer holds NaN.

    The loss may be finite even then, because the bitwise ReLU in bf16 (:mod:`victims.fast`) may turn NaN into 0.
    """
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and bool(value.isnan().any()):
            raise VictimDiverged(f"{name} holds NaN after epoch {epoch}")


def _owned(published: CaptionDataset, clean: CaptionDataset | None) -> CaptionDataset:
    """The published rows without a poison."""
    if clean is None:
        return published
    owned = clean if published.photo is None else clean.by_row()
    if len(owned) != len(published):
        raise UsageError(f"the clean set has {len(owned)} rows, the training set {len(published)}")
    return owned


def _images(dataset: CaptionDataset, index: NDArray[np.int64], model: Clip) -> torch.Tensor:
    return to_device(dataset.batch(index), model.device).float() / 255


def require_batches(dataset: CaptionDataset, recipe: Recipe, defense: Defense, seed: int) -> None:
    """See before a training that its defense leaves at least one batch, unless that depends on the victim's scores.

    Raises:
        UsageError: in some epoch it leaves less.
    """
    for epoch in range(1, 1 + recipe.epochs) if defense.chooses_pairs else ():
        rows, at = _epoch(dataset, recipe, seed, epoch)
        with suppress(_NeedsScoresError):
            _require_batch(defense.on_rows(rows, _no_scores, at), rows, recipe.batch_size)


class _NeedsScoresError(Exception):
    """A defense asks for scores, which no victim can give yet."""


def _no_scores(pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    raise _NeedsScoresError


def _require_batch(kept: NDArray[np.int64], rows: NDArray[np.int64], least: int) -> None:
    if not isinstance(kept, np.ndarray) or kept.shape[1:] != (2,) or kept.dtype.kind != "i":
        found = f"{kept.dtype} {kept.shape}" if isinstance(kept, np.ndarray) else type(kept).__name__
        raise UsageError(f"on_rows returns no array (R, 2) of integers, but {found}")
    left = len(kept) if kept is rows else len(np.unique(kept, axis=0))
    if left < min(least, len(rows)):
        raise UsageError(f"the defense leaves {left or 'none'} of {len(rows)} pairs, and a batch has {least}")


def _epoch(dataset: CaptionDataset, recipe: Recipe, seed: int, epoch: int) -> tuple[NDArray[np.int64], HookContext]:
    """The rows of an epoch before the defense chooses among them, and the moment that its hooks are told."""
    at = HookContext(
        derive_seed(seed, "captions", epoch),
        (epoch - 1) / recipe.epochs,
        epoch,
        derive_seed(seed, "defense"),
        dataset.photo,
    )
    return epoch_rows(dataset, recipe.rows, numpy_generator(seed, "rows", epoch)), at


def _kept(
    defense: Defense, rows: NDArray[np.int64], model: Clip, dataset: CaptionDataset, least: int, at: HookContext
) -> NDArray[np.int64]:
    """An epoch's rows after the defense, which are repeated to as many as before.

    The defense must leave at least ``least`` rows, which is one batch: with fewer, a batch would hold a pair twice, and
    the pair would be its own negative. For timing, where this does no harm, ``least`` is 0.
    """
    # The first process's scores for all: they may differ by rounding, and so might the rows that processes train on.
    shared = Processes.current().broadcast_object
    kept = defense.on_rows(rows, lambda pairs: shared(pair_scores(model, dataset, pairs)), at)
    _require_batch(kept, rows, least)
    return kept


def _alike(hook: str, given: torch.Tensor, returned: torch.Tensor) -> torch.Tensor:
    """What a hook returned, after checking that it is a float tensor of the shape that the hook was given.

    Without the check, training might go on with another shape unnoticed. Any float dtype is accepted, because a model
    in fp64 needs images in fp64.
    """
    if not isinstance(returned, torch.Tensor) or not returned.is_floating_point():
        kind = str(returned.dtype) if isinstance(returned, torch.Tensor) else type(returned).__name__
        raise UsageError(f"{hook} returns no tensor of floats, but {kind}")
    if returned.shape != given.shape:
        raise UsageError(f"{hook} returns {tuple(returned.shape)} for {tuple(given.shape)}")
    return returned


def _texts(returned: list[str]) -> list[str]:
    """What ``on_captions`` returned, after checking that it is texts."""
    if not isinstance(returned, list | tuple):  # a text would be read letter by letter
        raise UsageError(f"on_captions returns no list of texts, but {type(returned).__name__}")
    if others := [each for each in returned if not isinstance(each, str)]:
        raise UsageError(f"on_captions returns {type(others[0]).__name__} among its texts")
    return list(returned)


def _step_loss(
    model: Clip,
    images: torch.Tensor,
    tokens: torch.Tensor,
    epoch_tokens: torch.Tensor,
    defense: Defense,
    at: HookContext,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss of one batch under a defense, the images it was computed on, and CLIP's loss of the same features.

    Defenses see whole batches, so that their draws do not depend on how a batch is split among processes.
    """
    processes = Processes.current()
    images = _alike("on_images", images, defense.on_images(images, at))
    eye = torch.eye(len(images), device=model.device)
    mixed = defense.on_batch(images, eye, at)
    if not isinstance(mixed, tuple | list) or len(mixed) != 2:
        raise UsageError(f"on_batch returns no images with their targets, but {type(mixed).__name__}")
    images, targets = (_alike("on_batch", *each) for each in zip((images, eye), mixed, strict=True))

    def encode_images(some: torch.Tensor) -> torch.Tensor:
        return processes.gather(model.encode_images(some[processes.shard(len(some))]))

    def encode_tokens(some: torch.Tensor) -> torch.Tensor:
        return processes.gather(model.encode_tokens(some[processes.shard(len(some))]))

    text = encode_tokens(tokens)
    fixed_text, fixed_scale = text.detach(), model.scale.detach()

    def loss_of(candidates: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
        with fixed_model(model):
            return clip_loss(encode_images(candidates), fixed_text, fixed_scale, targets, reduction)

    def contrast(first: torch.Tensor, second: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        return clip_loss(first, second, model.scale, targets)

    images = _alike("adversarial", images, defense.adversarial(images, loss_of, at))
    features = encode_images(images)
    batch = LossInputs(images, tokens, features, text, targets, epoch_tokens, encode_images, encode_tokens, contrast)
    loss = defense.loss(batch, at)
    if not defense.has_own_loss:
        return loss, images, loss.detach()
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        found = f"a tensor {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise UsageError(f"loss returns no scalar tensor with a gradient, but {found}")
    with torch.no_grad():
        return loss, images, Defense.loss(defense, batch, at)


def schedule(step: int, total: int, recipe: Recipe) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine that would reach zero at ``total``.

    Args:
        step: from 0.
        total: steps of the whole training.
        recipe: its warm-up.
    """
    warmup = min(recipe.warmup_steps, int(recipe.warmup_share * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def epoch_rows(dataset: CaptionDataset, rows: str, generator: np.random.Generator) -> NDArray[np.int64]:
    """(R, 2) image and caption indices of an epoch in a random order: all pairs, or one random pair per photo."""
    pairs = dataset.pairs[generator.permutation(len(dataset.pairs))]
    if rows == "pairs":
        return pairs
    # The first pair of each photo in a random order of all pairs is a random pair of each photo, in random order.
    _, first = np.unique(dataset.photos[pairs[:, 0]], return_index=True)
    return pairs[np.sort(first)]
