"""Reports on some of the policies and initialisations of a folder."""

import csv

import numpy as np
import pytest
from rich.console import Console

from emoc_tf.analysis.findings import gather
from emoc_tf.experiments import comparison
from tests.records.written import write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight seeds of two policies and one of a third; p of `emoc` − `random` is 2 / 2⁸."""
    folder = tmp_path_factory.mktemp("grid")
    for agent, seeds, ahead in (("random", 8, 0), ("emoc", 8, 0.1), ("novel:a=1", 8, 0.2)):
        for seed in range(seeds):
            write(folder, agent, seed, accuracies=0.3 + seed / 100 + ahead * np.arange(3))
    write(folder, "max", 20)
    (folder / "max" / "21").mkdir()
    (folder / "max" / "21" / "config.json").write_text("{")
    return folder


def test_others_are_left_out_and_told(folder, tmp_path):
    there = set(folder.iterdir())
    asked = {"only_agents": ["random", "novel:a=1"], "only_seeds": [0, 1, 2, 3, 4, 5]}
    findings = gather(folder, **asked)
    assert findings.agents == ["random", "novel:a=1"]
    assert {run.seed for run in findings.finished} == set(range(6))
    assert findings.missing == []
    assert findings.notes == [
        "Left out, as asked: 13 runs of other policies or initialisations; p is not corrected for "
        "comparisons with max, emoc"
    ]
    target = tmp_path / "deep" / "down"
    comparison.report(folder, Console(), report_dir=target, **asked)
    assert set(folder.iterdir()) == there
    with (target / "table.csv").open(newline="") as file:
        assert {row["agent"] for row in csv.DictReader(file)} == {"random", "novel:a=1"}
    assert (target / "report.html").read_text().count("Left out, as asked") == 1


def test_p_is_corrected_for_the_policies_that_are_shown(folder):
    def of_emoc(**asked):
        rows = gather(folder, ["random"], **asked).differences["random", "accuracy_area"]
        return next(row for row in rows if row.agent == "emoc")

    assert of_emoc().p_corrected == pytest.approx(2 * 2 / 2**8)
    alone = of_emoc(only_agents=["random", "emoc"])
    assert alone.p_corrected == pytest.approx(2 / 2**8)
    assert (alone.mean, alone.pairs) == (of_emoc().mean, 8)


def test_some_initialisations_of_all_policies(folder):
    findings = gather(folder, only_seeds=[20, 21])
    assert findings.agents == ["max"]
    assert findings.notes[0] == "Left out, as asked: 24 runs of other policies or initialisations"
    assert any("max/21" in note for note in findings.notes[1:])
    assert not any("max/21" in note for note in gather(folder, only_seeds=[20]).notes)
    assert not any("as asked" in note for note in gather(folder).notes)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"only_agents": ["bald"]}, r"only_agents: expected some of \['random', .*, got 'bald'"),
        ({"only_seeds": [77]}, r"only_seeds: expected some of \[0, .*, 20, 21\], got 77"),
        ({"baselines": ["max"], "only_agents": ["emoc"]}, r"baselines: expected .*got 'max'"),
    ],
)
def test_what_is_not_there_is_told(folder, asked, message):
    with pytest.raises(ValueError, match=message):
        gather(folder, **asked)


def test_why_runs_of_a_policy_cannot_be_read_is_told(tmp_path):
    for agent in ("random", "novel:a=1"):
        write(tmp_path, agent, 0)
    (tmp_path / "novel__a=1" / "0" / "config.json").write_text("{")
    findings = gather(tmp_path, only_agents=["random", "novel:a=1"])
    assert any("novel__a=1/0" in note for note in findings.notes)
    with pytest.raises(ValueError, match=r"expected a finished run .*novel__a=1/0"):
        gather(tmp_path, only_agents=["novel:a=1"])


def test_a_report_dir_that_is_a_file_is_told(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="report_dir: expected a folder that can be written"):
        comparison.report(folder, Console(), report_dir=tmp_path / "file")
