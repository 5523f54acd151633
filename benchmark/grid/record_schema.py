"""What a record may hold: kinds and ranges, checked where records are read and before one is written."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from benchmark.core.strict_json import MOST, Amount, Number, as_kind

_MOST_IMAGES = 10**7
_MOST_CAPTIONS = 10**8

Count = Annotated[int, Meta(ge=0, le=MOST)]
Seed = Annotated[int, Meta(ge=0, lt=2**31)]
# On one line, without control characters, which a terminal would obey. A data set's spec holds paths.
_LINE = r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"
SpecText = Annotated[str, Meta(pattern=_LINE, max_length=20_000)]
Label = Annotated[str, Meta(pattern=_LINE, max_length=1_000)]

_Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
_Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Auc = Annotated[float, Meta(ge=0, le=1)]
Scalar = bool | _Integer | _Finite | str | None
Open = Mapping[str, Scalar | list[Scalar] | Mapping[str, Scalar | list[Scalar]]]


class DataFacts(TypedDict):
    """What is read from ``dataset.params``; a data set's own parameters stand beside it."""

    resolution: Annotated[int, Meta(ge=1, le=10_000)]
    train_images: Annotated[int, Meta(ge=1, le=_MOST_IMAGES)]
    val_images: Annotated[int, Meta(ge=1, le=_MOST_IMAGES)]
    test_images: Annotated[int, Meta(ge=1, le=_MOST_IMAGES)]
    train_captions: Annotated[int, Meta(ge=1, le=_MOST_CAPTIONS)]
    test_captions: Annotated[int, Meta(ge=1, le=_MOST_CAPTIONS)]
    fingerprint: str
    per_seed: NotRequired[bool]


class AttackFacts(TypedDict, total=False):
    """What is read from ``attack.params``."""

    k: Count | None


class RecipeFacts(TypedDict):
    """What is read from ``recipe``."""

    epochs: Annotated[int, Meta(ge=1)]
    batch_size: Annotated[int, Meta(ge=2)]
    evaluate_every: Annotated[int, Meta(ge=1)]
    lr: Amount
    matrix_lr: NotRequired[Amount]
    rows: Literal["pairs", "images"]
    precision: str


class PoisonFacts(TypedDict):
    """What is read from ``poison`` unless it is empty; see :class:`benchmark.grid.records.Record`."""

    eps: Annotated[int, Meta(ge=0, le=128)]
    largest: Annotated[int, Meta(ge=0, le=128)]
    per: NotRequired[Literal["image", "row"]]  # the oldest records lack it, as the number of trigger words
    psnr: Number | None
    ssim: NotRequired[Annotated[float, Meta(ge=-1, le=1)] | None]
    trigger_words: Mapping[str, Count]
    distinct_trigger_words: Count
    trigger_word_count: NotRequired[Count]
    loss_per_round: list[Number]
    probe_trigger_auc: NotRequired[_Auc]
    probe_noise_auc: NotRequired[_Auc]
    probe_trigger_shuffled: NotRequired[_Auc]
    probe_noise_shuffled: NotRequired[_Auc]
    probe_trigger_words: NotRequired[Mapping[str, _Auc]]
    probe_noise_words: NotRequired[Mapping[str, _Auc]]


class ProvenanceFacts(TypedDict, total=False):
    """What is read from ``provenance``; see :class:`benchmark.grid.records.Record`."""

    command: str
    preset: str
    commit: str | None
    device: str
    finished: str
    models: str
    threads: int | None
    processes: int | None
    code: Mapping[str, str]
    fingerprints: Mapping[str, str]
    versions: Mapping[str, str | None]


# The open fields, and what is known of each.
_FACTS: Mapping[str, Any] = {
    "dataset.params": DataFacts,
    "attack.params": AttackFacts,
    "defense.params": Open,
    "victim.params": Open,
    "surrogate.params": Open,
    "recipe": RecipeFacts,
    "poison": PoisonFacts,
    "provenance": ProvenanceFacts,
}


def require_facts(content: Mapping[str, Any]) -> None:
    """Check what tables and figures read from a record's open fields, which hold more than is known of here.

    Args:
        content: a record in JSON's kinds.

    Raises:
        ValueError: a value does not fit; the message names the place.
    """
    for place, kind in _FACTS.items():
        facts: Any = content
        for name in place.split("."):
            facts = facts.get(name, {})
        if facts or place != "poison":
            as_kind(facts, kind, place)
        as_kind(facts, Open, place)
    sizes = content["dataset"]["params"]
    if sizes["test_images"] > sizes["test_captions"]:
        raise ValueError("dataset.params: fewer test captions than test images")
    poison = content.get("poison", {})
    for part in ("trigger", "noise"):
        missing = [what for what in ("shuffled", "words") if f"probe_{part}_{what}" not in poison]
        if f"probe_{part}_auc" in poison and missing:
            raise ValueError(f"poison: probe_{part}_auc, but no probe_{part}_{missing[0]}")
