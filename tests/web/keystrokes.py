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
COLUMNS = 5
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


def visits(places):
    """The keys that go to images, one after the other, and toggle them."""
    keys, at = [], 0
    for place in places:
        down, side = place // COLUMNS - at // COLUMNS, place % COLUMNS - at % COLUMNS
        arrow = Keys.ARROW_RIGHT if side > 0 else Keys.ARROW_LEFT
        way = [Keys.ARROW_DOWN] * down + [arrow] * abs(side)
        straight = [Keys.ARROW_RIGHT] * (place - at)
        keys += [*min(way, straight, key=len), " "]
        at = place
    return keys


def answer(hands, shown, known):
    """Gives the most frequent shape its name, the others back; returns how many got one."""
    kinds = Counter(shown)
    name = max(kinds, key=lambda kind: (kinds[kind], kind))
    own = visits([i for i, kind in enumerate(shown) if kind == name])
    others = visits([i for i, kind in enumerate(shown) if kind != name])
    if others:
        hands.press(Keys.ARROW_DOWN)
        if len(own) + 2 < len(others):
            hands.together(Keys.CONTROL, "a")  # none is ticked
            hands.press(*own)
        else:
            hands.press(*others)
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
    for text, number, alike in (
        ("sets of 25 of one class each", 25, True), ("sets of 25 as they come", 25, False),
        ("one image at a time", 1, False),
    ):  # fmt: skip
        root = Path(sys.argv[1]) / text
        found = shapes.draw(root / "images", 1200, alike=alike)
        strokes, sets, labels = count(root, found, number)
        print(f"{text}: {strokes} keys, {sets} sets, {labels} labels", flush=True)
