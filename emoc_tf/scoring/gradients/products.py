"""Stages whose axes stand in an order of their own: Einstein sums and transposed convolutions."""

import math
import re
import string
from typing import NamedTuple

import keras
import tensorflow as tf

from emoc_tf.scoring.gradients.stages import Stage
from emoc_tf.scoring.gradients.windows import unfold


class Letters(NamedTuple):
    """The axes of an Einstein sum of an input, whose first axis is the batch, and a kernel.

    Attributes:
        inputs: Of the input, one letter an axis.
        kernel: Of the kernel.
        outputs: Of the output.
        positions: In input and output alone.
        groups: In all three.
        units: In kernel and output.
        summed: In input and kernel.
    """

    inputs: str
    kernel: str
    outputs: str
    positions: list[str]
    groups: list[str]
    units: list[str]
    summed: list[str]


def letters_of(equation: str, rank: int) -> Letters | None:
    """Returns the axes of an equation for an input of a rank; None for other sums."""
    free = [letter for letter in string.ascii_letters if letter not in equation]
    inputs, kernel, outputs = re.split(",|->", equation.replace("...", "0").replace(" ", ""))
    elided = "".join(free[: rank - len(inputs.replace("0", ""))])
    inputs, outputs = inputs.replace("0", elided), outputs.replace("0", elided)
    one = inputs[0] == outputs[0] and inputs[0] not in kernel and len(inputs) == rank
    once = all(len(set(each)) == len(each) for each in (inputs, kernel, outputs))
    if not one or not once or not set(inputs) | set(kernel) >= set(outputs):
        return None
    rest = list(outputs[1:])
    positions = [letter for letter in rest if letter not in kernel]
    groups = [letter for letter in rest if letter in inputs and letter in kernel]
    units = [letter for letter in rest if letter not in inputs]
    summed = [letter for letter in inputs[1:] if letter not in outputs]
    if not set(summed) <= set(kernel) or set(kernel) != {*groups, *units, *summed}:
        return None  # an axis of one operand alone is summed
    return Letters(inputs, kernel, outputs, positions, groups, units, summed)


class EinsumStage(Stage):
    """z = einsum(a, W) + b."""

    def __init__(self, layer, kernel, bias, letters):
        super().__init__(layer, kernel, bias)
        self.letters = letters
        size = dict(zip(letters.kernel, kernel.shape, strict=True))
        self.groups = math.prod(size[letter] for letter in letters.groups)
        self.units = math.prod(size[letter] for letter in letters.units)
        self.fan_in = math.prod(size[letter] for letter in letters.summed)

    def linear(self, inputs):
        inputs_, kernel, outputs = self.letters[:3]
        found = keras.ops.einsum(f"{inputs_},{kernel}->{outputs}", inputs, self.kernel)
        return found if self.bias is None else found + self.bias

    def positions(self, shape):
        sizes = [shape[self.letters.outputs.index(letter)] for letter in self.letters.positions]
        return None if None in sizes else math.prod(sizes)

    def factor(self, inputs, outputs):
        found = self._ordered(inputs, self.letters.inputs, self.letters.summed)
        around = [] if self.groups == 1 else [self.groups]
        return tf.reshape(found, [tf.shape(inputs)[0], -1, *around, self.fan_in])

    def deltas(self, gradient):
        return super().deltas(self._ordered(gradient, self.letters.outputs, self.letters.units))

    def _ordered(self, tensor: tf.Tensor, axes: str, last: list[str]) -> tf.Tensor:
        """Returns a tensor with its axes as batch, positions, groups and the rest."""
        order = [*self.letters.positions, *self.letters.groups, *last]
        return tf.transpose(tensor, [0, *(axes.index(letter) for letter in order)])

    def kernel_rows(self, kernel):
        order = [*self.letters.groups, *self.letters.units, *self.letters.summed]
        ordered = tf.transpose(kernel, [self.letters.kernel.index(letter) for letter in order])
        return tf.reshape(ordered, [self.groups, self.units, self.fan_in])


class TransposedStage(Stage):
    """A transposed convolution, channels last: each input position adds a window to the output.

    Positions are those of the input, and δ is what a convolution would see of the gradient there.
    """

    def __init__(self, layer, kernel):
        super().__init__(layer, kernel, None)
        *window, filters, self.fan_in = kernel.shape
        self.window, self.filters = tuple(window), filters
        self.units = math.prod(window) * filters

    def linear(self, inputs):
        layer = self.layer
        return keras.ops.conv_transpose(
            inputs,
            self.kernel,
            strides=list(layer.strides),
            padding=layer.padding,
            output_padding=layer.output_padding,
            dilation_rate=layer.dilation_rate,
            data_format="channels_last",
        )

    def _sizes(self, outputs: list) -> list:
        """Returns the size of the input per axis, from that of the output."""
        same = self.layer.padding == "same"
        sizes = zip(outputs, self.window, self.layer.strides, self.layer.dilation_rate, strict=True)
        return [
            -(-size // stride) if same else (size - (window - 1) * dilation - 1) // stride + 1
            for size, window, stride, dilation in sizes
        ]

    def positions(self, shape):
        return None if None in shape[1:-1] else math.prod(self._sizes(shape[1:-1]))

    def factor(self, inputs, outputs):
        return tf.reshape(inputs, [tf.shape(inputs)[0], -1, self.fan_in])

    def deltas(self, gradient):
        want = tf.stack(self._sizes(tf.unstack(tf.shape(gradient)[1:-1], num=len(self.window))))
        layer = self.layer
        seen = unfold(
            gradient, want, self.window, layer.strides, layer.padding, layer.dilation_rate
        )
        return tf.reshape(seen, [tf.shape(gradient)[0], -1, self.units])

    def kernel_rows(self, kernel):
        return tf.reshape(kernel, [1, self.units, self.fan_in])
