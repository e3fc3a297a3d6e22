"""Which names of labels are taken for one, and which look alike and are not."""

from __future__ import annotations

import pyarrow as pa
import pytest

from longtail.label_likeness import (
    Exchange,
    exchanges,
    likest,
    normalised,
    same_but_for_spelling,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Sign-in", "sign in"), ("SIGN_IN", "signin"), ("ﬁle", "File"), ("a::b", "A b"),
     ("Straße", "STRASSE"), ("2026-03", "2026 / 03")],
)  # fmt: skip
def test_spelling_is_case_form_and_separators(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("C", "C++"), ("C#", "C++"), ("1.5", "15"), ("a1", "a2"), ("--", "::")]
)
def test_other_signs_and_numbers_make_another_name(one, other):
    assert normalised(one) != normalised(other)


def test_names_of_one_spelling_are_found_together():
    found = same_but_for_spelling(["tax", "Sign-in", "signin", "vat", "sign in"])
    assert found == [("Sign-in", "sign in", "signin")]


def test_the_likest_name_is_found_where_one_is_like_it():
    known = ["shipping delay", "refund", "version 1", "paid"]
    assert likest(["Shipping-Delays", "refnd", "version 2", "unpaid", "tax"], known) == {
        "Shipping-Delays": "shipping delay", "refnd": "refund"
    }  # fmt: skip


def test_of_very_many_names_the_rest_is_compared_by_spelling_alone():
    names = [f"{chr(97 + n % 26) * 9}{n}" for n in range(500)]
    assert likest([*names, "refnd", "RE-FUND"], ["refund"]) == {"RE-FUND": "refund"}


def table(**rows):
    return pa.table(
        {"id": list(rows), "labels": pa.array(list(rows.values()), pa.list_(pa.string()))}
    )


STORED = table(
    a=["login"], b=["login", "tax"], c=["login"], d=["login"], e=["tax"], f=None, g=["login"]
)


def test_texts_that_changed_one_label_for_another_bear_a_rename_out():
    now = table(a=["sign-in"], b=["sign-in", "tax"], c=["sign-in"], e=["sign-in"], f=["sign-in"],
                z=["sign-in"])  # fmt: skip
    assert exchanges(now, STORED, {"sign-in"}, {}) == {"sign-in": Exchange("login", 3, 5)}


@pytest.mark.parametrize(
    "now",
    [
        table(a=["sign-in"], b=["sign-in"]),  # too few
        table(a=["sign-in"], b=["sign-in"], c=["sign-in"], e=["tax", "sign-in"],
              f=["sign-in"], g=["login", "sign-in"], d=["login", "sign-in"]),  # not half of them
        table(x=["sign-in"], y=["sign-in"], z=["sign-in"]),  # none of them stored
    ],
)  # fmt: skip
def test_a_few_texts_bear_nothing_out(now):
    assert exchanges(now, STORED, {"sign-in"}, {}) == {}


def test_an_alias_that_is_written_by_todays_name_now_is_not_lost():
    now = table(a=["account", "x"], b=["account", "x"], c=["account", "x"], d=["account", "x"])
    assert exchanges(now, STORED, {"x"}, {"login": "account"}) == {}
    assert exchanges(now, STORED, {"x"}, {})["x"].old == "login"
