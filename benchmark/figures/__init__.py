"""Figures as pure functions of records; samples need the poison and the data as well.

Nothing here is imported beyond the names, so that the command line can list them without loading matplotlib and torch.
"""

from collections.abc import Mapping

FIGURES: Mapping[str, str] = {
    "matrix": "Recall kept of clean; frames: the defense that undoes most of an attack, the strongest attack.",
    "defenses": "Share of the lost recall that each defense recovers, and R@10 under it; diamonds: the paper's values.",
    "lengths": "R@10 of undefended victims by the number of trigger words, beside the paper's values.",
    "epsilon": "R@10 of undefended victims and SSIM of protected images by the bound on the noise.",
    "protected": "R@10 by the share of the training data that is protected.",
    "curves": "Training loss and test median rank of undefended victims after every epoch.",
    "triggers": "The most frequent words in the triggers.",
    "samples": "Original images, what is published in their place, and the noise amplified around mid-grey.",
}
"""Names on the command line, in the order of the report, each with one line of what the figure shows."""
