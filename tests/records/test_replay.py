import dataclasses

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, agents
from emoc_tf.data import images, named
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.records import replay
from emoc_tf.records.queried import AnswerFiles
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.records.run_record import read_run

CONFIG = ExplorationConfig(
    known_classes=3, novel_classes=3, pool_per_class=8, num_candidate_sets=9, set_size=4,
    pretrain_iterations=2, update_iterations=2, max_steps=4,
)  # fmt: skip


@pytest.mark.parametrize("sampler", ["single_class", "uniform"])
def test_the_sets_of_a_run_are_drawn_again_without_its_model(tmp_path, sampler):
    config = CONFIG.replace(sampler=sampler)
    env, agent = ActiveExplorationEnv(config), agents.make("random", seed=5)
    observation, _ = env.reset(seed=5)
    folder = RunFolder(tmp_path, "random", 5, config)
    folder.claim()
    folder.start(env.exploration.episode.classes)
    folder.write_step(env.outcome, None, {})
    queried = []
    while not env.over:
        action = agent.act(observation, env.state)
        queried.append(env.state.candidates[action])
        observation, *_ = env.step(action)
        folder.write_step(env.outcome, 0.0, {})
    run = read_run(folder.path)
    episode = replay.draw_again(run, named.load("digits"))
    sets = replay.queried_sets(run, episode)
    np.testing.assert_array_equal(sets, queried)
    np.testing.assert_array_equal(replay.queried_sets(run, episode, 2), queried[:2])
    np.testing.assert_array_equal(episode.images, env.exploration.episode.images)
    others = [
        images.ImageData(
            part.images[part.labels > 0], part.labels[part.labels > 0], part.class_names
        )
        for part in named.load("digits")
    ]
    with pytest.raises(ValueError, match=r"data: expected those of random/5.*, got others"):
        replay.draw_again(run, others)
    other_seed = dataclasses.replace(run, seed=6, classes=())
    with pytest.raises(ValueError, match=r"data: expected those of random/5.*, got others"):
        replay.queried_sets(run, replay.draw_again(other_seed, named.load("digits")))


def test_sets_that_depend_on_a_network_are_not_drawn_again(tmp_path):
    folder = RunFolder(tmp_path, "random", 0, CONFIG.replace(sampler="cluster"))
    folder.claim()
    run = read_run(folder.path)
    with pytest.raises(ValueError, match="sampler: expected one that looks at no features"):
        replay.queried_sets(run, replay.draw_again(run, named.load("digits")))


@pytest.mark.parametrize("sampler", ["uniform", "cluster", "minibatch-cluster", "top"])
def test_the_sets_of_a_run_are_as_it_recorded_them(tmp_path, sampler):
    trouble = {"wrong_answers": 0.6, "rejected": 0.3, "duplicates": 0.3, "imbalance": 2.0}
    env = ActiveExplorationEnv(CONFIG.replace(sampler=sampler, audit=5, **trouble))
    env.reset(seed=5)
    folder = RunFolder(tmp_path, "random", 5, env.config)
    folder.claim()
    folder.start(env.exploration.episode.classes)
    folder.write_step(env.outcome, None, {})
    answers, queried = AnswerFiles(folder.path, env.exploration), []
    for _ in range(3):
        action = int(np.flatnonzero(env.action_masks())[-1])
        row = env.state.candidates[action]
        queried.append(row[row >= 0])
        env.step(action)
        answers.write()
        folder.write_step(env.outcome, 0.0, {})
    run, data = read_run(folder.path), named.load("digits")
    sets = replay.queried_sets(run, replay.draw_again(run, data))
    assert [each.tolist() for each in sets] == [each.tolist() for each in queried]
    assert len(replay.queried_sets(run, replay.draw_again(run, data), 2)) == 2
    env.step(int(np.flatnonzero(env.action_masks())[0]))  # answered, but its step is not written
    answers.write()
    assert len(replay.queried_sets(run, replay.draw_again(run, data))) == 3
    other_seed = dataclasses.replace(run, seed=6, classes=())
    with pytest.raises(ValueError, match=r"data: expected those of random/6, got others: image"):
        replay.queried_sets(other_seed, replay.draw_again(other_seed, data))
