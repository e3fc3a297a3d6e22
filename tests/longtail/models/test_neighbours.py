"""The vote of similar texts, against the same by plain loops."""

import numpy as np
import pytest
import scipy.sparse as sp
from evidence_case import annotated, reading

from longtail import storage
from longtail.errors import StoreError
from longtail.models import neighbours
from longtail.models.evidence import Annotated, MissingEvidenceError
from longtail.models.neighbours import Neighbours
from longtail.models.reading import Reading

ASKED = reading([f"new {row}" for row in range(9)], seed=5)


def naive(memory, asked, k, temperature=0.05):
    """Text by text and label by label, in float64."""
    y = memory.y.toarray().astype(float)
    known = np.ones(y.shape, bool) if memory.known is None else memory.known
    y = y * known
    kept = memory.reading.vectors["encoder"].astype(np.float16).astype(float)
    k = min(k, len(y))
    prior = (y.sum(0) + 0.5) / (known.sum(0) + 1.0)
    texts = list(memory.reading.texts)
    nobody, result = np.zeros(y.shape[1]), []
    for text, vector in zip(asked.texts, asked.vectors["encoder"].astype(float), strict=True):
        unit = memory.units[texts.index(text)] if text in texts else None
        others = [row for row in range(len(y)) if unit is None or memory.units[row] != unit]
        near = sorted(others, key=lambda row: -(kept[row] @ vector))[:k]
        weights = np.array([np.exp(kept[row] @ vector / temperature) for row in near])
        weights = weights / weights.sum() if len(near) else weights
        votes = sum((w * y[row] for w, row in zip(weights, near, strict=True)), nobody)
        cast = sum((w * known[row] for w, row in zip(weights, near, strict=True)), nobody)
        share = np.clip((votes + 2 / k * prior) / (cast + 2 / k), 1e-6, 1 - 1e-6)
        result.append(np.log(share / (1 - share)))
    return np.array(result)


def mask(n, labels=4, seed=3):
    return np.random.default_rng(seed).random((n, labels)) < 0.6


@pytest.mark.parametrize("k", [1, 5, 30, 50])
@pytest.mark.parametrize("known", [None, mask(30)], ids=["known", "unknown"])
def test_it_is_what_loops_give(k, known):
    memory = annotated(30, known=known)
    found = Neighbours(k).fit(memory).score(ASKED)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive(memory, ASKED, k), atol=1e-4)


def test_a_text_and_its_unit_never_vote_for_themselves():
    memory = annotated(30, units=np.arange(30) // 3)
    found = Neighbours(5).fit(memory).score(memory.reading)
    np.testing.assert_allclose(found, naive(memory, memory.reading, 5), atol=1e-4)
    y = memory.y.toarray()
    for row in (0, 1, 2):
        y[row] = ~y[row]
    flipped = Annotated(memory.reading, sp.csr_array(y), memory.ids, memory.units)
    again = Neighbours(5, temperature=10).fit(flipped).score(memory.reading)
    before = Neighbours(5, temperature=10).fit(memory).score(memory.reading)
    # Of the unit's own labels only the share of all texts remains, the same for all texts.
    np.testing.assert_allclose(np.diff((again - before)[:3], axis=0), 0, atol=0.5)
    nearest = Neighbours(5).fit(memory).similar(memory.reading, 5)
    for row, similar in enumerate(nearest):
        assert not {other // 3 for other in similar.rows} & {row // 3}


def test_case_and_spaces_do_not_make_it_another_text():
    memory = annotated(10)
    asked = Reading([f" {memory.reading.texts[4].upper()}  "], {},
                    {"encoder": memory.reading.vectors["encoder"][4:5]}, None)  # fmt: skip
    assert 4 not in Neighbours(3).fit(memory).similar(asked, 9)[0].rows


def test_where_nobody_is_left_to_vote_the_share_of_all_texts_stays():
    memory = annotated(6, units=np.zeros(6))
    found = Neighbours(5).fit(memory).score(memory.reading)
    share = (memory.y.toarray().sum(0) + 0.5) / 7
    np.testing.assert_allclose(found, np.tile(np.log(share / (1 - share)), (6, 1)), atol=1e-5)
    assert Neighbours(5).fit(memory).similar(memory.reading, 3)[0].rows == ()


def test_unknown_cells_take_no_part():
    known = mask(30)
    memory = annotated(30, known=known)
    y = memory.y.toarray()
    spoilt = Annotated(memory.reading, sp.csr_array(np.where(known, y, ~y)), memory.ids,
                       memory.units, known)  # fmt: skip
    clean, other = (Neighbours(7).fit(one).score(ASKED) for one in (memory, spoilt))
    assert clean.tobytes() == other.tobytes()
    assert np.abs(clean - Neighbours(7).fit(annotated(30)).score(ASKED)).max() > 0.1


def test_blocks_do_not_change_the_result(monkeypatch):
    memory = annotated(30, units=np.arange(30) // 2)
    whole = Neighbours(4).fit(memory)
    expected, near = whole.score(memory.reading), whole.similar(memory.reading, 3)
    monkeypatch.setattr(neighbours, "_BLOCK", 70)
    np.testing.assert_allclose(whole.score(memory.reading), expected, atol=1e-5)
    assert [one.rows for one in whole.similar(memory.reading, 3)] == [one.rows for one in near]


def test_the_nearest_come_first_with_id_and_cosine():
    memory = annotated(20)
    (first, *_) = Neighbours().fit(memory).similar(ASKED, 4)
    assert list(first.similarities) == sorted(first.similarities, reverse=True)
    assert first.ids == tuple(f"t{row}" for row in first.rows)
    cosines = memory.reading.vectors["encoder"] @ ASKED.vectors["encoder"][0]
    np.testing.assert_allclose(first.similarities, np.sort(cosines)[::-1][:4], atol=1e-3)


def test_the_encoder_whose_vectors_are_compared_can_be_chosen(tmp_path):
    plain = annotated(20)
    both = reading(plain.reading.texts, names=("encoder", "bce"))
    memory = Annotated(both, plain.y, plain.ids, plain.units)
    asked = reading(ASKED.texts, seed=5, names=("encoder", "bce"))
    found = Neighbours(3, encoder="bce").fit(memory)
    assert np.abs(found.score(asked) - Neighbours(3).fit(memory).score(asked)).max() > 0.1
    found.save(tmp_path)
    assert Neighbours.load(tmp_path).encoder == "bce"


def test_no_texts():
    assert Neighbours().fit(annotated(5)).score(reading([])).shape == (0, 4)
    assert Neighbours().fit(annotated(5)).similar(reading([]), 3) == []
    with pytest.raises(MissingEvidenceError, match="no annotated text"):
        Neighbours().fit(annotated(0))


def test_it_comes_back_as_it_was(tmp_path):
    memory = annotated(30, known=mask(30), units=np.arange(30) // 2)
    made = Neighbours(6, 0.1).fit(memory)
    made.save(tmp_path)
    loaded = Neighbours.load(tmp_path)
    assert (loaded.k, loaded.temperature, loaded.ids) == (6, 0.1, made.ids)
    for asked in (ASKED, memory.reading):
        assert loaded.score(asked).tobytes() == made.score(asked).tobytes()
        assert loaded.similar(asked, 3) == made.similar(asked, 3)


def test_a_damaged_memory_is_refused(tmp_path):
    Neighbours(3).fit(annotated(10)).save(tmp_path)
    path = tmp_path / "memory.parquet"
    table = storage.read_parquet(path)
    about = table.schema.metadata

    def refused(changed, why):
        storage.write_parquet(path, changed)
        with pytest.raises(StoreError, match=why):
            Neighbours.load(tmp_path)

    refused(table.drop_columns(["unit"]), "not a whole memory")
    refused(table.replace_schema_metadata({}), "not a whole memory")
    refused(table.replace_schema_metadata({**about, b"labels": b"2"}), "not a whole memory")
    vectors = table["vector"].combine_chunks()
    flat = vectors.flatten().to_numpy().copy()
    flat[3] = np.nan
    width = vectors.type.list_size
    spoilt = storage.pa.FixedSizeListArray.from_arrays(storage.pa.array(flat), width)
    column = table.schema.get_field_index("vector")
    refused(table.set_column(column, "vector", spoilt), "not finite")
    path.write_bytes(b"torn")
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        Neighbours.load(tmp_path)
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        Neighbours.load(tmp_path)
