"""The last layer refitted, against scikit-learn's logistic regression."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from emoc_tf import ExplorationConfig, streams
from emoc_tf.data import named
from emoc_tf.exploration import Exploration
from emoc_tf.models.checks import check_model
from emoc_tf.running.refitting import LastLayer, refit
from emoc_tf.running.relearning import Start, classes_of_test_images

CONFIG = ExplorationConfig(
    known_classes=3, novel_classes=2, initial_per_class=6, pool_per_class=8, num_candidate_sets=10,
    set_size=3, pretrain_iterations=60, update_iterations=7, old_fraction=0.9,
)  # fmt: skip


@pytest.fixture(scope="module")
def exploration():
    found = Exploration(CONFIG, named.load("digits"))
    found.reset(streams.root_of(3))
    return found


def of_scikit_learn(inputs, columns, shares, decay):
    """Its penalty is ½‖W‖² beside C · Σ CE; the ones for the bias are among the inputs."""
    model = LogisticRegression(C=1 / decay, fit_intercept=False, tol=1e-10, max_iter=20000)
    return model.fit(inputs, columns, sample_weight=shares).coef_.T


def test_the_best_weights_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    columns = rng.integers(4, size=60)
    inputs = rng.normal(size=(4, 5))[columns] + rng.normal(size=(60, 5))
    inputs *= [1, 100, 0.01, 10, 1]  # features of several scales
    shares = rng.random(60) / 60
    expected = of_scikit_learn(inputs, columns, shares, 0.01)
    found = refit(inputs, columns, shares, 0.01, np.zeros((5, 4)))
    np.testing.assert_allclose(inputs @ found, inputs @ expected, atol=1e-4)
    # Where the search begins decides nothing.
    again = refit(inputs, columns, shares, 0.01, rng.normal(size=(5, 4)))
    np.testing.assert_allclose(softmax(inputs @ again, 1), softmax(inputs @ found, 1), atol=1e-5)


@pytest.mark.parametrize("novel", [False, True])
def test_a_set_is_learnt_among_old_images_as_mini_batches_weigh_them(exploration, novel):
    state, truth = exploration.state, exploration.episode.true_labels
    is_novel = ~np.isin(truth[state.candidates], state.known_classes).all(axis=1)
    choice = int(np.flatnonzero(state.candidate_mask & (is_novel == novel))[0])
    layer = LastLayer(CONFIG, exploration)
    weights, known = layer.learn(choice)
    assert len(known) == 3 + novel
    chosen = state.candidates[choice]
    labelled = np.flatnonzero(state.pool.labels >= 0)
    classes = np.append(truth[labelled], truth[chosen])
    inputs = np.pad(state.features, [(0, 0), (0, 1)], constant_values=1).astype(np.float64)
    columns = np.array([known.tolist().index(c) for c in classes])
    shares = np.append(np.full(18, 0.9 / 18), np.full(3, 0.1 / 3))
    rows = np.append(labelled, chosen)
    expected = of_scikit_learn(inputs[rows], columns, shares, CONFIG.weight_decay)
    np.testing.assert_allclose(inputs @ weights, inputs @ expected, atol=1e-2)
    body = exploration.state.model
    head = check_model(body)
    kept = head.get_weights()
    right = layer.right(choice)
    assert right.shape == exploration.episode.test_labels.shape
    if not novel:  # the same with the model itself
        head.set_weights([weights[:-1], weights[-1]])
        predicted = known[body(exploration.episode.test_images).numpy().argmax(axis=1)]
        head.set_weights(kept)
        assert (right != (predicted == classes_of_test_images(exploration))).mean() < 0.01


def test_without_a_set_there_are_the_labelled_images_alone(exploration):
    state = exploration.state
    labelled = np.flatnonzero(state.pool.labels >= 0)
    inputs = np.pad(state.features, [(0, 0), (0, 1)], constant_values=1).astype(np.float64)
    weights = of_scikit_learn(
        inputs[labelled], state.pool.labels[labelled], np.full(18, 1 / 18), CONFIG.weight_decay
    )
    layer = LastLayer(CONFIG, exploration)
    np.testing.assert_allclose(inputs @ layer._alone, inputs @ weights, atol=1e-2)
    right = layer.right(None)
    is_known = np.isin(classes_of_test_images(exploration), state.known_classes)
    assert not right[~is_known].any()
    assert right[is_known].mean() > 0.5


def test_short_sets_and_several_new_classes_at_once(exploration, monkeypatch):
    layer = LastLayer(CONFIG, exploration)
    truth = exploration.episode.true_labels
    novel = [int(np.flatnonzero(truth == c)[0]) for c in exploration.episode.classes[3:]]
    sets = np.array([[novel[0], novel[1], -1]])
    monkeypatch.setattr(layer, "_state", _With(exploration.state, candidates=sets))
    weights, known = layer.learn(0)
    assert weights.shape == (len(layer._inputs[0]), 5)
    assert sorted(known[3:].tolist()) == sorted(exploration.episode.classes[3:])
    outputs = layer._inputs[novel] @ weights
    np.testing.assert_array_equal(known[outputs.argmax(axis=1)], truth[novel])


class _With:
    """An object with some attributes replaced."""

    def __init__(self, base, **changes):
        self.__dict__.update({**vars(base), **changes})


def test_without_weight_decay_there_is_no_best_layer(exploration):
    with pytest.raises(ValueError, match=r"weight_decay: expected a number above 0, .* got 0"):
        LastLayer(CONFIG.replace(weight_decay=0), exploration)


def test_right_after_the_real_update_is_its_accuracy():
    data = named.load("digits")
    exploration = Exploration(CONFIG, data)
    exploration.reset(streams.root_of(3))
    exploration.advance(0)
    state = exploration.state
    start = Start.at(CONFIG, data, exploration)
    assert start.accuracy == exploration.outcomes[-1].test_accuracy
    choice = int(np.flatnonzero(state.candidate_mask)[-1])
    alone, right = start.right(None), start.right(choice)
    np.testing.assert_array_equal(start.right(None), alone)  # each time from the same weights
    outcome = exploration.advance(choice)
    assert right.mean() == pytest.approx(outcome.test_accuracy, abs=1e-12)
    assert (right != alone).any()
    truth = classes_of_test_images(exploration)
    assert not alone[~np.isin(truth, state.known_classes)].any()
