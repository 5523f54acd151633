"""Ranks that are known before any victim is trained."""

import pytest

from benchmark import metrics
from benchmark.reference_check import known_answers


def test_the_metrics_know_the_answers() -> None:
    compared = known_answers.of_metrics()
    assert [(one.now, one.holds) for one in compared] == [(pytest.approx(0.1), True), (pytest.approx(1.0), True)]


@pytest.mark.parametrize("shift", [-1, 1])
def test_ranks_that_are_off_by_one_are_told(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    right = metrics.best_ranks
    monkeypatch.setattr(metrics, "best_ranks", lambda *asked: right(*asked) + shift)
    assert not any(one.holds for one in known_answers.of_metrics())


def test_one_direction_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    right, asked = metrics.scores, []

    def scores(ranks: metrics.torch.Tensor) -> metrics.RetrievalScores:
        asked.append(ranks)
        return right(ranks + (len(asked) == 2))

    monkeypatch.setattr(metrics, "scores", scores)
    assert not any(one.holds for one in known_answers.of_metrics())
