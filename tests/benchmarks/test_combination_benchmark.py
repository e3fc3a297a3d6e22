"""The benchmark of the combination reads what a comparison leaves behind."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def modules():
    """The benchmark and the tiny comparison; neither is in a package."""
    added = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "tasks")]
    sys.path[:0] = added
    try:
        yield tuple(importlib.import_module(name) for name in ("combination", "cells_case"))
    finally:
        for path in added:
            sys.path.remove(path)


@pytest.fixture(scope="module")
def comparison(modules, tmp_path_factory):
    root = tmp_path_factory.mktemp("comparison")
    desk = root / "data" / "desk"
    modules[1].train(modules[1].prepare(desk / "key"), desk)
    return root


def rows(said):
    """Cells of every table line by what the line is about."""
    lines = [line.split(" | ") for line in said.splitlines() if line.startswith("| desk")]
    return {name: cells for _, name, *cells in lines}


def test_it_prints_sources_sums_learned_models_and_sizes(modules, comparison, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["combination.py", str(comparison)])
    monkeypatch.setattr(modules[0], "SIZES", (15,))
    modules[0].main()

    found = rows(capsys.readouterr().out)
    sources = ("encoder", "bce", "linear", "neighbours", "names", "name_words")
    assert list(found) == [
        *(f"{name} alone" for name in sources),
        "sum of encoder, linear", "sum of encoder, linear, neighbours",
        "sum of encoder, linear, neighbours, names, name_words",
        "sum of encoder, linear, neighbours, names, name_words, bce",
        "learned", "learned, without co-occurrence",
        *(f"learned, without {name}" for name in sources),
        "15, weighted sum", "15, learned", "30, weighted sum", "30, learned",
    ]  # fmt: skip
    for cells in found.values():
        assert all(0 <= float(cell) <= 100 for cell in cells[:5])
    assert float(found["learned"][-1].strip(" |")) > float(
        found["30, weighted sum"][-1].strip(" |")
    )


def test_a_seed_that_was_not_trained_gives_no_row(modules, comparison, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["combination.py", str(comparison), "--seeds", "7"])
    modules[0].main()

    assert rows(capsys.readouterr().out) == {}


def test_another_directory_is_refused(modules, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["combination.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="neither a finished run nor a comparison"):
        modules[0].main()
