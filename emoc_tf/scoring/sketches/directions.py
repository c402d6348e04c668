"""Principal directions of gradients, and how many of them each stage is given."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import linalg

MOST = 256  # directions of one space that are looked for
STEP = 4  # directions that are added together


class Spectrum(NamedTuple):
    """Leading directions of a space of gradients.

    Attributes:
        basis: (F, k) orthonormal, the most important first.
        captured: (k + 1,) what part of the energy of gradients that were not fitted the first
            0, ..., k of them hold.
    """

    basis: np.ndarray
    captured: np.ndarray


class Part(NamedTuple):
    """What is to be cut of one stage.

    Attributes:
        energy: Mean squared length of its gradients.
        spectra: Of the space of its rows, or of its inputs and, if they are cut too, of its deltas.
        units: Numbers that each direction of the first spectrum costs; with two spectra it is the
            number of directions of the other.
    """

    energy: float
    spectra: tuple[Spectrum, ...]
    units: int


def of_moments(fitted: np.ndarray, held_out: np.ndarray) -> Spectrum:
    """Returns the leading directions of a second moment.

    Args:
        fitted: (F, F) sum of v vᵀ over the vectors that are fitted.
        held_out: (F, F) that over others.
    """
    basis = _leading(fitted)[1]
    energy = np.einsum("fk,fk->k", basis, held_out @ basis)
    return Spectrum(basis, _shares(energy, np.trace(held_out)))


def of_rows(fitted: np.ndarray, held_out: np.ndarray) -> Spectrum:
    """Returns the leading directions of a few vectors.

    Args:
        fitted: (m, F) vectors.
        held_out: (m', F) others.
    """
    if len(fitted) >= fitted.shape[1]:
        return of_moments(fitted.T @ fitted, held_out.T @ held_out)
    values, weights = _leading(fitted @ fitted.T)
    # Directions that rounding made hold nothing; one is kept, so that no stage is without.
    real = np.flatnonzero(values > 1e-6 * max(values[0], 0.0))
    weights = weights[:, real if len(real) else [0]]
    basis, _ = linalg.qr(fitted.T @ weights, mode="economic")
    energy = np.square(held_out @ basis).sum(axis=0)
    return Spectrum(basis, _shares(energy, np.square(held_out).sum()))


def _leading(moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the leading eigenvalues of a second moment, descending, and their vectors."""
    last = len(moment) - 1
    first = max(0, last + 1 - MOST)
    values, basis = linalg.eigh(moment, subset_by_index=[first, last])
    return values[::-1], basis[:, ::-1]


def _shares(energy: np.ndarray, total: float) -> np.ndarray:
    if total <= 0:  # no gradient at all: nothing is lost
        return np.ones(len(energy) + 1)
    return np.concatenate([[0.0], np.cumsum(energy) / total])


def numbers(part: Part, counts: Sequence[int]) -> int:
    """Returns how many numbers a pair's sketch has of a part."""
    return counts[0] * (counts[1] if len(counts) == 2 else part.units)


def left(part: Part, counts: Sequence[int]) -> float:
    """Returns what part of the energy so many directions leave, at most 1."""
    lost = [1 - own.captured[count] for own, count in zip(part.spectra, counts, strict=True)]
    return float(np.clip(sum(lost), 0.0, 1.0))


def sizes(parts: Sequence[Part], error: float, most: int) -> list[list[int]]:
    """Returns how many directions each part is given, of each of its spectra.

    They are added where they hold the most energy for each number that they cost, until what is
    left of the energy of all parts together is small enough.

    Args:
        parts: The parts.
        error: Part of the energy that may be left.
        most: Numbers a pair that are not exceeded, but for `STEP` directions of each spectrum.
    """
    counts = [[min(STEP, _count(own)) for own in part.spectra] for part in parts]
    total = sum(part.energy for part in parts) or 1.0
    remaining = sum(part.energy * left(part, own) for part, own in zip(parts, counts, strict=True))
    size = sum(numbers(part, own) for part, own in zip(parts, counts, strict=True))
    best: list[tuple[float, int]] = []
    for place, part in enumerate(parts):
        _push(best, place, part, counts[place])
    while best and remaining > error * total and size < most:
        _, place = heapq.heappop(best)
        part, before = parts[place], counts[place]
        after = _step(part, before)[1]
        added = numbers(part, after) - numbers(part, before)
        if size + added > most:
            continue  # others may still fit
        remaining += part.energy * (left(part, after) - left(part, before))
        size += added
        counts[place] = after
        _push(best, place, part, after)
    return counts


def _push(best: list[tuple[float, int]], place: int, part: Part, counts: list[int]) -> None:
    gain, after = _step(part, counts)
    if after != counts:
        heapq.heappush(best, (-gain, place))


def _step(part: Part, counts: list[int]) -> tuple[float, list[int]]:
    """Returns the energy per number that the best next directions hold, and the counts then."""
    best = (-1.0, counts)
    for index, own in enumerate(part.spectra):
        after = list(counts)
        after[index] = min(counts[index] + STEP, _count(own))
        added = numbers(part, after) - numbers(part, counts)
        if added:
            lost = [1 - s.captured[c] for s, c in zip(part.spectra, counts, strict=True)]
            still = [1 - s.captured[c] for s, c in zip(part.spectra, after, strict=True)]
            best = max(best, (part.energy * (sum(lost) - sum(still)) / added, after))
    return best


def _count(spectrum: Spectrum) -> int:
    return spectrum.basis.shape[1]
