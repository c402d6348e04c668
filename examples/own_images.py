"""Explores your own images with your own Keras model; a stand-in for a person answers.

The images here are scikit-learn's digits and `Person` answers from their labels; in its place
`label` may show the images and ask, for classes among those of the episode.

Run: python examples/own_images.py
"""

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from emoc_tf import ExplorationConfig, ImageData, agents
from emoc_tf.envs import ActiveExplorationEnv


class Person:
    """Answers queries; counts how many."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.asked = 0
        self._known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}

    def label(self, indices: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the class ids of some images, (k,)."""
        self.asked += len(indices)
        return np.array([self._known[image.tobytes()] for image in images])


def main(**settings) -> float:
    """Runs one episode and returns the final test accuracy.

    Args:
        **settings: Fields of `ExplorationConfig`.
    """
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)  # a model of your own gets them so
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=0.3, random_state=0, stratify=digits.target
    )
    names = [str(name) for name in digits.target_names]
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(3),  # an output for each class known at the start; it grows
        ]
    )
    person = Person(train_images, train_labels)
    settings = {
        "known_classes": 3, "novel_classes": 4, "learning_rate": 0.05, "max_steps": 8, **settings,
    }  # fmt: skip
    env = ActiveExplorationEnv(
        ExplorationConfig(**settings),
        data=(
            ImageData(train_images, train_labels, names),
            ImageData(test_images, test_labels, names),
        ),
        model=model,
        oracle=person,
    )
    agent = agents.make("emoc", seed=0)
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        observation, _, terminated, truncated, info = env.step(agent.act(observation, env.state))
        over = terminated or truncated
        print(
            f"{person.asked} images asked for  accuracy {info['test_accuracy']:.3f}  "
            f"known: {', '.join(names[c] for c in env.state.known_classes)}"
        )
    return info["test_accuracy"]


if __name__ == "__main__":
    main()
