"""Folders of small images that are functions of their seeds."""

import re

import numpy as np
from PIL import Image

from tests import ROOT


def write(path, seed, size=(8, 8)):
    """Writes an image of noise, a function of the seed; returns its pixels."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return image


def make_folder(root):
    """Six images: two classes of two and one without a label in each way."""
    for seed, name in enumerate(
        ["dog/b.png", "dog/a.png", "cat/a.png", "cat/deep/er/a.png", "Unlabelled/x.png", "y.png"]
    ):
        write(root / name, seed)
    return root


PATHS = ("Unlabelled/x.png", "cat/a.png", "cat/deep/er/a.png", "dog/a.png", "dog/b.png", "y.png")
SEEDS = (4, 2, 3, 1, 0, 5)


def expected(*positions):
    images = [
        np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8) for seed in SEEDS
    ]
    return np.stack([images[i] for i in positions])


def page_scripts():
    """The scripts of the page about images."""
    text = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)
