"""The store of a cluster in a bucket: the real clients s3fs and gcsfs, beside servers of both in this process."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
import pytest

from benchmark.grid.engines.store import Store, StoreError, mirrored
from tests.watchdog import in_no_time

pytestmark = pytest.mark.clients

_OTHER_NODE = """
import sys
from pathlib import Path
from benchmark.grid.engines.store import Store

store = Store.at(sys.argv[1])
getattr(store, sys.argv[2])(Path(sys.argv[3]))
"""


@contextmanager
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from moto.server import ThreadedMotoServer  # type: ignore[import-untyped, import-not-found, unused-ignore]

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    files.mkdir("bucket")
    yield
    files.rm("bucket", recursive=True)  # the server's memory outlives it
    server.stop()


@contextmanager
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from gcp_storage_emulator.server import (  # type: ignore[import-untyped, import-not-found, unused-ignore]
        create_server,
    )

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
    # Else gcsfs asks what kind of bucket it is by gRPC, and asks Google.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    fsspec.config.set_conf_env(fsspec.config.conf)  # which has read the environment before
    yield
    fsspec.config.conf.pop("gs")
    server.stop()


@pytest.fixture(params=[s3, gs])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with request.param(monkeypatch):
        made = Store.at(f"{request.param.__name__}://bucket/folder")
        assert made is not None
        yield made
        made.files.clear_instance_cache()


def other_node(store: Store, does: str, path: Path) -> None:
    url = store.files.unstrip_protocol(store.folder)
    subprocess.run([sys.executable, "-c", _OTHER_NODE, url, does, str(path)], check=True)


def test_a_file_travels_between_nodes(store: Store, tmp_path: Path) -> None:
    """Each sees at once what the other has added, replaced and removed."""
    store.require_writable()
    assert store.files.find("bucket") == []
    poison, there = tmp_path / "poison", tmp_path / "there" / "poison"
    assert not store.has(poison)
    for content in ("first", "second"):
        poison.write_text(content)
        other_node(store, "keep", poison)
        store.fetch(there, anew=True)
        assert there.read_text() == content
    assert store.files.ls("bucket/folder", detail=False) == ["bucket/folder/poison"]
    other_node(store, "discard", poison)
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
    mistyped = Store(store.files, "buckett/folder")
    with pytest.raises(StoreError, match="--store buckett/folder: not found: "):
        mistyped.require_writable()
    assert [name.rstrip("/") for name in store.files.ls("")] == ["bucket"]
