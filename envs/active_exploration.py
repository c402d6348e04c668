"""The active-exploration loop as a Gymnasium environment."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import keras
import numpy as np

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data.images import ImageData
from emoc_tf.envs.fingerprint import fingerprint
from emoc_tf.envs.info import info_of
from emoc_tf.envs.nearest import NearestLabelled
from emoc_tf.envs.observation import observation_space, observe
from emoc_tf.envs.options import (
    ResetOptions,
    checked_action,
    checked_mode,
    configuration,
    names_and_functions,
    reward_name,
)
from emoc_tf.envs.rendering import Frame, describe, draw
from emoc_tf.exploration import stopping
from emoc_tf.exploration.candidates import Sampler
from emoc_tf.exploration.loop import Exploration
from emoc_tf.exploration.oracle import Oracle
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.exploration.rewards import Reward, parse
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.exploration.task import Task
from emoc_tf.models import forks
from emoc_tf.scoring import scoring_on
from emoc_tf.storage.checkpoint import Checkpoint


class ActiveExplorationEnv(gym.Env, gym.utils.EzPickle):
    """Each action labels one of M candidate sets; the model learns it before the next.

    An episode terminates when no candidate set can be formed, a rule of `config.stop_when` holds or
    all that waits was skipped (`info["stopped"]` says why), and is truncated after
    `config.max_steps` steps. The observation describes each set in a few numbers (see
    `emoc_tf.envs.observation.observe`); agents that need the model and the pool take them from
    `env.unwrapped.state`. `info` holds the fields of `StepOutcome` that are not None as JSON
    values, and `action_mask`, (M,) int8; see `emoc_tf.envs.info`. A masked set raises
    `gymnasium.error.InvalidAction` and changes nothing. A pickle holds the arguments, not the
    episode. Gymnasium's `spec.to_json` takes JSON values only, no path objects or NumPy numbers.

    Args:
        config: All settings, which replace those of `preset`; or a mapping of some fields to
            values, which changes the preset; None takes it as it is.
        preset: Name of the preset to start from.
        data: Training and test part of your own; see `Exploration`, as for `model`, `oracle`,
            `model_classes`, `task` and `learner`.
        render_mode: `"rgb_array"` or `"ansi"` for what `render` returns; `gym.make` has `"human"`
            too, a window of Gymnasium's own.
        reward: The field of the configuration, or a function of the outcomes before and after a
            step in its place.
        sampler: The field of the configuration, or a function in its place; see `Exploration`.
        model: A model of your own.
        oracle: Who answers queries.
        model_classes: Class id of each output of `model`.
        task: Images of your own with the labels so far, in place of `data`.
        learner: Makes what trains the model.
        scoring_ray: Where scores and predictions are computed, with the same bits: `"auto"`,
            `"local"` or HOST:PORT of a Ray cluster, see `scoring_on`; None for this process.
        **overrides: Fields of the configuration to change.

    Raises:
        ValueError: A setting is unknown or out of range, or settings, data and model do not fit.
        FileNotFoundError: The data set is not there.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 1}

    def __init__(
        self,
        config: ExplorationConfig | Mapping[str, Any] | None = None,
        *,
        preset: str = "demo",
        render_mode: str | None = None,
        data: tuple[ImageData, ImageData] | None = None,
        model: keras.Model | None = None,
        oracle: Oracle | None = None,
        model_classes: Sequence[int] | None = None,
        reward: str | Reward | None = None,
        sampler: str | Sampler | None = None,
        task: Task | None = None,
        learner: Callable[[keras.Model, Any], Any] | None = None,
        scoring_ray: str | None = None,
        **overrides: Any,
    ) -> None:
        self.render_mode = checked_mode(render_mode, self.metadata["render_modes"])
        arguments = {
            "preset": preset, "render_mode": render_mode, "data": data, "oracle": oracle,
            "model_classes": model_classes, "reward": reward, "sampler": sampler,
            "task": task, "learner": learner, "scoring_ray": scoring_ray, **overrides,
        }  # fmt: skip
        if isinstance(config, Mapping):
            config = dict(config)  # later changes of the caller's are not in a pickle
        chosen = configuration(config, preset)
        named, own = names_and_functions(reward=reward, sampler=sampler)
        self.config = chosen.replace(**overrides, **named)
        self._reward = own["reward"]
        if self._reward is None:
            asked = reward is not None or (isinstance(config, Mapping) and "reward" in config)
            self._reward = parse(reward_name(self.config, task, asked))
        sets = self.config.num_steps if task is None and oracle is None else self.config.max_steps
        stopping.check_rules(self.config, sets, "an episode has no more steps")
        arguments["model"] = model
        if not forks.forked():  # there, `reset` tells what is wrong: a worker passes that on
            self.exploration = Exploration(
                self.config, data, model, oracle, model_classes, own["sampler"], task=task,
                learner=learner,
            )  # fmt: skip
            self.exploration.scoring = scoring_on(scoring_ray)
            # The model as it was given: the caller's own may be trained further.
            arguments["model"] = self.exploration.initial_model
        parts = oracle, *own.values(), *([] if learner is None else [learner])
        self._handed_in = data, arguments["model"], model_classes, parts, task
        gym.utils.EzPickle.__init__(self, config, **arguments)
        self._nearest = NearestLabelled()
        self.observation_space = observation_space(self.config)
        self.action_space = gym.spaces.Discrete(self.config.num_candidate_sets)

    @functools.cached_property
    def fingerprint(self) -> str | None:
        """A hash of data, model, oracle and reward that were handed in; None if none were."""
        return fingerprint(*self._handed_in)

    @property
    def _outcomes(self) -> list[StepOutcome]:
        """Of the reset and all steps of the episode so far."""
        exploration = getattr(self, "exploration", None)  # there is none in a forked process
        return [] if exploration is None else exploration.outcomes

    @property
    def state(self) -> ExplorationState:
        """The current model, pool and candidate sets, read-only.

        Raises:
            gymnasium.error.ResetNeeded: No episode has been started.
        """
        self._check_episode("state")
        return self.exploration.state

    @property
    def outcome(self) -> StepOutcome:
        """What the last step, or the reset, led to."""
        self._check_episode("outcome")
        return self._outcomes[-1]

    def _check_episode(self, asked: str) -> None:
        if not self._outcomes:
            raise gym.error.ResetNeeded(f"{asked}: expected a call of reset first")
        if not self.exploration.running:
            raise gym.error.ResetNeeded(
                f"{asked}: expected a call of reset first, since a step was broken off"
            )

    def action_masks(self) -> np.ndarray:
        """Returns which actions are possible, (M,) bool."""
        return self.state.candidate_mask.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Everything random in the episode descends from it; None continues the
                random numbers of the last seed.
            options: `checkpoint`: what `save` returned, or a file of it, to resume from; the seed
                does not count then. `pretrained`: where pretrained weights are taken from, or
                put into: the path of an `.npz` file, or an object with `get(key)` and
                `put(key, arrays)`, see `SharedWeights`. `allow_mixed`: take a checkpoint or file
                although another version, processor or thread count made it.

        Raises:
            ValueError: An unknown option, or a file that is broken, of another configuration or
                seed, or made elsewhere.
            FileNotFoundError: There is no such checkpoint.
            RuntimeError: The process was forked from one in which TensorFlow had been at work.
        """
        forks.check()
        wanted = ResetOptions.of(options)
        if wanted.checkpoint is not None:
            return self.restore(wanted.checkpoint, exact=not wanted.allow_mixed)
        super().reset(seed=seed)
        root = streams.draw_root(self.np_random)
        self.exploration.reset(root, wanted.pretrained)
        return self._observation(), self._info()

    def save(self) -> Checkpoint:
        """Returns everything that `restore` resumes from; `Checkpoint.write` makes a file of it.

        A custom `reward` or `oracle` has no state in it. Called from `exploration.on_query`, it
        holds the query that was just begun or answered.

        Raises:
            gymnasium.error.ResetNeeded: No episode is running.
        """
        self._check_episode("save")
        header = {
            "configuration": self.config.record(),
            "outcomes": [outcome.to_dict() for outcome in self._outcomes],
            "np_random": self.np_random.bit_generator.state,
        }
        return Checkpoint(header, self.exploration.save())

    def restore(
        self, checkpoint: Checkpoint, *, exact: bool = True
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Goes on where `save` was called, as if there had been no break.

        If a query had been begun, `query` names its set: passed to `step`, it is asked again, or
        learnt at once if it had been answered.

        Args:
            checkpoint: Of an environment with the same configuration, data and model.
            exact: Whether the last step's outcome, evaluated again, must be the recorded one bit
                for bit, as it is with the same versions, processor and thread count.

        Returns:
            Observation and info as the last `reset` or `step` returned them.

        Raises:
            ValueError: The checkpoint belongs to other data, another configuration or model, or
                its outcome is another one here.
        """
        forks.check()
        header = checkpoint.header
        try:
            differing = self.config.differences(header["configuration"])
            if differing:
                raise ValueError(
                    f"checkpoint: expected one of this configuration, got {'; '.join(differing)}"
                )
            outcomes = [StepOutcome.from_dict(fields) for fields in header["outcomes"]]
            last = outcomes[-1]
            found = self.exploration.restore(checkpoint.arrays, last.chosen_set, last.queried_class)
            self.np_random.bit_generator.state = header["np_random"]
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"checkpoint: expected one that save returned, got one without all its parts "
                f"({type(error).__name__}: {error})"
            ) from error
        same = self.exploration.is_as_saved(checkpoint.arrays)
        if exact and same and found.to_dict() != last.to_dict():
            self.exploration.outcomes.clear()  # nothing to step on from
            raise ValueError(
                f"checkpoint: expected weights that give the recorded outcome, got another test "
                f"accuracy or recall: {found.test_accuracy} instead of {last.test_accuracy}"
            )
        self.exploration.outcomes[:] = outcomes
        return self._observation(), self._info()

    @property
    def over(self) -> bool:
        """Whether the episode has come to its end."""
        if not self._outcomes:
            return False
        last = self._outcomes[-1]
        stopped = last.stopped and last.step > 0  # a reset starts an episode, whatever is known
        return bool(self.exploration.finished or stopped or self._at_last_step(last))

    @property
    def query(self) -> int | None:
        """The set of a query that was begun and is not learnt yet; None between two steps."""
        return None if self.exploration.query is None else self.exploration.query.choice

    def _at_last_step(self, outcome: StepOutcome) -> bool:
        return self.config.max_steps is not None and outcome.step >= self.config.max_steps

    def step(self, action: int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Labels candidate set `action`, fine-tunes the model on it and evaluates.

        Raises:
            gymnasium.error.ResetNeeded: No episode is running.
            gymnasium.error.InvalidAction: The action is no integer, or no candidate set.
        """
        forks.check()
        self._check_episode("step")
        if self.over:
            raise gym.error.ResetNeeded("step: expected a call of reset after the episode's end")
        action = checked_action(action, self.state.candidate_mask)
        before, after = self.outcome, self.exploration.advance(action)
        terminated = bool(self.exploration.finished or after.stopped)
        truncated = self._at_last_step(after)
        reward = float(self._reward(before, after))
        return self._observation(), reward, terminated, truncated, self._info()

    def render(self) -> np.ndarray | str | None:
        """Shows the set labelled last with its label, the curves so far and the classes known.

        Returns:
            (720, 1280, 3) uint8 for `render_mode="rgb_array"`, some lines of text for `"ansi"`.

        Raises:
            gymnasium.error.ResetNeeded: No episode has been started.
        """
        self._check_episode("render")
        if self.render_mode is None:
            gym.logger.warn(
                "render was called without a render mode: give one to the environment, such as "
                'gym.make(id, render_mode="rgb_array")'
            )
            return None
        frame = Frame.of(self.exploration)
        return draw(frame) if self.render_mode == "rgb_array" else describe(frame)

    def _observation(self) -> dict[str, np.ndarray]:
        episode = self.exploration.episode
        known = max(len(self.exploration.class_names), 1)
        classes = known if episode.true_labels is None else len(episode.classes)
        steps = episode.num_steps(self.config)
        return observe(self.state, self.config, steps, classes, self._nearest)

    def _info(self) -> dict[str, Any]:
        tested = self.exploration.episode.test_images is not None
        return info_of(self.outcome, self.state.candidate_mask, tested)
