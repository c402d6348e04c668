"""The interface of a query policy."""

import abc
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from emoc_tf import streams
from emoc_tf.exploration.state import ExplorationState

LONG = 600  # seconds of a choice that are worth a warning, where nothing was learnt yet
UPDATES = 10  # as often as long as the learning of a set
_ROWS = 1 << 14  # images looked at together


class Agent(abc.ABC):
    """Chooses a candidate set. What it does is a function of (observation, state, seed).

    Args:
        seed: Source of all the agent's randomness, at least 0.

    Attributes:
        fingerprint: Hash of what the agent was made of besides its name and settings, such as a
            file; None if that is nothing. Runs with different ones are different policies'.
        score_images: Tells how much the policy wants single images, for the sampler `top`: a
            function of (state, seed) that takes a state, which may have no candidate sets, and (k,)
            pool indices, and returns (k,) scores, higher is better. None for a policy without.

    Raises:
        ValueError: The seed is no integer of at least 0.

    Example:
        >>> from emoc_tf import agents, envs
        >>> class First(agents.Agent):
        ...     def act(self, observation, state):
        ...         return int(state.candidate_mask.argmax())
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> First().act(observation, env.state)
        0
    """

    fingerprint: str | None = None
    score_images: Callable[[ExplorationState, np.ndarray], np.ndarray] | None = None

    def __init__(self, seed: int = 0) -> None:
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"seed: expected an integer of at least 0, got {seed!r}")
        self._seed = int(seed)

    @abc.abstractmethod
    def act(self, observation: Mapping[str, np.ndarray], state: ExplorationState) -> int:
        """Returns the index of a candidate set whose `state.candidate_mask` is True.

        Args:
            observation: As the environment returned it.
            state: `env.unwrapped.state`; read-only, and its model is to be left as it is.
        """

    def best(self, scores: np.ndarray, state: ExplorationState) -> int:
        """Returns the index of the candidate set with the highest score.

        Args:
            scores: (M,), higher is better; those of masked sets are ignored. Ties are broken at
                random, seeded.
            state: Whose sets they are.

        Raises:
            ValueError: No set can be chosen, or the scores have the wrong shape or are NaN.
        """
        mask = check_choice(state)
        scores = np.asarray(scores, np.float64)
        if scores.shape != mask.shape or np.isnan(scores[mask]).any():
            raise ValueError(
                f"score: expected {mask.shape} numbers, got shape {scores.shape} with "
                f"{np.isnan(scores).sum()} NaN"
            )
        return int(self.rng(state).choice(np.flatnonzero(mask & (scores == scores[mask].max()))))

    def rng(self, state: ExplorationState, purpose: str = "agent") -> np.random.Generator:
        """Returns the generator of this step: keyed by (seed, step), so there is none to save.

        Where queries are open their number is a key as well: several choices in one step would all
        be made with the same numbers otherwise. In the same step of another episode the same
        numbers come: where episodes are to differ in them too, each gets an agent with a seed of
        its own.
        """
        more = f" beside {state.open_queries} open" if state.open_queries else ""
        return streams.generator(self._seed, state.step, purpose + more)


class ScoringAgent(Agent):
    """Chooses the candidate set with the highest score; ties are broken at random, seeded.

    Attributes:
        heeds_open_sets: Whether scores change with `state.open_images`: then several sets are not
            chosen by the scores of one state.

    Example:
        >>> from emoc_tf import agents, envs, uncertainty
        >>> class Gini(agents.ScoringAgent):
        ...     def score(self, state):
        ...         impurity = 1 - (state.probabilities**2).sum(axis=1)
        ...         return uncertainty.set_means(impurity, state.candidates)
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> Gini().act(observation, env.state)
        5
    """

    heeds_open_sets = False

    @abc.abstractmethod
    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns a score per candidate set, (M,), higher is better; masked ones are ignored."""

    def act(self, observation: Mapping[str, np.ndarray], state: ExplorationState) -> int:
        """Returns the index of the best candidate set; of one by the seed while no class is known.

        Raises:
            ValueError: No set can be chosen, or the scores have the wrong shape or are NaN.
        """
        mask = check_choice(state)
        scores = self.score(state) if state.known_classes else np.zeros(mask.shape)
        return self.best(scores, state)


class SetScoringAgent(ScoringAgent):
    """Scores any sets of images by one function; a single image is a set of its own.

    Example:
        >>> from emoc_tf import agents, envs, uncertainty
        >>> class Bright(agents.SetScoringAgent):
        ...     def score_sets(self, state, sets):
        ...         return uncertainty.set_means(state.pool.images.mean(axis=(1, 2, 3)), sets)
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> Bright().act(observation, env.state)
        91
        >>> Bright().score_images(env.state, env.state.pool.unlabelled).shape
        (600,)
    """

    @abc.abstractmethod
    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns the scores of some sets, (M,), higher is better.

        Args:
            state: With the pool that they are of; its own candidate sets do not count.
            sets: (M, K) pool indices, −1 as padding.
        """

    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns `score_sets` of the candidate sets, (M,).

        Raises:
            ValueError: A feature or posterior of the pool is not finite.
        """
        check_finite(state)
        return self.score_sets(state, state.candidates)

    def score_images(self, state: ExplorationState, indices: np.ndarray) -> np.ndarray:
        """Returns `score_sets` of some pool images, each a set of its own, (k,).

        Raises:
            ValueError: A feature or posterior of the pool is not finite.
        """
        check_finite(state)
        return self.score_sets(state, np.asarray(indices)[:, None])


def check_finite(state: ExplorationState) -> None:
    """Raises `ValueError` if a feature or posterior is not finite: what is chosen would be noise.

    All images of the pool count: sums, scales and kernels are over those that wait.
    """
    for name in ("features", "probabilities"):
        values = getattr(state, name)
        for start in range(0, len(values), _ROWS):  # a mask of all may be large
            finite = np.isfinite(values[start : start + _ROWS])
            if not finite.all():
                row, column = np.argwhere(~finite)[0]
                raise ValueError(
                    f"state.{name}: expected finite numbers, got "
                    f"{values[start + row, column]} for image {start + row} of the pool; the "
                    f"model's weights have diverged, or the image is none that it was made for"
                )


def warn_of_long_choice(seconds: float, work: str, less: str, stacklevel: int) -> None:
    """Warns that a choice will take so long.

    Args:
        seconds: It is expected to take, or more.
        work: What it is for.
        less: What takes less.
        stacklevel: As of `warnings.warn`, counted from the caller.
    """
    told = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
    warnings.warn(
        f"a choice is expected to take {told} or more for {work}; {less}",
        stacklevel=stacklevel + 1,
    )


def check_choice(state: ExplorationState) -> np.ndarray:
    """Returns `state.candidate_mask`; raises `ValueError` if no set can be chosen."""
    if not state.candidate_mask.any():
        raise ValueError("state: expected at least one candidate set, got none")
    return state.candidate_mask
