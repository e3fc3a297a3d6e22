"""The suites' rules judged in plain NumPy: what Great Expectations must agree with."""

from __future__ import annotations

import numpy as np

from data_contracts.expectations import Finding


class PlainValidation:
    """As data_contracts.expectations.Validation, without Great Expectations."""

    def __init__(self, suite):
        self.suite = suite

    def check(self, frame, name=None):
        return validate_plainly(frame, self.suite)


def validate_plainly(frame, suite):
    """The rules that do not hold, by row."""
    findings = []
    for rule in suite.rules:
        values = frame[rule.column].to_numpy(dtype=float)
        low = -np.inf if rule.minimum is None else rule.minimum
        high = np.inf if rule.maximum is None else rule.maximum
        broken = ~np.isnan(values) & ~((values >= low) & (values <= high))
        if broken.any():
            findings.append(Finding(rule, tuple(np.flatnonzero(broken).tolist())))
    return findings
