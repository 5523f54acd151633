"""Settings of a run: one typed, frozen object that flags, a YAML file and Python code fill alike."""

import argparse
import dataclasses
import shlex
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml

from benchmark.core.errors import UsageError
from benchmark.core.registry import convert, unknown
from benchmark.core.spec import format_value
from victims.recipe import Recipe

Rerun = Literal["missing", "failed", "all"]
Tracker = Literal["tensorboard", "wandb", "trackio"]


class Words(NamedTuple):
    """What a setting means, as ``--help`` says it."""

    meaning: str
    example: str = ""


@dataclass(frozen=True)
class RunSettings:
    """What to run. Every field is a flag of ``run`` and a key of its YAML file, with ``-`` written for ``_``.

    Values may be given as text, as on the command line: ``epochs="2"`` is ``epochs=2``. What each field means is
    written beside it, and printed by ``run --help``. The fields from ``epochs`` on are those of
    :class:`victims.recipe.Recipe`; ``None`` leaves the preset's value.

    Raises:
        UsageError: a value of the wrong kind or out of range; the message names the flag.
    """

    attack: Annotated[str, Words("attacks, comma-separated", "clean,em,mem[k=3,rounds=8]")] = "mem3"
    defense: Annotated[
        str,
        Words("defenses, comma-separated, composed with +; groups: table2 (the paper's eight), all", "cutout,all"),
    ] = "table2"
    dataset: Annotated[str | None, Words("data set", "csv[train=a.csv,test=b.csv]")] = None
    skip_bad: Annotated[bool, Words("leave out images that cannot be read, and list them")] = False
    victim: Annotated[str | None, Words("victims, comma-separated", "tiny,RN50,ViT-B-32[pretrained=FILE]")] = None
    surrogate: Annotated[str | None, Words("model that crafts the poisons", "RN50")] = None
    seeds: Annotated[
        int | str, Words("how many seeds (3 means 1, 2, 3), or which ones; '4,' is seed 4 alone", "4,7")
    ] = "1"
    preset: Annotated[str, Words("named set of values, see 'list presets'", "micro")] = "tiny"
    out: Annotated[Path, Words("folder for records")] = Path("results/runs")
    device: Annotated[str, Words("where to compute; auto takes CUDA where there is one", "cuda:1")] = "auto"
    poisons: Annotated[str | None, Words("folder that keeps poisons (default: in the cache); off crafts anew")] = None
    cache: Annotated[Path | None, Words("folder for rendered and resized images (default: the user's cache)")] = None
    plain_models: Annotated[bool, Words("run open_clip's own modules instead of the fast paths; slower")] = False
    rerun: Annotated[Rerun, Words("which cells to run")] = "missing"
    checkpoint_every: Annotated[
        int,
        Words("epochs of training and rounds of crafting between checkpoints; 0: none"),
    ] = 1
    track: Annotated[Tracker | None, Words("show curves while victims train; each tracker is an optional extra")] = None
    dry_run: Annotated[
        bool,
        Words("print the plan and stop; data that are not in the cache are prepared first"),
    ] = False
    plugin: Annotated[
        tuple[Path, ...],
        Words("Python file with your own attacks, defenses or data sets; may be repeated"),
    ] = ()
    epochs: Annotated[int | None, Words("passes over the training rows")] = None
    batch_size: Annotated[int | None, Words("rows in a training step")] = None
    lr: Annotated[float | None, Words("AdamW's peak learning rate")] = None
    beta1: Annotated[float | None, Words("AdamW's first-moment decay")] = None
    beta2: Annotated[float | None, Words("AdamW's second-moment decay")] = None
    weight_decay: Annotated[float | None, Words("AdamW's weight decay")] = None
    warmup_steps: Annotated[int | None, Words("most steps of linear warm-up")] = None
    warmup_share: Annotated[float | None, Words("largest share of all steps that warms up")] = None
    rows: Annotated[
        Literal["pairs", "images"] | None,
        Words("what an epoch visits: all image-caption pairs, or each image once with a random caption"),
    ] = None
    evaluate_every: Annotated[int | None, Words("epochs between evaluations on validation and test data")] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        Words("what models compute in; auto takes bf16 where the device is faster in it"),
    ] = None

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for name, value in self._values().items():
            if name == "seeds":
                object.__setattr__(self, name, str(value))
            elif name == "plugin":
                object.__setattr__(self, name, tuple(Path(path) for path in value))
            elif isinstance(value, str):
                object.__setattr__(self, name, convert(value, _written(hints[name]), flag(name)))
        if self.checkpoint_every < 0:
            raise UsageError(f"--checkpoint-every must be at least 0, got {self.checkpoint_every}")

    @classmethod
    def from_cli(cls, arguments: argparse.Namespace) -> "RunSettings":
        """Flags over the YAML file that ``--config`` names, over the defaults.

        Args:
            arguments: attributes with fields' names, ``None`` where a flag was not given; others are left aside.

        Raises:
            UsageError: the file cannot be read, has an unknown key, or a value is wrong.
        """
        config = getattr(arguments, "config", None)
        given = {name: value for name in setting_names() if (value := getattr(arguments, name, None)) is not None}
        return cls(**{**(read_yaml(config) if config else {}), **given})

    @classmethod
    def from_yaml(cls, path: Path) -> "RunSettings":
        """The settings of a YAML file, over the defaults.

        Raises:
            UsageError: the file cannot be read, has an unknown key, or a value is wrong.
        """
        return cls(**read_yaml(path))

    def to_command(self) -> str:
        """The shell command that runs these settings; values that are defaults are left out."""
        words = ["python", "-m", "benchmark", "run"]
        defaults = {setting.name: setting.default for setting in fields(self)}
        for name, value in self._values().items():
            if value == defaults[name]:
                continue
            if value is True:
                words.append(flag(name))
            elif isinstance(value, tuple):
                words += [word for path in value for word in (flag(name), str(path))]
            else:
                words += [flag(name), str(value) if isinstance(value, float) else format_value(value)]
        return shlex.join(words)

    def recipe(self, preset: Recipe) -> Recipe:
        """The preset's recipe with the fields that are set here.

        Raises:
            UsageError: a value out of range.
        """
        names = [setting.name for setting in fields(Recipe)]
        return dataclasses.replace(preset, **{name: v for name in names if (v := getattr(self, name)) is not None})

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in setting_names()}


def setting_names() -> list[str]:
    """The fields of :class:`RunSettings`, in order."""
    return [setting.name for setting in fields(RunSettings)]


def _written(hint: Any) -> Any:
    """The kind of value that a flag takes: ``None`` stands for one that is not given, and is not written."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return kinds[0] if is_union and len(kinds) == 1 else hint


def words_of(name: str) -> Words:
    """What a setting means."""
    hint = typing.get_type_hints(RunSettings, include_extras=True)[name]
    words: Words = hint.__metadata__[0]
    return words


def flag(name: str) -> str:
    """``--batch-size`` for ``batch_size``."""
    return f"--{name.replace('_', '-')}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, as :class:`RunSettings` takes them.

    Raises:
        UsageError: the file cannot be read or has an unknown key.
    """
    try:
        data = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise UsageError(f"{path}: expected keys and values, got {type(data).__name__}")
    settings = {}
    for key, value in data.items():
        name = str(key).replace("-", "_")
        if name not in setting_names():
            raise UsageError(f"{path}: {unknown('key', str(key), setting_names())}")
        if value is not None:
            settings[name] = _as_flag_value(name, value)
    return settings


def _as_flag_value(name: str, value: Any) -> Any:
    """A YAML value as it would be written after the flag."""
    if name == "poisons" and value is False:  # YAML reads a bare off as false
        return "off"
    if name == "plugin":
        return [value] if isinstance(value, str) else value
    if isinstance(value, list):
        return ",".join(map(str, value)) + ("," if name == "seeds" else "")
    return value if isinstance(value, bool) else str(value)
