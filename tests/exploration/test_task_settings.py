"""Which settings count for a task that was handed in, and which for drawn images alone."""

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, Task
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration import Exploration
from tests.data import pictures
from tests.exploration import tasks

# What a setting that draws classes and images may say, for a task, whose images are as they are.
NOT_COUNTED = [
    {"known_classes": 0}, {"known_classes": 500, "novel_classes": 0}, {"novel_classes": 500},
    {"initial_per_class": 0}, {"initial_per_class": 10**6}, {"pool_per_class": 1},
    {"pool_per_class": 1, "known_classes": 1, "novel_classes": 0, "sampler": "uniform"},
    {"set_size": 61}, {"set_size": 601, "sampler": "cluster"}, {"pool_per_class": None},
]  # fmt: skip


@pytest.mark.parametrize("changes", NOT_COUNTED)
def test_settings_that_draw_classes_and_images_do_not_count_for_a_task(changes):
    changes = {"max_steps": None, **changes}
    settings = {
        "set_size": 2, "num_candidate_sets": 3, "pretrain_iterations": 1, "update_iterations": 1,
        **changes,
    }  # fmt: skip
    count = 700 if settings["set_size"] > 2 else 12
    labels = [0, 1] + [-1] * (count - 2)

    def begun(**told):
        env = ActiveExplorationEnv(
            {**settings, **told},
            task=Task(tasks.images(count), labels, ("a", "b")),
            model=tasks.model(2),
        )
        env.reset(seed=1)
        return env

    env, plain = begun(), begun(known_classes=4, novel_classes=6, initial_per_class=10,
                                pool_per_class=None)  # fmt: skip
    for name in ("candidates", "candidate_mask", "probabilities"):
        np.testing.assert_array_equal(getattr(env.state, name), getattr(plain.state, name))
    shown = env.state.candidates[env.state.candidate_mask]
    assert (shown >= 0).sum(axis=1).tolist() == [settings["set_size"]] * len(shown)
    assert len(shown)
    Exploration(ExplorationConfig(**settings), task=env.exploration.task, model=tasks.model(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known_classes": 0}, "known_classes: expected a number above 0, got 0"),
        ({"initial_per_class": 0}, "initial_per_class: expected a number above 0, got 0"),
        ({"set_size": 61}, r"set_size: expected at most 60 \(pool_per_class.*got 61"),
        ({"set_size": 601, "sampler": "uniform"}, "set_size: expected at most 600 .*got 601"),
    ],
)
def test_where_images_are_drawn_they_count_before_any_loading(changes, message):
    config = ExplorationConfig(dataset="cifar100", data_dir="/nowhere", **changes)
    for make in (Exploration, ActiveExplorationEnv):
        with pytest.raises(ValueError, match=message):
            make(config)


@pytest.mark.parametrize("extra", [0, 130])
@pytest.mark.parametrize("kept", [False, True])
def test_a_folder_tells_how_far_it_is_read_and_a_store_what_is_new(tmp_path, extra, kept):
    root = pictures.make_folder(tmp_path / "images")
    for i in range(extra):
        pictures.write(root / f"{i}.png", 100 + i)
    count, told = 6 + extra, []
    settings = {"store": tmp_path / "store" if kept else None}

    def read():
        told.clear()
        task = Task.from_folder(root, 8, progress=lambda *what: told.append(what), **settings)
        assert len(task.images) == count
        return {step: done for step, done, _ in told}

    assert read() == {"reading": count, "decoding": count}
    assert [total for _, _, total in told] == [count] * len(told)
    assert len(told) == 2 * -(-count // 64)
    assert read() == ({"reading": count} if kept else {"reading": count, "decoding": count})
