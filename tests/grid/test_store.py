"""The store of a cluster's poisons and checkpoints, on a folder; and what is said where its package is missing."""

import re
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.grid.engines import store as engine
from benchmark.grid.engines.store import Store, StoreError, mirrored
from tests.watchdog import in_no_time


def test_a_file_travels_by_its_name(store: Store, tmp_path: Path) -> None:
    (tmp_path / ".one.checkpoint").write_text("state")
    store.keep(tmp_path / ".one.checkpoint")
    elsewhere = tmp_path / "other node" / ".one.checkpoint"
    store.fetch(elsewhere)
    assert elsewhere.read_text() == "state"
    (tmp_path / ".one.checkpoint").write_text("later")
    store.keep(tmp_path / ".one.checkpoint")
    store.fetch(elsewhere)
    assert elsewhere.read_text() == "state"  # what is here stays
    store.discard(elsewhere)
    store.discard(elsewhere)
    store.fetch(tmp_path / "third node" / ".one.checkpoint")
    assert not (tmp_path / "third node").exists()


def test_a_copy_that_breaks_off_leaves_the_one_before(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "poison").write_text("whole")
    store.keep(tmp_path / "poison")

    def broken(path: str, there: str) -> None:
        Path(there).write_text("ha")
        raise OSError("the node has died")

    monkeypatch.setattr(store.files, "put_file", broken)
    with pytest.raises(StoreError, match="has died"):
        store.keep(tmp_path / "poison")
    store.fetch(tmp_path / "there" / "poison")
    assert (tmp_path / "there" / "poison").read_text() == "whole"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["poison"]


def test_two_nodes_that_keep_one_file_at_once_do_not_meet(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = tmp_path / "here" / "poison", tmp_path / "there" / "poison"
    for path in (mine, theirs):
        path.parent.mkdir()
        path.write_text(path.parent.name)
    put = store.files.put_file

    def meeting(path: str, there: str) -> None:
        put(path, there)
        if path == str(mine):
            store.keep(theirs)
            assert Path(there).read_text() == "here"

    monkeypatch.setattr(store.files, "put_file", meeting)
    store.keep(mine)
    assert (tmp_path / "store" / "poison").read_text() == "here"


def until(there: Path, text: str) -> None:
    with in_no_time():
        while not there.exists() or there.read_text() != text:
            time.sleep(0.05)


def test_a_checkpoint_outlives_its_node_and_ends_with_its_stage(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.grid.engines.store._SECONDS_BETWEEN_LOOKS", 0.02)
    first, second, kept = tmp_path / "a" / "cell", tmp_path / "b" / "cell", tmp_path / "store" / "cell"
    first.parent.mkdir()

    class Died(Exception):
        pass

    def work() -> None:
        with mirrored(first, store):
            for state in ("epoch 1", "epoch 2"):
                first.write_text(state)
                until(kept, state)
            raise Died

    with pytest.raises(Died):
        work()
    assert kept.read_text() == "epoch 2"
    first.write_text("epoch 1")  # as a node has it that lost the cell to another
    for again in (second, first):
        with suppress(Died), mirrored(again, store):
            assert again.read_text() == "epoch 2"
            raise Died
    with mirrored(second, store):
        second.unlink()
    assert not kept.exists()


def test_what_is_written_before_the_copier_looks_is_copied(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a thread may begin late."""

    def late(*arguments: Any) -> None:
        written.wait()
        copy_changes(*arguments)

    copy_changes, written = engine._copy_changes, threading.Event()
    monkeypatch.setattr(engine, "_SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(engine, "_copy_changes", late)
    with mirrored(tmp_path / "cell", store):
        (tmp_path / "cell").write_text("epoch 1")
        written.set()
        until(tmp_path / "store" / "cell", "epoch 1")


def test_an_outage_is_told_once_and_ends(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = iter([False, False, False, True])
    keep = Store.keep

    def keep_at_last(here: Store, path: Path) -> None:
        if not next(tries):
            raise StoreError("no route")
        keep(here, path)

    monkeypatch.setattr(engine, "_SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(Store, "keep", keep_at_last)
    with mirrored(tmp_path / "cell", store):
        (tmp_path / "cell").write_text("epoch 1")
        until(tmp_path / "store" / "cell", "epoch 1")
    assert caplog.messages == ["checkpoint cell is not in the store: no route"]


def test_what_is_written_in_the_last_second_is_in_the_store(store: Store, tmp_path: Path) -> None:
    path = tmp_path / ".one.checkpoint"
    with suppress(MemoryError), mirrored(path, store):
        path.write_text("state")
        raise MemoryError
    assert (tmp_path / "store" / "one.checkpoint").read_text() == "state"


def test_a_stage_is_done_though_the_store_does_not_remove_its_checkpoint(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The record would be lost with the task, which would run again."""
    path = tmp_path / ".one.checkpoint"
    path.write_text("state")
    store.keep(path)
    monkeypatch.setattr(store.files, "rm_file", Mock(side_effect=OSError("no route")))
    with mirrored(path, store):
        path.unlink()
    assert caplog.messages == [f"checkpoint .one.checkpoint stays in the store: --store {store.folder}: no route"]


def test_a_store_that_takes_nothing_is_told_before_any_work(store: Store, tmp_path: Path) -> None:
    store.require_writable()
    assert list((tmp_path / "store").iterdir()) == []
    (tmp_path / "file").touch()
    closed = Store.at(f"file://{tmp_path}/file/store")
    assert closed is not None
    with pytest.raises(UsageError, match=r"--store .*file/store: "):
        closed.require_writable()


def test_without_a_store_nothing_is_copied(tmp_path: Path) -> None:
    assert Store.at(None) is None
    with mirrored(tmp_path / "cell", None):
        (tmp_path / "cell").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["cell"]


def test_a_kind_of_url_that_nothing_reads() -> None:
    with pytest.raises(UsageError, match="--store nowhere://x"):
        Store.at("nowhere://x")


def test_ray_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", "--attack", "clean", "--out", str(tmp_path / "out"), "--on", "ray"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--on ray needs Ray: pip install 'unlearnable-bench[ray]'" in line
    assert not (tmp_path / "out").exists()


def test_a_store_is_for_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--attack", "clean", "--out", str(tmp_path / "out"), "--store", "file:///x"]) == 2
    assert "--store has no meaning with --on local" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3:/bucket/folder", "a URL has two slashes after its colon, as s3://bucket/folder"),
        ("memory://folder", "each process has a memory of its own"),
        ("zip://a.zip", "--store zip://a.zip: "),
    ],
)
def test_urls_that_nodes_cannot_share_are_refused(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(said)):
        Store.at(url)


@pytest.mark.parametrize(("url", "name"), [("file:{}/a", "a"), ("{}/s3:b", "s3:b"), ("file://{}/c", "c")])
def test_folders_are_stores_however_they_are_written(url: str, name: str, tmp_path: Path) -> None:
    made = Store.at(url.format(tmp_path))
    assert made is not None
    assert made.is_folder
    assert made.folder == str(tmp_path / name)
