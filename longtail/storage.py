"""The one place that opens files: fsspec URLs, atomic writes, committed directories.

A *committed directory* is written beside its target and appears under its final name only when
it is whole; its ``manifest.json``, written last, lists every file with size and SHA-256. A
directory without a manifest is an unfinished one and may be thrown away.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from longtail.errors import StoreError

MANIFEST = "manifest.json"
_CHUNK = 1 << 20
# How safetensors and tokenizers tell of a full disk, as an error of their own.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def open_input(url: str | Path) -> IO[bytes]:
    """Open a file for reading bytes; any fsspec URL.

    Raises:
        FileNotFoundError: there is nothing under the URL.
    """
    handle: IO[bytes] = fsspec.open(str(url), "rb").open()
    return handle


def exists(url: str | Path) -> bool:
    """Whether there is a file or directory under the URL."""
    filesystem, path = fsspec.core.url_to_fs(str(url))
    return bool(filesystem.exists(path))


def write_bytes(url: str | Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part of it."""
    filesystem, path = fsspec.core.url_to_fs(str(url))
    if "file" not in _protocols(filesystem):
        with filesystem.open(path, "wb") as remote:
            remote.write(data)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with staging.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(staging, target)
    except OSError as error:
        error.filename = str(target)  # writing to a full disk names no file
        raise
    finally:
        staging.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Append one line to a local log and flush it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(line.rstrip("\n") + "\n")
        handle.flush()
        os.fsync(handle.fileno())


def write_text(url: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(url, text.encode())


def read_text(url: str | Path) -> str:
    """Read UTF-8 text."""
    with open_input(url) as handle:
        return handle.read().decode()


def write_json(url: str | Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity are written as null, never as invalid JSON."""
    text = json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(url, text + "\n")


def read_json(url: str | Path) -> Any:
    """Read JSON.

    Raises:
        StoreError: the file is not JSON.
    """
    try:
        return json.loads(read_text(url))
    except json.JSONDecodeError as error:
        raise StoreError(f"{url}: not JSON ({error}); the file is damaged") from error


def write_parquet(url: str | Path, table: pa.Table) -> None:
    """Write a table as zstd Parquet, atomically."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(url, sink.getvalue().to_pybytes())


def read_parquet(url: str | Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file of ours.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        with open_input(url) as handle:
            return pq.read_table(handle, columns=columns)
    except pa.ArrowInvalid as error:
        raise StoreError(f"{url}: not a readable Parquet file ({error})") from error


@contextlib.contextmanager
def committed_directory(
    target: str | Path, about: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """Write a directory that appears whole or not at all.

    Args:
        target: final name; an existing directory of that name is replaced.
        about: what the manifest says beside the list of files.

    Yields:
        A staging directory beside the target, to be filled. If the block raises, it is removed.

    Raises:
        OSError: the operating system refused, whatever library it refused.
    """
    final = Path(target)
    final.parent.mkdir(parents=True, exist_ok=True)
    staging = final.with_name(f".{final.name}.{uuid.uuid4().hex}.staging")
    staging.mkdir()
    try:
        yield staging
        write_manifest(staging, about)
        _swap_in(staging, final)
    except Exception as error:
        if (cause := _OS_ERROR.search(str(error))) is not None:
            code = int(cause[1])
            raise OSError(code, os.strerror(code), str(final)) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_manifest(directory: str | Path, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """List every file of a directory with its size and SHA-256 in ``manifest.json``; gives it."""
    root = Path(directory)
    files = {
        path.relative_to(root).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
        }
        for path in sorted(root.rglob("*"))
        if path.is_file() and path != root / MANIFEST
    }
    manifest = {**(about or {}), "files": files}
    write_json(root / MANIFEST, manifest)
    return manifest


def verify_directory(directory: str | Path) -> dict[str, Any]:
    """Check a committed directory against its manifest and return the manifest.

    Raises:
        StoreError: no manifest, a file missing, or a file whose content has changed.
    """
    root = Path(directory)
    if not (root / MANIFEST).is_file():
        raise StoreError(f"{root}: no {MANIFEST}, so the directory was never finished")
    manifest: dict[str, Any] = read_json(root / MANIFEST)
    for name, entry in manifest["files"].items():
        path = root / name
        if not path.is_file():
            raise StoreError(f"{path}: listed in {MANIFEST} but missing")
        if sha256_file(path) != entry["sha256"]:
            raise StoreError(f"{path}: content differs from what {MANIFEST} says")
    return manifest


@contextlib.contextmanager
def lock(path: str | Path, timeout: float = 600.0) -> Iterator[None]:
    """Hold a lock; whatever changes what persists of a model does so while holding one.

    In the mirror of a shared store (:mod:`longtail.mirror`) it is a lease on the part of the store
    that the path belongs to: what other workers committed is fetched first, and what the block has
    written is committed after it. If the block raises, nothing is.

    Raises:
        StoreError: somebody else held it for ``timeout`` seconds; or, in a mirror, the store cannot
            be reached, or the lease was lost on the way: then nothing was committed.
    """
    from longtail import mirror  # it stands on this module

    target = Path(path)
    # A part of a shared store has several such files: the other way round, two could wait for ever.
    with mirror.guard(target, timeout), file_lock(target, timeout):
        yield


def flush(path: str | Path) -> None:
    """Make what was written so far under the lock of ``path`` outlive this machine.

    Every write to a local store does already; in a mirror it is committed now.

    Raises:
        StoreError: the lease is lost, or the store cannot be reached; nothing was committed.
    """
    from longtail import mirror

    mirror.flush(Path(path))


@contextlib.contextmanager
def file_lock(path: str | Path, timeout: float = 600.0) -> Iterator[None]:
    """Hold a file lock of this machine; the operating system releases it when the process dies.

    Raises:
        StoreError: somebody else held it for ``timeout`` seconds.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target, timeout=timeout):
            yield
    except Timeout as error:
        raise StoreError(
            f"{target}: locked by another run for more than {timeout:g} s; wait for it to end"
        ) from error


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open_input(path) as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(*values: Any) -> str:
    """SHA-256 of JSON-able values, in hexadecimal; the order of mapping keys does not matter."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def finite(value: Any) -> Any:
    """The same structure of plain Python values with every NaN and infinity replaced by None."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def size_of(path: Path) -> int:
    """Bytes of a file or of all files below a directory; some may go while they are counted."""
    total = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += 0 if file.is_dir() else file.lstat().st_size
    return total


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file another name, or copy it where the file system has no links for it.

    Args:
        source: a file that nobody writes to any more.
        target: must not exist; its directory is made.

    Raises:
        OSError: it can be neither linked nor copied.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, one without links, or somebody else's file
        shutil.copy2(source, target)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _swap_in(staging: Path, final: Path) -> None:
    if not final.exists():
        os.replace(staging, final)
        return
    old = final.with_name(f".{final.name}.{uuid.uuid4().hex}.old")
    os.replace(final, old)
    os.replace(staging, final)
    shutil.rmtree(old, ignore_errors=True)
