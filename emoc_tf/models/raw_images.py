"""A model that takes images as they came, made of one that takes them prepared."""

import keras
import numpy as np

from emoc_tf.models.graphs import functional


def for_raw_images(
    model: keras.Model, mean: np.ndarray | None, factor: float | None
) -> keras.Model:
    """Returns a model with the same outputs, up to rounding, for images as they came.

    Its first layer is what `data.pixels.centred` does; the rest is the model itself, no copy.

    Args:
        model: Takes images as `centred` returns them, or as they came if `factor` is None.
        mean: (H, W, channels), the image that is subtracted.
        factor: What images are multiplied by after that; None if they are taken as they came.
    """
    if factor is None or mean is None:
        return model
    image = keras.Input(model.input_shape[1:])
    # (x − mean) · factor, as a layer that Keras itself has: a file of it can be read anywhere.
    centre = keras.layers.Rescaling(factor, offset=(-mean * factor).tolist())
    return functional(keras.Model(image, model(centre(image))))
