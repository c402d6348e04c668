import numpy as np
import pytest

from emoc_tf.models import networks, structure, traces, training_step
from emoc_tf.models.learner import SLICE_ITERATIONS, Learner, draw_mini_batches
from emoc_tf.scoring import reference
from tests.scoring import models
from tests.scoring.literal import gradient_function

SEED = np.array([3, 4], np.int32)


def make_learner(weight_decay=5e-4, old_fraction=0.9, batch_size=4):
    model = models.randomised(
        networks.build("small_cnn", (8, 8, 1), 3, weight_decay, np.random.default_rng(0))
    )
    images = models.images(12, (8, 8, 1), scale=100.0)
    learner = Learner(
        model, images, learning_rate=0.01, momentum=0.9, batch_size=batch_size,
        old_fraction=old_fraction,
    )  # fmt: skip
    return learner, images, np.arange(12) % 3


def velocities(learner):
    """Returns what SGD keeps, one a trainable variable."""
    arrays = learner.get_arrays()
    return [array for name, array in arrays.items() if name.startswith("velocity_")]


def test_updates_are_sgd_with_decay_in_the_gradient_before_momentum():
    """Three iterations against NumPy in float64, with gradients from the literal reference."""
    learner, images, labels = make_learner()
    theirs = reference.rebuild(learner.model)
    old = np.arange(12)
    draws = draw_mini_batches(SEED, [3, 4], old, old, 1.0).numpy()
    gradient_of = gradient_function(theirs, regularizer=False)
    velocity = [np.zeros(v.shape) for v in theirs.trainable_variables]
    plain = 0.0
    for batch in draws:
        rows = [gradient_of(images[i], labels[i]) for i in batch]
        start = 0
        for i, variable in enumerate(theirs.trainable_variables):
            size = int(np.prod(variable.shape))
            mean = np.mean([row[start : start + size] for row in rows], axis=0)
            gradient = mean.reshape(variable.shape) + 5e-4 * variable.numpy()
            velocity[i] = 0.9 * velocity[i] - 0.01 * gradient
            plain += np.abs(5e-4 * variable.numpy()).sum()
            variable.assign(variable.numpy() + velocity[i])
            start += size
    learner.train(3, SEED, labels, old)
    for ours, right in zip(learner.model.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(ours, right, rtol=2e-5, atol=2e-6)
    for ours, right in zip(velocities(learner), velocity, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-3, atol=2e-6)


def test_decay_alone_shrinks_the_weights_exactly_as_written():
    """One class has no loss gradient: v ← 0.9 v − η·5e-4·θ is all that is left."""
    model = models.randomised(
        networks.build("small_cnn", (8, 8, 1), 1, 5e-4, np.random.default_rng(0))
    )
    learner = Learner(
        model, models.images(4, (8, 8, 1)), learning_rate=0.5, momentum=0.9, batch_size=2,
        old_fraction=0.9,
    )  # fmt: skip
    weights = [w.astype(np.float64) for w in model.get_weights()]
    velocity = [np.zeros_like(w) for w in weights]
    for _ in range(7):
        velocity = [0.9 * v - 0.5 * 5e-4 * w for v, w in zip(velocity, weights, strict=True)]
        weights = [w + v for v, w in zip(velocity, weights, strict=True)]
    learner.train(7, SEED, np.zeros(4, int), np.arange(4))
    for ours, right in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("old_fraction", [0.9, 0.5, 0.0, 1.0])
def test_old_and_novel_images_are_mixed_at_the_stated_rates(old_fraction):
    old, novel = np.array([3, 5, 8]), np.array([20, 21])
    draws = draw_mini_batches(SEED, [500, 64], old, novel, old_fraction).numpy().ravel()
    counts = np.bincount(draws, minlength=22)
    assert counts.sum() == counts[[*old, *novel]].sum() == 32000
    for members, share in ((old, old_fraction), (novel, 1 - old_fraction)):
        expected = 32000 * share / len(members)
        assert np.abs(counts[members] - expected).max() <= 5 * np.sqrt(expected)


def test_training_itself_mixes_at_the_stated_rates(monkeypatch):
    """λ = 0.9 of what `train` draws is old, not novel: counted on its way into training."""
    learner, _, labels = make_learner(old_fraction=0.9, batch_size=64)
    drawn, iterate = [], learner._iterate
    learner._iterate = lambda batches, *given: (
        drawn.append(batches.numpy()) or iterate(batches, *given)
    )
    learner.train(70, SEED, labels, np.arange(10), np.array([10, 11]))
    indices = np.concatenate([batches.ravel() for batches in drawn])
    assert len(indices) == 70 * 64
    assert (indices >= 10).mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / len(indices)))


def test_training_uses_the_old_images_alone_without_a_novel_set():
    learner, _, labels = make_learner(old_fraction=0.0)
    hidden = np.where(np.arange(12) < 6, labels, -1)  # label −1 would give a NaN loss
    learner.train(20, SEED, hidden, np.arange(6))


def test_novel_images_are_learnt():
    learner, images, _ = make_learner(old_fraction=0.5, weight_decay=0.0)
    labels = np.array([0] * 11 + [2])
    learner.train(200, SEED, labels, np.arange(11), np.array([11]))
    assert learner.model(images).numpy().argmax(axis=1)[11] == 2


def test_equal_seeds_give_equal_bits_and_slices_differ():
    weights = []
    for _ in range(2):
        learner, _, labels = make_learner()
        learner.train(2 * SLICE_ITERATIONS + 3, SEED, labels, np.arange(12))
        weights.append(learner.model.get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)
    slices = [
        draw_mini_batches(SEED + np.array([0, start], np.int32), [50, 4], [0, 1, 2], [0], 1.0)
        for start in (0, SLICE_ITERATIONS)
    ]
    assert not np.array_equal(*slices)


def test_growing_keeps_momentum_and_starts_new_units_at_rest():
    learner, _, labels = make_learner()
    learner.train(5, SEED, labels, np.arange(12))
    before = velocities(learner)
    learner.replace_model(structure.grow_head(learner.model, 2, np.random.default_rng(0)))
    for old, padded in zip(before, velocities(learner), strict=True):
        np.testing.assert_array_equal(old, padded[tuple(slice(size) for size in old.shape)])
        assert np.abs(padded).sum() == pytest.approx(np.abs(old).sum(), rel=1e-6)
    learner.train(5, SEED, np.where(labels == 0, 4, labels), np.arange(12))
    assert velocities(learner)[-1].shape == (5,)


def test_arrays_carry_a_learner_over():
    learner, _, labels = make_learner()
    learner.train(5, SEED, labels, np.arange(12))
    other, _, _ = make_learner()
    other.set_arrays(learner.get_arrays())
    for each in (learner, other):
        each.train(5, SEED, labels, np.arange(12))
    for first, second in zip(learner.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_divergence_is_reported():
    learner, _, labels = make_learner()
    learner._learning_rate = 1e6
    learner.replace_model(learner.model)
    with pytest.raises(FloatingPointError, match=r"diverged: loss .*learning_rate=1000000.0"):
        learner.train(100, SEED, labels, np.arange(12))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_weights_that_diverge_in_the_last_iteration_are_reported():
    """The loss of that iteration is still finite."""
    learner, _, labels = make_learner()
    learner._learning_rate = 1e39
    learner.replace_model(learner.model)
    with pytest.raises(FloatingPointError, match=r"diverged: .*kernel not finite after 1 iter"):
        learner.train(1, SEED, labels, np.arange(12))


def test_nothing_is_traced_again(monkeypatch):
    traced, iterate = [], training_step._iterate
    monkeypatch.setattr(training_step, "_iterate", lambda *a: traced.append(1) or iterate(*a))
    monkeypatch.setattr(traces, "architecture", lambda *_, **__: None)
    learner, _, labels = make_learner()
    for novel in (None, np.array([1]), np.array([1, 2, 3])):
        for iterations in (1, 60):
            learner.train(iterations, SEED, labels, np.arange(4, 12), novel)
    assert len(traced) == 1


def test_novel_images_are_enough_where_none_is_labelled_before():
    learner, images, labels = make_learner(weight_decay=0.0)
    hidden = np.where(np.arange(12) < 3, labels, -1)
    learner.train(200, SEED, hidden, np.arange(0), np.arange(3))
    np.testing.assert_array_equal(learner.model(images).numpy().argmax(axis=1)[:3], labels[:3])
    with pytest.raises(ValueError, match="old: expected images to train on, got none"):
        learner.train(1, SEED, hidden, np.arange(0))


def test_no_novel_images_are_as_good_as_none():
    weights = []
    for novel in (None, np.arange(0)):
        learner, _, labels = make_learner()
        learner.train(3, SEED, labels, np.arange(12), novel)
        weights.append(np.concatenate([w.ravel() for w in learner.model.get_weights()]))
    np.testing.assert_array_equal(*weights)


def test_a_smaller_head_is_trained_on():
    learner, images, labels = make_learner()
    learner.train(5, SEED, labels, np.arange(12))
    body = velocities(learner)[0]
    learner.replace_model(structure.select_outputs(learner.model, [0, 2]))
    np.testing.assert_array_equal(velocities(learner)[0], body)
    for velocity in velocities(learner)[-2:]:
        assert not velocity.any()
        assert velocity.shape[-1] == 2
    learner.train(100, SEED, labels // 2, np.arange(12))
    assert learner.model(images).shape == (12, 2)
