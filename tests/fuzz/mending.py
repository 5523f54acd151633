"""Checksums made right again after damage, as by a forger: what lies behind them is reached, too."""

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from tests.fuzz.trees import Odd, Tree

Mend = Callable[[bytes], bytes]


def each_file(mend: Mend, ending: str = "") -> Callable[[Tree], Tree]:
    """Mend every file of a tree whose name ends so; what is too damaged to be mended stays as it is."""

    def mend_tree(tree: Tree) -> Tree:
        return {name: _tried(mend, one) if name.endswith(ending) else one for name, one in tree.items()}

    return mend_tree


def _tried(mend: Mend, content: bytes | Odd) -> bytes | Odd:
    try:
        return mend(content) if isinstance(content, bytes) else content
    except Exception:  # damage of any kind
        return content


def mend_record(content: bytes) -> bytes:
    """The hash of a record or of a cache entry's index."""
    value = json.loads(content)
    del value["sha256"]
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    return json.dumps({**value, "sha256": digest}).encode()


def mend_png(content: bytes) -> bytes:
    """The CRC of every chunk."""
    parts, place = [content[:8]], 8
    while place + 12 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunk = content[place + 4 : place + 8 + size]
        parts += [content[place : place + 4], chunk, struct.pack(">I", zlib.crc32(chunk))]
        place += 12 + size
    return b"".join(parts) + content[place:]


def mend_tar(content: bytes) -> bytes:
    """The checksum of every block that looks like a header."""
    mended = bytearray(content)
    for start in range(0, len(content) - 511, 512):
        if content[start + 257 : start + 262] == b"ustar":
            mended[start + 148 : start + 156] = b" " * 8
            mended[start + 148 : start + 156] = b"%06o\0 " % sum(mended[start : start + 512])
    return bytes(mended)


def mend_zip(content: bytes) -> bytes:
    """The CRC of every part of an archive whose directory is intact."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w") as after:
        for part in before.infolist():
            name, extra = struct.unpack("<HH", content[part.header_offset + 26 : part.header_offset + 30])
            start = part.header_offset + 30 + name + extra
            after.writestr(part.filename, content[start : start + part.compress_size])
    return file.getvalue()


def split_safetensors(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors of a safetensors file."""
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def join_safetensors(header: Any, tensors: bytes) -> bytes:
    """A safetensors file."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def mend_poison(content: bytes) -> bytes:
    """The hash of a poison: of its header, the noise's shape and the noise."""
    header, tensors = split_safetensors(content)
    digest = hashlib.sha256(header["__metadata__"]["poison"].encode())
    if "delta" in header:
        start, end = header["delta"]["data_offsets"]
        digest.update(repr(tuple(header["delta"]["shape"])).encode() + tensors[start:end])
    header["__metadata__"]["sha256"] = digest.hexdigest()
    return join_safetensors(header, tensors)


def mend_export(tree: Tree) -> Tree:
    """Size and hash of every file in an export's manifest."""
    try:
        manifest = json.loads(tree["manifest.json"])  # type: ignore[arg-type]
        for name, facts in manifest["files"].items():
            if isinstance(content := tree.get(name), bytes):
                facts |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return {**tree, "manifest.json": json.dumps(manifest).encode()}
    except Exception:  # damage of any kind
        return tree
