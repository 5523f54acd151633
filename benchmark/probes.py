"""Probes: what can be read from a poison alone, without its images, about the captions that it goes with.

A probe learns on half of the images which words their captions have, from their trigger words (naive Bayes) or from
their perturbations (ridge regression), and predicts the words of the other half. Where it succeeds, the poison repeats
something that the captions say, so a victim can match the two without looking at the picture.

Both probes are linear. A perturbation that is tied to words in a way that only a network can read, such as a pattern
at a random place, is not found. A stored perturbation is cut off where its image is black or white, so on pictures with
such surfaces it shows their shapes, and a probe reads words even from random noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

from benchmark.core.seeding import numpy_generator

MOST_IMAGES = 4000  # more are sampled
MOST_WORDS = 1000  # the most frequent ones
MOST_FEATURES = 3072  # of a perturbation; longer ones are sketched
_LEAST_IMAGES = 5  # that a word needs in each half; the rarer a word, the more its AUC is chance
_LARGEST_SHARE = 0.5  # of the images; words that more of them have tell little about any
_CHUNK = 64  # perturbations sketched at a time
_WORD = regex.compile(r"(?:[\p{L}\p{N}_]\p{M}*){3,}")  # as \w{3,}, and with marks such as vowel signs
_SURE = 5.0  # standard deviations from chance; none of 1,000 words gets there by chance
_NAMED = 5  # words

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """How well a probe predicts the words of captions that it has not seen.

    Attributes:
        auc: area under the ROC curve, mean over words: the chance that an image whose captions have the word scores
            higher than one whose captions do not. 0.5 is chance, 1 is perfect.
        shuffled: the same after training on the captions of other images, which can teach nothing: 0.5, but for noise,
            and more where rare trigger words stand before rare caption words. Smoothing gives a rare trigger word high
            odds for every rare word, and on the held-out images that is right by what the poison says, not by chance.
        words: at most five words with their AUC, those that are farthest above chance first; only words whose AUC is
            more than five standard deviations above chance.
    """

    auc: float
    shuffled: float
    words: dict[str, float]


@dataclass(frozen=True)
class Probe:
    """The captions' words, and the split of the images into a half to learn from and a half to judge.

    Attributes:
        images: (n,) the images that take part.
        learn: (n,) bool, those to learn from.
        words: V words.
        has: (n, V) bool, whether an image's captions have the word.
        seed: of all random choices.
    """

    images: NDArray[np.int64]
    learn: NDArray[np.bool_]
    words: list[str]
    has: NDArray[np.bool_]
    seed: int

    @classmethod
    def of(cls, captions: Sequence[Sequence[str]], photo: NDArray[np.int64] | None, seed: int) -> "Probe | None":
        """Choose images and words.

        Args:
            captions: of each of N images, as they were before the trigger.
            photo: (N,) the photo of each image; copies of one photo never lie in both halves. ``None``: all differ.
            seed: the cell's.

        Returns:
            ``None`` if no word occurs in at least five images of each half and in at most half of all images.
        """
        generator = numpy_generator(seed, "probe")
        images = np.sort(generator.permutation(len(captions))[:MOST_IMAGES])
        photos = images if photo is None else photo[images]
        kinds, which = np.unique(photos, return_inverse=True)
        learn = (generator.permutation(len(kinds)) < len(kinds) // 2)[which]
        texts = [set(_WORD.findall(" ".join(captions[image]).lower())) for image in images]
        known = {word: place for place, word in enumerate(sorted(set().union(*texts)))}
        rows = np.repeat(np.arange(len(images)), [len(text) for text in texts])
        columns = np.array([known[word] for text in texts for word in sorted(text)], dtype=np.int64)
        has = csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=(len(images), len(known)))
        counts = [np.asarray(has[half].sum(axis=0)).ravel() for half in (learn, ~learn)]
        total = counts[0] + counts[1]
        usable = (np.minimum(*counts) >= _LEAST_IMAGES) & (total <= _LARGEST_SHARE * len(images))
        chosen = [int(place) for place in np.argsort(-total, kind="stable") if usable[place]][:MOST_WORDS]
        if not chosen:
            return None
        names = list(known)
        return cls(images, learn, [names[place] for place in chosen], has[:, chosen].toarray() > 0, seed)

    def read_triggers(self, triggers: Sequence[str]) -> Reading:
        """What a naive Bayes reads from the words of N triggers, whatever their order.

        The classifier is multinomial with Laplace's smoothing; trigger words that it has not learned are left out.
        """
        texts = [triggers[image].split() for image in self.images]
        learned = {word for row in np.flatnonzero(self.learn) for word in texts[row]}
        known = {word: place for place, word in enumerate(sorted(learned))}
        rows = [row for row, text in enumerate(texts) for word in text if word in known]
        columns = [known[word] for text in texts for word in text if word in known]
        shape = (len(texts), max(1, len(known)))
        counts = csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)

        def scores(has: Array) -> Array:
            with_word = counts[self.learn].T @ has + 1
            without = counts[self.learn].T @ (1 - has) + 1
            ratio = np.log(with_word / with_word.sum(axis=0)) - np.log(without / without.sum(axis=0))
            return np.asarray(counts[~self.learn] @ ratio)

        return self._judged(scores(self._targets()), scores(self._targets(shuffled=True)))

    def read_noise(self, delta: NDArray[np.int8]) -> Reading:
        """What a ridge regression reads from N perturbations (N, 3, H, W).

        Perturbations of more than 3,072 values are sketched: every value gets a random sign and is added to one of
        3,072 sums, which keeps inner products in expectation. The penalty is a tenth of the mean squared length of the
        centred features.
        """
        features = self._sketch(delta)
        features -= features[self.learn].mean(axis=0)
        learned, held_out = features[self.learn], features[~self.learn]
        gram = learned @ learned.T
        penalty = 0.1 * float(np.trace(gram)) / len(gram)
        gram[np.diag_indices_from(gram)] += penalty or 1.0  # one and the same perturbation for all: nothing to read
        targets = np.concatenate([self._targets(), self._targets(shuffled=True)], axis=1)
        weights = cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), targets - targets.mean(axis=0))
        scores = (held_out @ learned.T) @ weights.astype(np.float32)
        return self._judged(scores[:, : len(self.words)], scores[:, len(self.words) :])

    def _targets(self, *, shuffled: bool = False) -> Array:
        """(n / 2, V) whether an image to learn from has the word; with ``shuffled`` the words of another image."""
        targets = self.has[self.learn].astype(np.float32)
        order = numpy_generator(self.seed, "probe", "shuffle").permutation(len(targets))
        return targets[order] if shuffled else targets

    def _sketch(self, delta: NDArray[np.int8]) -> Array:
        size = int(np.prod(delta.shape[1:]))
        signs = numpy_generator(self.seed, "probe", "sketch").choice(np.array([-1, 1], dtype=np.int8), size)
        width = min(size, MOST_FEATURES)
        features = np.zeros((len(self.images), width), dtype=np.float32)
        for start in range(0, len(self.images), _CHUNK):
            flat = delta[self.images[start : start + _CHUNK]].reshape(-1, size)
            if size == width:
                features[start : start + _CHUNK] = flat
                continue
            mixed = flat * signs  # never -128, as |δ| is at most 127
            for first in range(0, size, width):
                part = mixed[:, first : first + width]
                features[start : start + _CHUNK, : part.shape[1]] += part
        return features

    def _judged(self, scores: Array, shuffled: Array) -> Reading:
        truth = self.has[~self.learn]
        auc = roc_auc(scores, truth)
        having = truth.sum(axis=0)
        lacking = len(truth) - having
        sure = (auc - 0.5) / np.sqrt((len(truth) + 1) / (12 * having * lacking))  # of the Mann–Whitney statistic
        named = [place for place in np.argsort(-sure, kind="stable")[:_NAMED] if sure[place] > _SURE]
        return Reading(
            auc=round(float(auc.mean()), 4),
            shuffled=round(float(roc_auc(shuffled, truth).mean()), 4),
            words={self.words[place]: round(float(auc[place]), 4) for place in named},
        )


def roc_auc(scores: Array, truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area under the ROC curve of every column; equal scores count half.

    Args:
        scores: (n, V).
        truth: (n, V), both values in each column.

    Returns:
        (V,) between 0 and 1.
    """
    ranks = rankdata(scores, axis=0)
    having = truth.sum(axis=0)
    above = (ranks * truth).sum(axis=0) - having * (having + 1) / 2
    return np.asarray(above / (having * (len(truth) - having)))
