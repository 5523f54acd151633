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

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError, as_usage_error
from benchmark.core.flat_yaml import read_flat_yaml
from benchmark.core.precision import Precision
from benchmark.core.registry import convert, unknown
from benchmark.core.spec import format_value, require_text
from benchmark.core.strict_json import as_kind
from victims.recipe import Recipe

Rerun = Literal["missing", "failed", "all"]
Tracker = Literal["tensorboard", "wandb", "trackio"]


class Words(NamedTuple):
    """What a setting means, as ``--help`` says it.

    Attributes:
        meaning: what it decides, and what its values mean where they do not say so themselves.
        example: a value, quoted as a shell needs it.
        metavar: what stands for its value; by default the kind of value.
        default: what happens without it, where the field's own default does not say so.
    """

    meaning: str
    example: str = ""
    metavar: str = ""
    default: str = ""


@dataclass(frozen=True)
class RunSettings:
    """What to run. Every field is a flag of ``run`` and a key of its YAML file, with ``-`` written for ``_``.

    Values may be given as text, as on the command line, or as lists: ``epochs="2"`` is ``epochs=2``. What each field
    means is written beside it, and printed by ``run --help``. The fields from ``epochs`` on are those of
    :class:`victims.recipe.Recipe`; ``None`` leaves the preset's value.

    Raises:
        UsageError: a value of the wrong kind or out of range; the message names the flag.
    """

    attack: Annotated[
        str, Words("attacks, separated by commas; see 'list attacks'", "'clean,em,mem[k=3,rounds=8]'", "ATTACKS")
    ] = "mem3"
    defense: Annotated[
        str,
        Words(
            "defenses, separated by commas; + combines several into one; table2 means the paper's eight; "
            "standard, these and three more that any scraper can apply; all, every one that is no variant of another; "
            "see 'list defenses'",
            "none,cutout+mixup",
            "DEFENSES",
        ),
    ] = "table2"
    through: Annotated[
        str | None,
        Words(
            "craft every attack through a defense, as the attack 'through' does: surrogates see images as it changes "
            "them",
            "jpeg+crop-flip",
            "DEFENSE",
            "none",
        ),
    ] = None
    protected: Annotated[
        float | str | None,
        Words(
            "shares of the training images to protect, separated by commas, besides protecting all; the other images "
            "stay clean, as under the defense clean-fraction",
            "0.2,0.5,0.8",
            "SHARES",
            "all",
        ),
    ] = None
    dataset: Annotated[
        str | None, Words("data set; see 'list datasets'", "'csv[train=a.csv,test=b.csv]'", "DATASET")
    ] = None
    skip_bad: Annotated[bool, Words("leave out images that cannot be read, and list them")] = False
    victim: Annotated[
        str | None,
        Words(
            "models to train on the protected data, separated by commas; see 'list victims'",
            "'RN50,ViT-B-32[pretrained=FILE],tiny[repeat=2]'",
            "MODELS",
        ),
    ] = None
    surrogate: Annotated[
        str | None,
        Words(
            "model on which the attack crafts the poison",
            "RN50",
            "MODEL",
            "the preset's, or for a victim of another image size that victim",
        ),
    ] = None
    seeds: Annotated[
        int | str, Words("how many seeds (3 means 1, 2 and 3), or which ones (4,7; a single one as '4,')", "", "SEEDS")
    ] = "1"
    preset: Annotated[str, Words("named set of defaults; see 'list presets'")] = "tiny"
    out: Annotated[Path, Words("folder for the records")] = Path("results/runs")
    device: Annotated[str, Words("device to compute on; auto uses CUDA where there is a GPU", "cuda:1", "DEVICE")] = (
        "auto"
    )
    on: Annotated[
        str,
        Words(
            "engine that runs the cells: local, this machine; ray, a Ray cluster; slurm, a Slurm cluster",
            "'slurm[partition=NAME,gpus=1,hours=12]'",
            "ENGINE",
        ),
    ] = "local"
    jobs: Annotated[
        int | str | None,
        Words(
            "run cells in N processes with one thread or one GPU each; auto: one per GPU, or as many as are fastest",
            "",
            "N",
            "one process with all threads",
        ),
    ] = None
    store: Annotated[
        str | None,
        Words("where the nodes of a Ray cluster keep poisons and checkpoints", "s3://bucket/folder", "URL", "none"),
    ] = None
    events: Annotated[
        Path | None, Words("file to which every change of a cell's state adds a line of JSON", "", "FILE", "none")
    ] = None
    poisons: Annotated[
        str | None,
        Words("folder that keeps poisons for other runs; off keeps none", "", "DIR", "in the folder of --cache"),
    ] = None
    cache: Annotated[
        Path | None,
        Words("folder that keeps prepared images", "", "DIR", "in the user's cache folder"),
    ] = None
    plain_models: Annotated[
        bool, Words("run open_clip's own modules in place of this suite's faster ones; results differ by rounding")
    ] = False
    rerun: Annotated[
        Rerun,
        Words("which cells to run: those without a record (missing), failed ones as well (failed), or every one (all)"),
    ] = "missing"
    checkpoint_every: Annotated[
        int,
        Words("epochs of training, and rounds of crafting, between two checkpoints; 0 saves none"),
    ] = 1
    track: Annotated[
        Tracker | None,
        Words("send training curves to a tracker, which pip install 'unlearnable-bench[NAME]' adds", "", "", "none"),
    ] = None
    dry_run: Annotated[
        bool,
        Words("print the plan and an estimate of the time, and stop; data not yet cached are prepared first"),
    ] = False
    plugin: Annotated[
        tuple[Path, ...],
        Words("Python file with attacks, defenses or data sets of your own; may be repeated", "", "FILE"),
    ] = ()
    epochs: Annotated[int | None, Words("passes over the training data")] = None
    batch_size: Annotated[int | None, Words("image-caption pairs in a training step")] = None
    optimizer: Annotated[
        Literal["adamw", "muon"] | None,
        Words("adamw, as in the paper, or muon, which needs fewer steps: it orthogonalises each matrix's update"),
    ] = None
    lr: Annotated[float | None, Words("peak learning rate of AdamW")] = None
    matrix_lr: Annotated[float | None, Words("peak learning rate of Muon, for matrices")] = None
    beta1: Annotated[float | None, Words("decay of AdamW's mean of gradients")] = None
    beta2: Annotated[float | None, Words("decay of AdamW's mean of squared gradients")] = None
    weight_decay: Annotated[float | None, Words("weight decay of AdamW")] = None
    warmup_steps: Annotated[int | None, Words("steps over which the learning rate rises to its peak, at most")] = None
    warmup_share: Annotated[float | None, Words("largest share of all steps that warm-up takes (0 to 1)")] = None
    rows: Annotated[
        Literal["pairs", "images"] | None,
        Words("what an epoch covers: every image-caption pair, or every image once with one of its captions"),
    ] = None
    evaluate_every: Annotated[
        int | None, Words("epochs between two evaluations on validation and test data; the last epoch always has one")
    ] = None
    precision: Annotated[
        Precision | None,
        Words("number format that models compute in; auto takes bf16 where the device is faster in it, else fp32"),
    ] = None

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for name, value in ((name, _as_flag_value(name, value)) for name, value in self._values().items()):
            for text in value if isinstance(value, tuple | list) else (value,):
                require_text(str(text), flag(name))
                if text == "":
                    raise UsageError(f"{flag(name)} is empty")
            if name == "seeds":
                object.__setattr__(self, name, str(value))
            elif name == "protected":
                object.__setattr__(self, name, None if value is None else format_value(value))
            elif name == "plugin":
                files = value if isinstance(value, tuple | list) else () if value is None else (value,)
                object.__setattr__(self, name, tuple(user_path(str(path)) for path in files))
            elif isinstance(value, str | bool | Path):
                text = str(value) if isinstance(value, Path) else value
                read = convert(text, _written(hints[name]), flag(name))
                # No shell has expanded the ~ of a YAML file.
                object.__setattr__(self, name, user_path(str(read)) if isinstance(read, Path) else read)
            else:
                with as_usage_error(flag(name), (ValueError,)):
                    object.__setattr__(self, name, as_kind(value, hints[name]))
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
                words += [flag(name), format_value(value)]
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
    """The type that a flag's value is read as: ``X`` for a field ``X | None``, whose ``None`` means "not given"."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return kinds[0] if is_union and len(kinds) == 1 else hint


def words_of(name: str) -> Words:
    """What a setting means."""
    return typing.get_type_hints(RunSettings, include_extras=True)[name].__metadata__[0]


def flag(name: str) -> str:
    """``--batch-size`` for ``batch_size``."""
    return f"--{name.replace('_', '-')}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, as :class:`RunSettings` takes them.

    Raises:
        UsageError: the file cannot be read, has an unknown key, or holds more than keys with a value or a list each.
    """
    settings = {}
    for key, value in read_flat_yaml(path).items():
        name = key.replace("-", "_")
        if name not in setting_names():
            raise UsageError(f"{path}: {unknown('key', key, setting_names())}")
        if name in settings:
            raise UsageError(f"{path}: {flag(name)} is there twice, as {name} and as {name.replace('_', '-')}")
        if isinstance(value, Mapping):
            raise UsageError(f"{path}: {key}: expected a value or a list of values, got keys and values")
        if value is not None:
            settings[name] = value
    return settings


def _as_flag_value(name: str, value: Any) -> Any:
    """A list, of YAML or of Python, or a tuple, as it would be written after the flag."""
    if name == "plugin" or not isinstance(value, list | tuple):
        return value
    return ",".join(map(str, value)) + ("," if name == "seeds" else "")
