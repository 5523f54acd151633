"""What a user names, made concrete before any work begins: data, attacks, defenses, victims, seeds and their cells."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from attacks import ATTACKS
from attacks.through import Through
from benchmark.core.devices import resolve_precision
from benchmark.core.errors import UsageError
from benchmark.core.registrable import parameters_of
from benchmark.core.registry import unknown
from benchmark.core.spec import Spec, format_value, parse_spec, split_outside_brackets
from benchmark.data import DATASETS
from benchmark.grid.cells import Cell, ChosenAttack, ChosenDataset, ChosenDefense, content_key, defenses_within
from benchmark.grid.presets import PRESETS, Preset
from benchmark.grid.records import ResolvedSpec
from benchmark.grid.settings import RunSettings
from defenses import DEFENSES
from defenses.base import HOOKS, Composed
from victims.architecture import Architecture

_MOST_SEEDS = 1000


def choose_attacks(text: str, preset: Preset, through: str | None = None) -> list[ChosenAttack]:
    """Read ``--attack``; clean data come first, asked for or not.

    Args:
        text: as written.
        preset: gives the budgets.
        through: ``--through``, the defense that all of them are crafted through.

    Raises:
        UsageError: unknown attack or parameter, none at all.
    """
    specs = [_renamed(spec) for spec in _specs(text, "--attack")]
    if through is not None:
        specs = [
            spec if spec.name == "clean" else Spec("through", {"attack": str(spec), "defense": through})
            for spec in specs
        ]
    if all(spec.name != "clean" for spec in specs):
        specs.insert(0, Spec("clean"))
    chosen: dict[str, ChosenAttack] = {}
    for spec in specs:
        params = ATTACKS.resolve(spec, preset.attack_values(spec.name))
        attack = ATTACKS.build(spec, preset.attack_values(spec.name))
        if isinstance(attack, Through):
            inner = _renamed(parse_spec(attack.attack))
            budget = {**preset.attack_values(inner.name), **preset.attacks.get(spec.name, {})}
            attack = replace(attack, attack=str(inner)).with_budget(budget)
            params["attack"] = attack.attack
        for parameter, parts in defenses_within(attack).items():
            # As strong as the defense of that name in the same run.
            usual = [Spec(part.name, {**preset.defense.get(part.name, {}), **part.params}) for part in parts]
            params[parameter] = "+".join(map(str, usual))
            attack = replace(cast(Any, attack), **{parameter: params[parameter]})
        label, strength, _ = _texts(f"attack {spec}", attack.label, attack.describe, attack.identity)
        choice = ChosenAttack(attack, ResolvedSpec(str(spec), label, params, strength))
        # Two spellings of one attack (mem3, mem3[eps=8]) are one attack, under the first.
        chosen.setdefault(content_key(type(attack).__module__, type(attack).__qualname__, params), choice)
    return sorted(chosen.values(), key=lambda choice: not choice.is_clean)


def _renamed(spec: Spec) -> Spec:
    """``mem[k=3]`` under its short name ``mem3``, so that one thing has one name."""
    resolved = ATTACKS.resolve(spec)
    given = {key: resolved[key] for key in spec.params if key in resolved}
    named = ATTACKS.entry(spec.name)
    for entry in ATTACKS.entries():
        kin = entry.fixed and entry.factory is named.factory and not named.fixed
        if kin and all(key in given and given[key] == value for key, value in entry.fixed.items()):
            rest = {key: value for key, value in spec.params.items() if key not in entry.fixed}
            return Spec(entry.name, rest)
    return spec


def choose_defenses(text: str, preset: Preset) -> list[ChosenDefense]:
    """Read ``--defense``: names, groups (``all``, ``standard``, ``table2``) and compositions; ``none`` comes first.

    Raises:
        UsageError: unknown defense or parameter, none at all.
    """
    parts = [part for part in split_outside_brackets(text, ",") if part]
    if not parts:
        raise UsageError("--defense names nothing")
    names = ["none", *(name for part in parts for name in DEFENSES.group(part) or [part])]
    chosen: dict[str, ChosenDefense] = {}
    for name in names:
        members = split_outside_brackets(name, "+")
        if not all(members):
            raise UsageError(f"--defense: '{name}' lacks a defense beside a '+'")
        defense = _composed([parse_spec(part) for part in members], preset)
        # Two spellings of one defense (prefix-drop, prefix-drop[n=3]) are one defense, under the first.
        chosen.setdefault(content_key(list(defense.choice.params.items())), defense)
    return list(chosen.values())


def partly_protected(text: float | str | None) -> list[str]:
    """Read ``--protected``: for each share below 1, the defense ``clean-fraction`` that leaves the other images clean.

    Raises:
        UsageError: something else than numbers from a millionth to 1.
    """
    specs = []
    for part in str(text).split(",") if text is not None else []:
        try:
            share = float(part)
        except ValueError:
            share = math.nan
        if not 1e-6 <= share <= 1:
            raise UsageError(f"--protected takes shares from 0.000001 to 1, separated by commas, got '{text}'")
        if (clean := round(1 - share, 6)) > 0:
            specs.append(f"clean-fraction[share={format_value(clean)}]")
    return specs


def _composed(specs: Sequence[Spec], preset: Preset) -> ChosenDefense:
    for spec in specs:
        if spec.name in DEFENSES.groups():
            raise UsageError(f"'{spec.name}' is a group of defenses and cannot be part of a composition")
    parts = [DEFENSES.build(spec, preset.defense.get(spec.name)) for spec in specs]
    for spec, part in zip(specs, parts, strict=True):
        if not part.has_hooks:
            raise UsageError(f"defense {spec.name} overrides no hook ({', '.join(HOOKS)}), so it would change nothing")
    resolved = [DEFENSES.resolve(spec, preset.defense.get(spec.name)) for spec in specs]
    name = "+".join(str(spec) for spec in specs)
    said = [_texts(f"defense {spec}", part.label, part.describe) for spec, part in zip(specs, parts, strict=True)]
    labels, strengths = map(list, zip(*said, strict=True))
    defense = parts[0] if len(parts) == 1 else Composed(parts)
    params = {spec.name: params for spec, params in zip(specs, resolved, strict=True)}
    if len(params) < len(specs):
        raise UsageError(f"'{name}' names a defense twice")
    if len(parts) > 1:
        strengths = [f"{spec.name}: {text}" for spec, text in zip(specs, strengths, strict=True)]
    return ChosenDefense(defense, ResolvedSpec(name, " + ".join(labels), params, "; ".join(strengths)))


def _texts(what: str, *methods: Callable[[], str]) -> list[str]:
    """What methods return, which a plug-in may have written.

    Raises:
        UsageError: no text.
    """
    said = [method() for method in methods]
    for method, text in zip(methods, said, strict=True):
        if not isinstance(text, str):
            raise UsageError(f"{what}: {method.__name__}() returns {type(text).__name__}, not a text")
    return said


def choose_dataset(text: str, skip_bad: bool = False) -> ChosenDataset:
    """Read ``--dataset``.

    Args:
        text: as written.
        skip_bad: ``--skip-bad``, which sets the data set's parameter of that name.

    Raises:
        UsageError: unknown data set or parameter, or ``skip_bad`` for one that has no such parameter.
    """
    spec = parse_spec(text)
    if skip_bad:
        if "skip_bad" not in parameters_of(DATASETS.entry(spec.name).factory):
            raise UsageError(f"--skip-bad: data set {spec.name} reads no files of yours and has no bad ones")
        spec = Spec(spec.name, {**spec.params, "skip_bad": True})
    return ChosenDataset(DATASETS.build(spec), ResolvedSpec(str(spec), spec.name, DATASETS.resolve(spec)))


def choose_victims(text: str) -> list[Architecture]:
    """Read ``--victim``.

    Raises:
        UsageError: unknown victim, none at all.
    """
    return [Architecture.from_spec(spec) for spec in _specs(text, "--victim")]


def choose_surrogates(
    victims: Sequence[Architecture], given: str | None, preset: Preset
) -> Mapping[Architecture, Architecture]:
    """The surrogate of each victim: the one given; else the preset's; else the first victim of that resolution.

    Noise is made of pixels, so a surrogate sees images at its victims' resolution.

    Raises:
        UsageError: unknown surrogate, one of another resolution than a victim's, or a repeat of one.
    """
    if given is not None:
        surrogate = Architecture.from_spec(parse_spec(given))
        if surrogate.repeat > 1:
            raise UsageError(f"surrogate {surrogate}: only victims have repeats, which share a poison")
        for victim in victims:
            if victim.resolution != surrogate.resolution:
                raise UsageError(
                    f"surrogate {surrogate} sees {surrogate.resolution} px, victim {victim} {victim.resolution} px; "
                    "a poison is made for one resolution"
                )
        return dict.fromkeys(victims, surrogate)
    known = [Architecture.from_spec(parse_spec(preset.surrogate)), *(replace(one, repeat=1) for one in victims)]
    return {victim: next(model for model in known if model.resolution == victim.resolution) for victim in victims}


def cells_of(
    settings: RunSettings, device: torch.device, dataset: ChosenDataset | None = None, *, command: str | None = None
) -> list[Cell]:
    """The cells of some settings, in the order they run: by seed and victim, clean first.

    Args:
        settings: what to run.
        device: where it computes, which decides what precision ``auto`` is.
        dataset: data in place of those that the settings name.
        command: the command that records name; by default the settings as a command.

    Raises:
        UsageError: an unknown name or parameter, or models and data that do not go together.
    """
    preset = pick_preset(settings.preset)
    attacks = choose_attacks(settings.attack, preset, settings.through)
    victims = choose_victims(settings.victim or preset.victim)
    recipe = settings.recipe(preset.recipe)
    # On a cluster, a precision that is named is kept unchecked: this machine cannot tell whether the nodes support it.
    if recipe.precision == "auto" or parse_spec(settings.on).name == "local":
        recipe = replace(recipe, precision=resolve_precision(device, recipe.precision))
    dataset = dataset or choose_dataset(settings.dataset or preset.dataset, settings.skip_bad)
    defenses = choose_defenses(",".join([settings.defense, *partly_protected(settings.protected)]), preset)
    surrogates = choose_surrogates(victims, settings.surrogate, preset)
    # Cells of one seed share its data set.
    datasets = {seed: dataset.for_seed(seed) for seed in read_seeds(str(settings.seeds))}
    command = command or settings.to_command()
    # Clean data meet every defense if they are asked for, else only none.
    cross_clean = any(part.strip() == "clean" for part in settings.attack.split(","))
    return [
        Cell(data, attack, defense, victim, surrogate, recipe, seed, settings.plain_models, command)
        for seed, data in datasets.items()
        for victim, surrogate in surrogates.items()
        for attack in attacks
        for defense in defenses
        if cross_clean or not attack.is_clean or defense.choice.spec == "none"
    ]


def _specs(text: str, flag: str) -> list[Spec]:
    specs = [parse_spec(part) for part in split_outside_brackets(text, ",") if part]
    if not specs:
        raise UsageError(f"{flag} names nothing")
    return specs


def read_seeds(text: str) -> list[int]:
    """Read ``--seeds``: a count (``3`` is 1, 2, 3) or a comma list of seeds (``4,7``; ``4,`` is seed 4 alone).

    Raises:
        UsageError: neither of the two.
    """
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--seeds takes a count or a comma list of integers, got '{text}'") from None
    if "," not in text and numbers:
        if numbers[0] > _MOST_SEEDS:
            raise UsageError(f"--seeds {text} is a count of more than {_MOST_SEEDS:,}; '{text},' is one seed")
        numbers = list(range(1, numbers[0] + 1))
    if not numbers or min(numbers) < 0 or max(numbers) >= 2**31:
        raise UsageError(f"--seeds takes a count of at least 1 or seeds from 0 to 2147483647, got '{text}'")
    return list(dict.fromkeys(numbers))


def pick_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: unknown preset.
    """
    if name not in PRESETS:
        raise UsageError(unknown("preset", name, list(PRESETS)))
    return PRESETS[name]
