"""Settings and output folder of a grid, under the name that scripts import them by."""

from emoc_tf.running.single_run import Grid

__all__ = ["Grid"]
