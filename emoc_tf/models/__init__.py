"""Keras models: built, checked, trained, grown."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"emoc_tf: expected Keras with the backend 'tensorflow', got "
        f"{keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow"
    )
