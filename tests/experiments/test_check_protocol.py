"""The check of the protocol's records must see what it is for."""

import numpy as np
import pytest

from emoc_tf import ExplorationConfig
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.records.run_folder import RunFolder
from tests import benchmark

CONFIG = ExplorationConfig(max_steps=2)
GOOD = [(0.40, 0.80, 0, (0.8, 0.0)), (0.45, 0.78, 0, (0.8, 0.0)), (0.50, 0.75, 1, (0.8, 0.3))]


@pytest.fixture(scope="module")
def checker():
    return benchmark("check_protocol")


def write(path, agent, rows):
    folder = RunFolder(path, agent, 0, CONFIG)
    folder.claim()
    folder.start((4, 2))
    for step, (accuracy, known, found, recall) in enumerate(rows):
        first = step == 0
        outcome = StepOutcome(
            step, 40 + step, accuracy, known, 0.0, found, None if first else 1,
            None if first else 2, np.array(recall),
        )  # fmt: skip
        folder.write_step(outcome, None if first else 0.1, {})


def changed(row, **values):
    rows = [list(each) for each in GOOD]
    for index, value in values.items():
        rows[row][["accuracy", "known", "found", "recall"].index(index)] = value
    return rows


@pytest.mark.parametrize(
    ("agent", "rows", "holds"),
    [
        ("emoc", GOOD, True),
        ("emoc", changed(0, accuracy=0.41), False),  # another start than random's
        ("emoc", changed(2, recall=(0.8, 0.0)), True),  # two of three are most
        ("emoc", changed(2, accuracy=0.39), False),
        ("emoc", changed(2, found=0), False),
        ("max", changed(2, found=0), True),
        ("emoc", changed(1, known=0.69), False),
    ],
)
def test_findings(checker, tmp_path, agent, rows, holds):
    write(tmp_path, "random", GOOD)
    write(tmp_path, "min", GOOD)
    write(tmp_path, agent, rows)
    assert checker.check(str(tmp_path), 0.10) is holds


def test_classes_that_are_not_recognised_are_seen(checker, tmp_path):
    write(tmp_path, "random", changed(2, recall=(0.8, 0.0)))
    write(tmp_path, "min", GOOD)
    assert not checker.check(str(tmp_path), 0.10)  # one of two is not most


def test_no_finished_run(checker, tmp_path):
    write(tmp_path, "random", GOOD[:2])
    with pytest.raises(ValueError, match="expected a finished run"):
        checker.check(str(tmp_path), 0.10)
