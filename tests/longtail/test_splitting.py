"""The promises of docs/reference/splits.md, each as a test."""

from __future__ import annotations

import hashlib
import itertools
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.errors import DataError
from longtail.hashing import stable_hash
from longtail.splitting import MissingLabel, split_sizes, stratify
from longtail.stratification import apportion

SIZES = (0.6, 0.2, 0.2)


def zipf_labels(n, n_labels, per_row, seed):
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, n_labels + 1)
    columns = generator.choice(n_labels, size=n * per_row, p=shares / shares.sum())
    y = np.zeros((n, n_labels), dtype=bool)
    y[np.repeat(np.arange(n), per_row), columns] = True
    return sp.csr_array(y)


def names(n):
    return [f"text-{row}" for row in range(n)]


def deviation(y, assignment, n_splits=3):
    """Largest distance, in rows, of a label's count in a split from its exact share."""
    counts = np.array([y[assignment == split].sum(axis=0) for split in range(n_splits)])
    shares = np.array(SIZES)[:, None] * counts.sum(axis=0)
    return np.abs(counts - shares).max()


def unit_labels(y, units):
    _, inverse = np.unique(units, return_inverse=True)
    has = np.zeros((inverse.max() + 1, y.shape[1]), dtype=bool)
    for row, unit in enumerate(inverse):
        has[unit] |= y[row]
    return has, np.bincount(inverse), inverse


@st.composite
def problems(draw, max_rows=24, max_units=None):
    n = draw(st.integers(3, max_rows))
    n_labels = draw(st.integers(0, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = generator.random((n, n_labels)) < generator.random(n_labels) * 0.9
    n_units = min(max_units or n, n)
    units = generator.integers(0, n_units, n) if draw(st.booleans()) or max_units else None
    if units is not None:
        units[:3] = [0, 1, 2]
    sizes = draw(st.sampled_from([SIZES, (0.8, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.3, 0.2)]))
    return y, units, sizes, draw(st.integers(0, 2**32))


@given(problems())
@settings(max_examples=60, deadline=None)
def test_every_row_stands_in_one_split_sizes_are_exact_and_units_are_whole(problem):
    y, units, sizes, seed = problem
    result = stratify(sp.csr_array(y), sizes, ids=names(len(y)), units=units, seed=seed)
    assert result.assignment.shape == (len(y),)
    assert set(result.assignment.tolist()) <= {0, 1, 2}
    assert sum(result.got) == len(y)
    assert result.asked == tuple(split_sizes(len(y), sizes))
    largest = 1 if units is None else np.bincount(units).max()
    for got, asked, size in zip(result.got, result.asked, sizes, strict=True):
        assert abs(got - asked) <= largest - 1
        assert abs(got - size * len(y)) < largest + 1e-9
    if units is not None:
        for unit in np.unique(units):
            assert len(set(result.assignment[units == unit].tolist())) == 1


@given(problems(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_row_order_and_unit_numbers_do_not_matter(problem, random):
    y, units, sizes, seed = problem
    ids, order = names(len(y)), list(range(len(y)))
    random.shuffle(order)
    plain = stratify(sp.csr_array(y), sizes, ids=ids, units=units, seed=seed)
    renumbered = None if units is None else (1000 - 7 * units)[order]
    shuffled = stratify(
        sp.csr_array(y[order]), sizes, ids=[ids[i] for i in order], units=renumbered, seed=seed
    )
    assert np.array_equal(shuffled.assignment, plain.assignment[order])
    assert shuffled.infeasible == plain.infeasible


@given(problems(max_rows=14, max_units=7))
@settings(max_examples=60, deadline=None)
def test_labels_stand_in_every_split_wherever_that_is_feasible(problem):
    y, units, sizes, seed = problem
    result = stratify(sp.csr_array(y), sizes, ids=names(len(y)), units=units, seed=seed)
    has, weights, inverse = unit_labels(y, units)
    chosen = np.zeros(len(weights), dtype=int)
    chosen[inverse] = result.assignment
    every = np.array(list(itertools.product(range(3), repeat=len(weights))))
    rows = np.stack([(every == split) @ weights for split in range(3)], axis=1)
    allowed = every[(np.abs(rows - result.asked) <= weights.max() - 1).all(axis=1)]

    def missing(assignments):
        return sum(
            ((assignments == split).astype(int) @ has.astype(int) == 0)[
                :, has.sum(axis=0) >= 3
            ].sum(axis=1)
            for split in range(3)
        )

    assert missing(chosen[None])[0] == missing(allowed).min()
    listed = sum(len(entry.splits) for entry in result.infeasible if entry.units >= 3)
    assert listed == missing(chosen[None])[0]


@pytest.mark.parametrize("seed", range(6))
def test_a_hidden_split_that_covers_all_rare_labels_is_matched(seed):
    generator = np.random.default_rng(seed)
    n = 120
    hidden = generator.permutation(np.repeat([0, 1, 2], split_sizes(n, SIZES)))
    y = np.zeros((n, 30), dtype=bool)
    for label, split in itertools.product(range(30), range(3)):
        y[generator.choice(np.flatnonzero(hidden == split)), label] = True
    assert stratify(sp.csr_array(y), SIZES, ids=names(n), seed=seed).infeasible == ()


def test_a_label_with_few_units_goes_to_train_then_test_and_is_listed():
    y = np.zeros((40, 3), dtype=bool)
    y[0, 0] = y[[1, 2], 1] = y[3:20, 2] = True
    result = stratify(sp.csr_array(y), (0.8, 0.1, 0.1), ids=names(40))
    assert result.assignment[0] == 0
    assert sorted(result.assignment[[1, 2]].tolist()) == [0, 2]
    assert result.infeasible == (MissingLabel(0, 1, (1, 2)), MissingLabel(1, 2, (1,)))


def test_a_label_is_covered_by_units_not_by_rows():
    y = np.zeros((30, 1), dtype=bool)
    y[:20] = True
    units = np.array([0] * 20 + list(range(1, 11)))
    result = stratify(sp.csr_array(y), SIZES, ids=names(30), units=units)
    assert result.infeasible == (MissingLabel(0, 1, (1, 2)),)


def test_shares_are_within_one_row_and_no_worse_than_the_references():
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    n = 1500
    y = zipf_labels(n, 40, 2, seed=1)
    ours = stratify(y, SIZES, ids=names(n))
    dense, zeros = y.toarray().astype(int), np.zeros((n, 1))
    rest, test = next(
        MultilabelStratifiedShuffleSplit(1, test_size=0.2, random_state=0).split(zeros, dense)
    )
    _, validation = next(
        MultilabelStratifiedShuffleSplit(1, test_size=0.25, random_state=0).split(
            zeros[rest], dense[rest]
        )
    )
    other = np.zeros(n, dtype=int)
    other[test], other[rest[validation]] = 2, 1
    reference = stratify(y, SIZES, ids=names(n), method="skmultilearn")
    assert ours.got == ours.asked
    assert deviation(y, ours.assignment) <= 1.0
    assert deviation(y, ours.assignment) <= deviation(y, other)
    assert deviation(y, ours.assignment) <= deviation(y, reference.assignment)


def test_heavy_units_do_not_upset_the_shares():
    generator = np.random.default_rng(0)
    units = np.repeat(np.arange(300), np.minimum(generator.zipf(1.8, 300), 60))
    of_unit = zipf_labels(300, 20, 2, seed=2).toarray()
    y = sp.csr_array(of_unit[units])
    result = stratify(y, SIZES, ids=names(len(units)), units=units)
    got = np.array([y[result.assignment == split].sum(axis=0) for split in range(3)])
    common = got.sum(axis=0) >= 100
    assert common.sum() >= 3
    shares = (got / got.sum(axis=0))[:, common]
    assert np.abs(shares - np.array(SIZES)[:, None]).max() < 0.05


def test_rows_without_labels_fill_the_sizes():
    y = sp.vstack([zipf_labels(50, 5, 2, seed=0), sp.csr_array((57, 5), dtype=bool)]).tocsr()
    result = stratify(sp.csr_array(y), SIZES, ids=names(107))
    assert result.got == result.asked == (64, 21, 22)


def test_no_label_at_all():
    result = stratify(sp.csr_array((10, 0), dtype=bool), SIZES, ids=names(10))
    assert result.got == (6, 2, 2)


def test_the_split_is_the_one_recorded_on_another_machine():
    rows, columns = np.arange(500)[:, None], np.arange(30)[None, :]
    y = sp.csr_array((rows * 7 + columns * columns) % (columns + 2) == 0)
    units = np.arange(500) // 3 * 5
    digests = [
        hashlib.sha256(stratify(y, SIZES, ids=names(500), units=u, seed=3).assignment).hexdigest()
        for u in (None, units)
    ]
    assert [digest[:16] for digest in digests] == ["382b3df6b4e8aad8", "9b1c980b49007ae7"]


def test_the_hash_is_the_one_of_the_standard():
    key = (5).to_bytes(8, "little")
    digest = hashlib.blake2b("né".encode(), digest_size=8, key=key).digest()
    assert stable_hash(["né"], seed=5).tolist() == [int.from_bytes(digest, "little")]
    assert stable_hash([]).shape == (0,)


def test_another_seed_gives_another_split():
    y = zipf_labels(200, 10, 2, seed=0)
    first = stratify(y, SIZES, ids=names(200), seed=0).assignment
    assert not np.array_equal(first, stratify(y, SIZES, ids=names(200), seed=1).assignment)


def test_two_splits_for_carving():
    result = stratify(zipf_labels(101, 8, 2, seed=0), (0.75, 0.25), ids=names(101))
    assert result.got == (76, 25)


def test_the_reference_keeps_units_and_leaves_numpys_generator_alone():
    y = zipf_labels(300, 10, 2, seed=0)
    units = np.arange(300) // 2
    np.random.seed(11)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    runs = [
        stratify(y, SIZES, ids=names(300), units=units, seed=5, method="skmultilearn")
        for _ in range(2)
    ]
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert np.array_equal(runs[0].assignment, runs[1].assignment)
    assert set(runs[0].assignment.tolist()) == {0, 1, 2}
    assert np.array_equal(runs[0].assignment[::2], runs[0].assignment[1::2])


@pytest.mark.parametrize("method", ["longtail", "skmultilearn"])
def test_an_id_that_stands_twice_is_refused(method):
    y = zipf_labels(5, 3, 1, seed=0)
    with pytest.raises(DataError, match="'b' stands on two rows"):
        stratify(y, SIZES, ids=["a", "b", "c", "b", "d"], method=method)


def test_fewer_units_than_splits_are_refused():
    y = zipf_labels(6, 3, 1, seed=0)
    with pytest.raises(DataError, match=r"2 indivisible unit\(s\)"):
        stratify(y, SIZES, ids=names(6), units=np.array([0, 0, 0, 1, 1, 1]))


@pytest.mark.parametrize("sizes", [(1.0,), (0.5, 0.6), (1.2, -0.2)])
def test_sizes_that_make_no_sense_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be positive"):
        stratify(zipf_labels(6, 3, 1, seed=0), sizes, ids=names(6))


def test_ids_must_fit_the_rows():
    with pytest.raises(ValueError, match="6 rows"):
        stratify(zipf_labels(6, 3, 1, seed=0), SIZES, ids=names(5))


@given(
    st.lists(st.integers(-50, 100), min_size=2, max_size=5),
    st.integers(1, 9),
    st.integers(0, 40),
    st.data(),
)
@settings(deadline=None)
def test_apportioning_at_once_leaves_what_the_greedy_rule_leaves(demand, value, n, data):
    room = data.draw(st.lists(st.integers(0, 9), min_size=len(demand), max_size=len(demand)))
    left = list(demand)
    for _ in range(n):
        left[left.index(max(left))] -= value
    shares = apportion(np.array(demand), value, n, np.array(room))
    assert shares.sum() == n
    assert sorted(np.array(demand) - value * shares) == sorted(left)


def test_nothing_warns_for_ordinary_data():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stratify(zipf_labels(60, 6, 2, seed=0), SIZES, ids=names(60), method="skmultilearn")
