import dataclasses

import numpy as np
import pytest
from rich.console import Console

from emoc_tf.analysis import gate, novelty
from emoc_tf.report.gate import gate_table, novelty_rows, novelty_table
from emoc_tf.report.tables import number
from tests.report.test_correlations import MANY, made


def printed(shown):
    console = Console(record=True, width=80)
    console.print(shown)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    return {line.split()[0]: line for line in text.splitlines() if line.strip()}


def test_the_gate_of_many_scores_fits():
    found = gate.gates(made(MANY))
    lines = printed(gate_table(found))
    assert set(MANY) <= set(lines)
    assert [name for name in lines if name in ("emoc:labels=joint", "emoc", "min")] == [
        "min", "emoc", "emoc:labels=joint",
    ]  # fmt: skip
    for row in found:
        # Three digits: 0.498 does not pass and is not to look as if it should.
        for rho, end in ((row.known_rho, row.known_low), (row.novel_rho, row.novel_low)):
            assert f"{number(rho, 3)} [{number(end, 2)}, " in lines[row.score]
        assert lines[row.score].split()[-1] == ("yes" if row.passes else "no")
    assert 0 < sum(row.passes for row in found) < len(found)


def test_what_is_unknown_is_no_answer():
    (row,) = gate.gates(made(["emoc"]))
    nan = float("nan")
    row = dataclasses.replace(row, novel_rho=nan, novel_low=nan, novel_high=nan, total=nan)
    assert printed(gate_table([row]))["emoc"].split()[-3:] == ["–", "–", "–"]


@pytest.mark.parametrize("models", [0, 1, 4, 12])
def test_areas_of_many_scores_fit(models):
    rng = np.random.default_rng(0)
    areas = [dict(enumerate(rng.random(models), 3)) for _ in MANY]
    numbers = (0.61, 0.5, 0.7, 0.25, 0.8) if models else (float("nan"),) * 5
    found = [
        novelty.Novelty(score, models, 9, 8, *numbers, own)
        for score, own in zip(MANY, areas, strict=True)
    ]
    lines = printed(novelty_table(found))
    assert set(MANY) <= set(lines)
    expected = "0.61 [0.50, 0.70] 0.25 to 0.80" if models else "– – to –"
    assert expected in " ".join(lines["egl:labels=joint"].split())
    head, *rows = novelty_rows(found)
    assert head == [
        "score", "models", "known_sets", "novel_sets", "area", "low", "high", "least", "greatest",
        *(f"area_{seed}" for seed in areas[0]),
    ]  # fmt: skip
    assert len(rows) == len(MANY)
    assert dict(zip(head[9:], rows[2][9:], strict=True)) == {
        f"area_{seed}": area for seed, area in areas[2].items()
    }
    assert rows[2][:5] == [MANY[2], models, 9, 8, pytest.approx(numbers[0], nan_ok=True)]


def test_of_no_scores_only_a_heading_is_written():
    assert len(novelty_rows([])) == 1
