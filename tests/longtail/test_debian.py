import numpy as np
import pyarrow as pa
import pytest
from fake_apt import FakeApt
from hypothesis import given
from hypothesis import strategies as st

from longtail import debian
from longtail.errors import DataError


@pytest.fixture
def packages(tmp_path):
    return debian.read_packages(tmp_path, run=FakeApt())


def test_tagged_packages_are_rows_of_the_canonical_columns(packages):
    assert packages.tagged.schema == debian.TAGGED
    row = packages.tagged.to_pylist()[0]

    assert row == {
        "id": "lanternfish",
        "text": "deep-sea light simulator\n\nSimulates the lights of fish that live far below. It "
        "knows:\n* lanterns\n* lures\n\nGrüße from the trench.",
        "labels": [
            "field::biology",
            "interface::x11",
            "role::program",
            "use::viewing",
            "works-with::3dmodel",
        ],
        "group": "lanternfish-src",
        "source": "debian",
    }


def test_packages_are_sorted_and_grouped_by_source(packages):
    assert packages.tagged["id"].to_pylist() == [
        "lanternfish",
        "lanternfish-doc",
        "pebble",
        "quillfeather",
    ]
    groups = packages.tagged["group"].to_pylist()
    assert groups == ["lanternfish-src", "lanternfish-src", "pebble", "quillfeather"]


def test_a_package_in_several_suites_is_one_row_and_keeps_its_tags(packages):
    rows = {row["id"]: row for row in packages.tagged.to_pylist()}

    assert rows["pebble"]["labels"] == ["implemented-in::c", "implemented-in::c++", "role::program"]
    assert rows["quillfeather"]["labels"] == ["role::program"]
    assert rows["quillfeather"]["text"] == "writes letters by itself, and safely"


def test_a_package_with_notes_for_tags_counts_as_untagged(packages):
    assert packages.untagged.schema == debian.UNTAGGED
    assert packages.untagged["id"].to_pylist() == ["driftwood"]


def test_a_long_description_in_the_list_itself_is_read(tmp_path):
    run = FakeApt(network=False, system=("Packages",))

    untagged = debian.read_packages(tmp_path, run=run).untagged

    texts = dict(zip(untagged["id"].to_pylist(), untagged["text"].to_pylist(), strict=True))
    assert texts["quillfeather"].endswith(
        "with the long description in place.\n\nSecond paragraph."
    )


def test_lists_without_tags_are_refused_with_a_sentence(tmp_path):
    class Untagged(FakeApt):
        def __call__(self, command):
            done = super().__call__(command)
            done.stdout = done.stdout.replace(b"Tag:", b"Task:")
            return done

    with pytest.raises(DataError, match=r"None of the 5 packages .* has tags") as caught:
        debian.read_packages(tmp_path, run=Untagged(origin="Elsewhere"))

    assert "longtail retrain --data FILE" in str(caught.value)


def grouped(groups):
    ids = [f"p{i}" for i in range(len(groups))]
    return pa.table({"id": ids, "group": pa.array(groups, pa.string())})


GROUPS = st.lists(st.sampled_from([f"source{i}" for i in range(12)]), min_size=1, max_size=60)


@given(groups=GROUPS, n=st.integers(1, 70), seed=st.integers(0, 3))
def test_a_sample_holds_whole_groups_and_at_most_n_rows(groups, n, seed):
    table = grouped(groups)

    chosen = debian.sample(table, n, seed)

    names = set(chosen["group"].to_pylist())
    assert chosen.num_rows == sum(group in names for group in groups)
    assert chosen.num_rows <= n or len(names) == 1
    assert chosen.num_rows == len(groups) or n < len(groups)
    kept = [int(name[1:]) for name in chosen["id"].to_pylist()]
    assert kept == sorted(kept)


@given(groups=GROUPS, n=st.integers(1, 60), more=st.integers(0, 30))
def test_a_larger_sample_contains_the_smaller_one(groups, n, more):
    small, large = (debian.sample(grouped(groups), size) for size in (n, n + more))

    assert set(small["id"].to_pylist()) <= set(large["id"].to_pylist())


def test_row_order_does_not_change_a_sample_and_the_seed_does():
    groups = [f"source{i // 2}" for i in range(200)]
    table = grouped(groups)
    shuffled = table.take(np.random.default_rng(0).permutation(200))

    chosen = set(debian.sample(table, 40)["id"].to_pylist())

    assert chosen == set(debian.sample(shuffled, 40)["id"].to_pylist())
    assert chosen != set(debian.sample(table, 40, seed=1)["id"].to_pylist())
    assert len(chosen) == 40


def test_a_sample_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        debian.sample(grouped(["a"]), 0)
