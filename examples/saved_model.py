"""A model that is trained already goes on learning: load it, answer, save it with its classes.

Run: python examples/saved_model.py
"""

import tempfile
from pathlib import Path

import keras
import numpy as np

from emoc_tf import ExplorationConfig, Task, load
from emoc_tf.exploration import Exploration
from emoc_tf.models import load_model, save_model


def train_somewhere_else(path: Path, epochs: int) -> None:
    """Trains a classifier of the digits 0 to 4 that takes raw pixels, and saves it."""
    train, _ = load("digits")
    known = train.labels < 5
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(5),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(train.images[known], train.labels[known], epochs=epochs, verbose=0)
    save_model(model, path, class_names=["0", "1", "2", "3", "4"])


def main(epochs: int = 20, steps: int = 5, **settings) -> tuple[str, ...]:
    """Teaches it digits it has not seen, and returns the names of all classes it knows then."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.keras"
        train_somewhere_else(path, epochs)
        model, class_names = load_model(path)
        images, truth = load("digits")[0].images, load("digits")[0].labels
        task = Task(images, class_names=class_names)
        config = ExplorationConfig(
            optimizer="adam", learning_rate=0.003, momentum=0.0, pretrain_iterations=0, **settings
        )
        exploration = Exploration(config, task=task, model=model)
        exploration.reset(0)
        for _ in range(steps):
            query = exploration.ask(int(np.flatnonzero(exploration.state.candidate_mask)[0]))
            outcome = exploration.answer(query, [str(digit) for digit in truth[query.indices]])
            print(f"predicted before: {outcome.answer_accuracy:.2f}")
        state = exploration.state
        names = tuple(exploration.class_names[c] for c in state.known_classes)
        save_model(state.model, path, class_names=names)
        print(f"saved with the classes {', '.join(load_model(path)[1])}")
    return names


if __name__ == "__main__":
    main()
