"""Every reader of files that anyone may have made: how to make a valid file, and the door through which it is read."""

import contextlib
import gzip
import io
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hypothesis.strategies import SearchStrategy

from benchmark.cli.main import main
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import UsageError
from benchmark.core.log import show_messages
from benchmark.core.printing import printable
from benchmark.core.reading import read_bytes
from benchmark.data.content import Stamps
from benchmark.data.images import read_image, size_of
from benchmark.export.layouts import LAYOUTS
from benchmark.export.writing import write_export
from benchmark.grid.provenance import git_commit
from benchmark.grid.records import PACK
from benchmark.grid.settings import setting_names
from benchmark.submission.folder import read_submission
from tests.export.exports import make_poison, make_source, make_splits
from tests.fuzz import grammars, mending
from tests.fuzz.trees import Tree
from tests.tables.factory import entry, record
from tests.tools.pack_records import pack_records

SIDE = 8  # pixels of small images
_UNPACKED = "unpacked.jsonl"
_log = logging.getLogger("benchmark.core.checkpoints")


def _same(tree: Tree) -> Tree:
    return tree


@dataclass(frozen=True)
class Reader:
    """A reader and what it reads.

    Attributes:
        variants: each writes a valid tree into an empty folder, reading what lies in the second.
        read: reads the tree in a folder through the door that commands use; the second folder holds what is valid
            anyway. Returns what was said of the input, or raises :class:`UsageError`.
        focus: patterns of the files to damage most of the time.
        mend: puts checksums right again.
        grammar: trees that are made from scratch, of given valid ones.
        prepare: fills the second folder, once.
        examples: how many inputs the tests try by default.
    """

    variants: Sequence[Callable[[Path, Path], object]]
    read: Callable[[Path, Path], list[str]]
    focus: Sequence[str] = ("*",)
    mend: Callable[[Tree], Tree] = _same
    grammar: Callable[[Sequence[Tree]], SearchStrategy[Tree]] | None = None
    prepare: Callable[[Path], object] | None = None
    examples: int = 30


def command(*words: object) -> list[str]:
    """Run a command; returns the failed checks that it prints.

    Raises:
        UsageError: it refuses its input, in one line.
        AssertionError: it does so in another way, or prints what would steer a terminal.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    lines = [*out.getvalue().split("\n"), *err.getvalue().split("\n")]
    for line in lines:
        assert line == printable(line), f"prints {line[:200]!a}"
    errors = [line for line in lines if line.startswith("error: ")]
    if code == 2:
        assert len(errors) == 1, f"{len(errors)} lines of errors"
        raise UsageError(errors[0])
    assert code in (0, 1), f"exit code {code}"
    return [line for line in lines if line.startswith(("✗", "warning: "))]


def _write_export(folder: Path, _: Path, layout: str, name: str = "") -> None:
    clean = make_splits(resolution=SIDE, images=2)
    write_export(folder / name, layout, make_source(clean, make_poison(clean.train)), "python -m benchmark export")


def _verify(folder: Path, _: Path) -> list[str]:
    return command("verify", folder)


def _read_data(folder: Path, beside: Path, spec: str) -> list[str]:
    """Compare a valid export with a data set: it is loaded, and each image and caption looked at."""
    said: list[str] = []
    for skip in ("no", "yes"):
        written = spec.replace("F/", f"{folder}/")[:-1] + f",skip_bad={skip}]"
        try:
            lines = command("verify", beside / "export", "--against", written, "--cache", folder / "cache")
            return said + [line for line in lines if not line.startswith("✗")]  # the export is of other data
        except UsageError as error:
            said.append(str(error))
    raise UsageError(said[-1])


# --- records, poisons, settings, checkpoints


def _write_records(folder: Path, _: Path) -> None:
    record("mem3", "mixup").save(folder)
    pack_records(folder)
    record("mem3", best=(12.0, 11.0), protected=(20.0, 30.0)).save(folder).rename(folder / "new.json")
    record("clean").save(folder).rename(folder / "clean.json")
    record("em", failed="out of memory").save(folder).rename(folder / "failed.json")


def _write_unpacked(folder: Path, beside: Path) -> None:
    """As above, with the lines of the pack to be damaged, and not what gzip makes of them."""
    _write_records(folder, beside)
    pack = folder / PACK
    (folder / _UNPACKED).write_bytes(gzip.decompress(pack.read_bytes()))
    pack.unlink()


def _tables(folder: Path, _: Path) -> list[str]:
    with contextlib.suppress(OSError, ValueError):  # it may be a device by now, or huge
        (folder / PACK).write_bytes(gzip.compress(read_bytes(folder / _UNPACKED, 1 << 21)))
    return [line for name in ("2", "cost") for line in command("table", name, "--records", folder)]


def _write_poison(folder: Path, _: Path, parts: str) -> None:
    poison = make_poison(make_splits(resolution=SIDE, images=2).train)
    delta, trigger = (getattr(poison, part) if part in parts else None for part in ("delta", "trigger"))
    poison = replace(poison, delta=delta, trigger=trigger)
    poison.save(folder / "poison.safetensors")


def _verify_poison(folder: Path, _: Path) -> list[str]:
    return command("verify", folder / "poison.safetensors")


_SETTINGS = [name for name in setting_names() if name != "plugin"]


def _write_settings(folder: Path, _: Path) -> None:
    lines = [
        'attack: [clean, "mem[k=3,batch_size=2]"]',
        "defense: none,cutout",
        "seeds: [4, 7]",
        "epochs: 2",
        "victim: ~",
    ]
    lines += ["lr: 5.0e-4", "skip-bad: no", "precision: fp32", "poisons: off", ""]
    (folder / "settings.yaml").write_text("\n".join(lines), "utf-8")


def _prepare_plan(beside: Path) -> None:
    _write_csv(beside, beside, ",")
    git_commit()  # asked once, whatever is read


def _plan(folder: Path, beside: Path) -> list[str]:
    # Data and models that settings may name are as large as they say, so they are given.
    fixed: list[object] = ["--dataset", _CSV.replace("F/", f"{beside}/"), "--victim", "tiny", "--surrogate", "tiny"]
    tempfile.tempdir = str(folder)  # where the estimate of a run's time crafts a little
    fixed += ["--batch-size", "2", "--out", folder / "out", "--cache", folder / "cache"]
    return command("run", "--config", folder / "settings.yaml", "--dry-run", *fixed)


def _write_checkpoint(folder: Path, _: Path) -> None:
    import torch

    moments = {"a": torch.ones(2, 2), "b": torch.arange(3)}
    state = {"epoch": 3, "weights": torch.arange(6.0), "loss": [1.5, 0.5], "moments": moments}
    Checkpoint(folder / ".a.checkpoint", 1, {"epochs": [], "train": 1.5}).save(state)


def _load_checkpoint(folder: Path, _: Path) -> list[str]:
    checkpoint, err = Checkpoint(folder / ".a.checkpoint", 1, {"train": 0.0}), io.StringIO()
    there = checkpoint.exists()
    show_messages()  # as every command does
    with contextlib.redirect_stderr(err):
        assert checkpoint.seconds_worked() >= 0
        state = checkpoint.load()
    assert state is None or isinstance(state, dict)
    lines = [line for line in err.getvalue().split("\n") if line.startswith("warning: ")]  # torch may have its own
    assert len(lines) == (there and state is None), f"a new start with {len(lines)} warnings"
    return lines


# --- submissions and what becomes of them

_ABOUT = {"kind": "attack", "spec": "mem3", "link": "https://example.org/paper", "licence": "MIT", "plugin": "mine.py"}
_ABOUT |= dict.fromkeys(("name", "title", "authors", "notes"), "mine")


def _write_submission(folder: Path, beside: Path) -> None:
    (folder / "submission.yaml").write_text("".join(f"{key}: {value}\n" for key, value in _ABOUT.items()), "utf-8")
    (folder / "mine.py").write_text("raise SystemExit('executed')\n", "utf-8")
    for name in ("records", "poisons"):
        (folder / name).mkdir()
    _write_records(folder / "records", beside)
    (folder / "records" / PACK).unlink()  # a submission has none
    _write_poison(folder / "poisons", beside, "delta trigger")


def _read_submission(folder: Path, _: Path) -> list[str]:
    return read_submission(folder).problems


def _write_entries(folder: Path, _: Path) -> None:
    entry("mine", {"none": [2, 2, 2], "cutout": [30, 32, 31.5]}, rerun=None).save(folder)
    entry("other", {"clean": [79, 80, 81], "mem3": [8, 8, 8]}, "defense", poison={}).save(folder)


def _leaderboard(folder: Path, _: Path) -> list[str]:
    return command("table", "leaderboard", "--records", folder)


# --- images


def _one_picture(folder: Path, _: Path, kind: str, number: int) -> None:
    (folder / "a.jpg").write_bytes(grammars.valid_pictures(kind)[number])


def _read_picture(folder: Path, _: Path) -> list[str]:
    for read in (Stamps(), size_of, lambda path: read_image(path, SIDE)):
        read(folder / "a.jpg")
    return []


# --- data sets


def _pictures(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(grammars.picture("PNG", "RGB", (9, 8), number))


def _write_csv(folder: Path, _: Path, separator: str) -> None:
    _pictures(folder, "a.png", "b.png", "c.png", "d.png")
    rows = [["filepath", "title"], ["a.png", "a dog"], ["b.png", '"a ""red"" cat"'], ["b.png", "NA"], ["c.png", "12"]]
    tables = {"train": rows, "test": [rows[0], ["d.png", "a tree"]]}
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("".join(separator.join(row) + "\n" for row in lines), "utf-8")


def _write_karpathy(folder: Path, _: Path) -> None:
    splits = ("train", "restval", "val", "test")
    _pictures(folder, *(f"images/{split}.png" for split in splits))
    rows = [
        {"filename": f"{split}.png", "filepath": "", "split": split, "sentences": [{"raw": "a dog"}, {"raw": "a cat"}]}
        for split in splits
    ]
    (folder / "dataset.json").write_text(json.dumps({"images": rows, "dataset": "mine"}))


def _write_coco(folder: Path, _: Path) -> None:
    _pictures(folder, "a.png", "b.png", "c.png")
    images = [{"id": number, "file_name": f"{name}.png", "width": 9, "height": 8} for number, name in enumerate("abc")]
    captions = [{"id": number + 1, "image_id": number % 3, "caption": f"dog {number}"} for number in range(5)]
    for name in ("train", "test"):
        (folder / f"{name}.json").write_text(json.dumps({"info": {}, "images": images, "annotations": captions}))


def _write_tokens(folder: Path, _: Path) -> None:
    _pictures(folder, "a.png", "b.png", "c.png")
    lines = [f"{one}.png#{number}\ta dog\n" for one in "abc" for number in "01"]
    for name in ("train", "test"):
        (folder / f"{name}.token").write_text("".join(lines))


def _write_shards(folder: Path, _: Path) -> None:
    for name in ("train", "test"):
        (folder / f"{name}.tar").write_bytes(grammars.valid_shard())


def _write_folders(folder: Path, _: Path, captions: str) -> None:
    for split in ("train", "validation", "test"):
        inner = folder / split
        _pictures(inner, "a.png", "b.png", "below/c.png")
        if captions == "txt":
            for name in ("a", "b", "below/c"):
                (inner / f"{name}.txt").write_text("a dog\na cat\n")
            continue
        rows = [{"file_name": f"{name}.png", "text": f"dog {name}"} for name in ("a", "b", "below/c")]
        table = "file_name,text\n" + "".join(",".join(row.values()) + "\n" for row in rows)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (inner / f"metadata.{captions}").write_text(table if captions == "csv" else lines)


def _write_cached(folder: Path, beside: Path) -> None:
    _write_csv(folder, beside, ",")
    _read_data(folder, beside, _CSV)


_CSV = "csv[train=F/train.csv,test=F/test.csv]"
_mend_hashes = mending.each_file(mending.mend_record, ".json")
_of_export = partial(_write_export, layout="folder", name="export")


def _prepare(beside: Path) -> None:
    _of_export(beside, beside)


def _data(spec: str, *variants: Callable[[Path, Path], object], **settings: object) -> Reader:
    return Reader(variants, partial(_read_data, spec=spec), prepare=_prepare, **settings)  # type: ignore[arg-type]


READERS: dict[str, Reader] = {
    "records": Reader([_write_records, _write_unpacked], _tables, mend=_mend_hashes, grammar=grammars.json_files),
    "poison": Reader(
        [partial(_write_poison, parts=parts) for parts in ("delta trigger", "delta", "trigger")],
        _verify_poison,
        mend=mending.each_file(mending.mend_poison),
        grammar=grammars.poisons,
    ),
    "submission": Reader(
        [_write_submission],
        _read_submission,
        focus=("submission.yaml",),
        mend=_mend_hashes,
        grammar=partial(grammars.yaml_files, "submission.yaml", sorted(_ABOUT)),
    ),
    "entries": Reader([_write_entries], _leaderboard, grammar=grammars.json_files),
    "settings": Reader(
        [_write_settings],
        _plan,
        grammar=partial(grammars.yaml_files, "settings.yaml", _SETTINGS),
        prepare=_prepare_plan,
    ),
    "checkpoint": Reader(
        [_write_checkpoint], _load_checkpoint, mend=mending.each_file(mending.mend_zip), grammar=grammars.checkpoints
    ),
    "cache": _data(_CSV, _write_cached, focus=("cache/*",), mend=_mend_hashes),
    "csv": _data(
        _CSV, *(partial(_write_csv, separator=mark) for mark in ",\t;"), focus=("*.csv",), grammar=grammars.tables
    ),
    "karpathy": _data(
        "karpathy[json=F/dataset.json,images=F/images]", _write_karpathy, focus=("*.json",), grammar=grammars.json_files
    ),
    "coco": _data(
        "coco-captions[train=F/train.json,test=F/test.json]",
        _write_coco,
        focus=("*.json",),
        grammar=grammars.json_files,
    ),
    "token": _data(
        "token[train=F/train.token,test=F/test.token]", _write_tokens, focus=("*.token",), grammar=grammars.token_files
    ),
    "webdataset": _data(
        "webdataset[train=F/train.tar,test=F/test.tar]",
        _write_shards,
        mend=mending.each_file(mending.mend_tar, ".tar"),
        grammar=grammars.shards,
    ),
    "imagefolder": _data(
        "imagefolder[root=F/]",
        *(partial(_write_folders, captions=kind) for kind in ("csv", "jsonl", "txt")),
        focus=("*/metadata*", "*.txt"),
    ),
}
for _layout in LAYOUTS.group("all"):
    READERS[f"export {_layout}"] = Reader(
        [partial(_write_export, layout=_layout)],
        _verify,
        focus=("manifest.json", "*.json*", "*.csv", "*.token", "*.tar"),
        mend=mending.mend_export,
        examples=20,
    )
for _kind in grammars.KINDS:
    READERS[f"image {_kind}"] = Reader(
        [partial(_one_picture, kind=_kind, number=number) for number in range(len(grammars.MODES[_kind]))],
        _read_picture,
        mend=mending.each_file(mending.mend_png) if _kind == "PNG" else _same,
        grammar=partial(grammars.pictures, _kind),
        examples=50,
    )
