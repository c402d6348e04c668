"""Policies by name."""

import inspect
import re
from collections.abc import Sequence
from typing import Any

from emoc_tf.agents.agent import Agent
from emoc_tf.agents.bayesian import BaitAgent, BaldAgent
from emoc_tf.agents.diversity import BadgeAgent, CoreSetAgent
from emoc_tf.agents.emoc import EMOCAgent, ExpectedEMOCAgent
from emoc_tf.agents.emoc_new import EMOCNewAgent
from emoc_tf.agents.gp_emoc import GPEMOCAgent
from emoc_tf.agents.gradient_length import GradientLengthAgent
from emoc_tf.agents.herding import HerdingAgent
from emoc_tf.agents.heuristics import (
    EntropyAgent,
    MarginAgent,
    MaxAgent,
    MinAgent,
    MinLiteralAgent,
    RandomAgent,
    SetEntropyAgent,
)
from emoc_tf.agents.learned import LearnedAgent
from emoc_tf.agents.lookahead import LookaheadAgent
from emoc_tf.agents.novelty import NovelAgent, PWrongAgent
from emoc_tf.registries import Registry, check_new
from emoc_tf.values import parse_value

# A value may hold colons itself, as `gs://` does.
_SETTINGS = re.compile(r":(?=[A-Za-z_]\w*=)")

AGENTS = Registry(
    {
        "random": RandomAgent,
        "min": MinAgent,
        "min-literal": MinLiteralAgent,
        "1-vs-2": MarginAgent,
        "max": MaxAgent,
        "emoc": EMOCAgent,
        "emoc-expected": ExpectedEMOCAgent,
        "learned": LearnedAgent,
        "entropy": EntropyAgent,
        "set-entropy": SetEntropyAgent,
        "p-wrong": PWrongAgent,
        "novel": NovelAgent,
        "bait": BaitAgent,
        "bald": BaldAgent,
        "badge": BadgeAgent,
        "core-set": CoreSetAgent,
        "herding": HerdingAgent,
        "egl": GradientLengthAgent,
        "emoc-new": EMOCNewAgent,
        "lookahead": LookaheadAgent,
        "gp-emoc": GPEMOCAgent,
    }
)


# In a list of policies it stands for every one.
ALL = "all"


def names() -> list[str]:
    """Returns the names of all policies.

    Example:
        >>> from emoc_tf import agents
        >>> agents.names()[:4]
        ['random', 'min', 'min-literal', '1-vs-2']
    """
    return list(AGENTS)


def chosen(listed: Sequence[str] | str) -> list[str]:
    """Returns the policies of a list in which `all` stands for every registered one.

    Args:
        listed: Names and variants; beside `all`, variants only. What they are is not checked.

    Raises:
        ValueError: A policy stands beside `all`, or `all` twice.
    """
    listed = [listed] if isinstance(listed, str) else list(listed)
    if ALL not in listed:
        return listed
    found: list[str] = []
    for text in listed:
        for name in names() if text == ALL else [text]:
            if name in found:
                raise ValueError(
                    f"agents: expected distinct ones, got {name!r} twice: {ALL!r} stands for every "
                    f"policy; name only variants beside it, such as emoc:output=softmax"
                )
            found.append(name)
    return found


def register(name: str, agent: type[Agent]) -> None:
    """Adds a policy under a new name.

    Args:
        name: A letter or digit, then letters, digits, `.`, `_` and `-`: names become folders, flags
            and legends.
        agent: A class that is made with `seed` and the settings of a variant.

    Raises:
        ValueError: The name is taken, no such name, or one that output folders use themselves, such
            as `shared`; or `all`; or `agent` cannot be called.

    Example:
        >>> from emoc_tf import agents
        >>> class Last(agents.Agent):
        ...     def act(self, observation, state):
        ...         return int(state.candidate_mask.nonzero()[0][-1])
        >>> agents.register("last", Last)
        >>> type(agents.make("last")).__name__
        'Last'
    """
    if isinstance(name, str) and name.lower() == ALL:
        raise ValueError(
            f"name: expected another name than {ALL!r}, which stands for every policy, got {name!r}"
        )
    check_new(name, agent, AGENTS, "agent")
    AGENTS[name] = agent


def make(name: str, seed: int = 0, **settings: Any) -> Agent:
    """Makes a policy.

    Args:
        name: One of `names()`, or a variant such as `"emoc:output=softmax:references=64"`, whose
            values are read as JSON where they are JSON (`none` is null) and as text otherwise.
        seed: Source of the policy's randomness.
        **settings: Keyword arguments of the policy; they go before those in `name`.

    Raises:
        ValueError: The policy or a setting is unknown, `name` has a setting twice, or a value is
            out of range.

    Example:
        >>> from emoc_tf import agents
        >>> type(agents.make("emoc:references=64", seed=1)).__name__
        'EMOCAgent'
        >>> agents.make("emok")
        Traceback (most recent call last):
            ...
        ValueError: agent: expected one of ['random', 'min', ...], got 'emok'
    """
    base, separator, settings_of = name.partition(":")
    variants = _SETTINGS.split(settings_of) if separator else []
    if base not in AGENTS:
        raise ValueError(f"agent: expected one of {names()}, got {base!r}")
    parsed: dict[str, Any] = {}
    for key, value in map(_parse, variants):
        if key in parsed:
            raise ValueError(f"agent: expected each setting once, got {key!r} twice in {name!r}")
        parsed[key] = value
    settings = {**parsed, **settings}
    known = [key for key in inspect.signature(AGENTS[base]).parameters if key != "seed"]
    for key in settings:
        if key not in known:
            raise ValueError(f"agent {base!r}: expected settings among {known}, got {key!r}")
    return AGENTS[base](seed=seed, **settings)


def describe(name: str) -> str:
    """Returns in one sentence what a policy does; empty if there is none with this name.

    Args:
        name: As for `make`; of a variant, what its policy does.

    Example:
        >>> from emoc_tf import agents
        >>> agents.describe("1-vs-2")
        'Chooses the lowest mean difference of the two highest class scores.'
    """
    agent = AGENTS.get(name.split(":")[0])
    text = inspect.getdoc(agent) if agent else None
    return text.partition("\n\n")[0].replace("\n", " ") if text else ""


def _parse(variant: str) -> tuple[str, Any]:
    key, separator, text = variant.partition("=")
    if not separator:
        raise ValueError(f"agent: expected variants as key=value, got {variant!r}")
    return key, parse_value(text)
