import csv
import json
import shutil

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from emoc_tf import ExplorationConfig, streams
from emoc_tf.analysis import correlations
from emoc_tf.data import named
from emoc_tf.experiments import true_change
from emoc_tf.exploration import Exploration
from emoc_tf.models import forward
from emoc_tf.records.examinations import rows_there
from emoc_tf.records.record_folder import RecordFolder
from emoc_tf.registries import SAMPLERS
from emoc_tf.report.correlations import table
from emoc_tf.scoring import reference
from emoc_tf.storage.locks import FolderLock
from emoc_tf.storage.provenance import environment
from tests import processes

CONFIG = ExplorationConfig(
    known_classes=2, novel_classes=2, initial_per_class=5, pool_per_class=6, num_candidate_sets=12,
    set_size=3, pretrain_iterations=30, update_iterations=7,
)  # fmt: skip


@pytest.fixture(scope="module")
def start():
    return true_change.Start(CONFIG, named.load("digits"), seed=3)


def logits(state):
    return forward.in_batches(forward.compile_forward(state.model), state.reference)


@pytest.mark.parametrize("novel", [False, True])
def test_learning_a_set_is_a_step_of_the_exploration(start, novel):
    exploration = Exploration(CONFIG, named.load("digits"))
    first = exploration.reset(streams.root_of(3))
    state, episode = exploration.state, exploration.episode
    classes = episode.true_labels[state.candidates]
    is_novel = np.isin(classes, episode.classes[2:]).all(axis=1)
    choice = int(np.flatnonzero((is_novel == novel) & state.candidate_mask)[0])
    before = logits(state)
    outcome = exploration.advance(choice)
    after = logits(exploration.state)
    assert after.shape[1] == 2 + novel
    expected = np.abs(after[:, :2] - before).sum(axis=1).mean()
    for _ in range(2):  # each time from the same weights
        found = start.learn(choice, classes[choice], 7)
        assert found["output_change"] == pytest.approx(expected, rel=1e-6)
        assert found["accuracy_gain"] == outcome.test_accuracy - first.test_accuracy


def test_the_control_learns_the_same_old_images(start):
    """Where a mini-batch has no image of the set, the set changes nothing of its own."""
    classes = np.full(3, start.state.known_classes[1])
    few = true_change.Start(CONFIG.replace(old_fraction=0.99), named.load("digits"), seed=3)
    assert few.learn(2, classes, 1)["output_change"] > 0
    assert few.learn(2, classes, 1)["own_change"] == 0
    # Another set in the same iterations: the same control.
    first, second = (start.learn(choice, classes, 7) for choice in (0, 1))
    assert 0 < first["own_change"] != second["own_change"]


def test_with_pseudo_labels_there_is_no_such_control():
    """Which old images there are depends on the set then."""
    with pytest.raises(ValueError, match=r"pseudo_labels: expected none, .* got 0.1"):
        true_change.Start(CONFIG.replace(pseudo_labels=0.1), None, seed=3)


def test_sets_may_have_fewer_than_k_images(monkeypatch):
    """Those of a rare class, or of a sampler of your own."""
    monkeypatch.setitem(
        SAMPLERS, "short", lambda inputs: ([inputs.waiting[:2], inputs.waiting[2:5]], [True, True])
    )
    start = true_change.Start(CONFIG.replace(sampler="short"), named.load("digits"), seed=3)
    rows = list(true_change.examine(start, 3, np.array([0, 1]), set(), [1]))
    assert [row["set"] for row in rows] == [0] * 3 + [1] * 3
    truth = start.true_labels[start.state.candidates[0, :2]]
    assert rows[0]["queried_class"] == np.bincount(truth).argmax()
    assert all(row["output_change"] > 0 for row in rows)


def test_one_gradient_step_is_what_equation_4_says():
    config = CONFIG.replace(set_size=1, learning_rate=1e-4)
    start = true_change.Start(config, named.load("digits"), seed=3)
    state = start.state
    images = state.pool.images[state.candidates[:4, 0]]
    scores = reference.scores(state.model, state.reference, images, np.ones(4, int))
    weights = state.model.get_weights()
    for choice, score in enumerate(scores):
        assert start.step(choice, 1) == pytest.approx(1e-4 * score, rel=0.02)
    for kept, weight in zip(weights, state.model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weight)


def test_scores_are_those_of_the_policies(start):
    sets = np.array([5, 2])
    found = true_change.scores_of(start.state, sets, ["emoc", "min"])
    state = start.state
    every = reference.set_scores(
        state.model, state.reference, state.pool.images, state.candidates[sets]
    )
    np.testing.assert_allclose(found[:, 0], every, rtol=1e-4)
    expected = -state.probabilities.max(axis=1)[state.candidates[sets]].mean(axis=1)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-6)
    with pytest.raises(ValueError, match="scores: expected policies that score sets, got 'random'"):
        true_change.scores_of(state, sets, ["random"])


def run(folder, *arguments):
    return processes.run(
        "-m", "emoc_tf.experiments.true_change", "--known_classes=2",
        "--novel_classes=2", "--initial_per_class=4", "--pool_per_class=6", "--set_size=3",
        "--num_candidate_sets=6", "--pretrain_iterations=20", "--batch_size=8", "--sets=4",
        "--iterations=1,5", "--scores=emoc,min", "--seeds=0,1", f"--output_dir={folder}",
        *arguments,
    )  # fmt: skip


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examined")
    result = run(folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def copied(examined, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(examined, tmp_path / "copy")


def test_the_binary_goes_on_where_it_was_stopped(copied):
    changes = (copied / "changes.csv").read_text()
    rows = list(csv.DictReader(changes.splitlines()))
    assert len(rows) == 2 * 4 * 5
    assert {row["iterations"] for row in rows if row["true_label"] == "1"} == {"1", "5"}
    for name in ("correlations.png", "correlations.svg", "correlations.csv", "novelty.csv",
                 "gate.csv"):  # fmt: skip
        assert (copied / name).stat().st_size > 100
    gate = list(csv.DictReader((copied / "gate.csv").read_text().splitlines()))
    assert [(row["score"], row["iterations"]) for row in gate] == [("emoc", "5"), ("min", "5")]
    assert len((copied / "novelty.csv").read_text().splitlines()) == 3
    lines = changes.splitlines(keepends=True)
    (copied / "changes.csv").write_text("".join(lines[:18]) + lines[18][:9])
    again = run(copied)
    assert again.returncode == 0, again.stderr
    assert sum(line.startswith("seed ") for line in again.stdout.splitlines()) == len(lines) - 18
    assert (copied / "changes.csv").read_text() == changes
    assert {row["novel_share"] for row in rows} == {"0", "1"}
    told = json.loads((copied / "config.json").read_text())
    here = environment(*true_change.SOURCE)["source"]
    assert told["environment"]["source"] == here != environment()["source"]
    header = lines[0].strip().split(",")
    with pytest.raises(ValueError, match=r"changes.csv: expected columns"):
        rows_there(RecordFolder(copied), true_change.CHANGES, header[:-1], told)
    differing = told | {"configuration": told["configuration"] | {"momentum": 0.5}}
    with pytest.raises(ValueError, match=r"output_dir: .*same settings.*differs in \['config"):
        rows_there(RecordFolder(copied), true_change.CHANGES, header, differing)
    older = told | {"configuration": {k: v for k, v in told["configuration"].items()
                                      if k != "optimizer"}}  # fmt: skip
    RecordFolder(copied).write_config(older)
    assert (
        len(rows_there(RecordFolder(copied), true_change.CHANGES, header, told)) == len(lines) - 1
    )
    assert (copied / "changes.csv").read_text() == changes


def test_finished_work_is_shown_again_anywhere_but_gone_on_with_only_there(copied):
    file, figure = copied / "config.json", copied / "correlations.png"
    told, changes = json.loads(file.read_text()), (copied / "changes.csv").read_text()
    file.write_text(json.dumps(told | {"environment": told["environment"] | {"cpu": "Another"}}))
    before = figure.read_bytes()
    figure.unlink()
    again = run(copied)
    assert again.returncode == 0, again.stderr
    assert figure.read_bytes() == before
    assert (copied / "changes.csv").read_text() == changes
    more = run(copied, "--seeds=0,1,2")
    assert more.returncode == 1
    assert "same versions and machine to resume in" in more.stderr
    assert (copied / "changes.csv").read_text() == changes


def test_what_is_left_to_do(tmp_path):
    def rows(seed, sets):
        variants = [(0, 0), (0, 1), (0, 9), (1, 1), (1, 9)]
        at = list(map(true_change.COLUMNS.index, ("seed", "set", "true_label", "iterations")))
        made = np.zeros((len(sets) * 5, len(true_change.COLUMNS) + 1))
        made[:, at] = [(seed, choice, *variant) for choice in sets for variant in variants]
        return made

    there = np.concatenate([rows(0, [5, 2, 7]), rows(3, [1, 2, 3])[:-1]])
    assert true_change._left(there, [0, 3, 4], [1, 9], 3) == [3, 4]
    assert true_change._left(there, [0, 3], [1, 9], 2) == []
    assert true_change._left(there, [0], [1, 9], 4) == [0]
    assert true_change._left(there, [0], [1, 2, 9], 3) == [0]


def test_a_model_that_was_only_just_begun_is_left_out(tmp_path):
    rng, file = np.random.default_rng(0), tmp_path / "changes.csv"
    rows = [f"{seed},1,10,0,{c},{c},{c},{rng.random()}" for seed in (0, 1) for c in rng.random(6)]
    header = "seed,true_label,iterations,novel_share,output_change,own_change,accuracy_gain,emoc"
    found = {}
    for count in (6, 9):
        file.write_text("\n".join([header, *rows[:count], ""]))
        every = correlations.read(file, 7)
        found[count] = [row for row in every if (row.score, row.among) == ("emoc", "all")]
    assert [row.rho for row in found[6]] == [row.rho for row in found[9]]
    for row in (*found[6], *found[9]):
        assert (row.seeds, row.sets) == (1, 6)
        assert row.low < row.rho < row.high


def test_a_score_is_looked_at_within_known_and_within_novel_sets(tmp_path):
    """A score that tells novel from known sets and nothing else."""
    rng, file = np.random.default_rng(0), tmp_path / "changes.csv"
    lines = ["seed,true_label,iterations,novel_share,output_change,own_change,accuracy_gain,emoc"]
    kinds = [0] * 9 + [1] * 8 + [0.5] * 2  # sets of both kinds are in neither part
    for seed in (0, 1):
        scores = rng.permutation(len(kinds)) + 100 * np.array(kinds)
        changes = rng.permutation(len(kinds)) + 100 * np.array(kinds)
        for kind, score, change in zip(kinds, scores, changes, strict=True):
            lines.append(f"{seed},1,10,{kind},{change},{change},{change},{score}")
    file.write_text("\n".join([*lines, ""]))
    found = {
        (row.score, row.among): row
        for row in correlations.read(file, 7)
        if row.measure == "own_change"
    }
    assert set(found) == {
        ("emoc", "all"), ("emoc", "known"), ("emoc", "novel"), ("novel_share", "all"),
    }  # fmt: skip
    sizes = {among: found["emoc", among].sets for among in correlations.AMONG}
    assert sizes == {"all": 38, "known": 18, "novel": 16}
    assert found["emoc", "all"].rho > 0.7
    assert found["novel_share", "all"].rho > 0.7
    data = np.genfromtxt(file, delimiter=",", names=True)
    for among, kind in (("known", 0), ("novel", 1)):
        rhos = []
        for seed in (0, 1):
            part = data[(data["seed"] == seed) & (data["novel_share"] == kind)]
            rhos.append(stats.spearmanr(part["emoc"], part["own_change"]).statistic)
        row = found["emoc", among]
        assert row.rho == pytest.approx(np.tanh(np.mean(np.arctanh(rhos))))
        assert (row.least, row.greatest) == pytest.approx((min(rhos), max(rhos)))
    console = Console(record=True, width=80)
    console.print(table(correlations.read(file, 7)))
    printed = console.export_text()
    assert printed.count("emoc") == 3
    assert "known novel" in printed


def test_without_true_labels_there_is_no_gate_and_all_the_rest_is_shown(tmp_path):
    rng, lines = np.random.default_rng(0), [",".join([*true_change.COLUMNS, "emoc", "min"])]
    for i in range(8):
        values = 3, i, 7, i % 2, 7, 0, 100, *rng.random(5)
        lines.append(",".join(map(str, values)))
    (tmp_path / true_change.CHANGES).write_text("\n".join([*lines, ""]))
    console = Console(record=True, width=80)
    names = true_change.show(tmp_path, console)
    assert sorted([*names, true_change.CHANGES]) == sorted(p.name for p in tmp_path.iterdir())
    assert set(names) == {
        "correlations.png", "correlations.svg", "correlations.csv", "novelty.csv",
    }  # fmt: skip
    printed = console.export_text()
    assert "own, label assumed, 100" in printed
    assert "ROC" in printed
    assert "passes" not in printed


def test_a_folder_that_another_process_works_on_is_refused(tmp_path):
    refused = pytest.raises(ValueError, match="output_dir: expected a free folder")
    with FolderLock(tmp_path), refused, RecordFolder(tmp_path).alone():
        pass
    with RecordFolder(tmp_path).alone():
        pass
