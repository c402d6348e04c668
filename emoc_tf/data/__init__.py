"""Where images come from."""

from emoc_tf.data.folders import ImageFolder
from emoc_tf.data.images import ImageData
from emoc_tf.data.named import load

__all__ = ["ImageData", "ImageFolder", "load"]
