"""Situations of people with images of their own that no other module tries as a whole."""

import tracemalloc

import keras
import numpy as np
import pytest

from emoc_tf import SKIP, Answer, ExplorationConfig, Task
from emoc_tf.exploration import Exploration
from tests.exploration import tasks

CONFIG = ExplorationConfig(
    set_size=2, num_candidate_sets=4, sampler="uniform", pretrain_iterations=1, batch_size=4,
    update_iterations=1,
)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_memory_map_is_never_held_as_a_whole(tmp_path, dtype):
    shape = (24_000 if dtype == np.uint8 else 6000, 32, 32, 3)
    images = np.lib.format.open_memmap(tmp_path / "pool.npy", "w+", dtype, shape)
    images[0], images[1] = 1, 255
    del images
    images = np.load(tmp_path / "pool.npy", mmap_mode="r")
    labels = np.where(np.arange(len(images)) < 4, np.arange(len(images)) % 2, -1)
    layers = [keras.Input(shape[1:]), keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(2)]
    tracemalloc.start()
    try:
        task = Task(images, labels, ("cat", "dog"))
        exploration = Exploration(CONFIG, task=task, model=keras.Sequential(layers))
        exploration.reset(0)
        tasks.say(exploration, ["cat", "owl"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * images.nbytes  # one copy in memory would be 1 or, as floats, 4


@pytest.mark.parametrize("form", ["names", "ids"])
@pytest.mark.parametrize("num_names", [0, 2])
def test_three_people_vote_and_are_told_which_classes_there_are(form, num_names):
    class Votes:
        """Where two of three agree it is so, else nobody can tell."""

        def set_classes(self, class_names):
            self.names = list(class_names)

        def label(self, indices, images):
            one = ["cat", "dog", "fox"]
            votes = [[one[i % 3], one[i % 2], one[i % 3 if i % 4 else 1]] for i in indices]
            said = [max(each, key=each.count) for each in votes]
            said = [n if each.count(n) > 1 else None for n, each in zip(said, votes, strict=True)]
            if form == "names":
                return said
            new = [n for n in dict.fromkeys(said) if n and n not in self.names]
            names = [*self.names, *new]
            return Answer([SKIP if n is None else names.index(n) for n in said], new)

    votes = Votes()
    task = tasks.task(12, num_names)
    exploration = Exploration(tasks.config(), task=task, model=tasks.model(2), oracle=votes,
                              learner=tasks.Still)  # fmt: skip
    exploration.reset(0)
    assert votes.names == list(tasks.NAMES[:num_names])
    for _ in range(5):
        indices = exploration.state.candidates[choice := tasks.first_set(exploration)]
        before = list(votes.names)
        said = votes.label(indices, None)
        exploration.advance(choice)
        names = [*before, *said.new_classes] if form == "ids" else None
        wanted = [names[c] if c >= 0 else None for c in said.labels] if names else said
        found = [exploration.class_names[c] if c >= 0 else None for c in
                 exploration.labels[indices]]  # fmt: skip
        assert found == wanted
        assert votes.names == list(exploration.class_names)


@pytest.mark.parametrize("by", ["pixels", "posteriors", "features"])
def test_sets_of_your_own_are_made_of_pixels_posteriors_or_features(by):
    """Such as one set a patient: the images that are alike."""
    seen = []

    def patients(inputs):
        seen.append(inputs)
        values = {"pixels": lambda: inputs.pool.images[inputs.waiting].reshape(-1, 2),
                  "posteriors": lambda: inputs.probabilities[inputs.waiting],
                  "features": lambda: inputs.features[inputs.waiting]}[by]()  # fmt: skip
        order = inputs.waiting[np.argsort(values[:, 0], kind="stable")]
        return [order[i : i + 2] for i in range(0, min(len(order), 8), 2)], [True] * min(
            4, -(-len(order) // 2)
        )

    task = tasks.task([0, 1] + [-1] * 9)
    exploration = Exploration(tasks.config(), task=task, model=tasks.model(2), sampler=patients,
                              learner=tasks.Still)  # fmt: skip
    exploration.reset(0)
    state = exploration.state
    column = {"pixels": state.pool.images.reshape(-1, 2), "posteriors": state.probabilities,
              "features": state.features}[by][:, 0]  # fmt: skip
    best = np.arange(2, 11)[np.argsort(column[2:], kind="stable")]
    assert state.candidates[state.candidate_mask].ravel().tolist() == best[:8].tolist()
    images, _ = tasks.say(exploration, [0, 1])
    assert images == best[:2].tolist()
    assert not set(images) & set(seen[-1].waiting.tolist())
