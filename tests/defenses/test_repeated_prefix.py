"""repeated-prefix drops what was put in front of many captions, and no opening that belongs to its captions."""

import pytest

from benchmark.core.spec import parse_spec
from benchmark.data.openmoji import OpenMoji
from defenses import DEFENSES, HookContext
from tests.defenses.hooks import scene_captions

# 16 captions with openings of their own: "a" (8), "on grey" (4), "two" (4).
CLEAN = [
    "a dog sits", "a dog runs", "a cat sits", "a cat runs", "a fox sits", "a fox runs", "a hen sits", "a hen runs",
    "on grey dog", "on grey cat", "on grey fox", "on grey hen", "two dogs", "two cats", "two foxes", "two hens",
]  # fmt: skip


def defend(captions: list[str], parameters: str = "") -> list[str]:
    spec = parse_spec(f"repeated-prefix{parameters}")
    return DEFENSES.build(spec).on_captions(captions, HookContext(0, 0.0))


def different(after: list[str], before: list[str]) -> list[tuple[str, str]]:
    return [pair for pair in zip(after, before, strict=True) if pair[0] != pair[1]]


@pytest.fixture(scope="module")
def scenes() -> list[str]:
    return scene_captions(1000)


def test_what_stands_before_all_captions_goes_and_their_own_openings_stay() -> None:
    assert defend(CLEAN) == CLEAN
    assert defend([f"violin urn {caption}" for caption in CLEAN]) == CLEAN
    assert defend([f"{'Violin' if row % 2 else 'violin,'} {caption}" for row, caption in enumerate(CLEAN)]) == CLEAN


def test_what_stands_before_some_captions_goes_if_they_go_on_as_the_others_begin() -> None:
    # Every second caption: those that follow "violin urn" begin with a (4), on (2), two (2), and so do the others.
    captions = [f"violin urn {caption}" if row % 2 else caption for row, caption in enumerate(CLEAN)]
    assert defend(captions, "[alike=1]") == CLEAN


@pytest.mark.parametrize(("alike", "dropped"), [(0.6, True), (0.625, True), (0.65, False)])
def test_the_overlap_is_that_worked_by_hand(alike: float, dropped: bool) -> None:
    # After "violin": a 5/8, on 3/8. The other captions begin with a 3/8, on 2/8, two 3/8. 3/8 + 2/8 = 0.625.
    marked = [*CLEAN[:5], *CLEAN[8:11]]
    others = [*CLEAN[5:8], CLEAN[11], "on grey red hen", *CLEAN[12:15]]
    captions = [*(f"violin {caption}" for caption in marked), *others]
    assert (defend(captions, f"[alike={alike}]")[:8] == marked) is dropped
    assert defend(captions, f"[alike={alike}]")[8:] == others


def test_an_opening_of_too_few_captions_stays() -> None:
    captions = [f"violin urn {caption}" if row % 2 else caption for row, caption in enumerate(CLEAN)]
    # "violin urn" stands before 8 of 16.
    assert defend(captions, "[share=0.49]") == CLEAN
    assert defend(captions[:-1], "[share=0.47]") == captions[:-1]


def test_an_opening_goes_at_once_if_too_few_captions_begin_otherwise_to_compare() -> None:
    # Of 17 captions one has no trigger: 6 %.
    captions = ["hello world", *(f"violin {caption}" for caption in CLEAN)]
    assert defend(captions, "[share=0.06]") == ["hello world", *CLEAN]
    assert defend(captions, "[share=0.05]") == captions


def test_a_quarter_of_the_captions_is_no_more_than_a_share_of_a_quarter() -> None:
    # The four that follow "violin" begin as the others do: a 1/2, on 1/4, two 1/4.
    captions = [f"violin {caption}" if row % 4 == 0 else caption for row, caption in enumerate(CLEAN)]
    assert defend(captions, "[share=0.25]") == captions
    assert defend(captions, "[share=0.24]") == CLEAN
    # Four begin otherwise, and with other words.
    captions = [*(f"violin {caption}" for caption in CLEAN[:12]), *["hello world"] * 4]
    assert defend(captions, "[share=0.25]") == [*CLEAN[:12], *captions[12:]]
    assert defend(captions, "[share=0.24]") == captions


def test_openings_are_no_longer_than_the_longest() -> None:
    captions = [f"violin urn {caption}" if row % 2 else caption for row, caption in enumerate(CLEAN)]
    assert defend(captions, "[longest=1]") == captions
    assert defend(captions, "[longest=2]") == CLEAN


@pytest.mark.parametrize("every", [1, 2, 5])
def test_of_scenes_the_trigger_goes_and_nothing_else(scenes: list[str], every: int) -> None:
    captions = [f"tear Beer, shrimp {c}" if row % every == 0 else c for row, c in enumerate(scenes)]
    assert different(defend(captions), scenes)[:3] == []


def test_clean_captions_stay(scenes: list[str]) -> None:
    assert different(defend(scenes), scenes)[:3] == []
    names = [drawing.names[0] for drawing in OpenMoji(seed=1).drawings()["train"]]
    assert different(defend(names), names)[:3] == []


def test_a_caption_never_becomes_empty_and_the_rest_stays_as_it_was_written() -> None:
    captions = ["VIOLIN", "", " ", "violin", *(f"Violin,  {caption.title()}.  " for caption in CLEAN)]
    assert defend(captions, "[share=0.2]") == [*captions[:4], *(f"{caption.title()}.  " for caption in CLEAN)]
    for few in ([], [""], ["dog"], ["dog"] * 5):
        assert defend(few) == few
    assert defend(["red dog"] * 5) == ["dog"] * 5
