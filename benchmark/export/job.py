"""The ``export`` function: one attack with one seed as files that others can train on."""

import logging
import re
import shlex
from pathlib import Path
from typing import Literal

from benchmark.core.atomic_files import require_unused
from benchmark.core.devices import resolve_device
from benchmark.core.errors import UsageError, VictimDiverged, as_usage_error
from benchmark.export.full_size import origins
from benchmark.export.layouts import layout_of
from benchmark.export.manifest import Manifest
from benchmark.export.writing import ExportJob, write_export
from benchmark.grid.choices import cells_of
from benchmark.grid.opening import open_grid
from benchmark.grid.plugins import load_plugins
from benchmark.grid.settings import RunSettings
from benchmark.grid.splits import require_apart

_log = logging.getLogger(__name__)


def export(
    settings: RunSettings,
    out: Path,
    layout: str,
    *,
    command: str,
    splits: Literal["train", "all"] = "train",
    keep_resolution: bool = False,
    licence: str | None = None,
) -> Manifest:
    """Write the data that a victim of these settings would train on.

    The poison is the same one that a run would craft; if it is not in the store, it is crafted first.

    Args:
        settings: settings of a run with one attack, one victim and one seed; defenses are ignored.
        out: folder for the files; must be new or empty.
        layout: a name in :data:`benchmark.export.layouts.LAYOUTS`.
        command: the command line, for the manifest.
        splits: ``all`` writes clean validation and test data as well.
        keep_resolution: enlarge the noise onto the original images.
        licence: SPDX name of the licence of images and captions; ``None`` for the data set's own, if it is known.

    Raises:
        UsageError: bad input, a poison that cannot be crafted, or files that cannot be written. The folder is then
            unchanged.
    """
    require_unused(out)
    layout_of(layout)
    if licence is not None and not re.fullmatch(r"[A-Za-z0-9.+-]+", licence):
        raise UsageError(f"--licence takes an SPDX name such as CC-BY-4.0, got {licence!r}")
    load_plugins(settings.plugin)
    cells = cells_of(settings, resolve_device(settings.device))
    *clean_cells, cell = cells
    if len(clean_cells) > 1 or len({(one.seed, one.victim.resolution) for one in cells}) > 1:
        raise UsageError("an export takes one attack, one seed, and one victim for the resolution")
    own = cell.dataset.source.licence
    if None not in (own, licence) and licence != own:
        raise UsageError(f"--licence {licence}: {cell.dataset.choice.spec} is under {own}")
    with open_grid(settings, cells=cells) as grid:
        data = grid.data_of(cell)
        require_apart(data)
        cell.attack.attack.check(data.train)
        if keep_resolution:
            origins(data.train)
        with as_usage_error(f"{cell.attack.choice.label} cannot be crafted", (VictimDiverged,)):
            poison = grid.poisons.get(cell, data.train, grid.device)
        names = ("train",) if splits == "train" else ("train", "val", "test")
        job = ExportJob(cell, data, poison, names, keep_resolution, licence or own)
        manifest = write_export(out, layout, job, command)
    _log.info("%s", _summary(out, manifest))
    if command_line := open_clip_command(out, manifest):
        _log.info("open_clip trains on it with:\n  %s", command_line)
    return manifest


def open_clip_command(folder: Path, manifest: Manifest) -> str | None:
    """The shell command that trains open_clip on an export, from any folder; ``None`` for formats it does not read.

    The export is its working folder, because open_clip takes relative paths from there and expands braces in absolute
    ones. Its logs go beside the export.
    """
    data = layout_of(manifest.layout).open_clip_data(folder, manifest.splits["train"].images)
    if not data:
        return None
    train = ["python", "-m", "open_clip_train.main", *data, "--logs", "../logs"]
    return f"cd {shlex.quote(str(folder.resolve()))} && {shlex.join(train)}"


def _summary(folder: Path, manifest: Manifest) -> str:
    counts = ", ".join(f"{facts.images:,} {name}" for name, facts in manifest.splits.items())
    psnr, ssim = manifest.noise["psnr"], manifest.noise["ssim"]
    noise = "no noise" if psnr is None else f"ε = {manifest.eps}/255, PSNR {psnr:.1f} dB, SSIM {ssim:.3f}"
    size = f"{manifest.resolution} px"
    if manifest.full_size is not None:
        size = f"original size; read at {size}, {manifest.full_size['share']:.0%} of the noise is left"
    return f"wrote {folder}: {counts} images ({size}), {manifest.attack['label']}, {noise}"
