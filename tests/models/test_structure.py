"""Models with some of the outputs of another."""

import keras
import numpy as np
import pytest

from emoc_tf.config import ExplorationConfig
from emoc_tf.models import structure
from emoc_tf.models.episode_model import EpisodeModel
from emoc_tf.scoring import reference
from tests.scoring import models, own_models
from tests.scoring.own_models import SHAPE, classifier

layers = keras.layers
IMAGES = own_models.make_images(5)
NESTED = {
    f"{kind} {depth}": lambda kind=kind, depth=depth: own_models.nested_head(kind, depth)
    for kind in ("sequential", "functional")
    for depth in (1, 2)
}


def mixed_nesting():
    """A Sequential whose last layer is a functional model that ends in a Sequential one."""
    start = keras.Input((6,))
    end = keras.Sequential([layers.Dense(5, activation="tanh"), layers.Dense(3)])
    inner = keras.Model(start, end(layers.Dense(4)(start)))
    return models.randomised(
        keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(6), inner])
    )


def without_bias():
    return classifier(head=layers.Dense(3, use_bias=False, kernel_regularizer="l2"))


@pytest.mark.parametrize("columns", [[2, 0], [1], [0, 1, 2], np.array([2, 1]), range(2)])
@pytest.mark.parametrize("build", [classifier, without_bias, mixed_nesting, *NESTED.values()])
def test_chosen_outputs_keep_their_weights_bit_for_bit(build, columns):
    model = build()
    before = model.get_weights()
    chosen = structure.select_outputs(model, columns)
    assert chosen.output_shape == (None, len(columns))
    head = chosen.layers[-1]
    old = structure.check_model(model)
    for ours, theirs in zip(head.get_weights(), old.get_weights(), strict=True):
        assert ours.tobytes() == theirs[..., list(columns)].tobytes()
    np.testing.assert_allclose(
        chosen(IMAGES), model(IMAGES).numpy()[:, list(columns)], rtol=1e-5, atol=1e-6
    )
    own = {id(variable) for variable in head.variables}
    assert {id(v) for v in chosen.variables} - own <= {id(v) for v in model.variables}
    assert len(chosen.losses) == len(model.losses)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_has_grown_is_taken_back():
    model = classifier()
    grown = structure.grow_head(model, 2, np.random.default_rng(0))
    back = structure.select_outputs(grown, range(3))
    for ours, theirs in zip(back.get_weights(), model.get_weights(), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(
    "columns", [[], [3], [-1], [0, 0], [[0, 1]], 1, [0.0], [True, False, True], ["a"], None]
)
def test_what_are_no_outputs_is_refused(columns):
    with pytest.raises(ValueError, match="columns: expected different columns among the 3 outputs"):
        structure.select_outputs(classifier(), columns)


def test_a_head_of_a_class_of_its_own_is_refused_as_in_growth():
    model = classifier(head=own_models.Cosine(3))
    with pytest.raises(ValueError, match=r"head of type Dense, .* of type Cosine"):
        structure.select_outputs(model, [0])


def episode(num_outputs=None):
    config = ExplorationConfig(known_classes=3, batch_size=4, learning_rate=0.01)
    return EpisodeModel(config, classifier(), own_models.make_images(12), 3, num_outputs)


def test_an_episode_takes_outputs_back_and_resumes():
    labels, one = np.arange(12) % 3, episode()
    one.update(1, labels, np.arange(6), np.arange(6, 12))
    one.change_outputs(2, [0, 1, 2], 2, "new units")
    for columns in ([1, 3], [1]):  # below the classes known at the start
        logits = one.predict(IMAGES)[1]
        one.change_outputs(3, columns, 0, "new units")
        np.testing.assert_allclose(one.predict(IMAGES)[1], logits[:, columns], atol=1e-6)
        other = episode(len(columns))
        other.set_arrays(one.get_arrays())
        for each in (one, other):
            each.update(3, labels % len(columns), np.arange(6), np.arange(6, 12))
        for ours, theirs in zip(*(e.get_arrays().values() for e in (one, other)), strict=True):
            assert ours.tobytes() == theirs.tobytes()
        one = other
        one.change_outputs(4, [*range(len(columns))], 3, "new units")
        assert one.model.output_shape == (None, len(columns) + 3)


@pytest.mark.parametrize(("kept", "new_units"), [([], 3), ([0, 2], 1), ([2], 2), ([], 0)])
def test_what_an_optimizer_keeps_of_other_outputs_is_forgotten(kept, new_units):
    """Also where as many outputs come as go, which no shape tells afterwards."""
    labels, one = np.arange(12) % 3, episode()
    one.update(1, labels, np.arange(6), np.arange(6, 12))
    before = one.get_arrays()
    one.change_outputs(2, kept, new_units, "new units")
    after = one.get_arrays()
    assert after["variable_3"].shape == (max(1, len(kept) + new_units),)
    for i in (2, 3):  # kernel and bias of the head
        assert before[f"velocity_{i}"].any()
        assert not after[f"velocity_{i}"].any()
        np.testing.assert_array_equal(
            after[f"variable_{i}"][..., : len(kept)], before[f"variable_{i}"][..., kept]
        )
    np.testing.assert_array_equal(after["velocity_0"], before["velocity_0"])


@pytest.mark.parametrize(
    "made",
    [
        structure.copy,
        lambda model: structure.grow_head(model, 1, np.random.default_rng(0)),
        lambda model: structure.select_outputs(model, [1, 0]),
        reference.rebuild,
    ],
    ids=["copied", "grown", "selected", "rebuilt"],
)
def test_penalties_and_constraints_that_were_set_by_hand_are_kept(made):
    model = classifier(outputs=3)
    first = model.trainable_variables[0]
    first.regularizer, first.constraint = keras.regularizers.L2(0.1), keras.constraints.NonNeg()
    model.trainable_variables[-2].regularizer = keras.regularizers.L1(0.2)  # the head's
    other = made(model)
    told = [(v.regularizer, v.constraint) for v in other.trainable_variables]
    assert told == [(v.regularizer, v.constraint) for v in model.trainable_variables]
    assert len(other.losses) == 2
