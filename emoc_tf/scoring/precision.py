"""TensorFloat-32, which TensorFlow switches for the whole process."""

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

# Two scorers in threads would otherwise compute with each other's setting, and leave it behind.
_lock = threading.RLock()


@contextlib.contextmanager
def tensor_float_32(enabled: bool) -> Iterator[None]:
    """Switches TensorFloat-32 on or off for a while; TensorFlow's default is on.

    Where a GPU obeys it, another thread that comes here waits until this one is done.
    """
    gpus = tf.config.list_physical_devices("GPU")
    with _lock if gpus else contextlib.nullcontext():
        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)
