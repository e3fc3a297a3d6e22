"""The gate: a pure function from evaluations and a policy to a verdict.

It fails closed: whatever cannot be checked counts as failed, and only a verdict whose blocking
rules have all passed promotes. docs/reference/gate.md lists the rules.
"""

from __future__ import annotations

from longtail.gate.decision import decide
from longtail.gate.inputs import GateInputs, LeakCheck
from longtail.gate.ladder import Estimate, LadderStep, climb
from longtail.gate.verdict import (
    APPROVED_RULE,
    Approval,
    Override,
    RuleResult,
    Verdict,
    approve,
    disapprove,
    override,
    reject,
    with_rule,
)

__all__ = [
    "APPROVED_RULE",
    "Approval",
    "Estimate",
    "GateInputs",
    "LadderStep",
    "LeakCheck",
    "Override",
    "RuleResult",
    "Verdict",
    "approve",
    "climb",
    "decide",
    "disapprove",
    "override",
    "reject",
    "with_rule",
]
