"""TensorFloat-32, which TensorFlow switches for the whole process."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def tensor_float_32(enabled: bool) -> Iterator[None]:
    """Switches TensorFloat-32 on or off for a while; TensorFlow's default is on."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(enabled)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
