"""What an environment and its `reset` are asked for, checked before anything changes."""

import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import gymnasium as gym
import numpy as np

from emoc_tf.config import ExplorationConfig
from emoc_tf.exploration.rewards import NEED_TEST
from emoc_tf.exploration.task import Task
from emoc_tf.models.episode_model import SharedWeights
from emoc_tf.records.pretrained import PretrainedFile
from emoc_tf.registries import reward_terms
from emoc_tf.storage.checkpoint import Checkpoint


@dataclass(frozen=True)
class ResetOptions:
    """What `reset` was asked for besides a seed.

    Attributes:
        checkpoint: What an episode is resumed from; None starts one.
        pretrained: Where pretrained weights are taken from, or put into; None for nowhere.
        allow_mixed: Whether what another version, processor or thread count made is taken.
    """

    checkpoint: Checkpoint | None = None
    pretrained: SharedWeights | None = None
    allow_mixed: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Self:
        """Returns the options as objects; a checkpoint's file is read.

        Raises:
            ValueError: An option is unknown or of the wrong type, two of them exclude each other,
                or the file is broken.
            FileNotFoundError: There is no such file.
        """
        if not isinstance(options, Mapping | None):
            raise ValueError(f"options: expected a mapping or None, got {options!r}")
        given = dict(options or {})
        unknown = sorted(set(given) - set(cls.__dataclass_fields__), key=str)
        if unknown:
            raise ValueError(
                f"options: expected only {list(cls.__dataclass_fields__)}, got {unknown}"
            )
        allow_mixed = given.get("allow_mixed", False)
        if not isinstance(allow_mixed, bool):
            raise ValueError(f"allow_mixed: expected True or False, got {allow_mixed!r}")
        pretrained = given.get("pretrained")
        if isinstance(pretrained, str | os.PathLike):
            pretrained = PretrainedFile(pretrained, allow_mixed)
        elif pretrained is not None and not all(
            callable(getattr(pretrained, name, None)) for name in ("get", "put")
        ):
            raise ValueError(
                f"pretrained: expected a path or an object with get(key) and put(key, arrays), got "
                f"{pretrained!r}"
            )
        checkpoint = given.get("checkpoint")
        if checkpoint is not None and pretrained is not None:
            raise ValueError(
                "pretrained: expected none beside a checkpoint, whose weights are trained already, "
                "got both; leave one of the two out"
            )
        if isinstance(checkpoint, str | os.PathLike):
            checkpoint = Checkpoint.read(checkpoint)
        elif not isinstance(checkpoint, Checkpoint | None):
            raise ValueError(
                f"checkpoint: expected what save returned or a path, got {checkpoint!r}"
            )
        return cls(checkpoint, pretrained, allow_mixed)


def configuration(
    config: ExplorationConfig | Mapping[str, Any] | None, preset: str
) -> ExplorationConfig:
    """Returns the settings: as they are, or those of a preset, changed as a mapping says.

    Raises:
        ValueError: It is something else, or a setting is unknown or out of range.
    """
    if isinstance(config, ExplorationConfig):
        return config
    if config is None or isinstance(config, Mapping):
        # A spec that was read from JSON has all settings in its mapping.
        return ExplorationConfig.preset(preset).replace(**_names(dict(config or {})))
    raise ValueError(
        f"config: expected an ExplorationConfig, a mapping of settings or None, got {config!r}"
    )


def _names(config: dict[Any, Any]) -> dict[str, Any]:
    """Returns a mapping of settings; raises `ValueError` if a key is no name."""
    odd = [key for key in config if not isinstance(key, str)]
    if odd:
        raise ValueError(f"config: expected names of settings, got {odd}")
    return config


def reward_name(config: ExplorationConfig, task: Task | None, asked: bool) -> str:
    """Returns the reward's name; without test data the usual one is `discovery`.

    Args:
        config: The settings.
        task: The task, or None.
        asked: Whether the reward was asked for by name.

    Raises:
        ValueError: It needs test data, and there are none.
    """
    if not isinstance(task, Task) or task.test is not None:  # what is no task is told later
        return config.reward
    usual = ExplorationConfig.__dataclass_fields__["reward"].default
    if config.reward == usual and not asked:
        return "discovery"
    needing = [name for _, name in reward_terms(config.reward) if name in NEED_TEST]
    if needing:
        raise ValueError(
            f"reward: expected one that needs no test data, such as 'discovery', since the task "
            f"has none, got {config.reward!r}"
        )
    return config.reward


def names_and_functions(**given: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns which settings were given by name, and by name the functions given in their place.

    Raises:
        ValueError: One is neither a name nor a function.
    """
    for name, value in given.items():
        if not isinstance(value, str) and value is not None and not callable(value):
            raise ValueError(f"{name}: expected a name or a function, got {value!r}")
    named = {name: value for name, value in given.items() if isinstance(value, str)}
    return named, {name: None if name in named else value for name, value in given.items()}


def checked_mode(mode: str | None, modes: list[str]) -> str | None:
    """Returns a render mode; raises `ValueError` unless it is None or one of `modes`."""
    if mode not in (None, *modes):
        raise ValueError(f"render_mode: expected None or one of {modes}, got {mode!r}")
    return mode


def checked_action(action: Any, mask: np.ndarray) -> int:
    """Returns an action as an index.

    Args:
        action: What `step` was given.
        mask: (M,) bool, which sets may be chosen.

    Raises:
        gymnasium.error.InvalidAction: It is no integer, or no candidate set.
    """
    try:
        index = operator.index(action)
    except TypeError:
        raise gym.error.InvalidAction(
            f"action: expected an integer in [0, {len(mask)}), got {action!r}"
        ) from None
    if not (0 <= index < len(mask) and mask[index]):
        raise gym.error.InvalidAction(
            f"action: expected one of the {mask.sum()} candidate sets, got {index}"
        )
    return index
