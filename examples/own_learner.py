"""A learner of your own: Keras' `fit` with callbacks, or a class; and the contract it has to pass.

`FitLearner` trains by `keras.Model.fit`: any optimizer, early stopping on held-out answers,
augmentation. `HeadLearner` is written out: it fits the head alone, by logistic regression on the
features of the layers before.

Run: python examples/own_learner.py; test: pytest examples/own_learner.py (pip install pytest)
"""

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression

from emoc_tf import agents
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.models import FitLearner
from emoc_tf.testing import LearnerContract


class HeadLearner:
    """Fits the head by logistic regression on all images that are labelled."""

    def __init__(self, model, images):
        self._images = images
        self.replace_model(model)

    def replace_model(self, model):
        """Takes a model whose head has more or fewer outputs."""
        self._head = model.layers[-1]
        self._body = keras.Model(model.inputs, self._head.input)

    def train(self, iterations, seed, labels, old, novel):
        """Fits kernel and bias; outputs without an image are left alone."""
        used = old if novel is None else np.concatenate([old, novel])
        if not iterations or len(np.unique(labels[used])) < 2:
            return
        features = self._body.predict(self._images[used], verbose=0)
        fitted = LogisticRegression(C=0.1).fit(features, labels[used])
        weights, biases = fitted.coef_.T, fitted.intercept_
        if len(fitted.classes_) == 2:  # of a single logit z, which is (0, z)
            weights = np.concatenate([np.zeros_like(weights), weights], axis=1)
            biases = np.append(0, biases)
        kernel, bias = (weight.copy() for weight in self._head.get_weights())
        kernel[:, fitted.classes_], bias[fitted.classes_] = weights, biases
        self._head.set_weights([kernel, bias])

    def get_arrays(self):
        """Returns nothing: all is in the weights."""
        return {}

    def set_arrays(self, arrays):
        """Takes nothing."""


class TestHeadLearner(LearnerContract):
    """Learns, resumes, grows, shrinks, leaves alone what it is not to touch."""

    def make_learner(self, model, images):
        """Returns the learner to test."""
        return HeadLearner(model, images)


def early_stopping():
    """Returns new callbacks, for each call of `fit`."""
    return [keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)]


def fit_learner():
    """Returns a function that makes learners which train by Keras' `fit`."""
    return FitLearner.maker(
        keras.optimizers.AdamW(0.003),
        epochs=20,
        validation_split=0.2,
        callbacks=early_stopping,
        augmentation=keras.Sequential([keras.layers.RandomTranslation(0.1, 0.1)]),
    )


def main(learner=None, **settings) -> float:
    """Runs one episode on digits and returns the final test accuracy.

    Args:
        learner: A function of (model, images) that makes a learner; None for `fit_learner()`.
        **settings: Fields of `ExplorationConfig`.
    """
    env = ActiveExplorationEnv(learner=learner or fit_learner(), **settings)
    agent = agents.make("1-vs-2", seed=0)
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        observation, _, terminated, truncated, info = env.step(agent.act(observation, env.state))
        over = terminated or truncated
        print(f"labelled {info['labelled']}  accuracy {info['test_accuracy']:.3f}")
    return info["test_accuracy"]


if __name__ == "__main__":
    main()
    main(HeadLearner)
