"""The plain versions of the fast paths: open_clip's own modules, whole contexts, one thing at a time."""

import math

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from attacks.mem import Mem
from attacks.placement import Place, placed, word_numbers
from attacks.vocabulary import trigger_words
from benchmark.core.seeding import derive_seed, numpy_generator, torch_generator
from benchmark.data import CaptionDataset
from tests.small import small_clip
from victims.recipe import Recipe
from victims.tokens import Tokenizer
from victims.training import epoch_rows, schedule


def image_features(model: open_clip.CLIP, pixels: torch.Tensor) -> torch.Tensor:
    """(B, D) unit norm, of pixels in [0, 1]."""
    # CLIP's constants are fp32 numbers, in every precision.
    mean, std = (torch.tensor(x).to(pixels.dtype).view(3, 1, 1) for x in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return model.encode_image((pixels - mean) / std, normalize=True)


def text_features(model: open_clip.CLIP, tokens: torch.Tensor) -> torch.Tensor:
    """(B, D) unit norm, at the whole context."""
    return model.encode_text(F.pad(tokens, (0, 77 - tokens.shape[1])), normalize=True)


def contrastive_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The symmetric loss, by the definition of cross-entropy."""
    logits = scale * images @ texts.T
    own = logits.diagonal()
    return ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2


def minimise_noise(
    model: open_clip.CLIP,
    images: torch.Tensor,
    delta: torch.Tensor,
    texts: torch.Tensor,
    eps: int,
    steps: int,
    size: int,
    bases: torch.Tensor | None = None,
) -> torch.Tensor:
    """PGD in integers, gradients of all weights and pixels taken and the latter used; the noise lies on ``bases``."""
    for _ in range(steps):
        pictures = images if bases is None else bases
        point = ((pictures.double() + delta).clamp(0, 255) / 255).to(model.logit_scale.dtype).requires_grad_()
        contrastive_loss(image_features(model, point), texts, model.logit_scale.exp()).backward()
        assert point.grad is not None
        delta = (delta - size * point.grad.sign()).clamp(-eps, eps)
        delta = (images + delta).clamp(0, 255) - images
    return delta


def with_trigger(captions: list[str], trigger: torch.Tensor, place: Place) -> torch.Tensor:
    """Tokens of the captions as they would be published."""
    tokenizer = Tokenizer()
    words = [tokenizer.decode(ids) for ids in trigger.tolist()]
    return tokenizer([placed(*pair, place) for pair in zip(words, captions, strict=True)] if words[0] else captions)


def hotflip(
    model: open_clip.CLIP,
    features: torch.Tensor,
    captions: list[str],
    place: Place,
    trigger: torch.Tensor,
    vocabulary: torch.Tensor,
    candidates: int,
) -> torch.Tensor:
    """Position by position, row by row, candidate by candidate."""
    trigger, scale = trigger.clone(), model.logit_scale.exp()

    def loss(texts: torch.Tensor, row: int) -> torch.Tensor:
        logits = scale * features @ texts.T
        return logits[row].logsumexp(0) + logits[:, row].logsumexp(0) - 2 * logits[row, row]

    for position in range(trigger.shape[1]):
        tokens = with_trigger(captions, trigger, place)
        texts, embedded = _text_features_and_embeddings(model, tokens)
        chosen = trigger.clone()
        for row in range(len(captions)):
            alone = texts.detach().clone()
            alone[row] = texts[row]
            (gradient,) = torch.autograd.grad(loss(alone, row), embedded, retain_graph=True)
            words = Tokenizer().decode(trigger[row].tolist())
            number = sorted(word_numbers(words, captions[row], place))[position]
            published = placed(words, captions[row], place).split()
            column = 1 + len(Tokenizer().encode(" ".join(published[:number])))
            scores = -model.token_embedding.weight[vocabulary] @ gradient[row, column]
            best = loss(texts, row)
            for candidate in vocabulary[scores.argsort(descending=True)[:candidates]]:
                tried = trigger[row : row + 1].clone()
                tried[0, position] = candidate
                changed = texts.detach().clone()
                changed[row] = text_features(model, with_trigger(captions[row : row + 1], tried, place))[0]
                if loss(changed, row) < best:
                    best, chosen[row, position] = loss(changed, row), candidate
        trigger = chosen
    return trigger


def craft(data: CaptionDataset, attack: Mem, seed: int) -> tuple[torch.Tensor, list[str] | None, list[float]]:
    """Algorithm 1 in fp64, with the draws of the suite; noise, triggers in words, mean loss after every round."""
    tokenizer = Tokenizer()
    images, count, k = torch.from_numpy(data.images[:]).int(), len(data), attack.k
    words = torch.from_numpy(trigger_words(tokenizer, data, attack.vocabulary, seed))
    delta = torch.zeros_like(images)
    trigger = words[numpy_generator(seed, "trigger start").integers(len(words), size=(count, k))]

    place = Place(attack.place, 0 if attack.place == "front" else seed)

    def captions(rows: np.ndarray, generator: torch.Generator) -> list[str]:
        draws = torch.rand(len(rows), generator=generator).tolist()
        own = [data.captions[row] for row in rows]
        return [texts[int(draw * len(texts))] for texts, draw in zip(own, draws, strict=True)]

    model, losses, passes = small_clip(seed=seed), [], 0
    queue: list[int] = []
    for round_ in range(attack.rounds):
        if round_ == 0 or (attack.restart_every and round_ % attack.restart_every == 0):
            model = small_clip(seed=seed if round_ == 0 else derive_seed(seed, "surrogate", round_))
            optimizer = adamw(model, attack.lr, attack.weight_decay, (0.9, 0.999))
        model.train()
        generator = torch_generator(seed, "surrogate", round_)
        for _ in range(attack.surrogate_steps):
            if len(queue) < attack.batch_size:
                queue, passes = list(numpy_generator(seed, "surrogate order", passes).permutation(count)), passes + 1
            rows, queue = np.array(queue[: attack.batch_size]), queue[attack.batch_size :]
            drawn = captions(rows, generator)
            if attack.k and attack.permute_surrogate:
                drawn = [drawn[other] for other in orders(1, len(drawn), generator)[0]]
            bases = rows[orders(1, len(rows), generator)[0]] if attack.permute_images else rows
            texts = text_features(model, with_trigger(drawn, trigger[rows], place))
            pixels = (images[bases] + delta[rows]).clamp(0, 255).double() / 255
            descend(model, optimizer, contrastive_loss(image_features(model, pixels), texts, model.logit_scale.exp()))
        model.eval()
        generator = torch_generator(seed, "perturb", round_)
        order = torch.randperm(count, generator=generator).numpy()
        total = 0.0
        for rows in np.array_split(order, math.ceil(count / attack.batch_size)):
            drawn = captions(rows, generator)
            captions_in = orders(attack.pgd_steps, len(rows), generator)
            bases = [rows] * (1 + attack.pgd_steps)
            if attack.permute_images:
                bases = [rows[order_] for order_ in orders(1 + attack.pgd_steps, len(rows), generator)]
            with torch.no_grad():
                features = image_features(model, (images[bases[0]] + delta[rows]).clamp(0, 255).double() / 255)
            if round_ < attack.hotflip_rounds:
                trigger[rows] = hotflip(model, features, drawn, place, trigger[rows], words, attack.candidates)
            for order_, on in zip(captions_in, bases[1:], strict=True):
                own = [drawn[other] for other in order_] if attack.k and attack.permute_pgd else drawn
                with torch.no_grad():
                    texts = text_features(model, with_trigger(own, trigger[rows], place))
                delta[rows] = minimise_noise(
                    model,
                    images[rows],
                    delta[rows],
                    texts,
                    attack.eps,
                    steps=1,
                    size=attack.step_size,
                    bases=images[on],
                ).int()
            with torch.no_grad():
                features = image_features(model, (images[bases[0]] + delta[rows]).clamp(0, 255).double() / 255)
                texts = text_features(model, with_trigger(drawn, trigger[rows], place))
                total += float(contrastive_loss(features, texts, model.logit_scale.exp())) * len(rows)
        losses.append(total / count)
    return delta, [tokenizer.decode(ids) for ids in trigger.tolist()] if k else None, losses


def orders(count: int, size: int, generator: torch.Generator) -> list[np.ndarray]:
    """Permutations: the places of random numbers in ascending order."""
    return [np.argsort(row) for row in torch.rand(count, size, generator=generator).numpy()]


def _text_features_and_embeddings(model: open_clip.CLIP, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    seen: list[torch.Tensor] = []
    watch = model.token_embedding.register_forward_hook(lambda *call: seen.append(call[2]))
    texts = text_features(model, tokens)
    watch.remove()
    return texts, seen[0]


def train(model: open_clip.CLIP, data: CaptionDataset, recipe: Recipe, seed: int) -> list[float]:
    """A victim's training with every weight in AdamW, in the rows' order of the suite; the mean loss of every epoch."""
    dtype = model.logit_scale.dtype
    optimizer = adamw(model, recipe.lr, recipe.weight_decay, (recipe.beta1, recipe.beta2))
    steps = len(data) // recipe.batch_size
    model.train()
    losses: list[float] = []
    for epoch in range(recipe.epochs):
        rows = epoch_rows(data, recipe.rows, numpy_generator(seed, "rows", epoch + 1))
        of_epoch = []
        for number, batch in enumerate(np.split(rows[: steps * recipe.batch_size], steps)):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * schedule(epoch * steps + number, steps * recipe.epochs, recipe)
            pixels = torch.from_numpy(np.stack([data.images[i] for i, _ in batch])).to(dtype) / 255
            texts = model.encode_text(open_clip.tokenize([data.captions[i][j] for i, j in batch]), normalize=True)
            loss = contrastive_loss(image_features(model, pixels), texts, model.logit_scale.exp())
            descend(model, optimizer, loss)
            of_epoch.append(float(loss.detach()))
        losses.append(float(np.mean(of_epoch)))
    return losses


def adamw(model: open_clip.CLIP, lr: float, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW over every weight; only matrices and filters decay."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=betas)


def descend(model: open_clip.CLIP, optimizer: torch.optim.AdamW, loss: torch.Tensor) -> None:
    """One step, after which the logit scale is within [1, 100]."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, np.log(100))
