"""What a node of a cluster says where it would do something else than the run asks for."""

import pickle
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.core.errors import UsageError
from benchmark.grid.engines import node
from benchmark.grid.provenance import suite
from benchmark.grid.settings import RunSettings


@pytest.mark.parametrize(
    ("theirs", "said"),
    [(None, "has other data for cell than the machine"), ("version 0.1", "the run was started with version 0.1$")],
)
@pytest.mark.parametrize("crafts", [False, True])
def test_another_address_is_that_of_other_data_or_of_another_version(
    theirs: str | None, said: str, crafts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = SimpleNamespace(seed=1, victim=SimpleNamespace(resolution=8), dataset=SimpleNamespace(choice="scenes"))
    planned = SimpleNamespace(key="this", poison=Path("this"))
    grid = SimpleNamespace(cells=[], plan=lambda: [planned])
    monkeypatch.setattr(node, "open_grid", lambda *_, **__: nullcontext(grid))
    monkeypatch.setattr(node, "hand_messages_to", lambda *_: None)
    monkeypatch.setattr(node, "_open", None)
    settings, made_with = RunSettings(), theirs or suite()

    def work(name: str) -> node.Work:
        return node.Work(name, crafts, "cell", pickle.dumps(cell), None, settings, threads=None, suite=made_with)

    with pytest.raises(UsageError, match=said):
        node.opened(work("that"), settings, lambda _: None)
    assert node.opened(work("this"), settings, lambda _: None) == (grid, planned)


def test_relative_paths_are_those_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a cluster starts where the cluster was started."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "loud.py").write_text("raise ValueError('read')")
    monkeypatch.chdir(tmp_path / "run")
    settings = RunSettings(plugin=(Path("loud.py"),))
    work = node.Work("this", False, "cell", b"", None, settings, threads=None, suite=suite())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"plugin .*loud\.py fails: ValueError: read"):
        node.opened(work, settings, lambda _: None)
