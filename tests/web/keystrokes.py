"""How many keys one person presses for 250 labels: by sets of 25, and one image at a time.

Both answer the same pictures on the same page with a real browser, in the fewest keys that the
page allows without a mouse: the start of a known name and an arrow where that is shorter, and
images that do not belong are unticked and named in parts, or put back for later.

Run: python -m tests.web.keystrokes FOLDER
"""

import sys
from collections import Counter
from pathlib import Path

from tests.web import shapes
from tests.web.browsers import Hands, Keys, Page, chromium

LABELS = 250
FLAGS = ("--image_size=32", "--update_iterations=60", "--pretrain_iterations=60", "--agent=1-vs-2",
         "--num_candidate_sets=60")  # fmt: skip


def name_keys(name, known):
    """The fewest keys for a name, without those that accept it."""
    if name in known:
        for length in range(1, len(name)):
            fits = sorted(other for other in known if other.startswith(name[:length]))
            if fits == [name]:  # the arrow takes it
                return [*name[:length], Keys.ARROW_RIGHT]
    return list(name)


def answer(hands, shown, known):
    """Gives the most frequent shape its name, the others back; returns how many got one."""
    kinds = Counter(shown)
    name = max(kinds, key=lambda kind: (kinds[kind], kind))
    others = [i for i, kind in enumerate(shown) if kind != name]
    if others:
        hands.press(Keys.ARROW_DOWN)
        place = 0
        columns = 5
        for target in others:  # from image to image, by rows and columns
            down, right = divmod(target, columns)[0] - place // columns, target % columns
            hands.press(*[Keys.ARROW_DOWN] * down)
            side = right - place % columns
            hands.press(*[Keys.ARROW_RIGHT if side > 0 else Keys.ARROW_LEFT] * abs(side), " ")
            place = target
    if name == shapes.NOTHING:
        hands.press("-")
    else:
        hands.press(*name_keys(name, known), Keys.ENTER)
        known.add(name)
    if others:
        hands.press(Keys.ENTER)
    return kinds[name]


def count(folder, truth, size):
    """Returns key strokes and sets for at least `LABELS` labels."""
    page = Page(folder / "images", folder / f"out {size}", f"--set_size={size}", *FLAGS)
    try:
        page.wait_for(lambda s: s["worker"]["phase"] == "ready")
        from emoc_tf.data import ImageFolder

        paths = ImageFolder(folder / "images", 32, store=page.out / "decoded").paths
        labels = sets = 0
        known = set()
        with chromium() as driver:
            driver.get(page.address)
            hands = Hands(driver)
            while labels < LABELS:
                query, images = hands.set()
                labels += answer(hands, [truth[paths[i]] for i in images], known)
                sets += 1
                hands.next(query)
                if size > 1:
                    page.wait_for(lambda s: not s["worker"]["behind"])
        return hands.strokes, sets, labels
    finally:
        page.close()


if __name__ == "__main__":
    root = Path(sys.argv[1])
    found = shapes.draw(root / "images", 1200)
    for number in (25, 1):
        strokes, sets, labels = count(root, found, number)
        print(f"sets of {number}: {strokes} keys, {sets} sets, {labels} labels", flush=True)
