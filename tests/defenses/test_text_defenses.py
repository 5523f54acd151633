"""The word operations change captions by the amount they claim, at every position alike."""

import random
import re
from collections import Counter

import numpy as np
import pytest

from benchmark.core.spec import parse_spec
from defenses import DEFENSES, HookContext
from defenses.eda import parts, words_to_change
from defenses.word_pairs import one_a_photo
from defenses.wordnet import synonyms

WORDS = ["Cheap", "violin", "seven", "A", "small", "i", "Dog,", "sits", "THE", "house"]
BARE = ["Dog" if word == "Dog," else word for word in WORDS]
CAPTION = " ".join(WORDS)
MANY = 4000
TEXT = ["random-insertion", "random-deletion", "random-swap", "synonym-replacement", "prefix-drop", "suffix-drop"]


def apply(spec: str, captions: list[str], seed: int = 0) -> list[str]:
    return DEFENSES.build(parse_spec(spec)).on_captions(captions, HookContext(seed, 0.0))


def inversions(order: list[int]) -> int:
    return sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word has two synonyms, one of two words, that name the word they come from."""

    def fake(word: str) -> tuple[str, ...]:
        return (f"{word}~1 {word}~2", f"{word}~3")

    monkeypatch.setattr("defenses.synonym_replacement.synonyms", fake)
    monkeypatch.setattr("defenses.random_insertion.synonyms", fake)


@pytest.mark.usefixtures("marked")
def test_a_paraphrase_says_every_word_in_another_way_and_keeps_their_order() -> None:
    (caption,) = apply("paraphrase", ["red dog sits"])
    assert re.fullmatch("(red~1 red~2|red~3) (dog~1 dog~2|dog~3) (sits~1 sits~2|sits~3)", caption)
    assert len({apply("paraphrase", ["red dog sits"], seed)[0] for seed in range(20)}) > 4  # of eight


def test_captions_are_changed_in_sets_with_one_of_each_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defenses.word_pairs._FEW", 0)
    seen: list[list[str]] = []

    def louder(captions: list[str]) -> list[str]:
        seen.append(captions)
        return [caption.upper() for caption in captions]

    captions, photos = ["a1", "b1", "a2", "c1", "a3", "b2"], np.array([7, 3, 7, 9, 7, 3])
    assert one_a_photo(captions, photos, louder) == ["A1", "B1", "A2", "C1", "A3", "B2"]
    assert seen == [["a1", "b1", "c1"], ["a2", "b2"], ["a3"]]
    seen.clear()
    assert one_a_photo(captions, None, louder) == one_a_photo(captions, np.arange(6), louder)
    assert seen == [captions, captions]
    assert one_a_photo([], np.zeros(0, dtype=np.int64), louder) == []


@pytest.mark.parametrize(("photos", "few", "joins"), [(10, 2, True), (9, 2, False), (10, 1, False), (9, 10, True)])
def test_a_set_that_is_small_beside_the_first_joins_it(
    photos: int, few: int, joins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("defenses.word_pairs._FEW", few)
    sizes: list[int] = []

    def counted(captions: list[str]) -> list[str]:
        sizes.append(len(captions))
        return captions

    one_a_photo(["a"] * (photos + 1), np.array([*range(photos), 0]), counted)
    assert sizes == ([photos + 1] if joins else [photos, 1])


@pytest.mark.parametrize(
    ("words", "alpha", "n"),
    [
        (1, 0.1, 1), (4, 0.1, 1), (10, 0.1, 1), (11, 0.1, 1), (16, 0.1, 1), (19, 0.1, 1), (20, 0.1, 2), (200, 0.1, 20),
        (10, 0.3, 3), (7, 0.5, 3),
    ],
)  # fmt: skip
def test_number_of_changes_is_that_of_eda(words: int, alpha: float, n: int) -> None:
    assert words_to_change(["word"] * words, alpha) == n


def test_a_mark_that_stands_alone_is_no_word_that_eda_counts() -> None:
    words = "A man in a blue shirt is standing on a ladder cleaning a window of the 2nd house today .".split()
    assert len(words) == 20
    assert words_to_change(words, 0.1) == 1
    assert words_to_change([*words, "–", "again!"], 0.1) == 2
    assert words_to_change(["."], 0.1) == 1


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("dog", ("", "dog", "")),
        ("dog,", ("", "dog", ",")),
        ("dog's.", ("", "dog", "'s.")),
        ("(“Dog’s”)", ("(“", "Dog", "’s”)")),
        ("dogs'", ("", "dogs", "'")),
        ("t-shirt.", ("", "t-shirt", ".")),
        ("_dog_", ("_", "dog", "_")),
        ("cafe\u0301,", ("", "cafe\u0301", ",")),
        ("कुत्ते।", ("", "कुत्ते", "।")),
        ("dog❤\ufe0f", ("", "dog", "❤\ufe0f")),
        ("...", ("...", "", "")),
        ("", ("", "", "")),
    ],
)
def test_a_word_is_parted_from_its_punctuation(word: str, found: tuple[str, str, str]) -> None:
    assert parts(word) == found


def test_the_parts_of_a_word_are_those_of_a_plain_pattern() -> None:
    plain = re.compile(r"([\W_]*)(.*?)((?:['’]s)?[\W_]*)", re.DOTALL)
    draw = random.Random(0)
    for _ in range(5000):
        word = "".join(draw.choice("as'’!_é.") for _ in range(draw.randrange(9)))
        match = plain.fullmatch(word)
        assert match
        assert parts(word) == match.groups(), word


def test_synonyms_are_found_through_punctuation_which_stays() -> None:
    (caption,) = apply("synonym-replacement[alpha=1]", ["(Automobile's, and the “bread”."])
    car, bread = re.fullmatch(r"\((.+)'s, and the “(.+)”\.", caption).groups()  # type: ignore[union-attr]
    assert car[0].isupper()
    assert car.lower() in synonyms("automobile")
    assert bread in synonyms("bread")


def test_a_synonym_has_a_capital_where_its_word_has_one_in_front_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defenses.synonym_replacement.synonyms", lambda word: ("small hound",) * (word != ""))
    replaced = apply("synonym-replacement[alpha=1]", ["dog Dog DOG dOg “Dog's”"])
    assert replaced == ["small hound Small hound small hound small hound “Small hound's”"]


def test_insertion_draws_synonyms_through_punctuation_without_it() -> None:
    inserted = apply("random-insertion", ["the Bread's. of"] * 500)
    # The rest of the caption stays where it is, around one synonym.
    places = ("{} the Bread's. of", "the {} Bread's. of", "the Bread's. {} of", "the Bread's. of {}")
    assert set(inserted) == {place.format(synonym) for place in places for synonym in synonyms("bread")}


@pytest.mark.parametrize(("alpha", "n"), [(0.1, 1), (0.3, 3)])
def test_swap_is_n_adjacent_transpositions(alpha: float, n: int) -> None:
    for swapped in apply(f"random-swap[alpha={alpha}]", [CAPTION] * 500):
        order = [WORDS.index(word) for word in swapped.split()]
        assert sorted(order) == list(range(10))
        # Every adjacent transposition adds or removes exactly one inversion.
        assert inversions(order) in range(n, -1, -2)


def test_swap_follows_the_count_of_eda_for_long_captions() -> None:
    words = [f"w{number}" for number in range(200)]
    order = [words.index(word) for word in apply("random-swap", [" ".join(words)])[0].split()]
    assert 10 < inversions(order) <= 20


def test_swap_draws_every_position_alike() -> None:
    moved = Counter[int]()
    for swapped in apply("random-swap", [CAPTION] * MANY):
        moved.update(place for place, (old, new) in enumerate(zip(WORDS, swapped.split(), strict=True)) if old != new)
    # A place changes if drawn (1/10) or if a drawn neighbour swaps with it: an end always does, others half the time.
    expected = [0.15, 0.25, *[0.2] * 6, 0.25, 0.15]
    assert [moved[place] / MANY for place in range(10)] == pytest.approx(expected, abs=0.025)


def test_deletion_takes_each_word_with_probability_p_and_keeps_the_rest() -> None:
    kept = Counter[str]()
    lengths = Counter[int]()
    for caption in apply("random-deletion", [CAPTION] * MANY):
        words = caption.split()
        places = [WORDS.index(word) for word in words]
        assert places == sorted(places)
        kept.update(words)
        lengths[len(words)] += 1
    assert [1 - kept[word] / MANY for word in WORDS] == pytest.approx([0.1] * 10, abs=0.02)
    # Independent of each other: all ten stay with probability 0.9¹⁰, nine with 10 · 0.1 · 0.9⁹.
    assert lengths[10] / MANY == pytest.approx(0.349, abs=0.03)
    assert lengths[9] / MANY == pytest.approx(0.387, abs=0.03)


def test_deletion_yields_every_subsequence_and_never_an_empty_caption() -> None:
    parts = {"A big Dog", "A big", "A Dog", "big Dog", "A", "big", "Dog"}
    assert set(apply("random-deletion[p=0.6]", ["A big Dog"] * 500)) == parts
    last = Counter(apply("random-deletion[p=1]", ["A big Dog"] * 3000))
    assert set(last) == {"A", "big", "Dog"}
    assert min(last.values()) > 900


@pytest.mark.parametrize(("alpha", "n"), [(0.1, 1), (0.3, 3), (1.0, 10)])
def test_replacement_changes_n_words(marked: None, alpha: float, n: int) -> None:
    for caption in apply(f"synonym-replacement[alpha={alpha}]", [CAPTION] * 300):
        # In place, capitals and punctuation kept: with the synonyms read as their sources, the caption is as it was.
        source = re.sub(r"(\w+)~(1 \w+~2|3)", r"\1", caption)
        assert source.replace("The", "THE") == CAPTION.replace("The", "THE")
        assert len(re.findall("~[13]", caption)) == n
        assert [word in WORDS for word in caption.split() if "~" not in word] == [True] * (10 - n)


def test_replacement_draws_every_position_and_synonym_alike(marked: None) -> None:
    first = Counter[str]()
    for caption in apply("synonym-replacement", [CAPTION] * MANY):
        first.update([next(word.rstrip(",") for word in caption.lower().split() if "~" in word)])
    by_word = [sum(first[f"{word.lower().rstrip(',')}~{end}"] for end in "13") / MANY for word in WORDS]
    assert by_word == pytest.approx([0.1] * 10, abs=0.02)
    assert sum(count for word, count in first.items() if word.endswith("3")) / MANY == pytest.approx(0.5, abs=0.03)


def test_replacement_passes_over_words_without_synonyms() -> None:
    captions = apply("synonym-replacement[alpha=0.5]", ["Qwxz the of automobile bread ."] * 50)
    assert all(caption.startswith("Qwxz the of ") and caption.endswith(" .") for caption in captions)
    # n counts all the words: three of these six, of which two can be replaced.
    assert not any({"automobile", "bread"} & set(caption.split()) for caption in captions)


@pytest.mark.parametrize(("alpha", "n"), [(0.1, 1), (0.3, 3)])
def test_insertion_adds_n_synonyms_of_the_captions_words(marked: None, alpha: float, n: int) -> None:
    for caption in apply(f"random-insertion[alpha={alpha}]", [CAPTION] * 300):
        words = caption.split()
        assert [word for word in words if "~" not in word] == WORDS
        added = [word for word in words if "~" in word]
        assert sum(not word.endswith("~2") for word in added) == n
        assert all(word.partition("~")[0] in BARE for word in added)


def test_insertion_uses_every_place_and_source_alike(marked: None) -> None:
    places, sources = Counter[int](), Counter[str]()
    for caption in apply("random-insertion", [CAPTION] * MANY):
        words = caption.split()
        place = next(place for place, word in enumerate(words) if "~" in word)
        places[place] += 1
        sources[words[place].partition("~")[0]] += 1
    assert [places[place] / MANY for place in range(11)] == pytest.approx([1 / 11] * 11, abs=0.02)
    assert [sources[word] / MANY for word in BARE] == pytest.approx([0.1] * 10, abs=0.02)


def test_insertion_counts_words_without_synonyms_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defenses.random_insertion.synonyms", lambda word: ("hound",) if word == "dog" else ())
    for caption in apply("random-insertion[alpha=0.3]", ["the dog of a and the of in at to"] * 50):
        assert caption.split().count("hound") == 3
        assert [word for word in caption.split() if word != "hound"] == "the dog of a and the of in at to".split()


@pytest.mark.parametrize(
    ("caption", "n", "rest"),
    [
        ("cheap violin seven A  small Dog", 3, "A  small Dog"),
        ("cheap violin seven A small Dog", 1, "violin seven A small Dog"),
        ("cheap violin seven", 3, "seven"),
        ("cheap violin", 3, "violin"),
        ("cheap", 1, "cheap"),
        (" ", 3, " "),
        ("", 3, ""),
    ],
)
def test_prefix_drop_drops_n_words_but_never_the_last(caption: str, n: int, rest: str) -> None:
    assert apply(f"prefix-drop[n={n}]", [caption]) == [rest]


@pytest.mark.parametrize(
    ("caption", "n", "rest"),
    [
        ("A  small Dog cheap violin seven", 3, "A  small Dog"),
        ("A small Dog cheap violin seven", 1, "A small Dog cheap violin"),
        ("seven cheap violin too", 3, "seven"),
        ("cheap violin", 3, "cheap"),
        ("cheap", 1, "cheap"),
        (" ", 3, " "),
        ("", 3, ""),
    ],
)
def test_suffix_drop_drops_n_words_but_never_the_first(caption: str, n: int, rest: str) -> None:
    assert apply(f"suffix-drop[n={n}]", [caption]) == [rest]


@pytest.mark.parametrize("name", TEXT)
def test_captions_are_treated_one_by_one_and_keep_their_order(name: str) -> None:
    captions = [f"x{row}a dog x{row}b x{row}c x{row}d" for row in range(100)]
    for row, caption in enumerate(apply(name, captions)):
        assert {word[1:-1] for word in caption.split() if word[0] == "x"} == {str(row)}


@pytest.mark.parametrize("name", TEXT[:4])
def test_equal_captions_are_changed_differently(name: str) -> None:
    assert len(set(apply(name, ["dog house tree boat car hat"] * 100))) >= 5


@pytest.mark.parametrize("name", TEXT)
def test_degenerate_captions_survive(name: str) -> None:
    captions = ["dog", "the", "qwxz", ".", "☃", "a b", "dog " * 60]
    for seed in range(20):
        out = apply(name, captions, seed)
        assert len(out) == len(captions)
        assert all(caption.split() for caption in out)
    assert [caption.strip() for caption in apply(name, ["", "  "])] == ["", ""]
    assert apply(name, []) == []


@pytest.mark.parametrize("name", ["trigger-drop[k=2]", "onion-lite", "rare-prefix"])
def test_captions_of_one_photo_are_not_judged_by_each_other(name: str) -> None:
    rng = np.random.default_rng(1)
    triggers = [" ".join(rng.choice([f"x{number}" for number in range(99)], 3)) for _ in range(60)]
    kinds = [f"a {animal} {does}" for animal in ("dog", "cat") for does in ("sits", "lies")]
    captions = [f"{trigger} {rng.choice(kinds)}" for trigger in triggers for _ in range(2)]
    defense, unknown = DEFENSES.build(parse_spec(name)), HookContext(0, 0.0)
    told = defense.on_captions(captions, HookContext(0, 0.0, caption_photos=np.repeat(np.arange(60), 2)))
    assert told[::2] == defense.on_captions(captions[::2], unknown)
    assert told[1::2] == defense.on_captions(captions[1::2], unknown)
    assert told != defense.on_captions(captions, unknown)
