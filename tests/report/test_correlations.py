import csv
import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from emoc_tf.analysis import correlations
from emoc_tf.analysis.correlations import AMONG, MEASURES, NOVEL, Correlation
from emoc_tf.report.correlations import draw, table, to_rows

RESULTS = Path(__file__).parents[2] / "results"
# Those of a run with many scores.
MANY = (
    "emoc", "emoc-expected", "emoc:labels=joint", "emoc:output=softmax", "emoc-new",
    "emoc-new:new_unit=1", "lookahead", "lookahead:kernel=pntk", "lookahead:score=flips",
    "gp-emoc", "egl", "egl:labels=joint", "min", "1-vs-2", "max", "entropy", "set-entropy",
    "p-wrong", "novel", "bait", "bald", "badge", "herding", "herding:weights=margin", "core-set",
)  # fmt: skip


def made(scores, rng=None):
    """Correlations of some scores as a run finds them."""
    rng, found = rng or np.random.default_rng(0), []
    for label, count in ((False, 0), (False, 1000), (True, 1), (True, 1000)):
        for measure, among in itertools.product(list(MEASURES)[: 3 if count else 2], AMONG):
            for score in [*scores, *([NOVEL] if among == "all" else [])]:
                rho = rng.uniform(-0.6, 0.6)
                numbers = rho, rho - 0.3, rho + 0.3, rho - 0.2, rho + 0.2, 0.5
                found.append(Correlation(score, among, measure, label, count, 4, 99, *numbers))
    return found


@pytest.mark.parametrize("name", ["true-change", "true-change-paper"])
def test_what_was_published_is_made_again(name):
    found = correlations.read(RESULTS / name / "changes.csv", 10)
    published = csv.DictReader((RESULTS / name / "correlations.csv").read_text().splitlines())
    head, *rows = to_rows(found)
    for row, was in zip(rows, published, strict=True):
        assert list(map(str, row[:5])) == [was[column] for column in head[:5]]
        assert row[5:] == pytest.approx([float(was[c]) for c in head[5:]], nan_ok=True)
    figure = draw(found)
    assert len(figure.axes) == 6
    assert tuple(figure.get_size_inches()) == (12, 6.4)


def printed(shown):
    console = Console(record=True, width=80)
    console.print(shown)
    return console.export_text()


def test_long_names_of_many_scores_are_printed_whole():
    text = printed(table(made(MANY)))
    assert max(map(len, text.splitlines())) <= 80
    words = [line.split()[0] for line in text.splitlines() if line.strip()]
    for score in (*MANY, NOVEL):
        assert words.count(score) == 2 * 1 + 3 * 3, score
    lines = text.splitlines()
    (start,) = (i for i, line in enumerate(lines) if "own, true label, 1000" in line)
    section = [line.split()[0] for line in lines[start + 1 : start + 2 + len(MANY)]]
    assert section.index("min") < section.index("emoc") < section.index("emoc:labels=joint")
    assert section[-1] == NOVEL
    (row,) = (
        row
        for row in made(MANY)
        if (row.score, row.among, row.measure, row.true_label, row.iterations)
        == ("badge", "all", "own_change", True, 1000)
    )
    numbers = f"{row.rho:.2f} [{row.low:.2f}, {row.high:.2f}]".replace("-", "−")
    assert numbers in lines[start + 1 + section.index("badge")]


def test_many_scores_have_a_row_each_by_family():
    found = made(MANY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(found)
        figure.draw_without_rendering()
    known, novel, gain = figure.axes
    labels = [label.get_text() for label in known.get_yticklabels()]
    assert set(MANY) < set(labels)
    assert labels[0] == "uncertainty"
    assert labels[-2:] == ["no policy", NOVEL]
    assert labels.index("EMOC") + 1 == labels.index("emoc") < labels.index("retraining")
    for axes, measure, among in (
        (known, "own_change", "known"), (novel, "own_change", "novel"),
        (gain, "accuracy_gain", "all"),
    ):  # fmt: skip
        drawn = {}
        for container in axes.containers:
            ((x, y),) = container.lines[0].get_xydata()
            (bar,) = container.lines[2][0].get_segments()
            drawn[labels[round(y)]] = (*bar[:1, 0], x, *bar[1:, 0])
        expected = {
            row.score: pytest.approx((row.low, row.rho, row.high))
            for row in found
            if (row.among, row.measure, row.true_label, row.iterations)
            == (among, measure, True, 1000)
        }
        assert drawn == expected
    sizes = [label.get_window_extent() for label in known.get_yticklabels()]
    assert all(a.y0 >= b.y1 - 1 for a, b in itertools.pairwise(sizes))  # none over another
    assert min(size.x0 for size in sizes) >= 0
    assert figure.get_size_inches().max() < 12


@pytest.mark.parametrize("count", [7, 8])
def test_few_scores_stay_as_they_were_drawn(count):
    figure = draw(made(MANY[:count]))
    assert len(figure.axes) == (6 if count == 7 else 3)  # the share of novel images is one more


def test_many_scores_are_drawn_before_there_are_numbers():
    nan = (float("nan"),) * 6
    found = [
        Correlation(score, among, measure, label, 1000, 0, 0, *nan)
        for score in MANY
        for among in AMONG
        for measure in MEASURES
        for label in (False, True)
    ]
    for rows in (found, [row for row in found if not row.true_label]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = draw(rows)
            figure.draw_without_rendering()
        assert len(figure.axes) == 3
        assert max(map(len, printed(table(rows)).splitlines())) <= 80
