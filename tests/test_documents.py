"""README, docs/ and results/: what pages tell a reader to type is what the suite understands."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.cli.main import build_parser
from victims.architecture import Architecture

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "results").rglob("*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    """The page's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.replace("\\\n", "").splitlines()]
    # A line with a shell variable is a script's, and means nothing by itself.
    found = {line.partition("python -m benchmark ")[2] for line in lines if "$" not in line}
    return sorted(found - {""})


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_is_understood(command: str) -> None:
    argv = shlex.split(command, comments=True)
    _, unknown = build_parser(argv).parse_known_args(argv)
    assert not unknown


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 900


def test_the_readmes_test_command_is_where_ci_looks_for_it() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "python -m pytest" in readme.partition("<!-- tests -->\n```sh\n")[2].partition("```")[0]


@pytest.mark.parametrize("name", ["tiny", "tiny-wide", "tiny-vit", "micro"])
def test_a_models_size_is_what_the_documents_say(name: str) -> None:
    row = re.compile(rf"^\| `{name}` \| (\d+) px \|.*\| (\d+) \| ([\d.]+) M: ([\d.]+) image,", re.MULTILINE)
    ((pixels, embedding, all_parts, image),) = row.findall((ROOT / "docs" / "method.md").read_text("utf-8"))
    model = Architecture(name).build(0, torch.device("cpu")).model
    millions = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, model.visual)]
    assert [all_parts, image] == [f"{number:.1f}" for number in millions]
    assert {int(pixels)} == set(np.ravel(model.visual.image_size).tolist())
    assert int(embedding) == model.visual.output_dim
