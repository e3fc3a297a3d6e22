"""The verdict as Markdown: reasons, rules and the ladder."""

from __future__ import annotations

import pytest

from longtail.gate import Estimate, LadderStep, RuleResult, Verdict
from tasks.gate import verdict_markdown

RULE = RuleResult(
    name="bce_micro_f1", passed=False, severity="block", value=-0.01, threshold=0.0, detail="a|b"
)


def step(name, value, gain):
    share = Estimate(value=value, low=value - 0.02, high=value + 0.02)
    return LadderStep(
        key="k", name=name, micro_f1=share, macro_f1=share, label_coverage=share,
        gain_micro_f1=gain,
    )  # fmt: skip


@pytest.fixture
def verdict():
    gain = Estimate(value=0.1, low=-0.005, high=0.205)
    return Verdict(
        decision="block", first_release=True, champion_mode="refresh", reasons=("No gain.",),
        looks=1, rules=(RULE,), policy={}, arms={},
        ladder=(step("BERT | BCE", 0.5, None), step("tuned thresholds", 0.6, gain)),
    )  # fmt: skip


def test_the_ladder_is_a_table_below_the_rules(verdict):
    page = verdict_markdown(verdict, "desk: BLOCKED", "A paragraph.")
    lines = page.splitlines()
    assert lines[0] == "# desk: BLOCKED"
    assert lines.index("A paragraph.") < lines.index("- No gain.")
    assert "| bce_micro_f1 | **no** | block | -0.01 | 0 | a\\|b |" in lines
    share = "50.0 % (48.0 to 52.0)"
    first = f"| BERT \\| BCE | {share} | {share} | {share} | – |"
    assert lines.index("## Where the gain comes from") < lines.index(first)
    assert lines[-1].startswith("| tuned thresholds | 60.0 % (58.0 to 62.0) |")
    assert lines[-1].endswith("| +10.00 pt (-0.50 to +20.50) |")


def test_without_a_ladder_there_is_no_heading_for_it(verdict):
    bare = verdict.model_copy(update={"ladder": ()})
    page = verdict_markdown(bare, "desk: BLOCKED")
    assert "Where the gain comes from" not in page
    assert page.endswith(" |\n")
