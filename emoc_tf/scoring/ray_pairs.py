"""Scores of pairs whose pieces are computed by actors: their bits are those of one process.

What `PairScores` sums, it sums batch by batch of reference images: shapes and borders of batches
follow from the memory budget and the model. An actor returns the sum over each batch, and these are
added up here in the order of batches, as one process does.
"""

import copy
from typing import Any, Self

import numpy as np

from emoc_tf.cluster.connection import ray
from emoc_tf.cluster.tasks import Task
from emoc_tf.models.forward import batch_of
from emoc_tf.scoring.blocks import finite
from emoc_tf.scoring.linear import LinearScores
from emoc_tf.scoring.pairs import PairScores
from emoc_tf.scoring.ray_team import Team, Work
from emoc_tf.scoring.selection import Sample

# Constants that follow from nothing but the work: a task takes a second or so.
_IMAGES = 128  # reference images that meet some pairs
_LINEAR_IMAGES = 16_384  # the same of a linear layer
_PORTIONS = 8  # of gradients that meet some reference images
_CONTROLS = 8  # batches of reference images that are checked


class RayPairs:
    """What a scorer uses of `PairScores` and `LinearScores`, computed by a team.

    Args:
        team: Who computes.
        pairs: The same pairs here, of which nothing is computed.
        work: What the actors make them of.
    """

    def __init__(self, team: Team, pairs: PairScores | LinearScores, work: Work) -> None:
        self._team, self._pairs, self._work = team, pairs, work
        self.reference, self.costs_little = pairs.reference, pairs.costs_little
        self._control: list | None = None

    def along(self, pairs: PairScores, directions: list[tuple[np.ndarray, ...]]) -> Self:
        """Returns the same pairs by sketched gradients.

        Args:
            pairs: The same here.
            directions: See `Job`.
        """
        other = copy.copy(self)
        other._pairs, other._control = pairs, None
        other._work = self._work.along(directions)
        return other

    @property
    def pairs(self) -> PairScores | LinearScores:
        """The same pairs here."""
        return self._pairs

    def means(self) -> np.ndarray:
        """Returns what `PairScores.means` does."""
        pairs = self._pairs
        parts, count = pairs.parts(), pairs.num_batches
        most = _LINEAR_IMAGES if pairs.costs_little else _IMAGES
        step = max(1, most * count // len(pairs.reference))
        batches = [range(i, min(i + step, count)) for i in range(0, count, step)]
        tasks = [Task("sums", (i, some), i) for i in range(len(parts)) for some in batches]
        totals: list[Any] = [0] * len(parts)
        waiting: list[dict[int, np.ndarray]] = [{} for _ in parts]
        merged = [0] * len(parts)
        for place, sums in self._team.run(self._work, tasks):
            part, number = divmod(place, len(batches))
            waiting[part][number] = sums
            while merged[part] in waiting[part]:  # in the order of chunks
                for own in waiting[part].pop(merged[part]):
                    totals[part] = totals[part] + own
                merged[part] += 1
        if pairs.costs_little:
            tasks = [Task("means_of", (i, total), i) for i, total in enumerate(totals)]
            found = dict(self._team.run(self._work, tasks))
            return finite(np.concatenate([found[i] for i in range(len(parts))]))
        own = zip(parts, totals, strict=True)
        return finite(np.concatenate([pairs.means_of(rows, [], total) for rows, total in own]))

    def sample(self, references: np.ndarray, pairs: np.ndarray, control: bool = True) -> Sample:
        """Returns what `PairScores.sample` does."""
        if control and self._control is None:
            self._control = self._checked()
        asked = self._pairs.asked(references, pairs, control)
        slices = self._pairs.slices(asked)
        sent = [ray().put(asked)], self._control or []
        if asked.kept is not None:
            tasks = [Task("pieces", (*sent, [rows], slice(None))) for rows in slices]
        else:
            count = sum(1 for _ in self._pairs.portions(pairs))
            tasks = [
                Task("pieces", (*sent, [rows], slice(start, start + _PORTIONS)), rows.start)
                for rows in slices
                for start in range(0, count, _PORTIONS)
            ]
        found = asked.nothing()
        for _, pieces in self._team.run(self._work, tasks):
            for piece in pieces:
                piece.put(found)
        return found._replace(changes=finite(found.changes))

    def fit(self) -> tuple[list[tuple[np.ndarray, ...]], Any]:
        """Returns the directions of a sketch and its report."""
        ((_, found),) = self._team.run(self._work, [Task("fit", ())])
        return found

    def _checked(self) -> list:
        """Returns references to what the control variate is made of, after a look at all images."""
        count = -(-len(self.reference) // batch_of(self.reference.shape))
        batches = [range(i, min(i + _CONTROLS, count)) for i in range(0, count, _CONTROLS)]
        tasks = [Task("control", (some,)) for some in batches]
        found = dict(self._team.run(self._work, tasks))
        return [(some, found[i]) for i, some in enumerate(batches)]
