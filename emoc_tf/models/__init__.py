"""Keras models: built, checked, trained, grown."""

import logging
import os
import platform

import keras

from emoc_tf.storage import provenance

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"emoc_tf: expected Keras with the backend 'tensorflow', got "
        f"{keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow"
    )

from emoc_tf.models.files import load_model, save_model
from emoc_tf.models.fit_learner import FitLearner
from emoc_tf.models.networks import register_network
from emoc_tf.models.own_learner import LearnerLike
from emoc_tf.models.rebuilding import in_float32

__all__ = [
    "FitLearner",
    "LearnerLike",
    "in_float32",
    "load_model",
    "register_network",
    "save_model",
]

_X86 = platform.machine().lower() in ("x86_64", "amd64")
if _X86 and "TF_ENABLE_ONEDNN_OPTS" not in os.environ and not provenance.onednn():
    logging.getLogger("emoc_tf").warning(
        "TensorFlow runs without oneDNN on this processor: set TF_ENABLE_ONEDNN_OPTS=1 before it "
        "is loaded, and training and scoring are 1.6 to 2 times faster"
    )
