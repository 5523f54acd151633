"""Open Clip Art: which files are used, in whose words, and that a hostile file does no harm."""

import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from benchmark.core.errors import UsageError
from benchmark.data.clipart_survey import Clipart, survey
from benchmark.data.clipart_words import captions_of, name_of, title_of
from benchmark.data.openclipart import OpenClipart
from benchmark.data.svg_file import BadDrawing, SvgFile, draw, read_svg

DEBIAN = Path("/usr/share/openclipart/svg")
PUBLIC_DOMAIN = "http://web.resource.org/cc/PublicDomain"
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:c="http://web.resource.org/cc/"'
    ' xmlns:d="http://purl.org/dc/elements/1.1/" xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    ' width="100" height="100">'
)
SQUARE = '<rect x="10" y="20" width="40" height="20" fill="rgb({0},{1},{2})"/>'


def svg(
    title: str, *keywords: str, body: str = "", description: str = "", licence: str = PUBLIC_DOMAIN, creator: str = ""
) -> str:
    subject = "".join(f"<r:li>{escape(keyword)}</r:li>" for keyword in keywords)
    return (
        f"{HEAD}<metadata><r:RDF><c:Work><d:title>{escape(title)}</d:title>"
        f"<d:description>{escape(description)}</d:description><d:subject><r:Bag>{subject}</r:Bag></d:subject>"
        f"<d:creator><c:Agent><d:title>{creator}</d:title></c:Agent></d:creator>"
        f'<c:license r:resource="{licence}"/></c:Work></r:RDF></metadata>{body}</svg>'
    )


def square(number: int) -> str:
    """A square whose colour no other number has, nor one near it."""
    return SQUARE.format(*(80 * (number // 3**place % 3) for place in range(3)))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """``write("a/b.svg", text)`` makes a file below the folder ``svg``."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / "svg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return make


def test_only_drawings_in_the_public_domain_are_used_and_each_once(
    write: Callable[[str, str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cat = write("cat.svg", svg("Cat", "animal", "pet", body=square(1)))
    write("twin.svg", svg("Another cat", body=square(1)))
    write("gpl.svg", svg("Copyleft", body=square(2), licence="http://creativecommons.org/licenses/GPL/2.0/"))
    write("unknown.svg", svg("Nobody's", body=square(3), licence=""))
    write("broken.svg", svg("Broken", body=square(4))[:-9])
    write("empty.svg", svg("Nothing"))
    write("pale.svg", svg("Pale", body=SQUARE.format(248, 248, 248)))
    write("theme.svg", svg("Lemon SVG theme", body=square(5)))
    write("shapes/stars/star.svg", svg("Star", body=square(6)))
    write("007.svg", svg("12", body=square(7)))
    write("dog.svg", svg("Dog", body=square(8), description="A dog in the rain"))
    (tmp_path / "svg" / "link.svg").symlink_to(cat)
    with caplog.at_level(logging.WARNING):
        usable, content = survey(tmp_path / "svg", tmp_path / "cache")
    assert [(each.path, each.captions) for each in usable] == [
        ("cat.svg", ("Cat", "Cat: animal, pet", "animal, pet")),
        ("dog.svg", ("Dog", "A dog in the rain")),
    ]
    assert len({each.group for each in usable}) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "openclipart: 3 of 10 files cannot be used; the first is 'broken.svg': not well-formed: "
        + caplog.records[0].getMessage().partition("well-formed: ")[2]
    ]
    caplog.clear()
    assert survey(tmp_path / "svg", tmp_path / "cache") == (usable, content)
    assert not caplog.records
    (kept,) = (tmp_path / "cache" / "openclipart").glob("*.json")
    for damaged in (kept.read_text("utf-8").replace("animal", "anibal"), "[" * 100_000, "{}"):
        kept.write_text(damaged, "utf-8")
        assert survey(tmp_path / "svg", tmp_path / "cache") == (usable, content)
        assert "is damaged" in caplog.records[0].getMessage()
        caplog.clear()
    write("cat.svg", svg("Tom", body=square(1)))
    assert survey(tmp_path / "svg", tmp_path / "cache")[0][0].captions == ("Tom",)


def test_words_of_five_drawings_name_a_series(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    for number, name in enumerate(("tall_tree_ann_a_01", "house", "lake2", "hill", "road")):
        write(f"{name}.svg", svg("Map Symbols", "map", "sign", body=square(number), creator="Ann Author"))
    for number in range(4):
        write(f"four{number}.svg", svg("Four", body=square(10 + number)))
    usable, _ = survey(tmp_path / "svg", tmp_path / "cache")
    captions = {each.path: each.captions for each in usable}
    assert captions["tall_tree_ann_a_01.svg"] == ("tall tree", "tall tree: map, sign")
    assert captions["lake2.svg"] == ("lake", "lake: map, sign")
    assert captions["four3.svg"] == ("Four",)


def written(title: str, *keywords: str, description: str = "", creator: str = "") -> SvgFile:
    return SvgFile("", title, description, keywords, creator, ())


@pytest.mark.parametrize(
    ("drawing", "captions"),
    [
        (written("Red cat 12"), ["Red cat"]),
        (written("Cat", description="A cat on a mat."), ["Cat", "A cat on a mat."]),
        (written("Cat", description="A black cat"), ["Cat"]),
        (written("Cat", description="Cat made with Inkscape in 2004"), ["Cat"]),
        (written("A cat on a mat", description="a cat on a mat"), ["A cat on a mat"]),
        (written("Cat", description="cat " * 200), ["Cat"]),
        (written("Cat", "hash(0x85e0)", "", "cat", "Animal", "0xa125", "unsorted"), ["Cat", "Cat: animal"]),
        (written("Cat", "pet", "ann author", "pet", creator="Ann Author"), ["Cat", "Cat: pet"]),
        (written("", *"aa bb cc dd ee ff gg".split()), ["aa, bb, cc, dd, ee, ff"]),
        (written("Clip art by Ann - x", "pet", "animal"), ["pet, animal"]),
        (written("7"), []),
    ],
)
def test_captions_are_the_authors_words(drawing: SvgFile, captions: list[str]) -> None:
    assert captions_of(drawing, title_of(drawing)) == captions


@pytest.mark.parametrize(
    ("stem", "creator", "name"),
    [
        ("arrow-down-blue_benji_pa_01", "Benji Park", "arrow down blue"),
        ("aziendaVendite", "", "azienda Vendite"),
        ("70a001", "", ""),
        ("scorpion-md-v0.1", "", "scorpion md v"),
    ],
)
def test_names_of_files(stem: str, creator: str, name: str) -> None:
    assert name_of(stem, creator) == name


BOMB = '<!DOCTYPE svg [<!ENTITY a "haha">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in itertools.pairwise("abcdefghi")
)
CHAIN = "".join(f'<g id="g{n}">{f"""<use xlink:href="#g{n - 1}"/>""" * 10}</g>' for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB + f"]>{HEAD}<title>&i;</title></svg>", "entities"),
        (f'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>{HEAD}<title>&x;</title></svg>', "entities"),
        (f'{HEAD}<image xlink:href="/etc/passwd"/></svg>', "image"),
        (f'{HEAD}<filter id="f"><feImage xlink:href="http://example.org/a.png"/></filter></svg>', "feImage"),
        (f"{HEAD}{' ' * (4 << 20)}</svg>", "larger than 4 MiB"),
        ("", "not well-formed"),
        ("{}", "not well-formed"),
    ],
)
def test_hostile_files_are_refused(text: str, reason: str, write: Callable[[str, str], Path]) -> None:
    with pytest.raises(BadDrawing, match=reason):
        read_svg(write("a.svg", text))


def test_other_encodings_are_refused(write: Callable[[str, str], Path]) -> None:
    path = write("a.svg", "")
    path.write_bytes(f'<?xml version="1.0" encoding="utf-16"?>{BOMB}]>{HEAD}&i;</svg>'.encode("utf-16"))
    with pytest.raises(BadDrawing, match="not well-formed"):
        read_svg(path)


@pytest.mark.parametrize(
    "body",
    [
        f'<defs><rect id="g0" width="1" height="1"/>{CHAIN}</defs><use xlink:href="#g11"/>',
        "<g>" * 100_000 + square(1) + "</g>" * 100_000,
    ],
)
def test_drawings_that_never_end_are_left_out(body: str, write: Callable[[str, str], Path], tmp_path: Path) -> None:
    write("bomb.svg", svg("Bomb", body=body))
    write("deep.svg", svg("Deep", body="<g>" * 1000 + square(1) + "</g>" * 1000))
    usable, _ = survey(tmp_path / "svg", tmp_path / "cache")
    assert [each.path for each in usable] == ["deep.svg"]


def test_a_picture_is_the_drawing_cut_out_in_the_middle_of_white() -> None:
    # A rectangle of 40 × 20 in a corner of a page of 100 × 100.
    picture = draw(HEAD + SQUARE.format(200, 0, 0) + "</svg>", 48)
    assert picture.shape == (3, 48, 48)
    assert (abs(picture[:, 14:34, 3:45] - np.array([200, 0, 0])[:, None, None]) <= 2).all()
    outside = np.ones((48, 48), bool)
    outside[12:36, 1:47] = False
    assert (picture[:, outside] == 255).all()


@pytest.mark.parametrize("body", [SQUARE.format(200, 0, 0), '<circle cx="90" cy="90" r="1" fill="#c80000"/>'])
def test_another_ground_is_seen_wherever_a_drawing_has_nothing(body: str) -> None:
    hidden = body.replace("rgb(200,0,0)", "#808080").replace("#c80000", "#808080")
    white, grey, one_colour = (
        draw(f"{HEAD}{text}</svg>", 48, ground) for text, ground in ((body, 255), (body, 128), (hidden, 128))
    )
    outside, inside = ((white == np.array(colour)[:, None, None]).all(axis=0) for colour in ([255] * 3, [200, 0, 0]))
    for pixels, colour in ((outside, [128] * 3), (inside, [200, 0, 0])):
        far = binary_erosion(pixels, iterations=3)  # near an edge, resizing overshoots
        assert far.any()
        assert (grey[:, far] == np.array(colour)[:, None]).all()
    assert (one_colour == 128).all()  # a drawing in the ground's colour is found all the same


def test_small_drawings_are_drawn_finely() -> None:
    # A disc that takes a fiftieth of the page: enlarged from few pixels, its edge would be grey over many.
    picture = draw(f'{HEAD}<circle cx="90" cy="90" r="1"/></svg>', 64).astype(int)
    assert ((picture > 40) & (picture < 215)).mean() < 0.05


def test_text_is_drawn_without_the_fonts_of_the_machine() -> None:
    text = '<text x="2" y="60" font-size="40" font-family="{}">Stop</text></svg>'
    first, other = (draw(HEAD + text.format(family), 48) for family in ("Arial", "no such font"))
    assert np.array_equal(first, other)
    assert (first < 100).mean() > 0.05


def drawings(groups: list[int]) -> list[Clipart]:
    return [Clipart(f"{index}.svg", (str(index),), group) for index, group in enumerate(groups)]


def test_sizes_are_exact_and_groups_stay_together() -> None:
    usable = drawings([0] * 9 + [1] * 3 + [2] * 2 + list(range(3, 40)))
    for seed in range(20):
        parts = OpenClipart(train=25, val=4, test=8, seed=seed).split(usable)
        assert {split: len(part) for split, part in parts.items()} == {"train": 25, "val": 4, "test": 8}
        groups = {split: {drawing.group for drawing in part} for split, part in parts.items()}
        assert not groups["train"] & groups["test"] | groups["train"] & groups["val"] | groups["val"] & groups["test"]
        assert len({drawing.path for part in parts.values() for drawing in part}) == 37


def test_the_seed_decides_the_split() -> None:
    usable = drawings(list(range(40)))
    first, again, other = (OpenClipart(train=20, val=4, test=8, seed=seed).split(usable) for seed in (1, 1, 2))
    assert first == again
    assert {drawing.path for drawing in first["test"]} != {drawing.path for drawing in other["test"]}


def test_drawings_that_look_alike_share_a_group(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    write("a.svg", svg("First", body=SQUARE.format(200, 0, 0)))
    write("b.svg", svg("Second", body=SQUARE.format(190, 8, 0)))
    write("c.svg", svg("Third", body=SQUARE.format(0, 0, 200)))
    first, second, third = (each.group for each in survey(tmp_path / "svg", tmp_path / "cache")[0])
    assert first == second != third


@pytest.mark.parametrize("ground", [255, 128])
def test_splits_hold_the_pictures_of_their_captions(
    ground: int, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    for number in range(12):
        write(f"{number:02}.svg", svg(f"Number {'abcdefghijkl'[number] * 2}", body=square(number)))
    OpenClipart(tmp_path / "svg", train=6, val=2, test=3, seed=5).load(16, tmp_path / "cache")
    source = OpenClipart(tmp_path / "svg", train=6, val=2, test=3, ground=ground, seed=5)
    for _ in range(2):  # made, then read
        splits = source.load(16, tmp_path / "cache")
        for split in (splits.train, splits.val, splits.test):
            for image, captions in zip(np.asarray(split.images), split.captions, strict=True):
                number = "abcdefghijkl".index(captions[0][-1])
                assert np.array_equal(image, draw(HEAD + square(number) + "</svg>", 16, ground))
    assert [len(splits.train), len(splits.val), len(splits.test)] == [6, 2, 3]


@pytest.mark.parametrize("ground", [-1, 256])
def test_a_ground_that_is_no_grey_level(ground: int) -> None:
    with pytest.raises(UsageError, match="data set openclipart: ground must be between 0 and 255"):
        OpenClipart(ground=ground)


def test_too_few_drawings(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    write("a.svg", svg("First", body=square(1)))
    with pytest.raises(UsageError, match=r"test should have 400 images; of 1 usable drawings below .*, 1 are left"):
        OpenClipart(tmp_path / "svg", seed=1).load(16, tmp_path / "cache")


def test_a_missing_folder_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^openclipart: folder .*none does not exist; .*apt-get install"):
        OpenClipart(tmp_path / "none", seed=1).load(16, tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package openclipart-svg")
def test_debians_package_is_as_the_documents_say(tmp_path: Path) -> None:
    usable, _ = survey(DEBIAN, tmp_path)
    words = Counter(
        word for each in usable for word in set(re.findall(r"[^\W_]+(?:'\w+)?", " ".join(each.captions).lower()))
    )
    frequent = sum(count >= 5 for count in words.values())
    assert (len(usable), len(words), frequent) == (3138, 3998, 453)
    splits = OpenClipart(seed=1).load(32, tmp_path)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [2500, 200, 400]
    for split in (splits.train, splits.val, splits.test):
        assert all(1 <= len(captions) <= 4 for captions in split.captions)
        assert np.asarray(split.images).std(axis=(1, 2, 3)).min() > 1
