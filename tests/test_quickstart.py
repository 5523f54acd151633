"""The notebook in examples/ runs from its first cell to its last, as a reader would run it."""

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"


# Its minutes are those of the poison and the victims.
SMALLER = {
    'preset="micro"': 'preset="micro", dataset="scenes[train=130,val=8,test=12,objects=30]", epochs=1',
    "mem3[rounds=3]": "mem3[rounds=1,surrogate_steps=2]",
}


ITS_RUN = """
for row in frame.itertuples():
    print(f"run-of-{row.attack.partition('[')[0]}: R@10 {row.last_i2t_recall_at_10:.1f}")
"""


def run(notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Execute a notebook in place; a cell that raises fails the test.

    Returns:
        The recall that it prints, by the victim's name; and that of its run, by ``run-of-`` and the attack's.
    """
    notebook.cells.append(nbformat.v4.new_code_cell(ITS_RUN))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    return {name: float(value) for name, value in re.findall(r"([a-z][a-z0-9-]*): R@10 ([0-9.]+)", printed)}


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On less data and with fewer steps than a reader's; what a poison does is a matter of the slow test."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    for written, smaller in SMALLER.items():
        assert first.source.count(written) == 1
        first.source = first.source.replace(written, smaller)
    recall = run(notebook, tmp_path, monkeypatch)
    assert recall.keys() == {"undefended", "prefix-drop", "run-of-clean", "run-of-mem3"}
    assert recall["run-of-mem3"] == recall["undefended"]
    *_, frame, figure, _ = (cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    assert "prefix-drop" not in frame[-1].data["text/plain"]  # the run is of no defense
    assert "mem3" in frame[-1].data["text/plain"]
    assert "image/png" in figure[-1].data


@pytest.mark.slow
def test_the_poison_works_and_dropping_its_trigger_undoes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recall = run(nbformat.read(NOTEBOOK, as_version=4), tmp_path, monkeypatch)
    assert recall["prefix-drop"] > 2 * recall["undefended"]
    assert recall["run-of-mem3"] == recall["undefended"]
