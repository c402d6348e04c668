"""What scores of the large models of `keras.applications` take: to be ready, and to be had.

    python benchmarks/large_models.py --models=EfficientNetB0:head,EfficientNetB0:all
    python benchmarks/large_models.py --models=MobileNetV2:last20 --pixels=96 --output=models.csv

A model is `name:trained` or `name:trained:outputs`, trained is `head`, `last20` (layers, the head
among them) or `all`; `cifar10_quick:all` is the paper's network at 32 pixels. Weights are random.
Each row is measured in a process of its own, cold: making an `EMOCScorer` of random pixels, its
first call on `--few` reference images and as many candidates, the first on `--images` of each, and
a later one, from which milliseconds a pair are told. Seconds are those of all of the process's
threads, which other work beside it changes least; the peak is of resident memory.
"""

import csv
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from emoc_tf.running.quiet import load_tensorflow

MODELS = flags.DEFINE_list(
    "models",
    [
        "cifar10_quick:all", "MobileNetV2:head", "MobileNetV2:head:100", "MobileNetV2:last20",
        "MobileNetV2:all", "EfficientNetB0:head", "EfficientNetB0:all", "ResNet50:head",
        "ResNet50:all", "ConvNeXtTiny:all",
    ],
    "Models, see above.",
)  # fmt: skip
PIXELS = flags.DEFINE_integer("pixels", 64, "Height and width of the images.", 32)
OUTPUTS = flags.DEFINE_integer("outputs", 10, "Outputs where a model does not say.", 2)
FEW = flags.DEFINE_integer("few", 8, "Images on each side of the first call.", 1)
IMAGES = flags.DEFINE_integer("images", 32, "Images on each side of later calls; 0 for none.", 0)
OUTPUT = flags.DEFINE_string("output", None, "CSV file for the table.")

PAPERS = "cifar10_quick"


class Row(NamedTuple):
    """A line of the table; seconds are CPU seconds of all threads.

    Attributes:
        model: As it was named.
        pixels: Height and width.
        making: Seconds until the scorer was there.
        first: Seconds of the first call, on few images.
        first_large: Seconds of the first call on many.
        later: Seconds of the next one.
        pair_ms: Milliseconds of that a pair.
        peak_mib: Most resident memory so far.
    """

    model: str
    pixels: int
    making: float
    first: float
    first_large: float
    later: float
    pair_ms: float
    peak_mib: float


def build(name: str, trained: str, outputs: int, pixels: int) -> Any:
    """Returns a Keras model with random weights, some of them frozen."""
    import keras

    keras.utils.set_random_seed(0)
    if name == PAPERS:
        from emoc_tf.models import networks

        model = networks.build(PAPERS, (32, 32, 3), outputs, 5e-4, np.random.default_rng(0))
    else:
        make = getattr(keras.applications, name)
        body = make(weights=None, include_top=False, input_shape=(pixels, pixels, 3), pooling="avg")
        model = keras.Model(body.input, keras.layers.Dense(outputs)(body.output))
    frozen = {"head": model.layers[:-1], "all": []}
    if trained.startswith("last"):
        frozen[trained] = model.layers[: -int(trained.removeprefix("last"))]
    for layer in frozen[trained]:
        layer.trainable = False
    return model


def measure(spec: str, pixels: int, outputs: int, few: int, many: int) -> Row:
    """Returns the line of one model; for a fresh process."""
    load_tensorflow()
    from emoc_tf.scoring import EMOCScorer

    name, trained, *given = spec.split(":")
    model = build(name, trained, int(given[0]) if given else outputs, pixels)
    rng = np.random.default_rng(0)
    shape = model.input_shape[1:]
    images = rng.normal(size=(2 * max(few, many), *shape)).astype(np.float32)
    scorer, making = _timed(lambda: EMOCScorer(model))
    times = [
        _timed(lambda n=n: scorer.scores(images[:n], images[n : 2 * n]))[1]
        for n in (few, many, many)
        if n
    ]
    first, first_large, later = (*times, 0.0, 0.0)[:3]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pair_ms = 1e3 * later / max(1, many) ** 2
    return Row(spec, shape[0], making, first, first_large, later, pair_ms, peak)


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return function(), time.process_time() - start


def main(argv: list[str]) -> None:
    """Measures and prints."""
    print(" ".join(f"{name:>20}" if name == "model" else f"{name:>11}" for name in Row._fields))
    rows = []
    for spec in MODELS.value:
        given = spec, PIXELS.value, OUTPUTS.value, FEW.value, IMAGES.value
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as fresh:
            row = fresh.submit(measure, *given).result()
        rows.append(row)
        numbers = (f"{value:11,.2f}" for value in row[2:])
        print(f"{row.model:>20} {row.pixels:11}", *numbers, flush=True)
    if OUTPUT.value:
        with open(OUTPUT.value, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Row._fields)
            writer.writerows([*row[:2], *(f"{value:.3f}" for value in row[2:])] for row in rows)


if __name__ == "__main__":
    app.run(main)
