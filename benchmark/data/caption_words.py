"""Words of captions as numbers: how much each tells about its image, and images grouped by what is said of them."""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import regex
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from benchmark.core.seeding import derive_seed, numpy_generator

_log = logging.getLogger(__name__)
_WORD = regex.compile(r"[\p{L}\p{N}_][\p{L}\p{N}_\p{M}]*")  # as \w+, and with marks such as vowel signs
_TOPICS = 128  # singular vectors


def word_weights(captions: list[list[str]]) -> csr_matrix:
    """(N, V) float32 TF-IDF weights of the words of each image's captions, rows of unit length.

    A word is a run of letters or digits with their accents and vowel signs, in lower case; one that only one image has
    is left out, because no other image could share its pattern. An image that would have no word left keeps its own, so
    that every image gets noise.
    """
    counts = [Counter(word for caption in texts for word in _WORD.findall(caption.lower())) for texts in captions]
    images_with = Counter(word for count in counts for word in count)
    alone = sum(all(images_with[word] == 1 for word in count) for count in counts)
    if alone > len(counts) / 2:
        _log.warning(
            "the captions of %s of %s images share no word with another image's, so word-wise noise and caption keys "
            "have little to go by; words are what spaces and punctuation separate",
            f"{alone:,}",
            f"{len(counts):,}",
        )
    weights = [_weights_of_image(count, images_with, len(captions)) for count in counts]
    shared = {word for word, images in images_with.items() if images > 1}
    vocabulary = {word: place for place, word in enumerate(sorted(shared.union(*weights)))}
    rows, columns, values = [], [], []
    for row, weight in enumerate(weights):
        length = math.sqrt(sum(value**2 for value in weight.values())) or 1.0
        for word, value in weight.items():
            rows.append(row)
            columns.append(vocabulary[word])
            values.append(value / length)
    shape = (len(captions), len(vocabulary))
    return csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape=shape)


def _weights_of_image(count: Counter[str], images_with: Counter[str], images: int) -> dict[str, float]:
    """TF-IDF weights of one image's words, by word: only of the words that another image has as well.

    If all of these are zero, the words that no other image has count, too. If all weights are zero, each word weighs 1.
    """
    weight = {word: times * math.log(images / images_with[word]) for word, times in count.items()}
    shared = {word: value for word, value in weight.items() if images_with[word] > 1}
    if any(shared.values()):
        return shared
    # A caption may have no word at all, but signs or emoji.
    return weight if any(weight.values()) else dict.fromkeys(count or [""], 1.0)


def caption_keys(captions: Sequence[Sequence[str]], count: int, seed: int) -> NDArray[np.int64]:
    """(N,) a key from 0 to ``count`` − 1 for each image: k-means on its captions' words.

    Stands in for the class label that methods for classifiers need. Words are weighted by :func:`word_weights` and
    projected on their 128 leading singular vectors.

    Args:
        captions: of each of N images.
        count: keys; if fewer images differ in the words that have a weight, as many as do.
        seed: of the clusters' first centres.
    """
    weights = word_weights([list(texts) for texts in captions])
    # With more keys than that, k-means would split images of the same weights by what rounding makes of them.
    rows = zip(
        np.split(weights.indices, weights.indptr[1:-1]), np.split(weights.data, weights.indptr[1:-1]), strict=True
    )
    count = min(count, len({frozenset(zip(at.tolist(), own.round(5).tolist(), strict=True)) for at, own in rows}))
    leading = min(_TOPICS, min(weights.shape) - 1)
    if leading < 1:
        return np.zeros(len(captions), dtype=np.int64)
    if min(weights.shape) <= 4 * _TOPICS:
        # Where few vectors span all captions, ARPACK goes on from random numbers that no seed decides.
        left, size, _ = np.linalg.svd(weights.toarray().astype(np.float64), full_matrices=False)
        left, size = left[:, :leading], size[:leading]
    else:
        start = numpy_generator(seed, "topics").standard_normal(min(weights.shape))
        left, size, _ = svds(weights.astype(np.float64), k=leading, v0=start)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # a key without images does no harm
        _, keys = kmeans2(left * size, count, minit="++", seed=derive_seed(seed, "keys") % 2**32, missing="warn")
    return keys.astype(np.int64)
