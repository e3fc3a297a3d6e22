"""Near-duplicates are looked at under the split that would divide them."""

import pyarrow as pa
import pytest
from audit_case import annotations

from longtail.audit.near import near_duplicates, own_sides
from longtail.labels import LabelSpace
from longtail.near_duplicates import find_units

LONG = " ".join(f"sentence{at}" for at in range(40))


def looked_at(rows, listed=10):
    table = annotations(rows)
    alone = pa.nulls(table.num_rows, pa.string())
    near = find_units(table["id"], table["text"], alone, 0.8)
    y = LabelSpace.of(table["labels"]).encode(table["labels"])
    return near_duplicates(table, y, near, listed=listed)


def rows(splits, labels=(("p",), ("p",), ("q",))):
    texts = [f"{LONG} one", f"{LONG} two", f"{LONG} three"]
    return [
        {"id": f"t{at}", "text": text, "labels": list(given), "split": split}
        for at, (text, split, given) in enumerate(zip(texts, splits, labels, strict=True))
    ]


def test_pairs_and_texts_that_the_datas_split_divides_are_counted():
    found = looked_at(rows(["train", "test", "validation"]))

    assert (found.pairs, found.compared, found.divided, found.sides) == (3, 3, 3, "data")
    assert found.test_texts == 1
    assert found.held_out_texts == 2  # train and validation repeat a text held out from them
    assert found.conflicts == 2


def test_those_labelled_differently_are_listed_first():
    found = looked_at(rows(["train"] * 3), listed=2)

    assert all("t2" in (pair["first"], pair["second"]) for pair in found.listed)
    assert {pair["side_first"] for pair in found.listed} == {"train"}
    assert found.divided == 0


def test_a_text_without_a_split_has_no_side():
    found = looked_at(rows(["train", None, None]))

    assert {pair["side_second"] for pair in found.listed} == {None}


def test_without_a_split_one_by_chance_is_looked_at():
    filler = [{"id": f"x{at}", "text": f"alone {at}", "labels": ["p"]} for at in range(60)]

    found = looked_at([*rows([None] * 3), *filler])

    assert found.sides == "by chance"
    assert 0 <= found.divided <= 3


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_texts_have_no_pairs(n):
    few = [{"id": f"x{at}", "text": f"alone {at}", "labels": ["p"]} for at in range(n)]

    assert looked_at(few).pairs == 0


def test_the_datas_own_sides():
    assert own_sides(pa.chunked_array([["train", "test", None, "validation"]])).tolist() == [
        0, 2, -1, 1,
    ]  # fmt: skip
    assert own_sides(pa.chunked_array([pa.nulls(3, pa.string())])) is None
