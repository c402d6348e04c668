"""Where images come from."""

from emoc_tf.data.folders import ImageFolder
from emoc_tf.data.images import ImageData
from emoc_tf.data.named import load
from emoc_tf.data.sources import from_dataset, from_tfds

__all__ = ["ImageData", "ImageFolder", "from_dataset", "from_tfds", "load"]
