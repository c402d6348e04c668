"""What policies asked about: counted by hand, written and read again."""

import io

import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver
from rich.console import Console

from emoc_tf.records.queried import QUERIED, QUERIED_COLUMNS
from emoc_tf.records.run_record import read_run
from emoc_tf.storage import csv_files
from tests import benchmark
from tests.records.written import write


@pytest.fixture(scope="module")
def asked():
    return benchmark("asked")


def lines(*said):
    """Lines of queried.csv for (step, kind, class, taken_back)."""
    told = ("step", "kind", "class_name", "taken_back")
    return [
        dict.fromkeys(QUERIED_COLUMNS, "") | dict(zip(told, map(str, row), strict=True))
        for row in said
    ]


SAID = lines(
    (1, "query", "cat", 0), (1, "query", "cat", 0), (1, "query", "dog", 0), (1, "query", "", 0),
    (2, "query", "cat", 0), (2, "query", "owl, barn", 0), (2, "query", "dog", 1),
    (2, "correction", "dog", 0), (0, "audit", "dog", 0),
)  # fmt: skip


def test_classes_are_counted_as_by_hand(asked, tmp_path):
    run = asked.Asked.of("here", read_run(write(tmp_path, "emoc", 3).path), SAID)
    assert (run.policy, run.seed) == ("emoc", 3)
    assert run.counts == {"cat": 3, "dog": 1, "owl, barn": 1}
    assert run.classes_in_a_set == 2
    assert run.largest_share == pytest.approx((2 / 3 + 1 / 2) / 2)
    entropy = -(0.6 * np.log(0.6) + 2 * 0.2 * np.log(0.2))
    assert run.effective_classes == pytest.approx(np.exp(entropy))


def test_classes_that_are_asked_about_alike_all_count(asked, tmp_path):
    alike = lines(*((step, "query", name, 0) for step in (1, 2) for name in "abcd"))
    run = asked.Asked.of("here", read_run(write(tmp_path, "random", 0).path), alike)
    assert run.effective_classes == pytest.approx(4)


def test_accuracy_after_names_goes_along_the_steps(asked, tmp_path):
    """Two names in each of two steps, accuracies 0.4, 0.5 and 0.7."""
    run = asked.Asked.of("here", read_run(write(tmp_path, "random", 0).path), SAID)
    assert run.classes == [2, 2]
    found = [run.accuracy_after(names) for names in (0, 1, 2, 3, 4)]
    assert found == pytest.approx([0.4, 0.45, 0.5, 0.6, 0.7])
    assert np.isnan(run.accuracy_after(5))


def test_a_folder_is_counted_written_and_read_again(asked, tmp_path, capsys):
    folder = tmp_path / "mixed sets"
    for seed in (0, 1):
        write(folder, "random", seed)
    rows = [QUERIED_COLUMNS, *([line[name] for name in QUERIED_COLUMNS] for line in SAID)]
    (folder / "random" / "1" / QUERIED).write_text(csv_files.text(rows))
    (run,), without = asked.of_folder(folder)
    assert (run.setting, run.policy, run.seed, without) == ("mixed sets", "random", 1, 1)
    kept = tmp_path / "asked.csv"
    kept.write_text(csv_files.text(asked.to_rows([run])))
    (again,) = asked.of_file(kept)
    assert again.counts == run.counts
    assert again.largest_share == pytest.approx(run.largest_share, abs=1e-6)
    printed = io.StringIO()
    Console(file=printed, width=200).print(asked.table([again], 2, [2, 5]))
    (row,) = [line.split() for line in printed.getvalue().splitlines() if " random " in line]
    told = ["random", "1", "2.0", "0.58", "2.6", "0.80", "0.500", "–", "cat,", "dog:", "0.80"]
    assert row == told


def test_runs_that_prefer_other_classes_each_are_told_apart_from_all_together(asked):
    runs = [
        asked.Asked("here", "novel", seed, 0.5, [2], [0.4, 0.5], {name: 3, "d": 1})
        for seed, name in enumerate("abc")
    ]
    printed = io.StringIO()
    Console(file=printed, width=200).print(asked.table(runs, 1))
    (row,) = [line.split() for line in printed.getvalue().splitlines() if " novel " in line]
    assert (row[5], row[-1]) == ("0.75", "0.25")


def test_runs_are_not_counted_twice(asked, tmp_path):
    """Of two folders of one name the policies would be taken for one."""
    flags.FLAGS.mark_as_parsed()
    rows = [QUERIED_COLUMNS, *([line[name] for name in QUERIED_COLUMNS] for line in SAID)]
    for place in ("a", "b"):
        path = write(tmp_path / place / "runs", "random", 0).path
        (path / QUERIED).write_text(csv_files.text(rows))
    with pytest.raises(app.UsageError, match="expected runs of its own, got runs/random/0 again"):
        asked.main(["asked", str(tmp_path / "a" / "runs"), str(tmp_path / "b" / "runs")])


def test_what_cannot_be_counted_is_refused(asked, tmp_path):
    flags.FLAGS.mark_as_parsed()
    with pytest.raises(ValueError, match="here/emoc/3: expected an image with a class"):
        run = read_run(write(tmp_path, "emoc", 3).path)
        asked.Asked.of("here", run, lines((1, "query", "", 0)))
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(app.UsageError, match="expected a file that --counts wrote"):
        asked.main(["asked", str(other)])
    with pytest.raises(app.UsageError, match="nothing"):
        asked.main(["asked", str(tmp_path / "nothing")])


def test_some_initialisations(asked, tmp_path, capsys):
    """Others are neither shown nor written."""
    given, kept = tmp_path / "given.csv", tmp_path / "kept.csv"
    runs = [asked.Asked("here", "emoc", seed, 0.5, [2], [0.4, 0.5], {"a": 1}) for seed in range(4)]
    given.write_text(csv_files.text(asked.to_rows(runs)))
    with flagsaver.as_parsed(only_seeds="1-2", counts=str(kept)):
        asked.main(["asked", str(given)])
    assert [run.seed for run in asked.of_file(kept)] == [1, 2]
    with flagsaver.as_parsed(only_seeds="9"), pytest.raises(app.UsageError, match="only_seeds: "):
        asked.main(["asked", str(given)])
