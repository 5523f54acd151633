"""English for scenes: which drawings have a usable name, their article, and the captions of a scene."""

import functools
import re

import numpy as np

from benchmark.data.drawings import Drawing, all_drawings
from benchmark.data.scene_layout import Layout, Relation

# Kinds of drawings that are hard to tell apart or that nobody calls by their name: faces, gestures, signs, people.
_UNCLEAR_KIND = re.compile(
    r"\b(arrows?|biceps|button|child|circle|clinking|couple|cross|currency|diamond|divide|face|family|fingers?|fist"
    r"|flag|gesture|hair|hands?|head|hearts?|hundred|index|input|keycap|man|mark|medal|medium|men|minus|moon|multiply"
    r"|no|oncoming|palm|people|person|plus|point|pointing|prohibited|room|salute|sign|small|square|suit|symbol|thirty|thumbs"
    r"|triangle|wavy|woman|women|(crying|grinning|kissing|pouting|weary) cat)\b"
)
# Names that are not a noun for the thing drawn ("a locked", "a chart increasing"), or that name an idea.
_NO_NOUN = re.compile(
    "airplane arrival|airplane departure|antenna bars|baggage claim|bald|biohazard|biting lip|black nib|bowling"
    "|breast-feeding|building construction|camping|chart decreasing|chart increasing|children crossing|collision"
    "|construction|cooking|copyright|cricket game|curly loop|customs|cyclone|dashing away|dizzy|dna|e-mail"
    "|eight-pointed star|eight-spoked asterisk|fight cloud|foggy|hamsa|high voltage|horse racing|hot springs"
    "|hourglass done|infinity|information|khanda|leafy green|left luggage|light rail|link|locked|love hotel"
    "|low battery|mate|milky way|mount fuji|national park|om|passport control|performing arts|ping pong"
    "|potable water|pouring liquid|radioactive|registered|restroom|splatter|star-struck|unlocked|vibration mode"
    "|warning|wedding|wireless"
)
_WITHOUT_ARTICLE = re.compile(
    "bacon|badminton|baguette bread|bread|broccoli|bubble tea|butter|candy|canned food|cooked rice|coral|curry rice"
    "|custard|dango|falafel|field hockey|fire|fog|fondue|garlic|ice|ice cream|ice hockey|lacrosse|luggage|nail polish"
    "|oden|popcorn|sake|salt|shaved ice|soap|spaghetti|sushi|tennis|thread|wood|yarn"
)
_SINGULAR_IN_S = frozenset({"fleur-de-lis", "rhinoceros"})
_SAID_WITH_CONSONANT = ("ewe", "euro", "one-", "uni")
_SAID_WITH_VOWEL = ("hour", "x-ray")

_PHRASES = {
    Relation.LEFT: ("to the left of", "left of"),
    Relation.RIGHT: ("to the right of", "right of"),
    Relation.ABOVE: ("above", "over"),
    Relation.BELOW: ("below", "under"),
    Relation.NEAR: ("next to", "beside", "near"),
}
# {a}, {b}: with article; {A}, {B}: without; {ab}: relation of a to b; {ba}: of b to a; {g}, {G}: background.
_PAIR_AND_GROUND = (
    "{a} {ab} {b} on {g} ground",
    "on {G}: {A} and {B}",
    "{g} picture with {b} and {a}",
    "{b} {ba} {a}, {G} background",
    "{a} and {b} against {g} backdrop",
    "drawing of {a} {ab} {b} on {G}",
    "{g} scene: {b} {ba} {a}",
    "{B} and {A}, {G} ground",
)
_PAIR = ("a picture of {a} {ab} {b}", "{b} {ba} {a} in one picture", "here {a} and {b} appear together")
_ONE_OF_PAIR = ("{g} picture showing {a} and something else", "{G} ground, {b} and one more thing")
_SINGLE = (
    "{a} alone on {g} ground",
    "nothing but {a} on {G}",
    "{g} picture with {a} in it",
    "drawing of {a} against {G}",
    "{a} in front of {g} background",
    "{g} scene showing only {a}",
    "on {G}: {A} and nothing else",
    "a picture of {a}, all by itself",
)


@functools.cache
def nameable_drawings() -> tuple[Drawing, ...]:
    """The drawings that scenes may show: one code point, and a unique, usable name of one or two words."""
    by_name: dict[str, Drawing] = {}
    for drawing in all_drawings():
        name = drawing.names[0]
        if len(drawing.emoji.rstrip("\ufe0f")) > 1 or not re.fullmatch(r"[a-z-]+( [a-z-]+)?", name):
            continue
        if not _NO_NOUN.fullmatch(name) and not _UNCLEAR_KIND.search(name):
            by_name.setdefault(name, drawing)
    return tuple(by_name.values())


def with_article(name: str) -> str:
    """The name with its article (``a fox``, ``an apple``); plural and mass nouns stay as they are."""
    plural = name.endswith("s") and not name.endswith(("ss", "us")) and name not in _SINGULAR_IN_S
    if plural or _WITHOUT_ARTICLE.fullmatch(name):
        return name
    vowel = name.startswith(_SAID_WITH_VOWEL) or (name[0] in "aeiou" and not name.startswith(_SAID_WITH_CONSONANT))
    return f"{'an' if vowel else 'a'} {name}"


def captions_of(layout: Layout, names: list[str], rng: np.random.Generator) -> list[str]:
    """Five different captions of 5 to 14 words; with two objects, at least four name both.

    Args:
        layout: the scene.
        names: the name of each drawing, indexed like the layout's ``drawing``.
        rng: draws the templates, their order and the wording of a relation.
    """
    words = {"g": with_article(layout.ground), "G": layout.ground}
    for letter, placed in zip("ab", layout.objects, strict=False):
        words |= {letter: with_article(names[placed.drawing]), letter.upper(): names[placed.drawing]}
    if len(layout.objects) == 1:
        templates = list(rng.choice(_SINGLE, 5, replace=False))
    else:
        templates = list(rng.choice(_PAIR_AND_GROUND, 3, replace=False))
        templates += [rng.choice(_PAIR), rng.choice(_PAIR_AND_GROUND + _ONE_OF_PAIR)]
        while templates[4] in templates[:3]:
            templates[4] = rng.choice(_PAIR_AND_GROUND + _ONE_OF_PAIR)
    captions = []
    for template in rng.permutation(templates):
        if len(layout.objects) == 2:
            relation = layout.relation()
            words |= {"ab": str(rng.choice(_PHRASES[relation])), "ba": str(rng.choice(_PHRASES[relation.inverse()]))}
        captions.append(str(template).format(**words))
    return captions
