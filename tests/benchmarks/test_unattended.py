"""The simulated year's summary, without a server."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_benchmark", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


unattended, orchestration = load("unattended"), load("orchestration")


def year(size=lambda week: 0, processes=lambda week: 5, seconds=9.0, **states):
    def state(kind):
        return states.get(kind, {"quiet": "Unchanged", "garbage": ""}.get(kind, "Promoted"))

    kinds = [unattended.kind_of(week) for week in range(1, 53)]
    return [
        unattended.Week(week, kind, state(kind), seconds,
                        {"runs": 10**6 * week, "cache": 10**8 + size(week)}, processes(week),
                        {"server": 3 * 10**8, "worker": 10**8})
        for week, kind in enumerate(kinds, 1)
    ]  # fmt: skip


def test_a_year_brings_what_years_bring():
    kinds = [unattended.kind_of(week) for week in range(1, 53)]
    assert {kinds.count(kind) for kind in ("garbage", "burst")} == {1}
    assert kinds.count("quiet") == 7
    exports = unattended.make_exports(17)
    assert exports[7] == ""
    assert len(exports[17].splitlines()) == unattended.BURST_TEXTS
    ids = [json.loads(line)["id"] for week in (0, 1, 17) for line in exports[week].splitlines()]
    assert len(ids) == len(set(ids))


def test_what_is_kept_by_design_may_grow_steadily():
    weeks = year()
    assert unattended.broken(weeks) == []
    found = {one["series"]: one["verdict"] for one in unattended.verdicts(weeks)}
    assert found == {"runs": "steady", "cache": "flat", "memory of the server": "flat",
                     "memory of the worker": "flat", "processes": "flat"}  # fmt: skip


@pytest.mark.parametrize(
    ("weeks", "said"),
    [
        (year(size=lambda week: 5 * 10**6 * week), "cache grows by"),
        (year(processes=lambda week: 5 + week // 4), "processes grows by"),
        (year(quiet="Blocked"), r"week 7 \(quiet\) ended as 'Blocked'"),
        (year(garbage="Crashed"), r"week 11 \(garbage\) ended as 'Crashed'"),
        (year(seconds=90.0), "week 7, which brought nothing, took 90 s"),
    ],
)
def test_what_a_year_must_not_show_is_told(weeks, said):
    assert re.search(said, "\n".join(unattended.broken(weeks)))


def test_the_table_has_a_line_for_each_week_and_each_series():
    table = unattended.as_markdown(year()).splitlines()
    assert sum(line.startswith("| ") for line in table) == 1 + 52 + 1 + 5
    assert table[-1] == "A week with nothing new: 9.0 s (median)."


def test_the_size_of_a_directory_counts_a_linked_file_once(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert unattended.size_of(tmp_path) == 5


def test_what_no_stage_did_is_the_cost_of_orchestration(tmp_path, capsys):
    lines = [{"stage": "split", "seconds": 30.0}, {"stage": "train-bce", "seconds": 65.0}]
    (tmp_path / "stages.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = ["--run", str(tmp_path)]
    assert orchestration.main([*run, "--seconds", "100"]) == 0
    assert "everything else            5.0 s    5.0%" in capsys.readouterr().out
    assert orchestration.main([*run, "--seconds", "120"]) == 1
    assert orchestration.main([*run, "--limit", "1", "--", sys.executable, "-c", "pass"]) == 0
    with pytest.raises(SystemExit):
        orchestration.main(run)
