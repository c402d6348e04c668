"""Pictures of shapes: what a person can name and a small network can learn."""

import math
import random

from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
NOTHING = "nothing"  # a blur that cannot be named
_SIDE = 240


def draw(folder, count, seed=0, names=SHAPES, size=160, alike=False):
    """Draws shapes into a folder; returns what each file shows.

    Those of a class look nearly the same where they are to be alike.
    """
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for i in range(count):
        name = NOTHING if i % 25 == 24 else names[i % len(names)]
        file = f"{rng.getrandbits(32):08x}.png"
        look = random.Random(name) if alike else rng
        picture = _picture(name, look).resize((size, size))
        if alike:  # no two files are the same
            picture.putpixel((rng.randrange(size), rng.randrange(size)), (i % 256, i // 256, 9))
        picture.save(folder / file)
        truth[file] = name
    return truth


def _picture(name, rng):
    hue, light = rng.randrange(360), rng.choice([False, True])
    ground = f"hsl({(hue + 150) % 360}, 30%, {88 if light else 22}%)"
    ink = f"hsl({hue}, 75%, {38 if light else 66}%)"
    image = Image.new("RGB", (_SIDE, _SIDE), ground)
    pen = ImageDraw.Draw(image)
    if name == NOTHING:
        for _ in range(400):
            x, y, r = rng.uniform(0, _SIDE), rng.uniform(0, _SIDE), rng.uniform(4, 22)
            pen.ellipse((x - r, y - r, x + r, y + r), f"hsl({rng.randrange(360)}, 20%, 50%)")
        return image
    r = rng.uniform(58, 88)
    x, y = (rng.uniform(r + 8, _SIDE - r - 8) for _ in range(2))
    turn = (
        rng.uniform(0, 2 * math.pi) if name not in ("square", "cross") else rng.uniform(-0.2, 0.2)
    )

    def at(angle, radius):
        return x + radius * math.cos(angle + turn), y + radius * math.sin(angle + turn)

    def corners(number, inner=None):
        steps = number * (2 if inner else 1)
        radii = [r if i % 2 == 0 or not inner else r * inner for i in range(steps)]
        return [at(2 * math.pi * i / steps - math.pi / 2, radius) for i, radius in enumerate(radii)]

    box = (x - r, y - r, x + r, y + r)
    if name == "circle":
        pen.ellipse(box, ink)
    elif name == "ring":
        pen.ellipse(box, outline=ink, width=int(r * 0.32))
    elif name == "square":
        pen.polygon([at(math.pi / 4 + i * math.pi / 2, r) for i in range(4)], ink)
    elif name == "triangle":
        pen.polygon(corners(3), ink)
    elif name == "star":
        pen.polygon(corners(5, 0.42), ink)
    else:
        wide = 0.24
        for angle in (0, math.pi / 2):
            pen.polygon([at(angle + s, r) for s in (-wide, wide, math.pi - wide, math.pi + wide)],
                        ink)  # fmt: skip
    return image
