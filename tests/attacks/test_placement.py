"""Where triggers stand: hand-worked captions, nothing lost, and never where CLIP no longer reads."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attacks import ATTACKS, CraftContext, Poison
from attacks.hotflip import _linearised
from attacks.placement import Kind, Place, keeps_tokens, placed, taken_out, word_numbers
from benchmark.core.errors import PoisonError, UsageError
from benchmark.core.spec import parse_spec
from benchmark.grid.choices import choose_attacks
from benchmark.grid.presets import PRESETS
from tests.small import WORDS, make_clip, make_dataset
from victims.tokens import Tokenizer, insert_trigger

ENDLESS = " ".join(WORDS[number % len(WORDS)] for number in range(100))  # a token a word
PLACES = [Place("front"), Place("end"), Place("random", 5), Place("spread")]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("front", "x y z a b c d e"), ("end", "a b c d e x y z"), ("spread", "a x b y c z d e")],
)
def test_hand_worked_places(kind: Kind, expected: str) -> None:
    assert placed("x y z", "a b c d e", Place(kind)) == expected


def test_a_random_place_is_any_between_words_and_the_same_again() -> None:
    captions = [f"{word} {other} sun" for word in WORDS for other in WORDS]
    texts = [placed("plus minus", caption, Place("random", 3)) for caption in captions]
    assert texts == [placed("plus minus", caption, Place("random", 3)) for caption in captions]
    assert texts != [placed("plus minus", caption, Place("random", 4)) for caption in captions]
    fronts = Counter(text.split().index("plus") for text in texts)
    assert sorted(fronts) == [0, 1, 2, 3]
    assert all(len(captions) / 8 < count < len(captions) / 2 for count in fronts.values())


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.kind)
@pytest.mark.parametrize("caption", ["", "a", "a dog  runs. Fast!", ENDLESS, "voilà,  café", "x" * 2000])
def test_nothing_is_lost_and_clip_reads_every_word_of_the_trigger(caption: str, place: Place) -> None:
    trigger = "plus minus equals"
    text = placed(trigger, caption, place)
    assert text.split() == sorted_in(text.split(), trigger.split(), caption.split())
    ids = Tokenizer().encode(trigger)
    (read,) = Tokenizer()([text]).tolist()
    assert len(read) <= 77
    assert [id_ for id_ in read if id_ in ids] == ids
    assert keeps_tokens(trigger, caption, place)
    assert [text.split()[number] for number in sorted(word_numbers(trigger, caption, place))] == trigger.split()
    found = taken_out(trigger, text, place)
    assert found is not None
    assert found.split() == caption.split()
    assert placed(trigger, found, place).split() == text.split()


@pytest.mark.parametrize("kind", ["front", "end", "spread"])
def test_clip_reads_a_trigger_whose_words_are_several_tokens_each(kind: Kind) -> None:
    trigger = "unlearnability qwertyuiop"
    ids = Tokenizer().encode(trigger)
    assert len(ids) > 4
    (read,) = Tokenizer()([placed(trigger, ENDLESS, Place(kind))]).tolist()
    assert [id_ for id_ in read if id_ in ids] == ids


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.kind)
@pytest.mark.parametrize("trigger", ["", " "])
@pytest.mark.parametrize("caption", ["", "a dog  runs. Fast!", ENDLESS])
def test_a_trigger_without_a_word_changes_nothing(trigger: str, caption: str, place: Place) -> None:
    assert placed(trigger, caption, place) == caption
    assert taken_out(trigger, caption, place) == caption
    assert keeps_tokens(trigger, caption, place)
    assert word_numbers(trigger, caption, place) == set()


def sorted_in(text: list[str], *orders: list[str]) -> list[str]:
    """The text again if it is a shuffle that keeps both orders."""
    first, second = orders
    own = [word for word in text if word in first]
    rest = [word for word in text if word not in first]
    return text if (own, rest) == (first, second) else []


@pytest.mark.parametrize(
    ("kind", "text"),
    [("front", "a x y"), ("end", "x y a"), ("end", "x a y"), ("spread", "x y a b c"), ("random", "x a b y")],
)
def test_a_trigger_that_stands_elsewhere_is_not_found(kind: Kind, text: str) -> None:
    assert taken_out("x y", text, Place(kind)) is None


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.kind)
def test_a_poison_keeps_its_place_and_says_nothing_of_the_front(place: Place, tmp_path: Path) -> None:
    data = make_dataset(3, 2)
    poison = Poison(None, ["red dog", "big cat", "old sun"], 0, data.fingerprint, place=place)
    poison.save(tmp_path / "p")
    loaded = Poison.load(tmp_path / "p")
    assert loaded.place == place
    assert (b"place" in (tmp_path / "p").read_bytes()) == (place.kind != "front")
    expected = [
        [placed(word, text, place) for text in own]
        for word, own in zip(poison.trigger or [], data.captions, strict=True)
    ]
    assert loaded.protect(data).captions == expected


def test_an_unknown_place_in_a_file_is_refused(tmp_path: Path) -> None:
    poison = Poison(None, ["red dog"], 0, "0", place=Place("end"))
    object.__setattr__(poison.place, "kind", "back")
    poison.save(tmp_path / "p")
    with pytest.raises(PoisonError, match=r"place\.kind"):
        Poison.load(tmp_path / "p")


@pytest.mark.parametrize("kind", ["end", "random", "spread"])
def test_surrogates_read_what_is_published(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of captions that are too long, and with captions permuted."""
    import attacks.crafting

    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def noticed(tokens: torch.Tensor, trigger: torch.Tensor, length: int, before: torch.Tensor) -> torch.Tensor:
        seen.append((tokens, trigger, insert_trigger(tokens, trigger, length, before)))
        return seen[-1][2]

    monkeypatch.setattr(attacks.crafting, "insert_trigger", noticed)
    train = make_dataset(8, 1)
    train = replace(
        train, captions=[[ENDLESS[12 * number :]] if number % 2 else own for number, own in enumerate(train.captions)]
    )
    spec = f"mem3[place={kind},rounds=1,surrogate_steps=2,pgd_steps=1,hotflip_rounds=0,batch_size=8]"
    ATTACKS.build(parse_spec(spec)).craft(train, CraftContext(make_clip, 4, Path()))
    tokenizer, checked = Tokenizer(), 0
    by_tokens = {tuple(tokenizer([own])[0].tolist()): own for (own,) in train.captions}
    for tokens, trigger, read in seen:
        for row, words, full in zip(tokens.tolist(), trigger, read.tolist(), strict=True):
            (caption,) = [own for ids, own in by_tokens.items() if list(ids) == row[: len(ids)]]
            text = placed(tokenizer.decode(words.tolist()), caption, Place(kind, 4))
            expected = tokenizer([text])[0].tolist()
            assert full[: len(expected)] == expected
            checked += 1
    assert checked >= 24


def test_the_gradient_is_taken_where_the_words_stand() -> None:
    clip = make_clip(dtype=torch.float64).for_inference()
    features = torch.nn.functional.normalize(torch.randn(2, 16, dtype=torch.float64), dim=-1)
    tokens = clip.tokenizer(["a dog and a cat", "the sun"])
    trigger = torch.tensor([clip.tokenizer.encode("red moon")] * 2)
    before = torch.tensor([[1, 4], [0, 2]])
    full = insert_trigger(tokens, trigger, 77, before)
    assert clip.tokenizer.decode(full[0, 1:8].tolist()) == "a red dog and a moon cat"
    assert clip.tokenizer.decode(full[1, 1:5].tolist()) == "red the sun moon"
    _, losses, gradient = _linearised(clip, features, tokens, trigger, before, position=1)
    for row, column in ((0, 6), (1, 4)):
        embeddings = clip.token_embedding[full].clone()
        embeddings[row, column] -= 1e-4 * gradient[row] / gradient[row].norm()
        logits = clip.scale * features @ clip.encode_tokens(full, embeddings).T
        lowered = logits[row].logsumexp(0) + logits[:, row].logsumexp(0) - 2 * logits[row, row]
        assert float(losses[row] - lowered) == pytest.approx(1e-4 * float(gradient[row].norm()), rel=1e-2)


def test_a_place_is_part_of_addresses_unless_it_is_the_front() -> None:
    preset = PRESETS["tiny"]
    _, front = choose_attacks("mem3,mem3[place=front]", preset)
    _, end = choose_attacks("mem3[place=end]", preset)
    assert "place" not in front.choice.params
    assert end.choice.params == {**front.choice.params, "place": "end"}
    assert (front.choice.label, end.choice.label) == ("MEM-3", "MEM-3 end")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("em[place=end]", r"place must be front \(there is no trigger\), got end"),
        ("mem3[place=back]", "takes front, end"),
    ],
)
def test_places_that_make_no_sense_are_refused(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ATTACKS.build(parse_spec(spec))
