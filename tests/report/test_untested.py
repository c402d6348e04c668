"""Reports of runs without test data, and of runs that people stopped when they liked."""

import csv
import warnings
from dataclasses import replace

import numpy as np
import pytest

from emoc_tf.analysis.measures import normalised_area
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.report import plots, tables
from emoc_tf.report.write import write_report
from tests.records.written import CONFIG, outcome


def write(path, agent, seed=0, answers=(), audit=None, accuracy=None):
    """Writes the run of a task: `answers` are the shares of each step that were predicted right."""
    folder = RunFolder(path, agent, seed, CONFIG if audit is None else CONFIG.replace(audit=9))
    folder.claim(task=Fake())
    folder.start((4, 2), tested=accuracy is not None)
    for step, answer in enumerate([None, *answers]):
        found = replace(
            outcome(step, accuracy, step), answer_accuracy=answer, known_accuracy=None,
            novel_accuracy=None, class_recall=np.zeros(0 if accuracy is None else 2),
            labelled=40 if answer is None and step else 40 + 5 * step,
        )  # fmt: skip
        if audit is not None:
            value = audit[step]
            found = replace(
                found, audit_accuracy=value, audit_low=value - 0.125, audit_high=value + 0.0625
            )
        folder.write_step(found, None, {"training_seconds": 1.0})
    folder.finish("enough")
    folder.close()


class Fake:
    """What a record tells of a task."""

    images = np.zeros((3, 8, 8, 3), np.uint8)
    class_names = ("a", "b")

    def digest(self):
        return "of no image"


def report(folder, **settings):
    """A report in which nothing warns; returns findings, page and the first row of the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        findings, _ = write_report(folder, **settings)
    with open(folder / "table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return findings, (folder / "report.html").read_text(encoding="utf-8"), rows


def test_an_audit_takes_the_place_of_test_accuracy_under_its_own_name(tmp_path):
    write(tmp_path, "random", answers=[0.5, 0.25], audit=[0.25, 0.5, 0.75])
    write(tmp_path, "emoc", answers=[0.25, 0.0], audit=[0.25, 0.75, 0.875])
    findings, page, rows = report(tmp_path, latex=True)
    assert findings.accuracy == "audit_accuracy"
    assert {row["agent"]: row["final_audit_accuracy"] for row in rows} == {
        "emoc": "0.875", "random": "0.75",
    }  # fmt: skip
    assert float(rows[0]["audit_accuracy_area"]) == pytest.approx(0.65625)
    assert "final<br>audit accuracy" in page and "Audit accuracy" in page
    assert "test accuracy" not in page.lower()
    assert any("emoc/0 0.875 [0.750, 0.938]" in note for note in findings.notes)
    axes = plots.learning_curves(findings.compared, findings.curves).axes
    assert [each.get_ylabel() for each in axes] == ["audit accuracy", "classes found"]
    low, high = axes[0].collections[0].get_datalim(axes[0].transData).intervaly
    assert (low, high) == (0.125, 0.8125)
    assert "audit accuracy" in (tmp_path / "table.tex").read_text()
    heads = [column.header for column in tables.summary_table(findings).columns]
    assert "final audit\naccuracy" in heads
    with open(tmp_path / "differences.csv", encoding="utf-8") as file:
        assert {"audit_accuracy_area", "final_audit_accuracy"} <= {
            row["measure"] for row in csv.DictReader(file)
        }


def test_without_an_audit_it_is_the_accuracy_on_answers(tmp_path):
    write(tmp_path, "random", answers=[0.5, None])
    write(tmp_path, "emoc", answers=[None, 0.25])
    findings, page, rows = report(tmp_path)
    assert findings.accuracy == "answer_accuracy"
    final = {row["agent"]: row["final_answer_accuracy"] for row in rows}
    assert final == {"random": "0.5", "emoc": "0.25"}  # what brought none leaves the last one
    assert "final<br>accuracy on answers" in page and "test accuracy" not in page.lower()
    assert any("compare policies by classes found" in note for note in findings.notes)


@pytest.mark.parametrize("seeds", [1, 6])
def test_runs_in_which_nothing_was_answered_warn_of_nothing(tmp_path, seeds):
    for agent in ("random", "emoc"):
        for seed in range(seeds):
            write(tmp_path, agent, seed, answers=[None, None])
    findings, page, rows = report(tmp_path)
    assert {row["final_accuracy"] for row in rows} <= {"", "nan"}
    assert "test accuracy" not in page.lower() and "there is no accuracy" in page
    axes = plots.learning_curves(findings.compared, findings.curves).axes
    assert [each.get_ylabel() for each in axes] == ["classes found"]


def test_many_seeds_of_answers_are_compared(tmp_path):
    for agent, more in (("random", 0.0), ("emoc", 0.25)):
        for seed in range(6):
            write(tmp_path, agent, seed, answers=[0.125 * (seed % 3) + more, 0.5 + more])
    findings, page, _ = report(tmp_path)
    assert findings.penalties and "Accuracy on answers" in page
    row = findings.differences["random", "accuracy_area"][0]
    assert row.mean == pytest.approx(0.25) and row.p < 0.05


def test_with_test_data_all_is_as_it_was(tmp_path):
    write(tmp_path, "random", answers=[None, None], audit=[0.25, 0.5, 0.75], accuracy=0.5)
    findings, page, rows = report(tmp_path)
    assert findings.accuracy == "test_accuracy" and not findings.notes
    assert rows[0]["final_accuracy"] == "0.5" and "Test accuracy" in page
    assert findings.compared[0] is findings.finished[0]


def test_runs_of_different_lengths_are_shown_as_far_as_the_shortest(tmp_path):
    write(tmp_path, "random", answers=[0.5, 0.5, 0.75])
    write(tmp_path, "emoc", answers=[0.5])
    write(tmp_path, "person", answers=[])
    findings, page, rows = report(tmp_path)
    assert [len(run.steps["step"]) for run in findings.finished] == [2, 2]
    assert "The runs have 1 to 3 steps: all are shown as far as the shortest, 1 steps" in page
    assert "nothing was answered: person/0" in page
    assert {row["final_answer_accuracy"] for row in rows} == {"0.5"}


def test_a_run_that_was_ended_at_once_is_a_report_too(tmp_path):
    write(tmp_path, "person", answers=[])
    findings, _, _ = report(tmp_path)
    assert [len(run.steps["step"]) for run in findings.finished] == [1]


@pytest.mark.parametrize(
    ("labelled", "values", "area"),
    [([4, 4, 4], [0.5, 0.25, 0.75], 0.5), ([4], [0.5], 0.5), ([4, 8, 12], [np.nan, 0.5, 1], 0.75),
     ([4, 8], [np.nan, np.nan], np.nan), ([4, 8], [np.nan, 0.25], 0.25)],
)  # fmt: skip
def test_areas_where_nothing_was_labelled_or_known(labelled, values, area):
    found = normalised_area(np.array(labelled, float), np.array(values, float))
    assert found == pytest.approx(area, nan_ok=True)
