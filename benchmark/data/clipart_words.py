"""The words of Open Clip Art's authors as captions: titles, descriptions, keywords and, failing a title, file names."""

import re

from benchmark.data.svg_file import SvgFile

_MOST_KEYWORDS = 6
_FEWEST_WORDS = 4  # of a description
_LONGEST = 400  # characters of a caption; longer texts tell a story
_COLLECTION = re.compile(r"clip ?art by .*|untitled.*|none", re.I)  # titles
_NUMBER = re.compile(r"(?<=[a-z)\]])[\s#-]*\(?\d+\)?$", re.I)  # of a drawing in a series
# Keywords that sort the collection or say nothing of the picture; "HASH(0x…)" comes from a mistake in a Perl script.
_FILING = re.compile(
    r"0x[0-9a-f]+|.*\bhash\b.*|.*sym|.*theme.*|clip ?art|open ?clip ?art|computer icons|icons|inkscape|media"
    r"|miscellany|nothing|png|public domain|signs and symbols|sodipodi|special|svg|unchecked|unsorted",
    re.I,
)
# Descriptions of how and where a file was made.
_PROVENANCE = re.compile(
    r"@|https?:|www|autotrace|collection|contact|convert|copyright|creative commons|gimp|illustrator|inkscape"
    r"|licen[cs]e|(created|designed|drawn|made) (by|for|from|in|using|with)|part of|photoshop|public domain|sodipodi"
    r"|svg|tutorial|vectori[sz]",
    re.I,
)
_WORD = re.compile(r"[^\W\d_]{2,}")


def title_of(drawing: SvgFile) -> str:
    """The title without the number after it; empty if it names a collection."""
    return "" if _COLLECTION.match(drawing.title) else _words(_NUMBER.sub("", drawing.title))


def name_of(stem: str, creator: str) -> str:
    """The words of a file name, without numbers and the author's name, of which the archive kept the beginning."""
    parts = re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", re.sub(r"[\W_]*\d*[\W_]*$", "", stem))
    author = "_".join(re.split(r"\W+", creator.lower()))
    end = next((i for i in range(1, len(parts)) if author.startswith("_".join(parts[i:]).lower())), len(parts))
    return _words(_NUMBER.sub("", " ".join(part for part in parts[:end] if not part[:1].isdigit())))


def captions_of(drawing: SvgFile, title: str) -> list[str]:
    """Up to four different captions: title, title with keywords, description, keywords.

    Args:
        drawing: the file.
        title: its title, or what stands in for it; may be empty.
    """
    keywords = _keywords(drawing, title)
    listed = ", ".join(keywords)
    captions = [
        title,
        f"{title}: {listed}" if title and keywords else "",
        _description(drawing),
        listed if len(keywords) > 1 else "",
    ]
    different = {caption.lower(): caption for caption in reversed(captions) if 0 < len(caption) <= _LONGEST}
    return [caption for caption in captions if different.get(caption.lower()) is caption]


def _keywords(drawing: SvgFile, title: str) -> list[str]:
    """The first keywords that say something of the picture, each once, without the author's name and the title."""
    people = set(_WORD.findall(drawing.creator.lower()))
    kept = dict.fromkeys(
        keyword
        for keyword in map(str.lower, drawing.keywords)
        if _WORD.search(keyword) and not _FILING.fullmatch(keyword) and not people & set(_WORD.findall(keyword))
    )
    kept.pop(title.lower(), None)
    return list(kept)[:_MOST_KEYWORDS]


def _description(drawing: SvgFile) -> str:
    text = drawing.description
    return text if len(text.split()) >= _FEWEST_WORDS and not _PROVENANCE.search(text) else ""


def _words(text: str) -> str:
    """The text with single spaces; empty if it has no word."""
    text = " ".join(text.split())
    return text if _WORD.search(text) else ""
