"""Shares of the headroom, shown."""

import dataclasses

import numpy as np
from rich.console import Console

from emoc_tf.analysis.headroom import BEST, CHANCE, LUCKIEST, Share
from emoc_tf.report import headroom

NAN = float("nan")
ROWS = [
    Share(agent, update, 6, 2, 12.0, share, low, high, 0.0123 * share, 3.25)
    for update in (False, True)
    for agent, share, low, high in (
        (CHANCE, 0.0, NAN, NAN), ("emoc", 0.5, 0.25, 0.75), ("my own: $x$", -0.5, NAN, NAN),
        (BEST, 1.0, NAN, NAN), (LUCKIEST, 1.5, 1.25, 2.0),
    )
]  # fmt: skip


def test_each_policy_has_its_share_gain_and_rank_in_80_characters():
    console = Console(record=True, width=80)
    console.print(headroom.table(ROWS))
    lines = console.export_text().splitlines()
    (first, second) = (line for line in lines if line.split()[:1] == ["emoc"])
    expected = ["emoc", "0.50", "[0.25,", "0.75]", "+0.0062", "3.2"]
    assert first.split() == second.split() == expected
    assert sum("−0.50 " in line and "[" not in line for line in lines) == 2
    assert sum("states: 6 of 2 seeds" in line for line in lines) == 2


def test_the_figure_has_a_panel_a_way_and_a_row_a_policy():
    for rows, count in ((ROWS, 2), (ROWS[:5], 1)):
        figure = headroom.draw(rows)
        assert len(figure.axes) == count
        texts = [text.get_text() for text in figure.axes[0].get_yticklabels()]  # shared by all
        assert texts == ["EMOC", "emoc", "policies of your own", r"my own: \$x\$"]
        for axes in figure.axes:
            points = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 1]
            assert {float(x[0]) for x in points} >= {0.5, -0.5}
        assert "6 states of 2 initialisations, 12 sets each" in figure.axes[0].get_title()


def test_the_csv_has_every_number():
    header, *rows = headroom.to_rows(ROWS)
    assert header == [field.name for field in dataclasses.fields(Share)]
    assert rows[1] == [getattr(ROWS[1], name) for name in header]
    assert np.isnan(rows[0][header.index("low")])


def test_both_ways_are_compared_in_words():
    line = headroom.agreement_line(0.456, -0.1, 0.8, 24)
    assert line.endswith("over the 24 sets that were learnt in both ways: 0.46 [−0.10, 0.80]")
