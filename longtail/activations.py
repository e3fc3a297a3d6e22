"""What frozen layers say about a text, computed once and kept on disk.

A cache directory holds one folder per *key*: weights of the frozen layers, tokenizer, maximum
length and dtype. A folder holds segments (:mod:`longtail.segments`). All arms, epochs and later
runs share the cache, so that only new texts are ever computed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from longtail import storage
from longtail.batching import TokenSource, length_batches
from longtail.freezing import hidden, weights_digest
from longtail.segments import (
    Dtype,
    Segment,
    missing_rows,
    open_segments,
    purge_segment,
    remove,
    text_hashes,
    touch,
    used,
    write_segment,
)
from longtail.workers import side_by_side

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

TOKENS_PER_BATCH = 2048
_SEGMENT_BYTES = 64 << 20
_LOG_SECONDS = 15.0
_ARCHITECTURE = ("model_type", "num_attention_heads", "hidden_act", "layer_norm_eps")
_HALF_LIMIT = float(torch.finfo(torch.float16).max)


@dataclass(frozen=True)
class Activations:
    """Hidden states of texts, memory-mapped.

    Attributes:
        lengths: tokens of each text, int64 (n,).
        segments: one array (tokens, width) per segment.
        segment: segment of each text, int64 (n,).
        offset: its first row in the segment, int64 (n,).
        width: hidden size.
        texts_computed: texts that were not in the cache before.
    """

    lengths: NDArray[np.int64]
    segments: tuple[NDArray[Any], ...]
    segment: NDArray[np.int64]
    offset: NDArray[np.int64]
    width: int
    texts_computed: int = 0

    def batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Hidden states (texts, tokens, width) in float32, padded with 0, and their mask."""
        lengths = self.lengths[rows]
        states = np.zeros((len(rows), int(lengths.max(initial=1)), self.width), dtype=np.float32)
        mask = np.arange(states.shape[1]) < lengths[:, None]
        for position, row in enumerate(rows):
            start, size = self.offset[row], self.lengths[row]
            states[position, :size] = self.segments[self.segment[row]][start : start + size]
        return {
            "hidden_states": torch.from_numpy(states),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }

    def rows(self, part: slice) -> Activations:
        """Some of the texts."""
        return replace(
            self, lengths=self.lengths[part], segment=self.segment[part], offset=self.offset[part]
        )


class ActivationCache:
    """Activations of frozen layers on disk, bounded, shared by runs and safe against a kill.

    Args:
        directory: where to keep them; created when needed.
        max_bytes: bound on the disk; the segments that were used least recently go first.
        timeout: seconds to wait for another run that is computing under the same key.
    """

    def __init__(
        self, directory: str | Path, *, max_bytes: int = 8 << 30, timeout: float = 3600.0
    ) -> None:
        self.directory = Path(directory)
        self.max_bytes = max_bytes
        self.timeout = timeout

    def get(
        self,
        lower: nn.Module,
        source: TokenSource,
        *,
        key: str,
        dtype: Dtype = "float16",
        progress: Progress | None = None,
    ) -> Activations | None:
        """The activations of texts, computed where they are missing.

        Args:
            lower: the frozen part; runs in eval mode without gradients, where its weights are.
            source: the tokenised texts.
            key: what the hidden states depend on beside the text; see :func:`cache_key`.
            dtype: how they are kept. They are computed in float32.
            progress: called with (texts done, texts to compute).

        Returns:
            None where the texts would not fit into ``max_bytes`` or on the disk.
        """
        folder = self.directory / f"{key[:32]}-{dtype}"
        width = int(lower.config.hidden_size)  # type: ignore[union-attr,arg-type]
        hashes = text_hashes(source.texts)
        computed = 0
        with self._writing(folder):
            segments = open_segments(folder, width, dtype)
            # A run under another key may drop a segment before it is mapped here; then once more.
            while (missing := missing_rows(hashes, segments)).size:
                needed = int(source.lengths[missing].sum()) * width * np.dtype(dtype).itemsize
                if not self._make_room(needed, keep=used(hashes, segments)):
                    return None
                _fill(folder, lower, source, missing, hashes, dtype=dtype, progress=progress)
                computed += int(missing.size)
                segments = open_segments(folder, width, dtype)
        for index in used(hashes, segments):
            touch(index)
        return _locate(hashes, source.lengths, segments, width, computed)

    def purge(self, texts: Sequence[str]) -> int:
        """Remove the activations of deleted texts under every key.

        Returns:
            Number of removed entries.
        """
        doomed = text_hashes(texts)
        removed = 0
        for folder in sorted(path for path in self.directory.glob("*-float*") if path.is_dir()):
            with self._writing(folder):
                for index in sorted(folder.glob("*.npz")):
                    removed += purge_segment(index, doomed)
        return removed

    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.directory.glob("*/*.bin"))

    @contextlib.contextmanager
    def _writing(self, folder: Path) -> Iterator[None]:
        """Hold the key's lock, without what a killed writer left behind."""
        with storage.lock(folder / ".lock", self.timeout):
            for data in folder.glob("*.bin"):
                if not data.with_suffix(".npz").is_file():
                    data.unlink(missing_ok=True)
            yield

    def _make_room(self, needed: int, keep: set[Path]) -> bool:
        free = shutil.disk_usage(self.directory).free
        kept = sum(path.with_suffix(".bin").stat().st_size for path in keep)
        if needed + kept > self.max_bytes or needed > 0.9 * free:
            logger.warning(
                "the activation cache needs %.1f GB more in %s (limit %.1f GB, free %.1f GB); the "
                "frozen layers are computed again in every epoch instead",
                needed / 1e9, self.directory, self.max_bytes / 1e9, free / 1e9,
            )  # fmt: skip
            return False
        with storage.lock(self.directory / ".lock", self.timeout):
            indexes = [path for path in self.directory.glob("*/*.npz") if path not in keep]
            for index in sorted(indexes, key=lambda path: path.stat().st_mtime):
                if self.size() + needed <= self.max_bytes:
                    break
                logger.info("activation cache: %s is dropped to make room", index.stem)
                remove(index)
        return True


def cache_key(lower: nn.Module, tokenizer: Any, max_length: int) -> str:
    """Everything that a text's activations depend on beside the text and the dtype.

    The weights themselves are hashed, so that two models share activations exactly when their
    frozen layers are equal, wherever the models come from.
    """
    config: Any = lower.config
    architecture = [str(getattr(config, name, None)) for name in _ARCHITECTURE]
    words = _tokenizer_state(tokenizer)
    return storage.fingerprint(architecture, weights_digest(lower), words, max_length)


def _tokenizer_state(tokenizer: Any) -> str:
    if not tokenizer.is_fast:
        return storage.fingerprint(type(tokenizer).__name__, tokenizer.get_vocab())
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for passing in ("truncation", "padding"):  # set anew by every call
        state.pop(passing, None)
    return storage.fingerprint(state)


def _locate(
    hashes: NDArray[Any],
    lengths: NDArray[np.int64],
    segments: list[Segment],
    width: int,
    computed: int,
) -> Activations:
    known = np.concatenate([segment.hashes for segment in segments] or [hashes[:0]])
    number = np.repeat(np.arange(len(segments)), [len(segment.hashes) for segment in segments])
    offsets = np.concatenate([segment.offsets for segment in segments] or [number])
    order = np.argsort(known, kind="stable")
    entry = order[np.searchsorted(known, hashes, sorter=order)] if len(known) else number
    states = tuple(segment.states for segment in segments)
    return Activations(lengths, states, number[entry], offsets[entry], width, computed)


def _fill(
    folder: Path,
    lower: nn.Module,
    source: TokenSource,
    missing: NDArray[np.int64],
    hashes: NDArray[Any],
    *,
    dtype: Dtype,
    progress: Progress | None,
) -> None:
    """Compute texts in order of length and write them segment by segment."""
    done, pending, rows = 0, [], []
    size, started, logged = 0, time.monotonic(), time.monotonic()
    device = next(lower.parameters()).device
    lower.eval()
    batches = length_batches(source.lengths, missing, TOKENS_PER_BATCH)
    compute = partial(_compute, lower, source, dtype=dtype, device=device)
    for batch, states in side_by_side(compute, batches, device=device):
        pending.extend(states)
        rows.extend(batch)
        size += sum(state.nbytes for state in states)
        if size >= _SEGMENT_BYTES:
            write_segment(folder, hashes[rows], pending)
            pending, rows, size = [], [], 0
        done += len(batch)
        if progress is not None:
            progress(done, len(missing))
        if time.monotonic() - logged > _LOG_SECONDS:
            logged = time.monotonic()
            left = (logged - started) / done * (len(missing) - done)
            logger.info("frozen layers: %d of %d texts, %.0f s left", done, len(missing), left)
    if rows:
        write_segment(folder, hashes[rows], pending)


@torch.inference_mode()
def _compute(
    lower: nn.Module,
    source: TokenSource,
    rows: Sequence[int],
    *,
    dtype: Dtype,
    device: torch.device,
) -> list[NDArray[Any]]:
    inputs = {name: tensor.to(device) for name, tensor in source.batch(rows).items()}
    states = hidden(lower, inputs["input_ids"], inputs["attention_mask"]).float().cpu()
    if dtype == "float16":
        states = states.clamp(-_HALF_LIMIT, _HALF_LIMIT).half()
    array = states.numpy()
    return [array[position, : source.lengths[row]] for position, row in enumerate(rows)]
