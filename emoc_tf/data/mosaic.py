"""The images of a set side by side, as one picture."""

import numpy as np

# Images a mosaic shows at most; of larger sets, the first ones.
MOST = 64


def mosaic(images: np.ndarray) -> np.ndarray:
    """Returns images on a white ground, in rows that make it square or somewhat wider.

    Args:
        images: (k, H, W, channels), uint8 or floating; floats are stretched over the grey levels.
            Of two channels the first is shown, of more than three the first three.

    Returns:
        (height, width, 3) uint8.
    """
    images = images[:MOST]
    if images.dtype != np.uint8:
        low, high = images.min(), images.max()
        stretched = (images - low) / max(high - low, np.finfo(np.float32).tiny)
        images = np.rint(255 * stretched).astype(np.uint8)
    channels = [0, 1, 2] if images.shape[-1] > 2 else [0, 0, 0]
    images = images[..., channels]
    # The fewest empty fields.
    root = np.sqrt(len(images))
    widths = range(int(np.ceil(root)), int(np.ceil(1.3 * root)) + 1)
    columns = min(widths, key=lambda width: -len(images) % width)
    height, width = images.shape[1:3]
    gap = max(1, round(0.06 * max(height, width)))
    rows = -(-len(images) // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    canvas = np.full(shape, 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas
