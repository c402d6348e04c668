"""Principal directions of gradients, and how many of them each stage is given."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

MOST = 96  # directions of one space that are looked for
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


def spectrum_of(fitted: tf.Tensor, held_out: tf.Tensor, seed: int) -> Spectrum:
    """Returns the leading directions of some vectors, at most `MOST`.

    In a wide space they are looked for in the range of the second moment, applied twice to random
    vectors (Halko, Martinsson and Tropp 2011): an eigenvalue problem of the whole space takes
    longer than all scores do.

    Args:
        fitted: (m, F) vectors.
        held_out: (m', F) others.
        seed: Of the random vectors.
    """
    count, size = fitted.shape
    if size <= MOST:
        basis = tf.eye(size, dtype=tf.float64)
    elif count <= MOST:
        basis = _orthonormal(tf.transpose(fitted))
    else:
        mixtures = np.random.default_rng(seed).normal(size=(count, MOST))
        found = tf.matmul(fitted, tf.constant(mixtures, fitted.dtype), transpose_a=True)
        found = tf.matmul(fitted, tf.matmul(fitted, found), transpose_a=True)
        basis = _orthonormal(found)
    shown = tf.matmul(fitted, tf.cast(basis, fitted.dtype))
    _, turned = _eigen(shown)
    basis = tf.matmul(basis, turned)
    held = tf.cast(tf.matmul(held_out, tf.cast(basis, held_out.dtype)), tf.float64)
    energy = tf.reduce_sum(held * held, 0).numpy()
    total = float(tf.reduce_sum(tf.square(tf.cast(held_out, tf.float64))))
    return Spectrum(basis.numpy(), _shares(energy, total))


def _orthonormal(vectors: tf.Tensor) -> tf.Tensor:
    """Returns an orthonormal basis (F, k) of the columns of a tensor (F, m)."""
    vectors = tf.cast(vectors, tf.float64)
    length = tf.norm(vectors, axis=0, keepdims=True)
    vectors = vectors / tf.where(length > 0, length, 1.0)
    for _ in range(2):  # the second time what rounding left
        values, turned = _eigen(vectors)
        # Directions that rounding made hold nothing; one is kept, so that no stage is without.
        real = max(1, int(np.sum(values.numpy() > 1e-14 * max(float(values[0]), 1e-300))))
        vectors = tf.matmul(vectors, turned[:, :real])
        length = tf.norm(vectors, axis=0, keepdims=True)
        vectors = vectors / tf.where(length > 0, length, 1.0)
    return vectors


def _eigen(vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the eigenvalues of VᵀV, descending, and its eigenvectors, in float64."""
    vectors = tf.cast(vectors, tf.float64)
    values, turned = tf.linalg.eigh(tf.matmul(vectors, vectors, transpose_a=True))
    return values[::-1], turned[:, ::-1]


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
