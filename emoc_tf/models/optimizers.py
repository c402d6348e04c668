"""Update rules of the optimizers, with slots of their own that can grow with a model's head."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

Slots = Mapping[str, tf.Variable]


class UpdateRule(Protocol):
    """How a variable θ changes with the gradient g of the loss; equal rules change it equally."""

    def slot_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Returns names and shapes of what is kept for a variable; all of it starts at 0."""

    def update(self, variable: tf.Variable, slots: Slots, gradient: tf.Tensor, rate: float) -> None:
        """Changes a variable and its slots; `rate` is the learning rate η."""


@dataclass(frozen=True)
class SGD:
    """v ← μ·v − η·g, θ ← θ + v; weight decay is part of g, so that it enters before momentum.

    Attributes:
        momentum: μ, in [0, 1).
    """

    momentum: float

    def slot_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """See `UpdateRule`."""
        return {"velocity": shape}

    def update(self, variable: tf.Variable, slots: Slots, gradient: tf.Tensor, rate: float) -> None:
        """See `UpdateRule`."""
        slots["velocity"].assign(self.momentum * slots["velocity"] - rate * gradient)
        variable.assign_add(slots["velocity"])


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction (Kingma and Ba, 2015), as in Keras; AdamW with a decay.

    Steps are counted for each entry of a variable's last axis, the units of a head: the correction
    of a new unit begins with its first step. By a count of all steps together it would take steps
    several times too long, since its moments start at 0. Where no unit is new, both are the same.

    Attributes:
        decay: d, θ ← θ − η·d·θ before each update, whatever the gradient; biases are no exception,
            as in `keras.optimizers.AdamW`. 0 for none.
    """

    decay: float = 0.0

    BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # as in Keras

    def slot_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """See `UpdateRule`."""
        return {"first_moment": shape, "second_moment": shape, "steps": shape[-1:]}

    def update(self, variable: tf.Variable, slots: Slots, gradient: tf.Tensor, rate: float) -> None:
        """See `UpdateRule`."""
        gradient = tf.convert_to_tensor(gradient)  # that of an embedding has rows only
        first, second, steps = (slots[n] for n in ("first_moment", "second_moment", "steps"))
        steps.assign_add(tf.ones_like(steps))
        first.assign_add((gradient - first) * (1 - self.BETA_1))
        second.assign_add((tf.square(gradient) - second) * (1 - self.BETA_2))
        correction = tf.sqrt(1 - self.BETA_2**steps) / (1 - self.BETA_1**steps)
        step = first * (rate * correction) / (tf.sqrt(second) + self.EPSILON)
        if self.decay:  # with a write of its own, equal seeds had other last bits now and then
            step += variable * (self.decay * rate)
        variable.assign_sub(step)


def make(name: str, momentum: float, weight_decay: float) -> UpdateRule:
    """Returns the update rule of an optimizer.

    Args:
        name: `"sgd"`, `"adam"` or `"adamw"`.
        momentum: Of sgd.
        weight_decay: Of adamw; for the others weight decay is part of the loss.
    """
    if name == "sgd":
        return SGD(momentum)
    return Adam(weight_decay if name == "adamw" else 0.0)
