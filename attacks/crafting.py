"""One crafting run of Algorithm 1: surrogate, noise and triggers from round to round.

Algorithm 1 of the supplement of "Multimodal Unlearnable Examples: Protecting Data against Multimodal Contrastive
Learning" (ACM MM 2024).
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from attacks.base import CraftContext
from attacks.hotflip import hotflip
from attacks.mem_settings import MemSettings
from attacks.pgd import minimise_noise
from attacks.placement import MOST_READ, Place, tokens_before
from attacks.vocabulary import drawn_triggers, trigger_words
from benchmark.core.disk_space import zeros_on_disk
from benchmark.core.errors import UsageError
from benchmark.core.forks import in_any_order
from benchmark.core.idle_cpus import idle_cpus
from benchmark.core.seeding import derive_seed, numpy_generator, seeded_globals, torch_generator
from benchmark.data import CaptionDataset
from victims.clip import Clip, clamp_scale, clip_loss, to_device
from victims.optimizers import make_optimizer
from victims.passage import Passage
from victims.tokens import insert_trigger, trim
from victims.training_state import load_state, training_state


class Captions(NamedTuple):
    """Tokens (B, L) of captions, and where a trigger of k words stands in them.

    Attributes:
        tokens: (B, L) int64.
        before: (B, k) int64; see :func:`victims.tokens.insert_trigger`.
    """

    tokens: torch.Tensor
    before: torch.Tensor

    def rows(self, order: torch.Tensor) -> "Captions":
        """Those captions, in that order."""
        return Captions(*(each[order] for each in self))

    def to(self, device: torch.device) -> "Captions":
        """The same on a device."""
        return Captions(*(to_device(each, device) for each in self))


@dataclass(frozen=True)
class Batch:
    """One batch of :meth:`Crafting.perturb`: its rows, and the random choices made for them.

    Attributes:
        index: (B,) int64, the rows.
        captions: one caption of each row.
        orders: (steps, B) int64, the permutation of captions at each PGD step.
        bases: (1 + steps, B) int64 places in the batch: the image that each row's noise is put on. The first entry is
            for HotFlip and for the loss afterwards, the others for the PGD steps.
    """

    index: np.ndarray
    captions: Captions
    orders: torch.Tensor
    bases: torch.Tensor


class Crafting:
    """Surrogate θ, noise δ and trigger t of one run, and the two halves of a round.

    Args:
        settings: MEM's, or those of an attack that is crafted like it.
        rows: the clean training set.
        context: what the attack crafts with.

    Attributes:
        model: the surrogate of this moment.
        delta: (N, 3, H, W) int8 in 1/255, on disk.
        trigger: (N, k) int64 ids.
        vocabulary: (V,) int64 ids that triggers are made of.
        place: where triggers stand.
        captions: tokens of all pairs, image by image.
        first_pair: (N,) int64, the first pair of each image.
        captions_per_image: (N,) int64.
        table: how the surrogate's token embedding is trained; see :mod:`victims.token_table`.
        queue: rows that the surrogate's pass over the data has not reached yet.
        passes: how many passes it has begun.

    Raises:
        UsageError: the surrogate reads too few tokens, or the captions have too few words.
    """

    def __init__(self, settings: MemSettings, rows: CaptionDataset, context: CraftContext) -> None:
        self.settings, self.rows, self.context = settings, rows, context
        self.seed, self.processes = context.seed, context.processes
        self.model = model = self.surrogate(self.seed)
        # Beside the trigger a caption needs its first, its last and one more token.
        if settings.k > model.context_length - 3:
            raise UsageError(
                f"a trigger of {settings.k} words leaves no room for a caption: the surrogate takes "
                f"{model.context_length} tokens"
            )
        self.place = Place.seeded(settings.place, self.seed)
        if settings.place != "front" and model.context_length < MOST_READ + 2:
            raise UsageError(
                f"place={settings.place} needs a surrogate that reads {MOST_READ + 2} tokens; this one reads "
                f"{model.context_length}"
            )
        captions = [rows.captions[i][j] for i, j in rows.pairs]
        # Words of a trigger are one token each, whatever they are.
        before = [tokens_before(caption, " ".join(["a"] * settings.k), self.place) for caption in captions]
        self.captions = Captions(model.tokenizer(captions), torch.tensor(before, dtype=torch.long))
        counts = [len(captions) for captions in rows.captions]
        self.first_pair = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.captions_per_image = np.array(counts)
        self.delta = zeros_on_disk(context.workdir, rows.images.shape)
        words = np.zeros(1, dtype=int)
        if settings.k:
            words = trigger_words(model.tokenizer, rows, settings.vocabulary, self.seed)
        self.vocabulary = torch.from_numpy(words).to(model.device)
        self.trigger = torch.from_numpy(drawn_triggers(words, len(rows), settings.k, self.seed))
        self._start_optimizer()
        self.queue = np.zeros(0, dtype=np.int64)
        self.passes = 0

    def surrogate(self, seed: int) -> Clip:
        """A new surrogate; what it is crafted through draws for this process's part of each batch alone."""
        model = self.context.surrogate(seed)
        if isinstance(model.passage, Passage):
            model.passage.shard = self.processes.rank
        return model

    def train_surrogate(self, round_: int) -> None:
        """M steps of θ on the protected pairs (Algorithm 1, lines 3–6)."""
        if round_ and self.settings.restart_every and round_ % self.settings.restart_every == 0:
            # The weights of each round have their own seed.
            self.model = self.surrogate(derive_seed(self.seed, "surrogate", round_))
            self._start_optimizer()
        settings, model = self.settings, self.model
        generator = torch_generator(self.seed, "surrogate", round_)
        model.train()
        for step in range(settings.surrogate_steps):
            index = self._next_batch()
            captions = self._captions(index, generator)
            if "surrogate" in settings.permuted_steps:
                captions = captions.rows(_orders(1, len(index), generator)[0])
            bases = index[self._bases(1, len(index), generator)[0].numpy()]
            part = self.processes.shard(len(index))
            images = _protected(self.rows.batch(bases[part]), torch.from_numpy(self.delta[index[part]]))
            with seeded_globals(derive_seed(self.seed, "surrogate dropout", round_, step, self.processes.rank)):
                features, text = model.encode_pairs(images, self._with_trigger(captions, self.trigger[index])[part])
            loss = clip_loss(self.processes.gather(features), self.processes.gather(text), model.scale)
            self.optimizer.zero_grad(set_to_none=True)
            model.backward(loss)
            self.processes.all_reduce_gradients(model.parameters(), replicated=model.log_scale)
            self.optimizer.step()
            clamp_scale(model)
            self.context.progress.advance(f"round {round_ + 1}/{settings.rounds}, surrogate")

    def perturb(self, round_: int) -> float:
        """HotFlip and PGD over all rows (lines 7–11); returns the mean loss afterwards, nats."""
        settings, model = self.settings, self.model.for_inference()
        generator = torch_generator(self.seed, "perturb", round_)
        order = torch.randperm(len(self.rows), generator=generator).numpy()
        # Batches of nearly equal size: a last batch of a few rows would have hardly any negatives.
        batches = [
            # Drawn for all batches by every process, so that the draws do not depend on how batches are dealt out.
            Batch(
                index,
                self._captions(index, generator),
                _orders(settings.pgd_steps, len(index), generator),
                # One for HotFlip and the loss, and one for every step of PGD.
                self._bases(1 + settings.pgd_steps, len(index), generator),
            )
            for index in np.array_split(order, math.ceil(len(order) / settings.batch_size))
        ]
        flips = settings.k > 0 and round_ < settings.hotflip_rounds
        mine = batches[self.processes.rank :: self.processes.size]
        # A passage counts the batches and draws by their number, so that each depends on those before it.
        forks = idle_cpus() if model.passage is None else 0
        results = in_any_order(lambda batch: self._perturbed(model, batch, flips), mine, forks)
        losses = np.zeros(len(mine))
        for number in range(len(batches)):
            note = ""
            if number % self.processes.size == self.processes.rank:
                place, (delta, trigger, loss) = next(results)
                index = mine[place].index
                self.delta[index], self.trigger[index] = delta, torch.from_numpy(trigger)
                losses[place] = loss * len(index)
                note = f"round {round_ + 1}/{settings.rounds}, loss {loss:.2f}"
            self.context.progress.advance(note)
        self._exchange([batch.index for batch in batches])
        return self.processes.total(sum(losses.tolist()), model.device) / len(order)

    def _perturbed(self, model: Clip, batch: Batch, flips: bool) -> tuple[np.ndarray, np.ndarray, float]:
        """A batch's new noise (B, 3, H, W) int8 and triggers (B, k) int64, and the loss with both, nats."""
        index, orders, bases = batch.index, *(to_device(each, model.device) for each in (batch.orders, batch.bases))
        images = to_device(self.rows.batch(index), model.device)
        delta = to_device(torch.from_numpy(self.delta[index]), model.device)
        first = images[bases[0]]
        captions = batch.captions.to(model.device)
        trigger = to_device(self.trigger[index], model.device)
        if flips:
            with torch.no_grad():
                features = model.encode_images(_protected(first, delta))
            trigger = hotflip(
                model, features, captions.tokens, trigger, self.vocabulary, self.settings.candidates, captions.before
            )
        delta = self._descend(model, images, delta, captions, trigger, orders, bases[1:])
        with torch.no_grad():
            text = model.encode_tokens(self._with_trigger(captions, trigger))
            features = model.encode_images(_protected(first, delta), text)
            loss = float(clip_loss(features, text, model.scale))
        return delta.cpu().numpy(), trigger.cpu().numpy(), loss

    def state(self) -> dict[str, Any]:
        """All that the next round depends on; noise, triggers and surrogate of one and the same moment."""
        return {
            "surrogate": training_state(self.model, self.optimizer, self.table),
            "delta": torch.from_numpy(self.delta),
            "trigger": self.trigger,
            "queue": torch.from_numpy(self.queue),
            "passes": self.passes,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        load_state(state["surrogate"], self.model, self.optimizer, self.table)
        np.copyto(self.delta, state["delta"].numpy())
        self.trigger, self.queue = state["trigger"].clone(), state["queue"].numpy().copy()
        self.passes = state["passes"]

    def trigger_texts(self) -> list[str] | None:
        """Each row's trigger in words."""
        return [self.model.tokenizer.decode(ids) for ids in self.trigger.tolist()] if self.settings.k else None

    def _descend(
        self,
        model: Clip,
        images: torch.Tensor,
        delta: torch.Tensor,
        captions: Captions,
        trigger: torch.Tensor,
        orders: torch.Tensor,
        bases: torch.Tensor,
    ) -> torch.Tensor:
        """PGD on δ (line 9): the new noise (B, 3, H, W) int8.

        At step s, the noise of row i is put on image ``bases[s, i]`` of the batch. If PGD steps permute captions, row i
        takes caption ``orders[s, i]`` of the batch and keeps its own trigger.
        """
        settings = self.settings
        permuted = "PGD" in settings.permuted_steps

        def text_at(step: int) -> torch.Tensor:
            shown = captions.rows(orders[step]) if permuted else captions
            with torch.no_grad():
                return model.encode_tokens(self._with_trigger(shown, trigger))

        unpermuted = None if permuted else text_at(0)

        def loss(points: torch.Tensor, step: int) -> torch.Tensor:
            text = text_at(step) if unpermuted is None else unpermuted
            return clip_loss(model.encode_images(points, text), text, model.scale)

        budget = {"eps": settings.eps, "steps": settings.pgd_steps, "step_size": settings.step_size}
        return minimise_noise(images, delta, loss, bases=bases, **budget)

    def _exchange(self, batches: list[np.ndarray]) -> None:
        """Give every process the noise and triggers that the others made of their batches."""
        if self.processes.size == 1:
            return
        for number, index in enumerate(batches):
            owner, device = number % self.processes.size, self.model.device
            delta = self.processes.broadcast(owner, torch.from_numpy(self.delta[index]).to(device))
            self.delta[index] = delta.cpu().numpy()
            self.trigger[index] = self.processes.broadcast(owner, self.trigger[index].to(device)).cpu()

    def _start_optimizer(self) -> None:
        # The words of a trigger come from the vocabulary, all others from the captions.
        self.table = self.model.token_table(torch.cat([self.captions.tokens.unique(), self.vocabulary.cpu()]))
        self.optimizer = make_optimizer(self.model, self.settings)
        self.table.follow(self.optimizer)

    def _next_batch(self) -> np.ndarray:
        """The next rows of an endless stream of reshuffled passes; a pass's incomplete last batch is left out."""
        if len(self.queue) < self.settings.batch_size:
            order = numpy_generator(self.seed, "surrogate order", self.passes).permutation(len(self.rows))
            self.passes += 1
            self.queue = order
        index, self.queue = np.split(self.queue, [self.settings.batch_size])
        return index

    def _bases(self, count: int, size: int, generator: torch.Generator) -> torch.Tensor:
        """(count, B) int64 places in a batch: the image that each row's noise is put on; its own unless permuted."""
        if self.settings.permute_images:
            return _orders(count, size, generator)
        return torch.arange(size).expand(count, -1)

    def _captions(self, index: np.ndarray, generator: torch.Generator) -> Captions:
        """One caption of each row, drawn at random, trimmed to the longest drawn."""
        draw = torch.rand(len(index), generator=generator).numpy()
        choice = (draw * self.captions_per_image[index]).astype(np.int64)
        drawn = self.captions.rows(torch.from_numpy(self.first_pair[index] + choice))
        return drawn._replace(tokens=trim(drawn.tokens))

    def _with_trigger(self, captions: Captions, trigger: torch.Tensor) -> torch.Tensor:
        if not self.settings.k:
            return captions.tokens
        return insert_trigger(captions.tokens, trigger, self.model.context_length, captions.before)


def _orders(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """(count, size) int64 permutations."""
    return torch.rand(count, size, generator=generator).argsort(dim=1)


def _protected(images: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    # The sum of uint8 and int8 is an int16. PGD has clamped the noise with its own image, but not with another one.
    return (images + delta).clamp(0, 255).to(torch.uint8)
