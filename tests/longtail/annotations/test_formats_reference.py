"""The examples of docs/reference/formats.md are read as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from export_case import EXPORTS, read, reasons, used

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "formats.md"
BLOCKS = re.findall(r"```(?:json|csv)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
EXPECTED = [
    [("1", ["pump", "leak"], "7"), ("1", [], "eva@example.org")],
    [("1", ["pump", "leak"], "7"), ("2", ["noise"], "7"), ("3", [], "7")],
    [("1", ["leak", "pump"], None)],
    [("1", ["leak", "pump"], None)],
    [("r1", ["pump", "leak"], "u1")],
    [("42", ["pump", "leak"], "set-ann"), ("43", [], "set-ann")],
    [("42", ["pump", "leak"], None)] * 3,
]


@pytest.mark.parametrize(("block", "expected"), list(zip(BLOCKS, EXPECTED, strict=True)))
def test_an_example_is_read_as_the_page_says(tmp_path, block, expected):
    rows = read(tmp_path, block.encode())
    assert used(rows, ("id", "labels", "annotator")) == expected


def test_every_reason_to_skip_a_row_is_on_the_page(tmp_path):
    page = PAGE.read_text(encoding="utf-8")
    told = {why for data in EXPORTS.values() for _, why in reasons(read(tmp_path, data))}
    assert len(told) >= 9
    for why in told:
        assert re.split("[:;]|doccano does| is '", why)[0] in page
