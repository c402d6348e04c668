import csv
import json
import re
import shutil
import warnings

import numpy as np
import pytest

from emoc_tf.analysis.findings import gather
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.report import drawing, plots, tables
from tests.records.written import CONFIG, write
from tests.report.test_report import Reader, report


def report_of_few_seeds(path):
    """The page where some policies have fewer seeds, maybe for good."""
    for agent, seeds in (("random", 2), ("emoc", 1)):
        for seed in range(seeds):
            write(path, agent, seed)
    _, page = report(path)
    assert "Not a full grid: 3 finished\nruns, 1 not begun." in page
    return page


def test_half_finished_grids_say_so(tmp_path):
    write(tmp_path, "random", 0)
    write(tmp_path, "random", 1)
    write(tmp_path, "emoc", 0, rows=2)
    printed, page = report(tmp_path)
    for sentence in ("1 of 3 runs are unfinished: left out", "Not begun, though", "emoc/1"):
        assert sentence in printed
        assert sentence in page
    assert "Half-finished: 2 finished" in page
    assert "Half-finished" not in report_of_few_seeds(tmp_path / "few")
    assert "emoc/0: 1 steps done" in page
    assert gather(tmp_path).baselines == ("random",)
    assert "Tests" not in printed  # no pairs at all
    assert "Difference to" not in page
    write(tmp_path, "emoc", 0)
    printed, page = report(tmp_path)
    assert "Tests need 6 pairs: none was made." in printed
    assert "that they count in paired differences only: random/1" in printed
    assert 'class="best"' in page
    found = gather(tmp_path)
    assert [row.runs for row in found.summaries] == [1, 1]
    assert found.differences["random", "accuracy_area"][0].pairs == 1
    for seed in (1, 2):
        write(tmp_path, "emoc", seed)
    write(tmp_path, "random", 2)
    write(tmp_path, "max", 7, accuracies=(0.4, 0.9, 0.9))
    printed, page = report(tmp_path)
    assert "the means (*) of max compare with nothing" in printed
    assert re.search(r"max\* +1 ", printed)
    with open(tmp_path / "table.csv", newline="") as file:
        assert {row["agent"]: row["compared"] for row in csv.DictReader(file)} == {
            "random": "1", "emoc": "1", "max": "0",
        }  # fmt: skip
    rows = [row for row in Reader(page).rows if row]
    assert [row[:2] for row in rows if row[0] in ("random", "emoc", "max*")][:3] == [
        ["random", "3"], ["emoc", "3"], ["max*", "1"],
    ]  # fmt: skip
    assert "max" not in re.search("highest mean<br>.*?</table>", page, re.DOTALL).group()
    assert [line.get_label() for line in plots.learning_curves(found.compared).axes[0].lines] == [
        "random", "emoc",
    ]  # fmt: skip


def test_who_is_tested_and_counted_is_told(tmp_path):
    for seed in range(7):
        for agent, ahead in (("random", 0.0), ("emoc", 0.1), ("min", 0.2)):
            if agent != "min" or 1 <= seed < 6:
                last = 0.5 + ahead + 0.001 * seed * (agent != "random")
                write(tmp_path, agent, seed, accuracies=(0.4, 0.5, last))
    printed, page = report(tmp_path)
    sentence = "Policies with fewer than 6 pairs (–) are not tested, and the correction does not"
    assert sentence in page and sentence in printed
    row = next(r for r in gather(tmp_path).differences["random", "accuracy_area"] if r.pairs == 7)
    assert row.p_corrected == row.p == 2 / 2**7  # one policy, not two


def test_a_policy_looks_alike_in_all_figures(tmp_path, monkeypatch):
    """A variant alone in one figure, which looks like its policy, may not be alone in another."""
    for agent, seeds in (
        ("random", (0, 1)), ("emoc:references=9", (0, 1)), ("emoc", (7,)), ("mine", (7,)),
        ("yours", (0, 1)),
    ):  # fmt: skip
        for seed in seeds:
            write(tmp_path, agent, seed)
    found, plain, among = gather(tmp_path), drawing.style, set()

    def noting(agent, agents):
        among.add(tuple(agents))
        return plain(agent, agents)

    monkeypatch.setattr(drawing, "style", noting)
    report(tmp_path)
    assert not found.is_compared("emoc")
    assert among == {tuple(found.agents)}


def test_broken_and_failed_runs_are_named(tmp_path):
    write(tmp_path, seed=0)
    broken = write(tmp_path, seed=1)
    (broken.path / "steps.csv").write_text("nonsense\n")
    write(tmp_path, seed=2, rows=1).fail(RuntimeError("no more coffee"))
    shutil.copytree(tmp_path / "random" / "0", tmp_path / "copy" / "0")
    shutil.copytree(tmp_path / "random" / "0", tmp_path / "random" / "0.old")
    printed, page = report(tmp_path)
    assert f"Left out: {broken.path / 'steps.csv'}: expected columns" in printed
    assert "Not begun" not in printed
    assert f"Left out: {tmp_path / 'copy' / '0'} is a copy of random/0" in printed
    assert "0.old" not in printed
    assert "random/2 failed: RuntimeError: no more coffee" in printed
    assert "no more coffee" in page
    assert ",1," in (tmp_path / "table.csv").read_text()


def test_a_lone_policy_and_policies_of_ones_own(tmp_path):
    write(tmp_path, "entropy", 0)
    _, page = report(tmp_path)
    assert "Difference to" not in page
    write(tmp_path, "best/of", 0, accuracies=(0.4, 0.9, 0.9))
    report(tmp_path)
    assert gather(tmp_path).baselines == ("entropy",)  # the lowest
    report(tmp_path, baselines=["best/of"])
    assert (tmp_path / "difference_to_best%2Fof.png").exists()
    write(tmp_path, "[red]$x$:confidence=0.95", 0)
    write(tmp_path, "[red]$x$:confidence=0.99", 0)
    printed, page = report(tmp_path, baselines=["[red]$x$:confidence=0.95"], latex=True)
    assert "[red]$x$:confidence" in printed
    assert "[red]$x$:confidence=0.99" in page
    assert (tmp_path / "difference_to_[red]$x$__confidence=0.95.svg").exists()


def test_records_without_recalls_or_data_are_enough(tmp_path):
    config = CONFIG.replace(dataset="cifar10")
    folder = write(tmp_path, "random", 0, config)
    (folder.path / "recalls.csv").unlink()
    _, page = report(tmp_path, data_dir=str(tmp_path / "nowhere"))
    assert "Which classes" not in page
    assert "Not shown: dataset &#39;cifar10&#39; is not prepared" in page


def test_runs_that_are_not_paired_are_told(tmp_path):
    write(tmp_path, "random", 0)
    write(tmp_path, "emoc", 0, accuracies=(0.1, 0.5, 0.7))
    for seed, fingerprint in enumerate("ab"):
        folder = write(tmp_path, "learned", seed)
        content = json.loads((folder.path / "config.json").read_text())
        (folder.path / "config.json").write_text(json.dumps(content | {"fingerprint": fingerprint}))
    printed, _ = report(tmp_path)
    assert "the runs of seed 0 did not start alike: they are not paired" in printed
    assert "seed 1 did not" not in printed
    assert "the runs of learned are of different policies with that name" in printed


def test_sets_and_classes_are_figures_too(tmp_path):
    config = CONFIG.replace(known_classes=2, novel_classes=2, pool_per_class=10, max_steps=2)
    env = ActiveExplorationEnv(config.replace(data_dir=None, update_iterations=1))
    env.reset(seed=3)
    folder = RunFolder(tmp_path, "random", 3, env.config)
    folder.claim()
    folder.start(env.exploration.episode.classes)
    folder.write_step(env.outcome, None, {})
    for action in (0, 1):
        env.step(action)
        folder.write_step(env.outcome, 0.0, {})
    printed, page = report(tmp_path)
    for name in ("classes_seed_3.png", "first_sets_seed_3.svg"):
        assert (tmp_path / name).exists()
        assert name in printed
    assert page.count("data:image/jpeg;base64") == 2
    assert "Not shown" not in page
    (folder.path / "recalls.csv").unlink()
    _, page = report(tmp_path)
    assert page.count("data:image/jpeg;base64") == 2


def test_long_names_leave_room_for_the_matrix(tmp_path):
    agents = ["emoc:confidence=none:labels=expected", "emoc:output=softmax:references=64"]
    figure = plots.penalty_figure([(agents, np.eye(2))] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing.save(figure, tmp_path / "penalties")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baselines": ["best"]}, "baselines: expected some of .*, got 'best'"),
        ({"accuracy": 70}, r"accuracy: expected a number in \[0, 1\], got 70"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    write(tmp_path)
    with pytest.raises(ValueError, match=message):
        report(tmp_path, **settings)


def test_without_a_finished_run_there_is_no_report(tmp_path):
    with pytest.raises(ValueError, match="output_dir: expected run folders"):
        report(tmp_path)
    write(tmp_path, rows=1)
    with pytest.raises(ValueError, match=r"got none \(1 of 1 runs are unfinished: left out\)"):
        report(tmp_path)
    write(tmp_path, rows=1).fail(RuntimeError("no more coffee"))
    with pytest.raises(ValueError, match=r"expected a finished run in .*no more coffee"):
        report(tmp_path)


def test_labels_to_targets(tmp_path):
    config = CONFIG.replace(novel_classes=2)
    for seed, last in enumerate((0.6, 0.7, 0.8)):
        found = (0, 1, 2) if seed else (0, 1, 1)
        write(tmp_path, "random", seed, config, accuracies=(0.4, 0.5, last), discovered=found)
    by_accuracy, by_class = gather(tmp_path, accuracy=0.7).reach
    assert by_accuracy.target == "accuracy 0.700"
    assert (by_accuracy.reached, by_accuracy.runs, by_accuracy.median) == (2, 3, 50)
    assert (by_class.target, by_class.reached, by_class.median) == ("all classes", 2, 50)
    never = gather(tmp_path, accuracy=0.75).reach[0]
    assert (never.reached, never.median, never.most) == (1, np.inf, 50)
    assert np.isnan(gather(tmp_path, accuracy=0.5).reach[0].most)  # all did
    _, page = report(tmp_path, accuracy=0.75)
    assert "<td>&gt; 50</td><td>1 of 3</td>" in page
    # Each seed has its own target: the baseline's last accuracy there.
    for seed, last in ((0, 0.6), (1, 0.69), (4, 0.9)):
        write(tmp_path, "emoc", seed, config, accuracies=(0.4, 0.5, last))
    random, emoc = gather(tmp_path).reach[:2]
    assert random.target == emoc.target == "random's final accuracy"
    assert (random.reached, random.runs, emoc.reached, emoc.runs) == (2, 2, 1, 2)


def test_runs_that_end_at_other_counts_are_told(tmp_path):
    """Where images are rejected; nothing is claimed beyond what a run that never got there had."""
    for seed, lost in enumerate((0, 4, 1)):
        steps = write(tmp_path, "random", seed, accuracies=(0.4, 0.5, 0.6)).path / "steps.csv"
        steps.write_text(steps.read_text().replace("2,50,", f"2,{50 - lost},"))
    found = gather(tmp_path, accuracy=0.9)
    assert [row.most for row in found.reach] == [46, 46]
    _, page = report(tmp_path, accuracy=0.9)
    assert "<td>&gt; 46</td><td>0 of 3</td>" in page
    (note,) = found.notes
    assert note.startswith("At the end 46 to 50 images are labelled: final values")


def test_classes_that_wrong_answers_name_are_told(tmp_path):
    for agent in ("random", "emoc"):
        write(tmp_path, agent, 0, CONFIG.replace(wrong_answers=0.2))
    assert report(tmp_path)[1].count("Of the answers 20% are wrong, and a class counts as") == 1


def test_what_runs_were_made_with_is_told_of_all(tmp_path):
    for agent, commit in (("random", "a" * 40), ("emoc", "b" * 40)):
        path = write(tmp_path, agent, 0).path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": commit}))
    _, page = report(tmp_path)
    told = f"the runs differ in commit: {'a' * 12}; {'b' * 12} (runs of one initialisation, which"
    assert f"{told} are paired, in 1 of 1 initialisations)" in page
    rows = Reader(page).rows
    assert {*next(row for row in rows if row[:1] == ["commit"])[1].split("; ")} == {
        "a" * 40, "b" * 40,
    }  # fmt: skip


def test_of_versions_those_that_differ_are_told(tmp_path):
    for seed, versions in enumerate(({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})):
        path = write(tmp_path, "random", seed).path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"versions": versions}))
    (note,) = [note for note in gather(tmp_path).notes if "versions" in note]
    assert note.startswith("Note: the runs differ in versions: b 2, c none; b 3, c 4 (runs of")


def test_pairs_of_one_place_are_told_from_those_of_two(tmp_path):
    for agent in ("random", "emoc"):
        for seed in (0, 1):
            path = write(tmp_path, agent, seed).path / "config.json"
            place = {"cpu": f"kind {seed}", "source": agent if seed else "all"}
            path.write_text(json.dumps(json.loads(path.read_text()) | place))
    notes = " ".join(gather(tmp_path).notes)
    assert "cpu: kind 0; kind 1 (runs of one initialisation, which are paired, in none)" in notes
    assert "all; emoc; random (runs of one initialisation, which are paired, in 1 of 2" in notes


def test_runs_with_and_without_onednn_are_told_apart_where_that_is_known(tmp_path):
    for agent, there in (("random", {"onednn": True}), ("emoc", {"onednn": False}), ("min", {})):
        path = write(tmp_path, agent, 0).path / "config.json"
        record = json.loads(path.read_text())
        record.pop("onednn", None)
        path.write_text(json.dumps(record | there))
    _, page = report(tmp_path)
    assert "the runs differ in onednn: False; True" in page


def test_without_novel_classes_there_are_none_to_reach(tmp_path):
    write(tmp_path, "random", 0, CONFIG.replace(novel_classes=0), discovered=(0, 0, 0))
    _, page = report(tmp_path)
    assert "to all classes" not in page


def test_numbers_as_text():
    assert tables.number(-0.0304, 3) == "−0.030"
    assert tables.number(-0.0001, 3, signed=True) == "0.000"
    assert tables.number(0.5, 2, signed=True) == "+0.50"
    assert tables.number(float("nan"), 2) == "–"
    assert [tables.p_value(p) for p in (1, 0.314, 0.01953125, 0.00390625)] == [
        "1.00", "0.31", "0.020", "0.0039",
    ]  # fmt: skip
