"""Reliability and expected calibration error, against values by hand."""

import numpy as np
import pytest

from longtail.calibration import ALL, reliability, reliability_by_group
from longtail.labels import LabelGroups

P = np.array([0.05, 0.12, 0.18, 0.55, 0.58, 0.95, 1.0])
Y = np.array([False, False, True, True, False, True, True])


def test_by_hand():
    found = reliability(Y, P)
    assert found.cells == (1, 2, 2, 2)
    assert found.probability == pytest.approx((0.05, 0.15, 0.565, 0.975))
    assert found.share == (0.0, 0.5, 0.5, 1.0)
    assert found.error == pytest.approx((0.05 + 2 * 0.35 + 2 * 0.065 + 2 * 0.025) / 7)


def test_two_bins():
    found = reliability(Y, P, bins=2)
    assert found.cells == (3, 4)
    assert found.share == (pytest.approx(1 / 3), 0.75)
    mean = ((0.35 / 3), (3.08 / 4))
    assert found.probability == pytest.approx(mean)
    assert found.error == pytest.approx((3 * (1 / 3 - mean[0]) + 4 * (mean[1] - 0.75)) / 7)


def test_hardly_possible_cells_are_left_out():
    with_many = reliability(np.append(Y, [False] * 50), np.append(P, [0.0099] * 50))
    assert with_many == reliability(Y, P)
    assert reliability(Y[:1], np.array([0.01])).cells == (1,)


def test_without_a_cell_there_is_no_error():
    found = reliability(np.zeros(3, bool), np.zeros(3))
    assert found.cells == ()
    assert np.isnan(found.error)
    assert found.to_json() == {"probability": [], "share": [], "cells": [], "error": None}


def test_frequencies_have_no_error_and_boasts_have():
    random = np.random.default_rng(0)
    p = random.random(200_000)
    y = random.random(200_000) < p
    assert reliability(y, p).error < 0.005
    assert reliability(y, np.sqrt(p)).error == pytest.approx(1 / 6, abs=0.01)
    assert reliability(y, p.astype(np.float32)).error < 0.005


def test_by_group_and_only_what_is_known():
    groups = LabelGroups(("HEAD", "TAIL", "HEAD"), (9, 1, 8), (3, 6))
    y = np.array([[1, 0, 1], [0, 1, 0]], dtype=bool)
    p = np.array([[0.9, 0.2, 0.8], [0.3, 0.6, 0.1]])
    found = reliability_by_group(y, p, groups)
    assert found["TAIL"].error == pytest.approx(0.3)
    assert found["HEAD"].error == pytest.approx((0.1 + 0.2 + 0.3 + 0.1) / 4)
    assert found["MEDIUM"].cells == ()
    assert sum(found[ALL].cells) == 6
    known = np.array([[1, 0, 1], [1, 1, 1]], dtype=bool)
    spoilt = np.where(known, y, ~y)
    masked = reliability_by_group(spoilt, p, groups, known)
    assert masked["TAIL"].error == pytest.approx(0.4)
    assert masked["HEAD"] == found["HEAD"]
