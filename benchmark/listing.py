"""The ``list`` command: what exists, one line each."""

from attacks import ATTACKS
from benchmark.data import DATASETS
from benchmark.presets import PRESETS
from benchmark.registry import Registry
from defenses import DEFENSES
from victims.clip import Architecture, model_names


def list_lines(kind: str) -> list[str]:
    """One line for each attack, defense, victim, data set or preset.

    Args:
        kind: ``attacks``, ``defenses``, ``victims``, ``datasets`` or ``presets``.
    """
    if kind == "victims":
        return [f"{name}[pretrained=none]  {Architecture(name).resolution} px" for name in model_names()]
    if kind == "presets":
        return [f"{preset.name}  {preset.summary}" for preset in PRESETS.values()]
    registries: dict[str, Registry] = {"attacks": ATTACKS, "defenses": DEFENSES, "datasets": DATASETS}
    registry = registries[kind]
    lines = [f"{entry.signature()}  {entry.summary}" for entry in registry.entries()]
    groups = [group for group in registry.groups() if kind == "defenses"]
    return lines + [f"{group}  = {', '.join(registry.group(group))}" for group in groups]
