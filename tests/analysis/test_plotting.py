import sys

import pytest

from tse_refine.analysis.plotting import add_legend, new_figure, numbered_style, refinement_styles
from tse_refine.errors import InputError
from tse_refine.refinement import parse_refinements

RULES = ["none", *(0.1 * step for step in range(1, 7)), "soft:0.1-0.3", "soft:0.2-0.6", "oracle", "gate"]


def test_refinements_of_one_figure_look_different():
    styles = refinement_styles(parse_refinements(RULES, "rules"))
    assert len(styles) == len(RULES)
    looks = {(style["color"], style.get("linestyle", "-"), style["marker"]) for style in styles.values()}
    assert len(looks) == len(RULES)
    assert {styles[name]["linestyle"] for name in ("soft:0.1-0.3", "soft:0.2-0.6")} == {"-."}


def test_a_refinement_has_one_style_in_all_panels():
    rules = parse_refinements(RULES, "rules")
    assert refinement_styles([*rules, *rules]) == refinement_styles(rules)


def test_methods_differ_in_colour_marker_and_line_without_an_end_to_the_list():
    assert len({tuple(numbered_style(number).values()) for number in range(28)}) == 28


def test_a_long_legend_stands_beside_its_panel():
    figure, panel = new_figure(6.0, 4.0)
    for number in range(7):
        panel.plot([0, 1], label=str(number))
    add_legend(panel)
    assert figure.get_figwidth() == pytest.approx(1.35 * 6.0)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"tse-refine\[report\]"):
        new_figure(6.0, 4.0)
