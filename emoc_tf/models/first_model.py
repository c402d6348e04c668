"""The model of an episode before any training."""

import keras

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.models import networks, structure


def first_model(
    config: ExplorationConfig,
    own: keras.Model | None,
    image_shape: tuple[int, ...],
    root: int,
    known: int,
) -> keras.Model:
    """Returns the model of an episode before any training.

    Args:
        config: Which network, with how many outputs.
        own: What `copy_own` returned; copied again. None builds `config.network`.
        image_shape: (H, W, channels).
        root: Of the episode; random weights and random layers descend from it.
        known: C; 0 for an output that stands for nothing yet.
    """
    if own is not None:
        model = structure.copy(own)
        units = model.output_shape[-1]
        if units != max(1, known) or not known:
            rng = streams.generator(root, 0, "new units")
            model = structure.grow_head(model, 1, rng)
            model = structure.select_outputs(model, range(units, units + 1))
        structure.seed_layers(model, streams.generator(root, 0, "random layers"))
        return model
    rng = streams.generator(root, 0, "weights")
    # What the optimizer takes off the weights itself is no part of the loss.
    decay = 0.0 if config.optimizer == "adamw" else config.weight_decay
    return networks.build(config.network, image_shape, max(1, known), decay, rng)
