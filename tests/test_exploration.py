"""The loop itself, on digits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf import ImageData, load
from emoc_tf.exploration import Exploration
from emoc_tf.learner import Learner
from emoc_tf.scoring import reference


def outcome_fields(outcome):
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(outcome).items()
    }


def weights(exploration):
    return [w.copy() for w in exploration.state.model.get_weights()]


def run(exploration, choices, root=7, **reset):
    """Returns everything that a run yields."""
    outcomes = [outcome_fields(exploration.reset(root, **reset))]
    states = [exploration.state]
    for choice in choices:
        outcomes.append(outcome_fields(exploration.advance(choice)))
        states.append(exploration.state)
    return outcomes, states, weights(exploration)


def assert_same_run(first, second):
    assert first[0] == second[0]
    for one, other in zip(first[1], second[1], strict=True):
        for name in ("candidates", "candidate_mask", "probabilities", "reference"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.pool.labels, other.pool.labels)
        assert one.known_classes == other.known_classes
    for one, other in zip(first[2], second[2], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("sampler", ["single_class", "uniform", "cluster"])
def test_same_root_same_run_bit_for_bit(tiny, sampler):
    """Also in another object, and after other work has moved global random state."""
    config = tiny.replace(sampler=sampler)
    first = run(Exploration(config), [0, 5, 2])
    np.random.seed(1)
    tf.random.set_seed(1)
    again = Exploration(config)
    run(again, [1], root=8)
    assert_same_run(first, run(again, [0, 5, 2]))
    other = run(again, [0, 5, 2], root=8)
    assert other[0] != first[0]


def test_policies_of_one_root_share_all_but_their_choices(tiny):
    first = run(Exploration(tiny), [0])
    second = run(Exploration(tiny), [1])
    assert first[0][0] == second[0][0]
    np.testing.assert_array_equal(first[1][0].candidates, second[1][0].candidates)
    np.testing.assert_array_equal(first[1][0].probabilities, second[1][0].probabilities)
    assert first[1][0].known_classes == second[1][0].known_classes


def test_the_books_are_kept(tiny):
    exploration = Exploration(tiny)
    exploration.reset(3)
    assert len(exploration.state.pool) == 2 * 5 + 5 * 6
    assert list(exploration.state.pool.labels[:10]) == [0] * 5 + [1] * 5
    for step in range(1, 5):
        before = exploration.state
        outcome = exploration.advance(step)
        state, chosen = exploration.state, before.candidates[step]
        changed = np.flatnonzero(state.pool.labels != before.pool.labels)
        np.testing.assert_array_equal(changed, chosen)
        assert (before.pool.labels[chosen] == -1).all()
        assert outcome.step == state.step == step
        assert outcome.labelled == 10 + 3 * step == (state.pool.labels >= 0).sum()
        assert outcome.discovered_classes == len(state.known_classes) - 2
        assert state.model.output_shape == (None, len(state.known_classes))
        assert state.probabilities.shape == (40, len(state.known_classes))
        np.testing.assert_allclose(state.probabilities.sum(axis=1), 1, rtol=1e-5)
        assert (state.pool.labels[state.candidates[state.candidate_mask]] == -1).all()


@pytest.mark.parametrize("root", range(4))
def test_labels_map_to_the_right_columns_in_any_order_of_discovery(tiny, root):
    exploration = Exploration(tiny.replace(sampler="uniform", set_size=4, novel_classes=5))
    exploration.reset(root)
    order = list(exploration.state.known_classes)
    for step in range(4):
        chosen = exploration.state.candidates[step]
        for class_id in exploration.episode.true_labels[chosen]:
            if class_id not in order:
                order.append(int(class_id))
        exploration.advance(step)
        state = exploration.state
        assert list(state.known_classes) == order
        labelled = np.flatnonzero(state.pool.labels >= 0)
        np.testing.assert_array_equal(
            np.array(state.known_classes)[state.pool.labels[labelled]],
            exploration.episode.true_labels[labelled],
        )
    assert len(order) > 4


def test_accuracy_counts_undiscovered_classes_as_errors(tiny):
    exploration = Exploration(tiny)
    outcome = exploration.reset(0)
    episode, state = exploration.episode, exploration.state
    logits = state.model(episode.test_images).numpy()
    predicted = np.array(state.known_classes)[logits.argmax(axis=1)]
    correct = predicted == episode.test_labels
    known = np.isin(episode.test_labels, state.known_classes)
    assert outcome.test_accuracy == pytest.approx(correct.mean())
    assert outcome.known_accuracy == pytest.approx(correct[known].mean())
    assert outcome.known_accuracy > 0.8
    assert outcome.novel_accuracy == 0
    assert list(outcome.class_recall[2:]) == [0, 0, 0]
    counts = [(episode.test_labels == c).sum() for c in episode.classes]
    assert outcome.test_accuracy == pytest.approx(np.average(outcome.class_recall, weights=counts))


def test_without_novel_classes_there_is_no_novel_accuracy(tiny):
    assert Exploration(tiny.replace(novel_classes=0)).reset(0).novel_accuracy is None


def test_a_discovered_class_is_recognised_and_the_known_ones_are_kept():
    from emoc_tf import ExplorationConfig

    exploration = Exploration(ExplorationConfig.preset("demo"))
    start = exploration.reset(0)
    found = 0
    for _ in range(5):
        outcome = exploration.advance(0)
        new = outcome.discovered_classes > found
        if new:
            column = exploration.episode.classes.index(outcome.queried_class)
            assert outcome.class_recall[column] > 0
        found = outcome.discovered_classes
    assert found >= 2
    assert outcome.known_accuracy > start.known_accuracy - 0.15


def test_training_gets_the_labelled_set_as_novel_and_all_before_as_old(tiny, monkeypatch):
    calls = []
    original = Learner.train

    def spy(self, iterations, seed, labels, old, novel=None):
        calls.append(
            (iterations, labels.copy(), old.copy(), None if novel is None else novel.copy())
        )
        return original(self, iterations, seed, labels, old, novel)

    monkeypatch.setattr(Learner, "train", spy)
    exploration = Exploration(tiny)
    exploration.reset(0)
    asked = [exploration.state.candidates[4]]
    exploration.advance(4)
    asked.append(exploration.state.candidates[1])
    exploration.advance(1)
    assert [call[0] for call in calls] == [60, 30, 30]
    for number, (_, labels, old, novel) in enumerate(calls):
        before = np.concatenate([np.arange(10), *asked[: max(0, number - 1)]])
        np.testing.assert_array_equal(np.sort(before), old)
        if number:
            np.testing.assert_array_equal(novel, asked[number - 1])
            assert not set(old) & set(novel)
            assert (labels[novel] >= 0).all()
        else:
            assert novel is None
    assert exploration._learner._old_fraction == tiny.old_fraction


def test_episodes_end_when_no_set_can_be_formed(tiny):
    config = tiny.replace(max_steps=None, update_iterations=1, known_classes=2, novel_classes=1)
    exploration = Exploration(config)
    exploration.reset(0)
    steps = 0
    while not exploration.finished:
        exploration.advance(0)
        steps += 1
    assert steps == config.num_steps == 6
    assert not (exploration.state.pool.labels < 0).any()


def test_bad_choices_change_nothing(tiny):
    exploration = Exploration(tiny)
    exploration.reset(0)
    before = exploration.state
    for choice in (-1, 8, 100):
        with pytest.raises(ValueError, match=f"choice: expected .*8 candidate sets, got {choice}"):
            exploration.advance(choice)
    assert exploration.state is before


def test_pixels_are_fed_minus_the_mean_of_the_initial_images(tiny):
    exploration = Exploration(tiny)
    exploration.reset(0)
    pool, raw = exploration.state.pool, exploration.episode.raw_images
    np.testing.assert_allclose(pool.images[:10].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(pool.images, raw - raw[:10].mean(axis=0), atol=1e-4)


def float_data():
    train, test = load("digits")
    return tuple(
        ImageData(part.images / np.float32(255), part.labels, part.class_names)
        for part in (train, test)
    )


def test_float_images_are_fed_as_they_are(tiny):
    exploration = Exploration(tiny, float_data())
    exploration.reset(0)
    images = exploration.state.pool.images
    assert (images.min(), images.max()) == (0, 1)


def own_model(units=2):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(units),
        ]
    )


def test_own_data_model_and_oracle(tiny):
    model, asked = own_model(), []
    train, _ = float_data()
    before = model.get_weights()

    class Counting:
        def label(self, indices, images):
            asked.append((indices, images))
            return np.full(len(indices), exploration.episode.classes[4])

        def __len__(self):  # an oracle that is false in a condition is still an oracle
            return 0

    exploration = Exploration(
        tiny.replace(learning_rate=0.1), float_data(), model=model, oracle=Counting()
    )
    start = exploration.reset(0)
    assert start.known_accuracy > 0.8
    exploration.advance(0)
    assert exploration.state.known_classes[2:] == exploration.episode.classes[4:]
    ((indices, images),) = asked
    np.testing.assert_array_equal(images, exploration.episode.raw_images[indices])
    assert images.dtype == train.images.dtype
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # The next episode starts from the model as it was given.
    assert outcome_fields(exploration.reset(0)) == outcome_fields(start)


def test_dropout_and_normalisation_of_ones_own_are_reproducible(tiny, tmp_path):
    """Unseeded dropout draws its seed outside; an adapted layer computes with hidden state."""
    normalization = keras.layers.Normalization()
    normalization.adapt(load("digits")[0].images.astype(np.float32))
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            normalization,
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    data = float_data()
    first = run(Exploration(tiny, data, model=model), [0, 1], pretrained_path=tmp_path / "p.npz")
    again = run(Exploration(tiny, data, model=model), [0, 1], pretrained_path=tmp_path / "p.npz")
    assert_same_run(first, again)
    assert_same_run(first, run(Exploration(tiny, data, model=model), [0, 1]))
    assert first[0] != run(Exploration(tiny, data, model=model), [0, 1], root=9)[0]


def test_a_trained_model_keeps_its_classes(tiny):
    """Column j of a model that is trained already belongs to model_classes[j]."""
    data = float_data()
    model = own_model(3)
    rows = np.isin(data[0].labels, [7, 2, 4])
    column = np.zeros(10, int)
    column[[7, 2, 4]] = [0, 1, 2]
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data[0].images[rows], column[data[0].labels[rows]], epochs=30, verbose=0)
    config = tiny.replace(known_classes=3, pretrain_iterations=0, novel_classes=2)
    exploration = Exploration(config, data, model=model, model_classes=[7, 2, 4])
    for root in range(3):
        outcome = exploration.reset(root)
        assert exploration.state.known_classes == (7, 2, 4)
        assert len(set(exploration.episode.classes)) == 5
        assert outcome.known_accuracy > 0.9


def test_a_step_that_breaks_off_needs_a_reset(tiny, monkeypatch):
    exploration = Exploration(tiny)
    with pytest.raises(RuntimeError, match="advance: expected a call of reset first"):
        exploration.advance(0)
    exploration.reset(0)
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "train", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            exploration.advance(0)
    with pytest.raises(RuntimeError, match="its last step was broken off"):
        exploration.advance(0)
    exploration.reset(0)
    exploration.advance(0)


def test_a_wrong_answer_changes_nothing(tiny):
    class Wrong:
        def label(self, indices, images):
            outside = set(range(10)) - set(exploration.episode.classes)
            return np.full(len(indices), min(outside))

    exploration = Exploration(tiny, oracle=Wrong())
    exploration.reset(0)
    state = exploration.state
    for _ in range(2):
        with pytest.raises(ValueError, match="oracle: expected class ids of the episode"):
            exploration.advance(0)
    assert exploration.state is state


def test_pretrained_weights_are_shared_through_a_file(tiny, tmp_path, monkeypatch):
    path = tmp_path / "shared" / "pretrained.npz"
    plain = run(Exploration(tiny), [0, 1])
    written = run(Exploration(tiny), [0, 1], pretrained_path=path)
    assert_same_run(plain, written)
    read = Exploration(tiny)
    monkeypatch.setattr(
        "emoc_tf.learner.Learner.train", lambda *_: pytest.fail("pretrained a second time")
    )
    read.reset(7, path)
    monkeypatch.undo()
    assert_same_run(plain, run(read, [0, 1], pretrained_path=path))


@pytest.mark.parametrize("change", [{"root": 8}, {"pretrain_iterations": 61}, {"momentum": 0.8}])
def test_pretrained_weights_of_another_run_are_refused(tiny, tmp_path, change):
    path = tmp_path / "pretrained.npz"
    Exploration(tiny).reset(7, path)
    content = path.read_bytes()
    root = change.pop("root", 7)
    with pytest.raises(ValueError, match="expected pretrained weights of this configuration"):
        Exploration(tiny.replace(**change)).reset(root, path)
    assert path.read_bytes() == content


def bad_setups():
    train, test = float_data()
    other = ImageData(test.images[:, :4], test.labels, test.class_names)
    renamed = ImageData(test.images, test.labels, tuple("abcdefghij"))
    pixels = load("digits")[1]
    return {
        "sampler": ({"sampler": "best"}, {}, r"sampler: expected one of \['cluster', .*got 'best'"),
        "network": ({"network": "vgg"}, {}, "network: expected one of .*got 'vgg'"),
        "classes": (
            {"known_classes": 8},
            {},
            r"known_classes \+ novel_classes: expected at most 10.*got 11",
        ),
        "images": (
            {"pool_per_class": 117, "known_classes": 7},
            {},
            r"initial_per_class \+ pool_per_class: expected 10 classes with 122 .*got 3",
        ),
        "shapes": ({}, {"data": (train, other)}, "data: expected .*of one shape"),
        "names": ({}, {"data": (train, renamed)}, "data: expected the same class_names"),
        "dtypes": ({}, {"data": (train, pixels)}, "data: expected .*both uint8 or both floating"),
        "data": ({}, {"data": (train,)}, "data: expected .*two ImageData"),
        "one part": ({}, {"data": train}, "data: expected .*two ImageData, got .'ImageData'"),
        "no part": ({}, {"data": ()}, "data: expected .*two ImageData"),
        "oracle": ({}, {"oracle": object()}, "oracle: expected an object with label"),
        "classes without a model": ({}, {"model_classes": [1, 2]}, "model_classes: expected 2"),
        "too few classes": (
            {},
            {"model": own_model(), "model_classes": [1]},
            "model_classes: expected 2 different class ids",
        ),
        "unknown classes": (
            {},
            {"model": own_model(), "model_classes": [1, 11]},
            "model_classes: expected classes with enough images",
        ),
        "float64 model": (
            {},
            {"model": reference.rebuild(own_model())},
            "model: expected layers in float32, got float64",
        ),
        "outputs": ({}, {"model": own_model(3)}, "model: expected 2 outputs.*got 3"),
        "input": (
            {},
            {"model": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])},
            r"model: expected input shape \(8, 8, 1\), got \(4,\)",
        ),
        "head": (
            {},
            {"model": keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])},
            "model: expected one that ends in a linear Dense layer",
        ),
    }


@pytest.mark.parametrize("case", sorted(bad_setups()))
def test_setups_that_do_not_fit_are_refused_at_once(tiny, case):
    changes, arguments, message = bad_setups()[case]
    with pytest.raises(ValueError, match=message):
        Exploration(tiny.replace(**changes), **arguments)


def test_the_papers_protocol_in_small(cifar_dir):
    """Real CIFAR-100 and the paper's network through all parts, with few iterations."""
    from emoc_tf import ExplorationConfig, agents

    config = ExplorationConfig.preset(
        "paper", data_dir=cifar_dir, num_candidate_sets=12, pretrain_iterations=60,
        update_iterations=20,
    )  # fmt: skip
    exploration = Exploration(config)
    outcome = exploration.reset(0)
    assert outcome.labelled == 1000
    assert len(exploration.state.pool) == 3000
    assert len(exploration.episode.test_images) == 2000
    choice = agents.make("emoc:references=16").act({}, exploration.state)
    after = exploration.advance(choice)
    assert after.labelled == 1025
    assert np.isfinite(exploration.state.probabilities).all()
