"""Pseudo-labels: waiting images that the model is sure of, learnt as old ones for one update."""

import numpy as np
import pytest
from scipy.stats import entropy

from emoc_tf import REJECT, SKIP
from emoc_tf.exploration import Exploration
from emoc_tf.exploration.pseudo_labels import choose, threshold_at
from emoc_tf.models.learner import Learner
from tests.exploration.runs import assert_same_run, run
from tests.exploration.tasks import Still, explore, first_set, restored, say

LABELS = [0, 0, 0, 1, 1, 1] + [-1] * 14
SURE = 0.6  # of two classes log 2 = 0.69 is the most


def literal(exploration, threshold, away):
    """Indices and class ids of the images that are pseudo-labelled next, one after the other."""
    state, found = exploration.state, {}
    for i, posterior in enumerate(state.probabilities.astype(np.float64)):
        if state.pool.labels[i] == -1 and i not in away and entropy(posterior) < threshold:
            found[i] = state.known_classes[posterior.argmax()]
    return found


def learnt(call, novel):
    """What an update learnt beside the images labelled by somebody."""
    return {i: call["labels"][i] for i in call["old"] if i not in novel}


@pytest.mark.parametrize(
    ("step", "share"), [(1, 1.0), (2, 14 / 15), (4, 0.8), (15, 1 / 15), (16, 0.0), (40, 0.0)]
)
def test_the_threshold_is_lowered_each_step_to_nothing(step, share):
    assert threshold_at(0.05, step) == pytest.approx(0.05 * share)


def test_images_are_chosen_by_entropy_and_get_their_most_likely_column():
    posterior = np.array(
        [[0.99, 0.01, 0], [0, 0, 1], [0.3, 0.3, 0.4], [0.02, 0.97, 0.01]], np.float32
    )
    indices, columns = choose(posterior, np.array([0, 1, 2, 3]), 0.1)
    assert (indices.tolist(), columns.tolist()) == ([0, 1], [0, 2])
    indices, columns = choose(posterior, np.array([0, 3]), 0.2)
    assert (indices.tolist(), columns.tolist()) == ([0, 3], [0, 1])
    for empty in (choose(posterior, np.array([0, 1]), 0.0), choose(posterior[:, :0], [0, 1], 9.0)):
        assert [len(each) for each in empty] == [0, 0]
    # With one class all images are sure, and nothing is told by that.
    assert len(choose(np.ones((4, 1), np.float32), np.array([0, 1]), 0.1)[0]) == 0


@pytest.mark.parametrize("audit", [0, 3])
def test_what_is_learnt_is_what_a_literal_count_finds(audit):
    """Rejected, audit and open-query images take no part; nothing lasts from step to step."""
    exploration = explore(LABELS, pseudo_labels=SURE, audit=audit, set_size=2)
    away = set()
    if audit:
        query = exploration.queries[0]
        away |= set(query.indices.tolist())
        exploration.answer(query, [0] * audit)
    opened = exploration.ask(first_set(exploration))  # stays open for a while
    sizes = []
    for step, said in enumerate(([0, 1], [REJECT, 0], [SKIP, 1]), 1):
        query = exploration.ask(first_set(exploration))
        told = dict(zip(query.indices.tolist(), said, strict=True))
        hidden = away | set(opened.indices.tolist())
        answered = {i for i, c in told.items() if c != SKIP}
        expected = literal(exploration, threshold_at(SURE, step), hidden | answered)
        before = exploration.labels
        outcome = exploration.answer(query, said)
        found = learnt(Still.calls[-1], np.flatnonzero(before >= 0))
        assert found == expected
        assert set(Still.calls[-1]["novel"]) == {i for i, c in told.items() if c >= 0}
        assert outcome.pseudo_labels == len(expected)
        assert outcome.pseudo_labels_wrong is None  # nobody knows
        # They are no labels.
        named = before.copy()
        named[list(told)] = list(told.values())
        np.testing.assert_array_equal(exploration.labels, named)
        assert outcome.labelled == (named >= 0).sum()
        sizes.append(len(expected))
    assert max(sizes) > 0
    assert exploration.first.pseudo_labels == 0


def test_wrong_ones_are_counted_where_true_labels_are_known(tiny, monkeypatch):
    calls = []
    original = Learner.train

    def spy(self, iterations, seed, labels, old, novel=None):
        calls.append((labels.copy(), old.copy()))
        return original(self, iterations, seed, labels, old, novel)

    monkeypatch.setattr(Learner, "train", spy)
    exploration = Exploration(tiny.replace(pseudo_labels=0.3))
    first = exploration.reset(0)
    assert (first.pseudo_labels, first.pseudo_labels_wrong) == (0, 0)
    assert len(calls[0][1]) == 10
    truth, some = exploration.episode.true_labels, 0
    for step in range(1, 4):
        choice = int(np.flatnonzero(exploration.state.candidate_mask)[0])
        asked = set(exploration.state.candidates[choice].tolist())
        expected = literal(exploration, threshold_at(0.3, step), asked)
        before = np.flatnonzero(exploration.labels >= 0)
        outcome = exploration.advance(choice)
        labels, old = calls[-1]
        np.testing.assert_array_equal(old, np.union1d(before, [*expected]))
        known = np.array(exploration.state.known_classes)
        assert {i: known[labels[i]] for i in expected} == expected
        assert outcome.pseudo_labels == len(expected)
        assert outcome.pseudo_labels_wrong == sum(truth[i] != c for i, c in expected.items())
        some += outcome.pseudo_labels_wrong
    assert 0 < some < sum(each.pseudo_labels for each in exploration.outcomes)


def test_without_the_option_nothing_is_told_and_nothing_changes(tiny):
    plain = run(Exploration(tiny), [0, 1])
    assert all(fields["pseudo_labels"] is None for fields in plain[0])
    assert all(fields["pseudo_labels_wrong"] is None for fields in plain[0])
    never = run(Exploration(tiny.replace(pseudo_labels=1e-30)), [0, 1])
    for fields in never[0]:
        assert (fields["pseudo_labels"], fields["pseudo_labels_wrong"]) == (0, 0)
        fields["pseudo_labels"] = fields["pseudo_labels_wrong"] = None
    assert_same_run(plain, never)
    used = run(Exploration(tiny.replace(pseudo_labels=0.5)), [0, 1])
    assert not np.array_equal(used[2][0], plain[2][0])


def test_a_journal_without_the_option_has_no_word_of_it(tiny):
    exploration = Exploration(tiny)
    exploration.reset(0)
    exploration.advance(0)
    assert "pseudo" not in str(exploration.save()["journal"])


@pytest.mark.parametrize("steps", [0, 2])
def test_resumed_runs_are_the_same(tiny, steps):
    config = tiny.replace(pseudo_labels=0.5)
    through, broken = Exploration(config), Exploration(config)
    for exploration in (through, broken):
        exploration.reset(3)
        for _ in range(steps):
            exploration.advance(0)
    again = Exploration(config)
    last = broken.outcomes[-1]
    found = again.restore(broken.save(), last.chosen_set, last.queried_class)
    assert found.to_dict() == last.to_dict()
    for _ in range(2):
        assert through.advance(0).to_dict() == again.advance(0).to_dict()
    for one, other in zip(
        through.state.model.get_weights(), again.state.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert through.outcomes[-1].pseudo_labels > 0


def test_resumed_tasks_tell_the_same():
    exploration = explore(LABELS, pseudo_labels=SURE)
    say(exploration, [0, 1])
    told = exploration.outcomes[-1]
    assert told.pseudo_labels > 0
    other = restored(exploration)
    assert other.first.pseudo_labels == told.pseudo_labels
    assert other.first.pseudo_labels_wrong is None
    Still.calls.clear()
    assert say(other, [0, 1])[1].pseudo_labels == say(exploration, [0, 1])[1].pseudo_labels


def test_after_a_step_that_learns_nothing_none_were_used():
    exploration = explore(LABELS, pseudo_labels=SURE)
    assert say(exploration, [0, 1])[1].pseudo_labels > 0
    assert say(exploration, [SKIP, SKIP])[1].pseudo_labels == 0


def test_columns_follow_corrections():
    """Merged and dropped classes leave no column behind that means another class."""
    exploration = explore([0, 1, 2] * 2 + [-1] * 14, num_names=3, pseudo_labels=1.5)
    query = exploration.ask(first_set(exploration))
    exploration.merge(0, 2)
    exploration.correct([1, 4], [2, 2])
    expected = literal(exploration, 1.5, set(query.indices.tolist()))
    exploration.answer(query, ["owl", "owl"])
    call = Still.calls[-1]
    known = exploration.state.known_classes
    labels = {i: known[c] for i, c in learnt(call, np.flatnonzero(exploration.labels >= 0)).items()}
    assert labels == expected


def test_from_the_second_class_on():
    exploration = explore([0] * 4 + [-1] * 12, num_names=1, pseudo_labels=5.0)
    assert say(exploration, [0, "fox"])[1].pseudo_labels == 0
    assert say(exploration, [0, "fox"])[1].pseudo_labels == 8


@pytest.mark.parametrize("bad", [0, -0.1, float("nan"), float("inf"), "many", True])
def test_thresholds_out_of_range(bad):
    with pytest.raises(ValueError, match=r"pseudo_labels: expected .* got"):
        explore(LABELS, pseudo_labels=bad)
