"""Segment files of the activation cache: hidden states of many texts, and an index beside them.

The index is written after the data and atomically. Data without an index is what a killed process
left behind.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from longtail import storage

logger = logging.getLogger(__name__)

Dtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class Segment:
    """An opened segment.

    Attributes:
        index: the index file; the data lie beside it.
        hashes: of the texts, (n,).
        offsets: first row of each text in ``states``.
        lengths: tokens of each text.
        states: memory-mapped hidden states (tokens, width).
    """

    index: Path
    hashes: NDArray[Any]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    states: NDArray[Any]


def text_hashes(texts: Sequence[str]) -> NDArray[Any]:
    """BLAKE2b-128 of each text, in hexadecimal."""
    digests = (blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
               for text in texts)  # fmt: skip
    return np.array(list(digests), dtype="S32")


def open_segments(folder: Path, width: int, dtype: Dtype) -> list[Segment]:
    """All whole segments of a folder; damaged ones are removed."""
    opened = (_open_segment(index, width, dtype) for index in sorted(folder.glob("*.npz")))
    return [segment for segment in opened if segment is not None]


def _open_segment(index: Path, width: int, dtype: Dtype) -> Segment | None:
    data = index.with_suffix(".bin")
    try:
        with np.load(index) as arrays:
            hashes, lengths = arrays["hashes"], arrays["lengths"]
        tokens = int(lengths.sum())
        flat = np.memmap(data, dtype=dtype, mode="r")
        states = flat.reshape(tokens, width)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("activation cache: %s is damaged (%s) and computed again", index, error)
        remove(index)
        return None
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return Segment(index, hashes, offsets, lengths, states)


def missing_rows(hashes: NDArray[Any], segments: list[Segment]) -> NDArray[np.int64]:
    """Rows to compute: not in any segment, and only the first of equal texts."""
    known = np.concatenate([segment.hashes for segment in segments] or [hashes[:0]])
    _, first = np.unique(hashes, return_index=True)
    return np.sort(first[~np.isin(hashes[first], known)]).astype(np.int64)


def used(hashes: NDArray[Any], segments: list[Segment]) -> set[Path]:
    """Index files of the segments that hold any of the texts."""
    return {segment.index for segment in segments if np.isin(segment.hashes, hashes).any()}


def write_segment(folder: Path, hashes: NDArray[Any], states: list[NDArray[Any]]) -> None:
    """Write the data, flush it to the disk, then the index.

    Args:
        folder: of the key.
        hashes: of the texts, (n,).
        states: rows (tokens, …) of each text.
    """
    data = folder / f"{uuid.uuid4().hex}.bin"
    with data.open("wb") as handle:
        for state in states:
            handle.write(np.ascontiguousarray(state).data)
        handle.flush()
        os.fsync(handle.fileno())
    buffer = io.BytesIO()
    lengths = np.array([len(state) for state in states], dtype=np.int64)
    np.savez(buffer, hashes=hashes, lengths=lengths)
    storage.write_bytes(data.with_suffix(".npz"), buffer.getvalue())


def purge_segment(index: Path, doomed: NDArray[Any]) -> int:
    """Write a segment anew without some texts.

    Returns:
        Number of texts removed.
    """
    with np.load(index) as arrays:
        hashes, lengths = arrays["hashes"], arrays["lengths"]
    keep = ~np.isin(hashes, doomed)
    if keep.all():
        return 0
    if keep.any():
        data = np.fromfile(index.with_suffix(".bin"), dtype=np.uint8)
        rows = data.reshape(int(lengths.sum()), -1)
        texts = np.split(rows, np.cumsum(lengths)[:-1])
        kept = [text for text, stays in zip(texts, keep, strict=True) if stays]
        write_segment(index.parent, hashes[keep], kept)
    remove(index)
    return int((~keep).sum())


def remove(index: Path) -> None:
    """Remove a segment: the index first, so that it never points at nothing."""
    index.unlink(missing_ok=True)
    index.with_suffix(".bin").unlink(missing_ok=True)


def touch(index: Path) -> None:
    """Mark a segment as used just now."""
    with contextlib.suppress(OSError):
        index.touch()
