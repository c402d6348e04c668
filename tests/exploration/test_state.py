"""What agents get: read-only, and without a secret."""

import gc
import types

import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.exploration import Exploration
from emoc_tf.scoring import EMOCScorer


def reachable(start):
    """Yields all objects that can be reached from `start` without going through code or types.

    Globals of functions are not followed: they reach every module, whatever the state holds.
    """
    seen, waiting = set(), [start]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, (type, types.ModuleType, types.CodeType)):
            continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, types.FunctionType):
            waiting += [thing.__closure__, thing.__defaults__, thing.__kwdefaults__]
        elif isinstance(thing, np.ndarray):
            waiting.append(thing.base)
        else:
            waiting += gc.get_referents(thing)


def arrays_in(start):
    """Yields what can be read from `start` as an array: arrays, tensors, variables, sequences."""
    for thing in reachable(start):
        if isinstance(thing, tf.Tensor | tf.Variable) and thing.dtype != tf.resource:
            thing = thing.numpy() if hasattr(thing, "numpy") else None
        elif isinstance(thing, list | tuple) and thing and all(type(x) is int for x in thing):
            thing = np.array(thing)
        if isinstance(thing, np.ndarray) and thing.dtype.kind in "fiub" and thing.size:
            yield thing


def leaks(start, exploration):
    """Returns which secrets of the episode can be read from `start`."""
    episode, labels = exploration.episode, exploration.state.pool.labels
    column = {class_id: c for c, class_id in enumerate(exploration.state.known_classes)}
    unlabelled = np.flatnonzero(labels < 0)
    truth = episode.true_labels
    columns = np.array([column.get(int(c), -1) for c in truth])
    secret_labels = [truth, truth[unlabelled], columns[unlabelled], episode.test_labels]
    raw_test = exploration._source._test.images
    tested = {image.tobytes() for image in (*episode.test_images, *raw_test)}
    found = set()
    for thing in arrays_in(start):
        flat = thing.ravel()
        for secret in (s for s in secret_labels if flat.size >= s.size):
            if np.array_equal(flat[: secret.size], secret):
                found.add("labels")
        if flat.size == truth.size and np.array_equal(flat[unlabelled], truth[unlabelled]):
            found.add("labels")
        if thing.shape[-3:] == episode.test_images.shape[1:]:
            each = thing.reshape(-1, *thing.shape[-3:])
            if any(image.tobytes() in tested for image in each):
                found.add("test images")
    return found


def planted_leaks(exploration):
    episode = exploration.episode
    unlabelled = np.flatnonzero(exploration.state.pool.labels < 0)
    return {
        "all labels": (episode.true_labels, "labels"),
        "labels as floats": (episode.true_labels.astype(float), "labels"),
        "a list of labels": (episode.true_labels.tolist(), "labels"),
        "labels of the unlabelled": (episode.true_labels[unlabelled], "labels"),
        "test labels": (episode.test_labels, "labels"),
        "one fed test image": (episode.test_images[7], "test images"),
        "raw test images": (exploration._source._test.images[3:5], "test images"),
        "a tensor": (tf.constant(episode.test_images[1:3]), "test images"),
        "the exploration": (exploration, "labels"),
    }


def test_no_true_label_and_no_test_image_can_be_reached_from_the_state(tiny):
    exploration = Exploration(tiny.replace(sampler="cluster"))
    exploration.reset(0)
    exploration.advance(0)
    exploration.advance(0)
    state = exploration.state
    assert leaks(state, exploration) == set()
    EMOCScorer(state.model).set_scores(state.reference, state.pool.images, state.candidates)
    assert leaks(state, exploration) == set()
    for name, (planted, kind) in planted_leaks(exploration).items():
        object.__setattr__(state, "planted", {"deep": [planted]})
        assert kind in leaks(state, exploration), name
    for array in (
        state.pool.images, state.pool.labels, state.candidates, state.candidate_mask,
        state.probabilities, state.reference,
    ):  # fmt: skip
        assert not array.flags.writeable
    with pytest.raises(AttributeError):
        state.step = 3


def test_the_place_of_an_image_in_the_pool_tells_nothing_about_its_class(tiny):
    exploration = Exploration(tiny)
    for root in range(3):
        exploration.reset(root)
        waiting = exploration.episode.true_labels[exploration.state.pool.unlabelled]
        changes = (waiting[1:] != waiting[:-1]).sum()
        assert changes > len(waiting) / 2  # 4 if the classes came one after another
