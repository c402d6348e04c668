import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from emoc_tf import ExplorationConfig, data, networks, streams
from emoc_tf.experiments import correlations, true_change
from emoc_tf.exploration import Exploration
from emoc_tf.locks import FolderLock
from emoc_tf.scoring import reference

CONFIG = ExplorationConfig(
    known_classes=2, novel_classes=2, initial_per_class=5, pool_per_class=6, num_candidate_sets=12,
    set_size=3, pretrain_iterations=30, update_iterations=7,
)  # fmt: skip


@pytest.fixture(scope="module")
def start():
    return true_change.Start(CONFIG, data.load("digits"), seed=3)


def logits(state):
    return networks.in_batches(networks.compile_forward(state.model), state.reference)


@pytest.mark.parametrize("novel", [False, True])
def test_learning_a_set_is_a_step_of_the_exploration(start, novel):
    exploration = Exploration(CONFIG, data.load("digits"))
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
    few = true_change.Start(CONFIG.replace(old_fraction=0.99), data.load("digits"), seed=3)
    assert few.learn(2, classes, 1)["output_change"] > 0
    assert few.learn(2, classes, 1)["own_change"] == 0
    # Another set in the same iterations: the same control.
    first, second = (start.learn(choice, classes, 7) for choice in (0, 1))
    assert 0 < first["own_change"] != second["own_change"]


def test_one_gradient_step_is_what_equation_4_says():
    config = CONFIG.replace(set_size=1, learning_rate=1e-4)
    start = true_change.Start(config, data.load("digits"), seed=3)
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
    return subprocess.run(
        [
            sys.executable, "-m", "emoc_tf.experiments.true_change", "--known_classes=2",
            "--novel_classes=2", "--initial_per_class=4", "--pool_per_class=6", "--set_size=3",
            "--num_candidate_sets=6", "--pretrain_iterations=20", "--batch_size=8", "--sets=5",
            "--iterations=1,5", "--scores=emoc,min", "--seeds=0,1", f"--output_dir={folder}",
            *arguments,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_binary_goes_on_where_it_was_stopped(tmp_path):
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr
    changes = (tmp_path / "changes.csv").read_text()
    rows = list(csv.DictReader(changes.splitlines()))
    assert len(rows) == 2 * 5 * 5
    assert {row["iterations"] for row in rows if row["true_label"] == "1"} == {"1", "5"}
    for name in ("correlations.png", "correlations.svg", "correlations.csv"):
        assert (tmp_path / name).stat().st_size > 100
    lines = changes.splitlines(keepends=True)
    (tmp_path / "changes.csv").write_text("".join(lines[:23]) + lines[23][:9])
    again = run(tmp_path)
    assert again.returncode == 0, again.stderr
    assert sum(line.startswith("seed ") for line in again.stdout.splitlines()) == len(lines) - 23
    assert (tmp_path / "changes.csv").read_text() == changes
    told = json.loads((tmp_path / "config.json").read_text())
    told["configuration"]["momentum"] = 0.5
    with pytest.raises(ValueError, match=r"output_dir: .*same settings.*differs in \['config"):
        true_change._open(tmp_path, lines[0].split(","), told)
    assert (tmp_path / "changes.csv").read_text() == changes


def test_a_model_that_was_only_just_begun_is_left_out(tmp_path):
    rng, file = np.random.default_rng(0), tmp_path / "changes.csv"
    rows = [f"{seed},1,10,{c},{c},{c},{rng.random()}" for seed in (0, 1) for c in rng.random(6)]
    header = "seed,true_label,iterations,output_change,own_change,accuracy_gain,emoc"
    found = {}
    for count in (6, 9):
        file.write_text("\n".join([header, *rows[:count], ""]))
        found[count] = correlations.read(file, 6)
    assert found[6] == found[9]
    assert [(row.seeds, row.sets) for row in found[6]] == [(1, 6)] * 3
    assert all(np.isfinite(row.rho) for row in found[6])


def test_a_folder_that_another_process_works_on_is_refused(tmp_path):
    refused = pytest.raises(ValueError, match="output_dir: expected a free folder")
    with FolderLock(tmp_path), refused, true_change._only_process(tmp_path):
        pass
    with true_change._only_process(tmp_path):
        pass


def test_rank_correlations_by_hand():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(2, 30))
    truth = np.round(truth + scores, 1)  # with ties
    groups = [np.arange(14), np.arange(14, 30)]
    rho, low, high = correlations.rank_correlation(scores, truth, groups)
    z = [np.arctanh(stats.spearmanr(scores[g], truth[g]).statistic) for g in groups]
    assert np.arctanh(rho) == pytest.approx((11 * z[0] + 13 * z[1]) / 24)
    assert -1 < low < rho < high < 1
    one, *ends = correlations.rank_correlation(scores, truth, groups[:1])
    assert one == pytest.approx(np.tanh(z[0]))
    width = 1.959964 * np.sqrt((1 + one**2 / 2) / 11)
    assert np.arctanh(ends) == pytest.approx([z[0] - width, z[0] + width], rel=1e-5)
    assert np.isnan(correlations.rank_correlation(scores, truth, [])).all()
    # A constant tells nothing; a monotone function everything.
    assert np.isnan(correlations.rank_correlation(np.ones(30), truth, groups)).all()
    assert correlations.rank_correlation(scores, np.exp(scores), groups)[0] > 0.998
    # Models are not compared with one another: another scale for each changes nothing.
    shifted = truth + 100 * (np.arange(30) >= 14)
    assert correlations.rank_correlation(scores, shifted, groups) == (rho, low, high)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
@pytest.mark.parametrize("models", [1, 4])
def test_intervals_of_correlations_hold_the_truth(correlation, models):
    rng, sets, trials = np.random.default_rng(1), 20, 400
    truth = 6 / np.pi * np.arcsin(correlation / 2)  # Spearman's of a normal pair
    groups = np.split(np.arange(models * sets), models)
    covariance = [[1, correlation], [correlation, 1]]
    held = 0
    for _ in range(trials):
        x, y = rng.multivariate_normal([0, 0], covariance, models * sets).T
        _, low, high = correlations.rank_correlation(x, y, groups)
        held += low <= truth <= high
    assert held / trials > 0.9
