"""The activation cache: right numbers, only new texts computed, and safe against a kill."""

import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tiny_case import texts_and_labels, tiny_encoder

from longtail import activations
from longtail.activations import ActivationCache, cache_key
from longtail.batching import tokenise
from longtail.encoder import build_classifier
from longtail.errors import StoreError
from longtail.freezing import hidden, split

DEPTH = 2


def lower_part(seed=0):
    return split(build_classifier(tiny_encoder(), ["a"], seed=seed), DEPTH).lower


def source_of(texts, max_length=24):
    return tokenise(tiny_encoder().tokenizer, texts, max_length)


def key_of(lower, max_length=24):
    return cache_key(lower, tiny_encoder().tokenizer, max_length)


def texts(n=40, seed=1):
    return texts_and_labels(n, seed)[0]


def get(cache, wanted, dtype="float32", **options):
    lower = lower_part()
    return cache.get(lower, source_of(wanted), key=key_of(lower), dtype=dtype, **options)


@pytest.fixture
def cache(tmp_path):
    return ActivationCache(tmp_path / "cache")


@pytest.fixture
def small_segments(monkeypatch):
    """Many segments instead of one, of some ten texts each."""
    monkeypatch.setattr(activations, "_SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(activations, "TOKENS_PER_BATCH", 64)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 3e-3)])
def test_the_cache_gives_what_the_layers_give(cache, dtype, tolerance):
    wanted = texts()
    source, lower = source_of(wanted), lower_part()
    found = get(cache, wanted, dtype)
    rows = [31, 2, 17]
    batch, plain = found.batch(rows), source.batch(rows)
    with torch.no_grad():
        expected = hidden(lower, plain["input_ids"], plain["attention_mask"])
    mask = plain["attention_mask"].bool()
    assert torch.equal(batch["attention_mask"], plain["attention_mask"])
    assert batch["hidden_states"].dtype == torch.float32
    torch.testing.assert_close(
        batch["hidden_states"][mask], expected[mask], rtol=tolerance, atol=tolerance
    )
    assert (batch["hidden_states"][~mask] == 0).all()


@pytest.mark.usefixtures("small_segments")
def test_activations_are_mapped_and_not_read(cache):
    found = get(cache, texts())
    assert len(found.segments) > 1
    assert sum(states.nbytes for states in found.segments) == cache.size()
    for states in found.segments:
        assert isinstance(states, np.memmap)
        assert not states.flags.writeable


@pytest.mark.usefixtures("small_segments")
def test_only_new_texts_are_computed_and_equal_texts_once(cache):
    first, second = texts(30, 1), texts(20, 2)
    assert get(cache, [*first, first[0]]).texts_computed == len(set(first))
    assert get(cache, first[::-1]).texts_computed == 0
    both = get(cache, [*first, *second])
    assert both.texts_computed == len(set(second) - set(first))
    alone = get(ActivationCache(cache.directory.parent / "other"), [*first, *second])
    rows = list(range(len(first) + len(second)))
    torch.testing.assert_close(both.batch(rows), alone.batch(rows), rtol=1e-5, atol=1e-6)


def test_other_weights_lengths_and_dtypes_are_other_keys(cache):
    lower = lower_part()
    assert key_of(lower) == key_of(lower_part(seed=1))  # the head's seed is above the cache
    assert key_of(lower) != key_of(lower, max_length=25)
    assert key_of(lower) != key_of(split(build_classifier(tiny_encoder(), ["a"], seed=0), 1).lower)
    lower.encoder.layer[0].output.dense.weight.data[0, 0] += 1e-3
    assert key_of(lower) != key_of(lower_part())
    assert get(cache, texts(), "float16").texts_computed == 40
    assert get(cache, texts(), "float32").texts_computed == 40


def test_the_state_of_the_tokenizer_does_not_change_the_key():
    lower = lower_part()
    before = key_of(lower)
    tiny_encoder().tokenizer("some text", truncation=True, max_length=5, padding="max_length")
    assert key_of(lower) == before


@pytest.mark.usefixtures("small_segments")
def test_a_killed_writer_leaves_a_usable_cache(cache, monkeypatch):
    written = []

    def killed(folder, hashes, states):
        if len(written) == 2:
            (folder / "half.bin").write_bytes(b"half a segment")
            raise KeyboardInterrupt
        written.extend([hashes])
        original(folder, hashes, states)

    original = activations.write_segment
    monkeypatch.setattr(activations, "write_segment", killed)
    with pytest.raises(KeyboardInterrupt):
        get(cache, texts())
    monkeypatch.setattr(activations, "write_segment", original)
    survivors = sum(len(hashes) for hashes in written)
    assert 0 < survivors < 40
    assert get(cache, texts()).texts_computed == 40 - survivors
    assert not list(cache.directory.rglob("half.bin"))


@pytest.mark.parametrize("damage", ["shorter data", "no data", "no zip", "empty index"])
def test_a_damaged_segment_is_computed_again(cache, damage):
    expected = get(cache, texts()).batch([3, 4])
    data = next(cache.directory.rglob("*.bin"))
    index = data.with_suffix(".npz")
    if damage == "shorter data":
        os.truncate(data, data.stat().st_size - 128)
    elif damage == "no data":
        data.unlink()
    else:
        index.write_bytes(b"PK" if damage == "no zip" else b"")
    found = get(cache, texts())
    assert found.texts_computed == 40
    torch.testing.assert_close(found.batch([3, 4]), expected)


@pytest.mark.usefixtures("small_segments")
def test_deleted_texts_are_purged(cache):
    wanted = texts()
    before = get(cache, wanted)
    expected = before.batch([0, 39])
    size = cache.size()
    assert cache.purge([*wanted[5:25], "never seen"]) == 20
    assert cache.size() < size
    after = get(cache, [wanted[0], wanted[39]])
    assert after.texts_computed == 0
    torch.testing.assert_close(after.batch([0, 1]), expected)
    assert get(cache, wanted).texts_computed == 20
    assert cache.purge(wanted) == 40
    assert cache.size() == 0


@pytest.mark.usefixtures("small_segments")
def test_the_disk_is_bounded_and_the_oldest_go_first(cache):
    old, recent, new = texts(40, 1), texts(40, 2), texts(40, 3)
    for wanted in (old, recent):
        get(cache, wanted)
    ages = sorted(cache.directory.rglob("*.npz"), key=lambda path: path.stat().st_mtime)
    for age, index in enumerate(ages):
        os.utime(index, (1_000_000 + age, 1_000_000 + age))
    get(cache, recent)  # used just now
    cache.max_bytes = int(cache.size() * 1.1)
    get(cache, new)
    assert cache.size() <= cache.max_bytes
    assert get(cache, new).texts_computed == 0
    cache.max_bytes = 1 << 30
    assert get(cache, old).texts_computed > 20
    assert get(cache, recent).texts_computed == 0


def test_what_can_never_fit_is_not_cached(cache, caplog):
    cache.max_bytes = 1000
    assert get(cache, texts()) is None
    assert "computed again in every epoch" in caplog.text
    assert cache.size() == 0


def test_no_text(cache):
    found = get(cache, [])
    assert found.lengths.shape == (0,)
    assert found.texts_computed == 0


def test_progress_is_told(cache):
    told = []
    get(cache, texts(), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (40, 40)


def test_a_second_writer_waits_and_says_so_when_it_gives_up(cache):
    lower = lower_part()
    folder = cache.directory / f"{key_of(lower)[:32]}-float32"
    script = textwrap.dedent(f"""
        import sys, time
        from longtail import storage
        with storage.lock({str(folder / ".lock")!r}):
            print("held", flush=True)
            time.sleep(60)
    """)
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        cache.timeout = 0.3
        with pytest.raises(StoreError, match="locked by another run"):
            get(cache, texts())
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    cache.timeout = 10
    assert get(cache, texts()).texts_computed == 40  # a dead process holds nothing


def test_two_writers_at_once_compute_each_text_once(cache):
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(get, ActivationCache(cache.directory), texts()) for _ in range(2)]
    assert sorted(run.result().texts_computed for run in runs) == [0, 40]


def test_a_used_segment_is_young_again(cache):
    get(cache, texts())
    index = next(cache.directory.rglob("*.npz"))
    os.utime(index, (1_000_000, 1_000_000))
    get(cache, texts()[:1])
    assert time.time() - index.stat().st_mtime < 100


def test_rows_of_a_part(cache):
    found = get(cache, texts())
    part = found.rows(slice(10, 20))
    torch.testing.assert_close(part.batch([0, 9]), found.batch([10, 19]))
    assert np.array_equal(part.lengths, found.lengths[10:20])
