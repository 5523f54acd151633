"""The store of a cluster in a bucket: s3fs, its real client, beside a server of S3 in this process."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmark.grid.engines.store import Store, StoreError, mirrored
from tests.watchdog import in_no_time

pytestmark = pytest.mark.clients

_OTHER_NODE = """
import sys
from pathlib import Path
from benchmark.grid.engines.store import Store

store = Store.at("s3://bucket/folder")
getattr(store, sys.argv[1])(Path(sys.argv[2]))
"""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    from moto.server import ThreadedMotoServer  # type: ignore[import-untyped, import-not-found, unused-ignore]

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    made = Store.at("s3://bucket/folder")
    assert made is not None
    made.files.mkdir("bucket")
    yield made
    made.files.rm("bucket", recursive=True)  # the server's memory outlives it
    made.files.clear_instance_cache()
    server.stop()


def other_node(does: str, path: Path) -> None:
    subprocess.run([sys.executable, "-c", _OTHER_NODE, does, str(path)], check=True)


def test_a_file_travels_between_nodes(store: Store, tmp_path: Path) -> None:
    """Each sees at once what the other has added, replaced and removed."""
    store.require_writable()
    assert store.files.find("bucket") == []
    poison, there = tmp_path / "poison", tmp_path / "there" / "poison"
    assert not store.has(poison)
    for content in ("first", "second"):
        poison.write_text(content)
        other_node("keep", poison)
        store.fetch(there, anew=True)
        assert there.read_text() == content
    assert store.files.ls("bucket/folder", detail=False) == ["bucket/folder/poison"]
    other_node("discard", poison)
    assert not store.has(poison)
    store.discard(poison)
    store.keep(poison)
    store.clear()
    assert store.files.find("bucket") == []


def test_a_checkpoint_outlives_its_node(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.grid.engines.store._SECONDS_BETWEEN_LOOKS", 0.02)
    first, second = tmp_path / "a" / "cell", tmp_path / "b" / "cell"
    first.parent.mkdir()
    with suppress(RuntimeError), mirrored(first, store):
        first.write_text("epoch 1")
        with in_no_time():
            while not store.has(first):
                time.sleep(0.05)
        raise RuntimeError("the node dies")
    with mirrored(second, store):
        assert second.read_text() == "epoch 1"
        second.unlink()
    assert store.files.find("bucket") == []


def test_a_bucket_that_does_not_exist_is_told_and_not_made(store: Store) -> None:
    mistyped = Store.at("s3://buckett/folder")
    assert mistyped is not None
    with pytest.raises(StoreError, match="--store buckett/folder: "):
        mistyped.require_writable()
    assert store.files.ls("") == ["bucket"]
