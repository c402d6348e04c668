"""Scores and predictions of a pool on two machines of one processor: the bits of one process."""

import logging
import threading
import time

import keras
import numpy as np
import pytest

from emoc_tf.data import ImageFolder
from emoc_tf.data.views import ImageView
from emoc_tf.models.forward import batch_of, compile_features, in_batches
from emoc_tf.scoring import EMOCScorer, RayScorer
from tests.data.pictures import make_folder
from tests.ray.conftest import add_node
from tests.scoring import built_models, models

layers = keras.layers


def linear():
    image = keras.Input((6,))
    return keras.Model(image, layers.Dense(4)(image))


def frozen():
    model = models.convolutional()
    for layer in model.layers[:-1]:
        layer.trainable = False
    return model


def large():
    """Of images that go through it one by one."""
    image = keras.Input((1200, 1200, 3))
    x = layers.Conv2D(3, 120, strides=120, activation="relu")(image)
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


def problem(make, references=300, images=400, sets=120):
    model = models.randomised(make())
    drawn = np.random.default_rng(0).integers(0, images, (sets, 4))
    return model, models.inputs(model, references, 1), models.inputs(model, images, 2), drawn


@pytest.fixture(scope="module", autouse=True)
def team(connection):
    """The actors of all tests here; other tests need the machines afterwards."""
    scorer = RayScorer(models.dense())
    yield scorer._team
    scorer.close()


def answers(scorer, reference, images, sets):
    """What a scorer answers, by question."""
    chosen = scorer.select_set(reference, images, sets)
    return {
        "scores": scorer.scores(reference, images),
        "expected": scorer.expected_scores(reference[:40], images[:30]),
        "sets": scorer.set_scores(reference, images, sets),
        "joint": scorer.set_scores(reference[:40], images, sets[:20], "joint"),
        "chosen": chosen,
        "joint chosen": scorer.select_set(reference, images, sets, "joint"),
        "all pairs": scorer.select_set(reference, images, sets, confidence=None),
    }


def assert_same(found, wanted):
    for name, value in wanted.items():
        if isinstance(value, np.ndarray):
            assert value.tobytes() == found[name].tobytes(), name
        else:
            assert found[name] == value, name


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (models.convolutional, {}),
        (models.convolutional, {"memory_budget": 300_000}),  # many parts and batches
        (linear, {}),
        (linear, {"output": "softmax"}),
        (frozen, {}),
    ],
    ids=["convolutional", "little memory", "linear", "softmax", "frozen"],
)
def test_the_bits_of_one_process(make, how):
    model, *given = problem(make)
    wanted = answers(EMOCScorer(model, **how), *given)
    assert_same(answers(RayScorer(model, **how), *given), wanted)
    if not how and make is models.convolutional:
        assert len(wanted["chosen"].rounds) > 1  # else little of it was shared out


def test_the_bits_of_large_images():
    model, reference, images, sets = problem(large, 10, 10, 8)  # two tasks
    assert batch_of(images.shape) == 1
    alone, shared = EMOCScorer(model), RayScorer(model)
    assert shared.scores(reference, images).tobytes() == alone.scores(reference, images).tobytes()
    assert shared.select_set(reference, images, sets) == alone.select_set(reference, images, sets)
    wanted = in_batches(compile_features(model), images)
    assert shared.predict(images).logits.tobytes() == wanted[1].tobytes()


def test_the_bits_of_sketches():
    model, *given = problem(models.convolutional)
    how = {"method": "sketch", "sketch_size": 20}
    alone, shared = EMOCScorer(model, **how), RayScorer(model, **how)
    for scorer in (alone, shared):
        assert scorer.sketch is None
    wanted = alone.set_scores(*given), alone.select_set(*given)
    found = shared.set_scores(*given), shared.select_set(*given)
    assert found[0].tobytes() == wanted[0].tobytes()
    assert found[1] == wanted[1]
    assert shared.sketch == alone.sketch


@pytest.mark.parametrize("name", ["unfrozen_within_a_block", "adapters_alone"])
def test_the_bits_of_what_keras_does_not_save(name):
    """Layers of your own, and variables that are frozen one by one."""
    model = built_models.make(name)
    images = built_models.make_images(model, 40)
    wanted = EMOCScorer(model).scores(images[:20], images[20:])
    assert RayScorer(model).scores(images[:20], images[20:]).tobytes() == wanted.tobytes()


def test_predictions_are_those_of_one_process():
    model, _, images, _ = problem(models.unusual)
    wanted = in_batches(compile_features(model), images)
    found = RayScorer(model).predict(images)
    assert found.features.tobytes() == wanted[0].tobytes()
    assert found.logits.tobytes() == wanted[1].tobytes()
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)


def test_what_changes_between_two_calls_counts():
    model, reference, images, _ = problem(models.dense)
    alone, shared = EMOCScorer(model), RayScorer(model)
    shared.scores(reference, images)
    images[7] *= 2
    assert shared.scores(reference, images).tobytes() == alone.scores(reference, images).tobytes()
    models.randomised(model, seed=5)
    assert shared.scores(reference, images).tobytes() == alone.scores(reference, images).tobytes()


@pytest.mark.parametrize("mean", [None, np.full((5, 3, 1), 3.5)])
def test_images_in_a_file_are_read_there(tmp_path, team, mean, caplog):
    model, reference, *_ = problem(models.dense)
    pixels = np.random.default_rng(0).integers(0, 255, (300, 5, 3, 1)).astype(np.uint8)
    pixels.tofile(tmp_path / "pixels.bin")
    mapped = np.memmap(tmp_path / "pixels.bin", np.uint8, "r", shape=pixels.shape)
    view = ImageView(mapped, np.arange(0, 300, 2), mean)
    wanted = EMOCScorer(model).scores(reference, view)
    assert RayScorer(model).scores(reference, view).tobytes() == wanted.tobytes()
    sources = team._sender._sources.values()
    *_, sent = [sent for source, sent in sources if isinstance(source, np.memmap)]
    assert not sent.held
    assert len(sent.place) < 1000
    (tmp_path / "pixels.bin").unlink()  # nobody who opens it now sees it
    team._sender._sources.clear()
    assert RayScorer(model).scores(reference, view).tobytes() == wanted.tobytes()
    assert "does not see where they lie" in caplog.text


def test_images_in_a_store_are_read_there(tmp_path, team):
    folder = ImageFolder(make_folder(tmp_path / "images"), image_size=8, store=tmp_path / "store")
    image = keras.Input((8, 8, 3))
    model = models.randomised(keras.Model(image, layers.Dense(4)(layers.Flatten()(image))))
    view = ImageView(folder, mean=np.full((8, 8, 3), 99.0))
    wanted = EMOCScorer(model).scores(view, view)
    assert RayScorer(model).scores(view, view).tobytes() == wanted.tobytes()
    (sent,) = [sent for source, sent in team._sender._sources.values() if source is folder]
    assert not sent.held
    assert len(sent.place) < 1000  # names and hashes of a million images stay here


def test_what_is_wrong_is_told_as_by_one_process():
    model, reference, images, _ = problem(linear)
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    cases = {
        "candidates: expected finite numbers, got inf in image 301": (301, np.inf),
        "candidates: expected finite model outputs, got .* at 399": (399, 3e38),
        # Outputs fit into float32, their changes by reference images do not.
        "scores: expected finite output changes, got (inf|nan); gradients": (399, 3e37),
    }
    reference *= 10
    for told, (place, value) in cases.items():
        wrong, messages = images.copy(), []
        wrong[place] = value
        for scorer in (EMOCScorer(model), RayScorer(model)):
            with pytest.raises(ValueError, match=told) as raised:
                scorer.scores(reference, ImageView(wrong))
            messages.append(str(raised.value))
        assert messages[0] == messages[1]


def test_what_a_model_refuses_is_told_of_predictions_too():
    model = models.make("words")
    words = models.inputs(model, 9)
    words[7, 2] = 300
    with pytest.raises(ValueError, match=r"^images: the model refuses them: indices\[7,2\] = 300"):
        RayScorer(model).predict(words)


def test_cpus_that_no_machine_lends_are_refused():
    with pytest.raises(ValueError, match="cpus: expected as many as a machine of the cluster"):
        RayScorer(models.dense(), cpus=64)
    with pytest.raises(ValueError, match="cpus: expected an integer of at least 1, got 0"):
        RayScorer(models.dense(), cpus=0)


def test_a_machine_that_is_removed_in_a_round_costs_what_it_was_at(cluster, team, until, caplog):
    model, reference, images, _ = problem(models.convolutional, 3000, 3000)
    wanted = EMOCScorer(model).scores(reference, images)
    scorer, node, killed = RayScorer(model), add_node(cluster, num_cpus=1), []
    scorer.scores(reference[:300], images[:20])  # the third actor begins meanwhile

    def members():
        return [m for m in team._crew._members if m.node.id == node.node_id]

    def remove():
        until(lambda: any(m.ready and m.index is not None for m in members()))
        killed.append(time.monotonic())
        cluster.remove_node(node, allow_graceful=False)

    remover = threading.Thread(target=remove)
    with caplog.at_level(logging.WARNING, "emoc_tf.cluster"):
        remover.start()
        while not killed:  # until the third one is at work
            found = scorer.scores(reference, images)
        remover.join()
    assert found.tobytes() == wanted.tobytes()
    (line,) = [r.getMessage() for r in caplog.records if "in flight" in r.getMessage()]
    assert f"node {node.node_id[:8]}" in line
    assert "sums" in line
    assert "computed again elsewhere" in line
