"""The figures: well-formed, escaped, to scale, legible in light and in dark."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from longtail.plots import (
    Axis,
    Bar,
    Block,
    Box,
    Figure,
    Mark,
    Panel,
    Point,
    Rank,
    Series,
    bar_panel,
    box_panel,
    inline,
    line_panel,
    matrix_panel,
    rank_panel,
    scatter_panel,
    standalone,
)
from longtail.plots.canvas import WIDTH, Scale, clean, shorten
from longtail.plots.theme import DARK, FIGURE_CSS, LIGHT, resolved, standalone_css

HOSTILE = "<script>alert(1)</script>&\"'\x00\x0b]]>"
SVG = "{http://www.w3.org/2000/svg}"


def panels(name: str) -> list[Panel]:
    x = Axis(name, 0.0, 1.0, str)
    return [
        bar_panel(name, [Block(name, (Bar(name, 0.5, name, "bce"),))], 1.0, name),
        line_panel(name, [Series(name, [0.0, 1.0], [0.2, 0.4], "s-ink")], x, x, [Mark(0.3, name)]),
        box_panel(name, [Box(name, [1, 2, 3])], name),
        rank_panel(name, [Rank(9, name), Rank(1, "")], name),
        matrix_panel(name, [name, name], [[1.0, None], [0.0, 0.5]], [[name] * 2] * 2, name),
        matrix_panel(name, [name] * 9, [[0.1] * 9] * 9, [[name] * 9] * 9, name),
        scatter_panel(name, [Point(name, 3, 0.1)], name, name),
    ]


def elements(svg: str, tag: str, css: str | None = None) -> list[ET.Element]:
    root = ET.fromstring(svg.replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))
    found = root.iter(f"{SVG}{tag}")
    return [e for e in found if css is None or css in (e.get("class") or "").split()]


@pytest.mark.parametrize("number", range(7))
def test_hostile_names_stay_text(number: int) -> None:
    svg = inline(panels(HOSTILE)[number])
    assert "<script" not in svg
    assert not elements(svg, "script")
    assert any("<script>" in "".join(e.itertext()) for e in elements(svg, "title"))


def test_a_stand_alone_figure_is_a_whole_document_with_its_own_ground() -> None:
    svg = standalone(Figure("f", HOSTILE, tuple(panels(HOSTILE)), columns=2))
    root = ET.fromstring(svg)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert width >= 2 * WIDTH
    assert height > sum(p.height for p in panels(HOSTILE)) / 2
    assert root.find(f"{SVG}rect").get("class") == "over"
    assert "var(" not in svg
    assert "prefers-color-scheme:dark" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_bars_are_to_scale_and_a_missing_value_has_none() -> None:
    bars = (Bar("a", 0.25, "25", "bce"), Bar("b", 0.5, "50", "linear"), Bar("c", None, "–", "ink"))
    svg = inline(bar_panel("t", [Block("", bars)], 0.5))
    quarter, half = elements(svg, "rect", "f-bce"), elements(svg, "rect", "f-linear")
    track = elements(svg, "rect", "track")
    assert float(half[0].get("width")) == pytest.approx(2 * float(quarter[0].get("width")), abs=0.2)
    assert half[0].get("width") == track[1].get("width")
    assert not elements(svg, "rect", "f-ink")


def test_a_missing_point_breaks_the_curve() -> None:
    x = Axis("x", 0.0, 3.0, str)
    y = Axis("y", 0.0, 1.0, str)
    curve = Series("s", [0, 1, 2, 3], [0.1, 0.2, None, 0.4], "s-bce")
    path = elements(inline(line_panel("t", [curve], x, y)), "path", "s-bce")[-1].get("d")
    assert path.count("M") == 2
    assert path.count("L") == 1


def test_a_curve_of_one_point_is_a_dot() -> None:
    axis = Axis("epoch", 0.0, 1.0, str)
    svg = inline(line_panel("t", [Series("s", [1.0], [0.5], "s-bce")], axis, axis))
    assert len(elements(svg, "circle", "f-bce")) == 1


def test_marks_stand_at_their_threshold_and_do_not_overlap() -> None:
    axis = Axis("threshold", 0.0, 1.0, str)
    series = [Series("F1", [0.0, 1.0], [0.0, 1.0], "s-ink")]
    marks = [Mark(0.5, "HEAD 0.500"), Mark(0.51, "TAIL 0.510")]
    svg = inline(line_panel("t", series, axis, axis, marks))
    lines = [e.get("d") for e in elements(svg, "path", "mark")]
    at = [float(re.match(r"M([\d.]+)", d)[1]) for d in lines]
    assert at[1] - at[0] == pytest.approx((WIDTH - 52) * 0.01, abs=0.15)
    rows = [float(e.get("y")) for e in elements(svg, "text", "m") if "0.5" in (e.text or "")]
    assert rows[1] - rows[0] >= 11


def test_boxes_show_the_quartiles_in_words_too() -> None:
    panel = box_panel("t", [Box("HEAD", [1, 2, 3, 4, 5]), Box("ZERO", [])], "x")
    assert "HEAD: 5 labels, median 3, quartiles 2 to 4, range 1 to 5" in panel.description
    assert "ZERO: no labels" in panel.description
    assert len(elements(inline(panel), "rect", "box")) == 1


def test_a_thousand_labels_stay_small_and_legible() -> None:
    ranks = [
        Rank(int(5000 / (i + 1)) + 1, ("HEAD", "MEDIUM", "TAIL")[i // 334]) for i in range(1000)
    ]
    svg = inline(rank_panel("t", ranks, "texts"))
    assert len(svg) < 30_000
    assert len(elements(svg, "text")) < 20
    assert len(elements(svg, "path", "cell")) == 3


def test_the_matrix_prints_few_cells_and_explains_many() -> None:
    few = matrix_panel("t", list("abc"), [[0.1] * 3] * 3, [["1", "2", "3"]] * 3)
    many = matrix_panel("t", ["l"] * 20, [[0.1] * 20] * 20, [["7 texts"] * 20] * 20)
    assert sum(e.text == "2" for e in elements(inline(few), "text")) == 3
    assert len(elements(inline(many), "text")) <= 22
    assert sum(e.text == "7 texts" for e in elements(inline(many), "title")) == 400


def test_gains_and_losses_differ_in_shape_not_only_in_colour() -> None:
    points = [Point("up", 3, 0.2), Point("down", 5, -0.4), Point("same", 0, 0.0)]
    panel = scatter_panel("t", points, "x", "y")
    up, down, same = elements(inline(panel), "circle")
    assert down.get("fill") == "none"
    assert float(up.get("cy")) < float(same.get("cy")) < float(down.get("cy"))
    assert panel.description == "1 labels better, 1 worse, 1 the same."


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [
        (0, 1, False),
        (0, 7, False),
        (0, 1000, True),
        (3, 40, True),
        (2, 2, False),
        (0, 0.21, False),
    ],
)
def test_ticks_are_few_and_inside_the_range(low: float, high: float, log: bool) -> None:
    ticks = Scale(low, high, 0, 100, log=log).ticks()
    assert 1 <= len(ticks) <= 8
    assert all(low <= tick <= high + 1e-9 for tick in ticks)
    assert all(b > a for a, b in pairwise(ticks))


def test_a_scale_keeps_values_inside_its_pixels() -> None:
    scale = Scale(0, 10, 100, 0)
    assert (scale(0), scale(10), scale(99), scale(-5)) == (100, 0, 0, 100)
    assert Scale(5, 5, 0, 100)(5) == 0


def test_text_is_cut_with_an_ellipsis_and_cleaned_for_xml() -> None:
    assert shorten("a" * 50, 60).endswith("…")
    assert shorten("short", 60) == "short"
    assert clean("a\x00<b>") == "a\ufffd&lt;b&gt;"


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_have_contrast(palette: dict[str, str]) -> None:
    for name in ("ink", "muted", "good", "bad", "warn"):
        assert contrast(palette[name], palette["paper"]) >= 4.5, name
    for name in ("good", "bad", "warn"):
        assert contrast(palette["ink"], palette[f"{name}-ground"]) >= 7, name
    for name in ("candidate", "bce", "matched", "linear", "champion", "best_champion"):
        assert contrast(palette[name], palette["paper"]) >= 3, name


def test_both_palettes_know_every_colour_of_the_style() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert "var(" not in resolved(FIGURE_CSS, DARK)
    assert LIGHT["bce"] in standalone_css()


def contrast(a: str, b: str) -> float:
    """WCAG 2.2 contrast ratio."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
