"""What other people's tools ask of an environment: vectors, wrappers, pickles, rendering."""

import collections
import copy
import json
import pickle
import warnings

import gymnasium as gym
import keras
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from matplotlib.backends.backend_agg import FigureCanvasAgg

import emoc_tf
from emoc_tf.envs import FEATURES, ActiveExplorationEnv, rendering
from tests import processes
from tests.envs.test_active_exploration import IDS, SHRUNK, make, shrunk

DIGITS = "emoc_tf/Digits-v0"


@pytest.mark.parametrize(
    ("env_id", "render_mode"),
    [*((name, None) for name in IDS), (DIGITS, "rgb_array"), (DIGITS, "ansi")],
)
def test_gymnasiums_checker_is_content(env_id, render_mode, cifar_dir):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="(?!gymnasium)")
        env = gym.make(env_id, render_mode=render_mode, **shrunk(env_id, cifar_dir))
        # Its check of rendering goes through all modes by itself.
        check_env(env.unwrapped, skip_render_check=render_mode != "ansi")


def test_a_configuration_survives_json_too():
    spec = gym.make(DIGITS, config=emoc_tf.ExplorationConfig(**SHRUNK)).spec
    again = gym.make(gym.envs.registration.EnvSpec.from_json(spec.to_json()))
    assert again.unwrapped.config == emoc_tf.ExplorationConfig(**SHRUNK)


@pytest.mark.parametrize("env_id", IDS)
def test_specs_survive_json(env_id, cifar_dir):
    spec = gym.make(env_id, **shrunk(env_id, cifar_dir)).spec
    text = spec.to_json()
    json.loads(text)
    again = gym.envs.registration.EnvSpec.from_json(text)
    assert again == spec
    made = gym.make(again)
    assert made.unwrapped.config.to_dict() == gym.make(spec).unwrapped.config.to_dict()
    assert made.unwrapped.config.set_size == SHRUNK["set_size"]


def trajectory(env, actions=(1, 0, 3), seed=4):
    return [env.reset(seed=seed), *(env.step(action) for action in actions)]


@pytest.mark.parametrize(
    ("mode", "settings"), [("sync", {}), ("async", {"vector_kwargs": {"context": "spawn"}})]
)
def test_vector_environments_make_the_same_steps(mode, settings):
    """Environment i of a vector with seed s is one with seed s + i."""
    envs = gym.make_vec(DIGITS, num_envs=2, vectorization_mode=mode, **settings, **SHRUNK)
    observations, infos = envs.reset(seed=4)
    single = [trajectory(make(), seed=seed) for seed in (4, 5)]
    for t, action in enumerate((None, 1, 0, 3)):
        if action is not None:
            observations, rewards, _, truncated, infos = envs.step(np.array([action] * 2))
            np.testing.assert_array_equal(rewards, [run[t][1] for run in single])
            np.testing.assert_array_equal(truncated, [run[t][3] for run in single])
            for i in range(2):
                assert infos["test_accuracy"][i] == single[i][t][-1]["test_accuracy"]
        masks = infos["action_mask"]
        assert (type(masks), masks.dtype, masks.shape) == (np.ndarray, np.int8, (2, 5))
        np.testing.assert_array_equal(masks, observations["action_mask"])
        assert envs.single_action_space.sample(masks[0]) in np.flatnonzero(masks[0])
        for i in range(2):
            for key, value in single[i][t][0].items():
                np.testing.assert_array_equal(observations[key][i], value)
    # An episode that is over is followed by the next one.
    observations, rewards, terminated, truncated, _ = envs.step(np.array([0, 0]))
    assert not (rewards.any() or terminated.any() or truncated.any())
    assert (observations["progress"][:, 0] == 0).all()
    envs.close()


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
def test_pickles_hold_the_arguments(copied):
    env = make(reward="discovery+0.5*area", render_mode="ansi")
    env.reset(seed=0)
    other = copied(env)
    assert other.config == env.config
    assert other.render_mode == "ansi"
    with pytest.raises(gym.error.ResetNeeded):
        other.step(0)
    assert data_equivalence(trajectory(other), trajectory(env), exact=True)


def test_pickles_hold_the_model_as_it_was_given():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    env = make(model=model)
    first = trajectory(env)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    assert data_equivalence(trajectory(copy.deepcopy(env)), first, exact=True)


def test_wrappers():
    env = gym.make(DIGITS, **{**SHRUNK, "max_steps": None})
    env = gym.wrappers.TimeLimit(env, 2)
    env = gym.wrappers.RecordEpisodeStatistics(env)
    env = gym.wrappers.TransformReward(env, lambda reward: 10 * reward + 1)
    env = gym.wrappers.FlattenObservation(env)
    plain = trajectory(make(max_steps=None), (1, 0))
    steps = trajectory(env, (1, 0))
    assert env.observation_space.shape == (5 * len(FEATURES) + 5 + 3,)
    for (observation, *rest), (expected, *others) in zip(steps, plain, strict=True):
        assert observation in env.observation_space
        flat = gym.spaces.flatten(make().observation_space, expected)
        np.testing.assert_array_equal(observation, flat)
        if len(rest) > 1:
            assert rest[0] == 10 * others[0] + 1
    assert [step[3] for step in steps[1:]] == [False, True]  # the limit
    episode = steps[-1][-1]["episode"]
    assert episode["l"] == 2
    assert episode["r"] == pytest.approx(sum(step[1] for step in plain[1:]))


def test_videos_are_recorded(tmp_path):
    env = gym.make(DIGITS, render_mode="rgb_array", **SHRUNK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gym.wrappers.RecordVideo(env, str(tmp_path), disable_logger=True)
        trajectory(env)
        env.close()
    assert (tmp_path / "rl-video-episode-0.mp4").stat().st_size > 1000


def test_a_window_comes_from_gymnasium(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gym.make(DIGITS, render_mode="human", **SHRUNK)
        trajectory(env)
    assert env.unwrapped.render_mode == "rgb_array"
    env.close()


def test_same_seeds_and_actions_in_another_process():
    """And after other work in between, which may use TensorFlow's and NumPy's own generators."""
    code = (
        "import hashlib, pickle, sys\n"
        "import numpy as np\n"
        "import tensorflow as tf\n"
        "from tests.envs.test_active_exploration import make\n"
        "from tests.envs.test_ecosystem import digest, trajectory\n"
        "if sys.argv[1] == 'busy':\n"
        "    tf.random.set_seed(8); np.random.seed(9); tf.random.normal([50])\n"
        "    env = make(set_size=2); trajectory(env, (4, 1)); trajectory(make(), (0,), seed=9)\n"
        "print(digest(trajectory(make())))\n"
    )
    ended = [processes.run("-c", code, mode) for mode in ("fresh", "busy")]
    assert [each.stdout for each in ended] == [f"{digest(trajectory(make()))}\n"] * 2, ended


def digest(steps):
    """A hash of all bits of a trajectory."""
    import hashlib

    result = hashlib.sha256()

    def add(value):
        if isinstance(value, dict):
            for key in sorted(value):
                result.update(key.encode())
                add(value[key])
        elif isinstance(value, tuple):
            for part in value:
                add(part)
        else:
            result.update(np.asarray(value).tobytes())

    for step in steps:
        add(step)
    return result.hexdigest()


def test_pictures():
    env = make(render_mode="rgb_array")
    with pytest.raises(gym.error.ResetNeeded, match="render: expected a call of reset"):
        env.render()
    env.reset(seed=0)
    pictures = [env.render()]
    for action in (0, 1):
        env.step(action)
        pictures.append(env.render())
    for picture in pictures:
        assert picture.shape == (rendering.HEIGHT, rendering.WIDTH, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 20
    np.testing.assert_array_equal(pictures[-1], env.render())
    assert (pictures[1] != pictures[2]).any()


def test_text_tells_what_was_labelled():
    env = make(render_mode="ansi", known_classes=1, novel_classes=3)
    env.reset(seed=0)
    names = env.exploration.class_names
    assert "From the images labelled at the start" in env.render()
    found = set()
    for step in range(1, 4):
        _, _, _, _, info = env.step(0)
        text, queried = env.render(), info["queried_class"]
        assert f"step {step} of 3: 3 images, labelled “{names[queried]}”" in text
        new = queried not in {*found, env.exploration.episode.classes[0]}
        assert ("”, a new class" in text) == new
        found |= {queried} if new else set()
        assert f"classes known {1 + len(found)} of 4" in text


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (5, 3, 2), (4, 4, 3), (4, 4, 4)], ids=lambda shape: str(shape[-1])
)
@pytest.mark.parametrize("count", [1, 7, 100])
def test_mosaics_of_all_kinds(shape, count):
    rng = np.random.default_rng(0)
    outcome = make_outcome()
    for images in (
        rng.integers(256, size=(count, *shape), dtype=np.uint8),
        rng.normal(size=(count, *shape)),
        np.zeros((count, *shape), np.float32),
    ):
        frame = rendering.Frame(images, [outcome], list("abc"), 2, 30, 5, None)
        assert rendering.draw(frame).shape == (rendering.HEIGHT, rendering.WIDTH, 3)


def test_mixed_sets_are_named_by_the_labels_they_got():
    env = make(render_mode="ansi", sampler="uniform", known_classes=2, novel_classes=6, set_size=6)
    env.reset(seed=0)
    chosen = env.state.candidates[0]
    truth = [env.exploration.class_names[c] for c in env.exploration.episode.true_labels[chosen]]
    known = {env.exploration.class_names[c] for c in env.state.known_classes}
    env.step(0)
    text = env.render()
    title = text.splitlines()[0]
    assert "step 1 of 3: 6 images: " in title
    for name, count in collections.Counter(truth).most_common(2):
        assert f"{name} ×{count}" in title
    _, _, new = title.partition("; new: ")
    assert set(new.split(", ")) == set(truth) - known


@pytest.mark.parametrize("count", [1, 2, 10, 20, 40, 41, 100])
@pytest.mark.parametrize("name", ["aquarium_fish", "W" * 30, "a"])
def test_names_fit_their_fields(count, name):
    frame = rendering.Frame(
        np.zeros((1, 2, 2, 1)), [make_outcome()], [name] * (count - count // 2), count // 2, count,
        5, None,
    )  # fmt: skip
    figure = rendering.compose(frame)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    fields = [patch.get_window_extent() for patch in figure.axes[-1].patches]
    assert len(fields) == count
    texts = figure.axes[-1].texts[3:]
    assert len(texts) == (count if count <= 40 else 0)
    for text, field in zip(texts, fields, strict=False):
        extent = text.get_window_extent(canvas.get_renderer())
        assert field.x0 <= extent.x0 < extent.x1 <= field.x1, text.get_text()
        assert field.y0 <= extent.y0 + 3 < extent.y1 - 3 <= field.y1, text.get_text()


@pytest.mark.parametrize("name", ["US$ 5_$", "$", "a$b$", r"\$x_{$", "$" * 50])
@pytest.mark.parametrize("labelled", [False, True])
def test_names_are_written_out_whatever_they_are(name, labelled):
    labels = [name, "b", name] if labelled else None
    outcomes = [make_outcome(), make_outcome(2)]
    frame = rendering.Frame(np.zeros((3, 2, 2, 1)), outcomes, ["a", "b", name], 2, 30, 5, labels)
    assert rendering.draw(frame).shape == (rendering.HEIGHT, rendering.WIDTH, 3)
    assert name in rendering.describe(frame)
    frame = rendering.Frame(np.zeros((1, 2, 2, 1)), outcomes, [name] * 4, 2, 4, 5, [name])
    assert rendering.draw(frame).shape == (rendering.HEIGHT, rendering.WIDTH, 3)


def make_outcome(discovered=1):
    from tests.exploration.test_rewards import outcome

    return outcome(0.5, discovered)


def test_render_without_a_mode_says_so():
    env = make()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render was called without a render mode"):
        assert env.render() is None
    with pytest.raises(ValueError, match=r"render_mode: expected None or one of .* got 'film'"):
        ActiveExplorationEnv(render_mode="film")
