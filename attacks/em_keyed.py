"""Key-wise EM: one noise for all images that are described alike, as class-wise noise has one for each class."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from attacks.base import ATTACKS
from attacks.em_wordwise import WordwiseEm
from benchmark.core.parameters import ranged
from benchmark.data import CaptionDataset
from benchmark.data.caption_words import caption_keys


@ATTACKS.register("em-keyed", order=17)
@dataclass(frozen=True)
class KeyedEm(WordwiseEm):
    """Class-wise error-minimising noise with a group of captions in place of a class.

    Huang et al. 2021, "Unlearnable Examples: Making Personal Data Unexploitable", section 4.1. There the noise of a
    class covers the whole image and is found by PGD. Here it is learned as word-wise EM learns its patterns: by Adam,
    as a tile that repeats, on other images of the batch, and its signs are published. So ``tile-average`` undoes it,
    which says nothing of noise that does not repeat.

    A victim that reads nothing but the noise cannot tell images of one key apart. On batches of B with K keys of equal
    size its mean loss is at least E[ln(1 + n)] nats, n ~ Binomial(B − 1, 1/K) being the other images of the same key in
    the batch: 2.14 for 128 images and 16 keys, 0.57 for 128 keys. With a small number of keys, it therefore has much
    left to learn from the pictures.

    Args:
        keys: groups of images; see :func:`benchmark.data.caption_words.caption_keys`.
    """

    keys: int = ranged(128, 2, 100_000)

    def label(self) -> str:
        """The name in tables."""
        return f"EM of {self.keys} keys" + (f" through {self.through}" if self.through else "")

    def describe(self) -> str:
        """The strength in words."""
        return f"{self.keys} caption keys; {super().describe()}"

    def weights(self, train: CaptionDataset, seed: int) -> csr_matrix:
        """(N, K) float32, a single one in each row; see :meth:`attacks.em_wordwise.WordwiseEm.weights`."""
        keys = caption_keys(train.captions, self.keys, seed)
        ones = np.ones(len(keys), dtype=np.float32)
        return csr_matrix((ones, (np.arange(len(keys)), keys)), shape=(len(keys), int(keys.max()) + 1))
