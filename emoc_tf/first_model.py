"""The network that an episode starts from: one handed in, or one of the named ones."""

import keras
import numpy as np

from emoc_tf import networks, streams
from emoc_tf.config import ExplorationConfig


def copy_own(model: keras.Model, images: np.ndarray, num_classes: int) -> keras.Model:
    """Returns a copy, which later changes of the model do not reach.

    Args:
        model: Functional or Sequential, ending in a linear Dense layer.
        images: (n, H, W, channels) of the data, n > 0.
        num_classes: C, the outputs that it has to have.

    Raises:
        ValueError: The model does not fit, or its copy computes something else.
    """
    networks.check_model(model)
    images = images[:1].astype(np.float32)
    networks.check_shapes(model, images.shape[1:], num_classes)
    copy = networks.copy(model)
    if not np.allclose(copy(images), model(images), rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ValueError(
            "model: expected layers that keras.models.clone_model and get_weights copy whole, "
            "got a copy with other outputs"
        )
    return copy


def make(
    config: ExplorationConfig, own: keras.Model | None, image_shape: tuple[int, ...], root: int
) -> keras.Model:
    """Returns the model of an episode before any training.

    Args:
        config: Which network, with how many outputs.
        own: What `copy_own` returned; copied again. None builds `config.network`.
        image_shape: (H, W, channels).
        root: Of the episode; random weights and random layers descend from it.
    """
    if own is not None:
        model = networks.copy(own)
        networks.seed_layers(model, streams.generator(root, 0, "random layers"))
        return model
    rng = streams.generator(root, 0, "weights")
    return networks.build(
        config.network, image_shape, config.known_classes, config.weight_decay, rng
    )
