"""What a layer's gradients take with stages, in batches without them, and one at a time.

    python benchmarks/layers.py --images=16

A model is one layer and a dense head of 10 outputs. The slower ways are had by a subclass
that does the same: a scorer does not know what it computes. Milliseconds are those of processor
time of all threads, per pair of images, of the second call.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from emoc_tf.running.quiet import load_tensorflow

IMAGES = flags.DEFINE_integer("images", 16, "Images on each side.", 1)


def milliseconds(layer: Any, shape: tuple[int, ...]) -> tuple[float, str]:
    """Returns what a pair takes, and in which way the layer's gradients are had.

    Args:
        layer: Before the head.
        shape: Of an image.
    """
    import keras

    from emoc_tf.scoring import EMOCScorer

    image = keras.Input(shape)
    features = keras.layers.Flatten()(layer(image))
    model = keras.Model(image, keras.layers.Dense(10)(features))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scorer = EMOCScorer(model)
    slow = any("one example at a time" in str(each.message) for each in caught)
    generic = any(each.contraction == "generic" for each in scorer.plan())
    images = np.random.default_rng(0).normal(size=(2 * IMAGES.value, *shape)).astype(np.float32)
    halves = images[: IMAGES.value], images[IMAGES.value :]
    scorer.scores(*halves)
    start = time.process_time()
    scorer.scores(*halves)
    seconds = time.process_time() - start
    way = "one at a time" if slow else "in batches" if generic else "stages"
    return 1000 * seconds / IMAGES.value**2, way


def unknown(kind: type) -> type:
    """Returns a class that does the same, which a scorer does not know."""
    return type(f"My{kind.__name__}", (kind,), {})


def rows() -> list[tuple[str, Callable[[], Any], Callable[[], Any], tuple[int, ...]]]:
    """Returns a name, two ways to make a layer, with stages and without, and an image's shape."""
    from keras import layers

    def both(name: str, kind: type, shape: tuple[int, ...], *args: Any, **settings: Any) -> tuple:
        made = unknown(kind)
        return name, lambda: kind(*args, **settings), lambda: made(*args, **settings), shape

    return [
        both("Dense(64) of 64", layers.Dense, (64,), 64),
        both("Conv2D(16, 3) of 16 x 16 x 16", layers.Conv2D, (16, 16, 16), 16, 3),
        both("LayerNormalization of 20 x 64", layers.LayerNormalization, (20, 64)),
        both("LSTM(32) of 20 x 16", layers.LSTM, (20, 16), 32),
        both("GRU(32) of 20 x 16", layers.GRU, (20, 16), 32),
    ]


def main(_: list[str]) -> None:
    """Measures and prints a table."""
    load_tensorflow()
    table = Table("layer", "stages", "without", "way", "ratio")
    for name, fast, slow, shape in rows():
        known, _ = milliseconds(fast(), shape)
        other, way = milliseconds(slow(), shape)
        table.add_row(name, f"{known:.3f}", f"{other:.3f}", way, f"{other / known:.1f}")
    Console().print(table)


if __name__ == "__main__":
    app.run(main)
