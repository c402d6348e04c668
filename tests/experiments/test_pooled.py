"""Runs of several folders of one protocol, as far as the shortest went."""

import io

import pytest
from rich.console import Console

from tests import benchmark
from tests.records.written import CONFIG, write


@pytest.fixture(scope="module")
def pooled():
    return benchmark("pooled")


def test_steps_are_rows_and_early_ends_count_for_all(tmp_path, pooled):
    config = CONFIG.replace(max_steps=4)
    for seed, part in enumerate(("one", "two")):
        for agent, ahead in (("random", 0.0), ("emoc:references=9", 0.1)):
            accuracies = (0.4, 0.5 + ahead, 0.6 + ahead, 0.7, 0.9)
            write(tmp_path / part, agent, seed, config, accuracies=accuracies, rows=5)
    write(tmp_path / "two", "random", 7, config, rows=3).finish("right=2")
    runs = pooled.pooled([str(tmp_path / "one"), str(tmp_path / "two")])
    assert len(runs) == 5
    (table,) = pooled._steps(runs, "random")
    printed = io.StringIO()
    Console(file=printed, width=80).print(table)
    rows = [line.split() for line in printed.getvalue().splitlines()[3:]]
    assert [row for row in rows if row] == [["0", "0.000"], ["1", "+0.100"], ["2", "+0.100"]]
