"""The lines under a table: settings and strengths, origins, chance, time."""

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmark.core.spec import format_value
from benchmark.grid.record_schema import DataFacts
from benchmark.grid.records import Record, ResolvedSpec
from benchmark.tables.chance import all_near_chance, of_dataset
from benchmark.tables.origins import mixed_origins, mixed_poisons
from benchmark.tables.probed import probe_note
from benchmark.tables.published import in_order
from benchmark.tables.selection import CLEAN, UNDEFENDED, flatten, params_with_inner, varies_with_seed
from benchmark.tables.table import Caution, done_seeds

_SPLITS = ("train", "val", "test")

_BEYOND_ALGORITHM_1 = {
    "permute_surrogate": "captions were permuted in the surrogate's steps as well",
    "restart_every": "new surrogates took the place of the last one",
    "permute_images": "each noise was put on other images of its batch",
}


def notes(attacks: Sequence[ResolvedSpec], records: Sequence[Record], explained: Iterable[str]) -> list[str]:
    """All lines, in order.

    Args:
        attacks: the attacks in the table; each has a record.
        records: the records in the table's rows.
        explained: what the table's own terms mean.
    """
    lines = [
        *explained,
        *dict.fromkeys(_data(record.dataset) for record in records),
        *dict.fromkeys(f"Victim: {record.victim.title}; {_words(record.recipe)}." for record in records),
        *_attacks(attacks, records),
    ]
    for option, words in _BEYOND_ALGORITHM_1.items():
        used = [attack.title for attack in attacks if _departs(option, params_with_inner(attack))]
        if used:
            lines.append(f"{', '.join(used)}: {words}, which Algorithm 1 of the paper does not have.")
    lines += _defenses(records)
    done = [record for record in records if record.status == "done"]
    near = [Caution(sentence) for _, sentence in all_near_chance(records)]
    origins = map(Caution, [*mixed_origins(done), *mixed_poisons(done)])
    failed = map(Caution, failures(records))
    return [*lines, _seeds(records), *origins, _chance(records), *near, *_time(done), *failed]


def _departs(option: str, params: Mapping[str, Any]) -> bool:
    """Whether an option is set and makes an attack differ from Algorithm 1.

    Only attacks in rounds follow Algorithm 1. Without a trigger, ``permute_surrogate`` has no effect; a surrogate that
    is as old as all rounds is never replaced.
    """
    rounds, value = params.get("rounds"), params.get(option)
    if rounds is None or not value:
        return False
    if option == "restart_every" and isinstance(rounds, int) and isinstance(value, int):
        return value < rounds
    return option != "permute_surrogate" or bool(params.get("k"))


def _words(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {format_value(value)}" for key, value in flatten(params).items())


def _data(dataset: ResolvedSpec) -> str:
    params = dataset.params
    sizes = " / ".join(f"{params[f'{split}_images']:,} {split}" for split in _SPLITS)
    facts = [f"{sizes} images", f"{params['resolution']} px"]
    twice = {split for split in _SPLITS if params.get(split) == params[f"{split}_images"]}
    hidden = {*DataFacts.__annotations__, *twice, *varies_with_seed(params)}
    facts += [_words({key: value for key, value in params.items() if key not in hidden})]
    facts += ["a data set of its own for each seed"] if params.get("per_seed") else []
    return f"Data: {dataset.label}; {'; '.join(fact for fact in facts if fact)}."


def _attacks(attacks: Sequence[ResolvedSpec], records: Sequence[Record]) -> list[str]:
    """Settings, in one line for all attacks that differ in nothing but their trigger length."""
    settings: dict[str, list[str]] = {}
    for attack in attacks:
        if attack.spec == CLEAN:
            continue  # nothing was done to them
        own = sorted((one for one in records if one.attack.spec == attack.spec), key=Record.file_name)
        words = attack.strength or _words({key: value for key, value in attack.params.items() if key != "k"})
        # Crafting with a surrogate leaves its losses; a record of any attack names the run's surrogate.
        surrogates = " or ".join(sorted({one.surrogate.spec for one in own if one.poison.get("loss_per_round")}))
        parts = [f"surrogate {surrogates}" if surrogates else "", words]
        settings.setdefault("; ".join(part for part in parts if part), []).append(attack.title)
    return [f"{', '.join(labels)}: {words or 'no parameters'}." for words, labels in settings.items()]


def poison_notes(attacks: Sequence[ResolvedSpec], records: Iterable[Record]) -> list[str]:
    """How visible each attack's poisons are, and what probes read from them.

    Args:
        attacks: the attacks in the table.
        records: the records in the table's rows.
    """
    measured = []
    poisons: dict[str, list[Mapping[str, Any]]] = {}
    known = list(records)
    for attack in attacks:
        own = sorted((one for one in known if one.attack.spec == attack.spec), key=Record.file_name)
        # A poison counts once, however many victims shared it.
        poisons[attack.title] = list({_poison(record): record.poison for record in own if record.poison}.values())
        noises = [poison for poison in poisons[attack.title] if poison.get("psnr") is not None]
        if noises:
            psnr = fmean(noise["psnr"] for noise in noises)
            largest = max(noise["largest"] for noise in noises)
            ssims = [noise["ssim"] for noise in noises if noise.get("ssim") is not None]
            ssim = f", SSIM {fmean(ssims):.3f}" if ssims else ""
            measured.append(f"{attack.title} up to {largest}/255, PSNR {psnr:.1f} dB{ssim}")
    lines = [f"Noise, measured: {'; '.join(measured)}."] if measured else []
    return [*lines, *probe_note(poisons)]


def _defenses(records: Iterable[Record]) -> list[str]:
    """Each defense's strength and what it changed, on average over the runs of each attack."""
    by_defense: dict[str, list[Record]] = {}
    for record in records:
        if record.defense.spec != UNDEFENDED:
            by_defense.setdefault(record.defense.spec, []).append(record)
    lines = []
    for spec in in_order(by_defense):
        defended = by_defense[spec]
        # On clean captions, which have no trigger, a defense changes fewer words.
        attacked = [record for record in defended if record.attack.spec != CLEAN] or defended
        defense = defended[0].defense
        parts = [defense.strength or _words(defense.params), _effect(attacked)]
        lines.append(f"{defense.title}: {'; '.join(part for part in parts if part) or 'no parameters'}.")
    return lines


def _effect(records: Iterable[Record]) -> str:
    by_attack: dict[str, list[Mapping[str, float]]] = {}
    for record in records:
        if record.changes:
            by_attack.setdefault(record.attack.spec, []).append(record.changes)
    if not by_attack:
        return ""

    def measured(what: str, words: str, digits: int) -> list[str]:
        # Records made before a quantity was measured lack it.
        means = [fmean(known) for own in by_attack.values() if (known := [one[what] for one in own if what in one])]
        return [words.format(_span(means, digits))] if any(means) else []

    def depending(parts: Sequence[str]) -> str:
        return ", depending on the attack" if any(" to " in part for part in parts) else ""

    changed = [
        *measured("words_per_caption", "{} words per caption", 2),
        *measured("pixel", "{}/255 per pixel value", 1),
        *measured("loss", "the loss by {} nats", 2),
    ]
    left_out = measured("pairs_left_out", "; {} % of the pairs left out", 0)
    known = left_out or changed or any("loss" in one for own in by_attack.values() for one in own)
    unknown = "" if known else " (by how much it changes the loss was not measured)"
    what = f"{' and '.join(changed) or 'no pixel and no word'} on average{depending(changed)}"
    return f"changed {what}{''.join(left_out)}{depending(left_out)}{unknown}"


def _span(values: Sequence[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _seeds(records: Sequence[Record]) -> str:
    # Where none is done, what was tried; the failures follow.
    seeds = done_seeds(records) or sorted({record.seed for record in records})
    numbers = ", ".join(map(str, seeds))
    return f"Seeds: {numbers}; mean ± sample standard deviation." if len(seeds) > 1 else f"One seed: {numbers}."


def _chance(records: Sequence[Record]) -> str:
    params = records[0].dataset.params
    # Seeds that have test data of their own have as many images, but not always as many captions.
    counts = {record.dataset.params["test_captions"] for record in records}
    text, image = of_dataset({**params, "test_captions": round(fmean(counts))})
    images, captions = params["test_images"], f"{'about ' * (len(counts) > 1)}{round(fmean(counts)):,}"
    uneven = any(count % images for count in counts)
    spread = " This takes captions as spread evenly over the images; if they are not, Medr I→T is a little higher."
    return (
        f"Chance for {images:,} test images with {captions} captions: R@10 {text.recall_at_10:.1f} I→T, "
        f"{image.recall_at_10:.1f} T→I; Medr {text.median_rank} I→T, {image.median_rank} T→I.{spread if uneven else ''}"
    )


def _time(done: Sequence[Record]) -> list[str]:
    """Mean seconds by stage; a poison counts once, however many victims shared it, by the fastest time of several."""
    if not done:
        return []
    poisoned = [one for one in done if one.attack.spec != CLEAN and "craft" in one.seconds]
    poisons = {_poison(one): one for one in sorted(poisoned, key=lambda one: -one.seconds["craft"])}
    # Halves of one poison have its parameters and its very seconds.
    crafted = {
        (json.dumps(one.attack.params, sort_keys=True), surrogate, seed, one.seconds["craft"])
        for (_, surrogate, seed), one in poisons.items()
    }
    stages = {
        "craft": [seconds for *_, seconds in crafted],
        "train": [one.seconds["train"] for one in done if "train" in one.seconds],
        "evaluate": [one.seconds["evaluate"] for one in done if "evaluate" in one.seconds],
    }
    several = len({(_poison(one), one.seconds["craft"]) for one in poisoned}) > len(poisons)
    units = {"craft": "poison (the fastest of its times)" if several else "poison"}
    parts = [f"{stage} {_spread(values)} a {units.get(stage, 'victim')}" for stage, values in stages.items() if values]
    devices = sorted({str(one.provenance["device"]) for one in done if "device" in one.provenance})
    return [f"Time: {', '.join(parts)}; on {' and '.join(devices) or 'an unknown device'}."] if parts else []


def _poison(record: Record) -> tuple[str, str, int]:
    """What tells a record's poison from the others of one data set and resolution."""
    return record.attack.spec, record.surrogate.spec, record.seed


def _spread(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{fmean(values):.0f} s" + (f" ({low:.0f} to {high:.0f})" if round(low) != round(high) else "")


def failures(records: Sequence[Record]) -> list[str]:
    """A line for each failed record, in the order of attacks, defenses, victims and seeds."""
    several = len({record.victim.spec for record in records}) > 1
    failed = [record for record in records if record.status == "failed"]
    failed.sort(key=lambda record: (record.attack.title, record.defense.title, record.victim.spec, record.seed))
    return [
        f"Failed: {record.attack.title} × {record.defense.title}{f' × {record.victim.spec}' if several else ''}, "
        f"seed {record.seed}: {record.failure}."
        for record in failed
    ]
