"""Lines of the page's journal brought into an exploration, once each."""

import os
import random

import numpy as np
import pytest

from emoc_tf import SKIP, Task
from emoc_tf.annotation.applying import Applier
from emoc_tf.annotation.exploring import Annotated
from emoc_tf.annotation.said import Said, class_of
from emoc_tf.data import ImageFolder
from emoc_tf.records.queried import QUERIED_COLUMNS, read_texts
from emoc_tf.records.recording import Recording
from tests.data import pictures
from tests.records import tasks


def cls(*names):
    return [n if n in ("skip", "unsure", "left", "reject", "none") else {"class": n} for n in names]


def make(root, again=False, **changes):
    if not again:
        tasks.folder_task(root)
    folder = ImageFolder(root, 8)
    task = Task(folder, folder.labels, folder.class_names)
    return Annotated(tasks.CONFIG.replace(**changes), task=task, model=tasks.model(2))


class World:
    """A page's journal and the worker beside it, which may die at any time."""

    def __init__(self, folder, **changes):
        self.folder, self.lines, self.changes, self.fuse = folder, [], changes, None
        self.begin(again=False)
        first = self.exploration.told_labels()
        keys = self.exploration.keys
        self.say("folder", images=[keys[i] for i, _ in first], labels=[x for _, x in first])

    def begin(self, again=True):
        self.exploration = make(self.folder / "images", again, **self.changes)
        self.exploration.on_query = self.burn  # called when all is written
        self.recording = Recording(self.exploration, self.folder / "out")
        self.applier = Applier(self.exploration, self.lines[: self.exploration.applied])

    def burn(self):
        """Ends the process here if the fuse has burnt down."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise KeyboardInterrupt

    def apply_and_maybe_die(self, fuse):
        """Applies what there is; dies in the middle, after so many files were written."""
        self.fuse = fuse
        try:
            self.apply()
        except KeyboardInterrupt:
            self.fuse = None
            self.die()
            self.begin()
            self.apply()
        self.fuse = None

    def die(self):
        self.recording._held.close()

    def ask(self):
        choices = np.flatnonzero(self.exploration.state.candidate_mask)
        query = self.exploration.ask(int(choices[0]))
        return self.exploration.ids[query.number], [self.exploration.keys[i] for i in query.indices]

    def say(self, kind, **told):
        self.lines.append({"kind": kind, "seat": "s"} | told)
        return self

    def answer(self, query, images, *labels):
        return self.say("answer", query=query, images=images, labels=cls(*labels))

    def undo(self, number, **more):
        told = Said(self.lines).undoing(number)
        return self.say(**told | more)

    def apply(self):
        for line in self.lines[self.exploration.applied :]:
            self.applier.apply(line)
        self.recording.write()
        return self

    def found(self):
        keys, told = self.exploration.keys, self.exploration.told_labels()
        return {keys[i]: class_of(label) or label for i, label in told}

    def expected(self):
        labels = Said(self.lines).labels
        names = {key: class_of(label) or label for key, label in labels.items()}
        return {k: n for k, n in names.items() if n not in ("skip", "unsure", "left")}

    def kinds(self):
        return [entry.kind for entry in self.exploration.journal if entry.kind != "learn"]

    def rows(self):
        rows = read_texts(self.recording.path / "queried.csv", QUERIED_COLUMNS)
        return [(row["answer"], row["class_name"], row["taken_back"]) for row in rows]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_answers_of_all_kinds(world):
    world.answer(*world.ask(), "owl", "reject")
    world.answer(*world.ask(), "unsure", "cat")
    world.answer(*world.ask(), "left", "skip").apply()
    assert world.found() == world.expected() and "owl" in world.found().values()
    assert [row[0] for row in world.rows()] == [
        "new class", "reject", "skip", "class", "skip", "skip",
    ]  # fmt: skip
    assert world.exploration.outcomes[-1].step == 3


def test_undo_of_the_newest_is_an_undoing_in_the_records(world):
    query, images = world.ask()
    world.answer(query, images, "owl", "owl").undo(1, query="again", again=images).apply()
    assert world.kinds() == ["answer", "undo"]
    assert {row[2] for row in world.rows()} == {"1"}
    open_query = world.applier.find("again")
    assert [world.exploration.keys[i] for i in open_query.indices] == images
    world.answer("again", images, "cat", "left").apply()
    assert world.found() == world.expected() and world.kinds()[-1] == "answer"
    assert "owl" not in world.exploration.class_names


def test_undo_of_an_older_answer_leaves_the_newer_ones(world):
    first, second = world.ask(), world.ask()
    world.answer(*first, "owl", "cat").answer(*second, "owl", "emu")
    world.undo(1, query="again", again=first[1]).apply()
    assert world.found() == world.expected()
    assert world.applier.find("again") is not None
    world.answer("again", first[1], "emu", "emu").apply()
    assert world.found() == world.expected()


def test_an_image_in_an_open_query_gets_its_label_when_that_is_closed(world):
    query, images = world.ask()
    world.answer(query, images, "owl", "skip").undo(1, query="again", again=images)
    world.answer("again", images, "owl", "emu").apply()
    assert world.found() == world.expected()
    # An image that waits in another query is told elsewhere.
    other, waiting = world.ask()
    world.say("correct", images=waiting[:1], labels=cls("owl")).apply()
    assert waiting[0] not in world.found()
    world.exploration.withdraw(world.applier.find(other))
    world.applier.settle()
    assert world.found() == world.expected()


def test_classes_are_changed(world):
    first, second = world.ask(), world.ask()
    world.answer(*first, "owl", "cat").answer(*second, "emu", "emu")
    world.say("rename", name="owl", to="barn owl").say("merge", name="emu", into="cat")
    world.say("split", images=second[1][:1], labels=cls("rhea")).apply()
    assert world.found() == world.expected()
    assert world.kinds()[-3:] == ["rename", "merge", "correct"]
    world.undo(5).undo(4).undo(3).apply()
    assert world.found() == world.expected()
    assert world.kinds()[-3:] == ["undo"] * 3


def test_a_class_may_get_a_name_that_was_given_up(world):
    first, second = world.ask(), world.ask()
    world.answer(*first, "owl", "owl").say("rename", name="owl", to="emu")
    world.answer(*second, "owl", "emu").apply()
    assert world.found() == world.expected()
    third = world.ask()
    world.say("correct", images=first[1], labels=cls("none", "none"))
    world.say("rename", name="cat", to="old").answer(*third, "cat", "old").apply()
    assert world.found() == world.expected()


def test_a_new_class_that_bears_the_former_name_of_another(world):
    query = world.ask()  # asked while cat is cat
    world.say("rename", name="cat", to="feline").answer(*query, "cat", "feline").apply()
    assert world.found() == world.expected()
    assert sorted(set(world.found().values())) == ["cat", "dog", "feline"]
    (answer,) = [entry for entry in world.exploration.journal if entry.kind == "answer"]
    assert answer.labels[0] == SKIP  # it was never learnt as that other class


@pytest.mark.parametrize("when", ["before", "inside", "after"])
def test_a_worker_that_dies_applies_each_line_once(world, monkeypatch, when):
    first, second = world.ask(), world.ask()
    world.answer(*first, "owl", "cat").answer(*second, "owl", "reject")

    def killed(*_):
        raise KeyboardInterrupt

    world.applier.apply(world.lines[0])
    world.applier.apply(world.lines[1])
    if when == "after":
        world.applier.apply(world.lines[2])  # learnt, and no further file was written
    else:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            name = "_learn" if when == "inside" else "answer"
            patch.setattr(world.exploration, name, killed)
            world.applier.apply(world.lines[2])
    world.die()
    world.begin()
    assert world.exploration.applied == (2 if when == "before" else 3)
    world.apply()
    assert world.found() == world.expected()
    assert world.kinds() == ["answer", "answer"]
    assert world.exploration.outcomes[-1].step == 2


def test_a_set_that_is_shown_again_is_open_after_a_death(world):
    query, images = world.ask()
    world.answer(query, images, "owl", "owl").apply()
    world.undo(1, query="again", again=images).apply_and_maybe_die(0)
    assert world.kinds() == ["answer", "undo"] and world.exploration.applied == 3
    assert len(world.applier.find("again").indices) == 2


def test_open_queries_keep_their_ids(world):
    asked = [world.ask(), world.ask()]
    world.die()
    world.begin()
    assert [world.exploration.ids[q.number] for q in world.exploration.queries] == [
        query for query, _ in asked
    ]
    world.exploration.withdraw(world.applier.find(asked[0][0]))
    third, _ = world.ask()
    assert third not in [query for query, _ in asked]


@pytest.mark.filterwarnings("ignore:task")
def test_another_folder_on_another_day(world):
    first, second = world.ask(), world.ask()
    world.answer(*first, "owl", "cat").apply()
    world.answer(*second, "owl", "emu")  # not read yet
    world.die()
    root = world.folder / "images"
    for i in range(3):
        pictures.write(root / "unlabelled" / f"aa new {i}.png", 500 + i)
    (root / "dog" / "a.png").rename(root / "cat" / "moved.png")
    world.begin()
    assert world.exploration.applied == 2
    world.apply()
    expected = world.expected()
    moved = world.exploration.keys[world.exploration.task.images.paths.index("cat/moved.png")]
    assert world.found() == expected | {moved: "cat"}


@pytest.mark.filterwarnings("ignore:task")
def test_what_is_said_while_an_image_is_away_counts_when_it_is_back(world):
    query, images = world.ask()
    world.answer(query, images, "owl", "owl").apply()
    first = len(world.lines) - 1
    world.die()
    path = world.exploration.task.images.paths[world.exploration.keys.index(images[0])]
    file, away = world.folder / "images" / path, world.folder / "away.png"
    file.rename(away)
    world.begin()
    world.undo(first).apply()
    world.answer(*world.ask(), "emu", "emu").apply()
    world.die()
    away.rename(file)
    world.begin()
    assert world.found() == world.expected()
    assert images[0] not in world.found()


@pytest.mark.parametrize("seed", range(int(os.environ.get("EMOC_CASES", "6"))))
def test_whatever_is_said_and_whenever_it_dies(tmp_path, seed):
    """Random lines and deaths: labels are always those of the page's replay."""
    rng = random.Random(seed)
    world = World(tmp_path, update_iterations=1)
    known = ["cat", "dog", "owl", "emu", "skip", "unsure", "left", "reject"]
    closed, opened = set(), {}
    for step in range(14):
        said = Said(world.lines)
        kind = rng.choice(
            ["answer", "answer", "answer", "undo", "correct", "rename", "merge", "die"]
        )
        open_images = {k for _, images in opened.items() for k in images}
        if kind == "answer":
            if not opened and world.exploration.state.candidate_mask.any():
                opened = dict([world.ask()])
            if opened:
                query, images = opened.popitem()
                world.answer(query, images, *rng.choices(known, k=len(images)))
                closed.add(query)
        elif kind == "undo":
            number = said.last_of("s")
            try:
                told = said.undoing(number)
            except (ValueError, TypeError):
                continue
            again = []
            if world.lines[number]["kind"] == "answer":
                pairs = zip(told["images"], told["labels"], strict=True)
                again = [k for k, label in pairs if isinstance(label, str) and k not in open_images]
            more = {"query": f"again {step}", "again": again} if again else {}
            world.say(**told | more)
            if again:
                opened = {f"again {step}": again, **opened}
        elif kind == "correct":
            free = [k for k in said.labels if k not in open_images]
            images = rng.sample(sorted(free), 2)
            world.say("correct", images=images, labels=cls(*rng.choices([*known, "none"], k=2)))
        elif kind in ("rename", "merge") and len(said.members) > 1:
            one, other = rng.sample(sorted(said.members), 2)
            told = {"to": f"new {step}"} if kind == "rename" else {"into": other}
            world.say(kind, name=one, **told)
        elif kind == "die":
            world.die()
            world.begin()
        if rng.random() < 0.6:
            world.apply_and_maybe_die(rng.choice([None, 0, 1, 2]))
            opened = {q: i for q, i in opened.items() if world.applier.find(q) is not None}
    world.apply()
    hidden = {world.exploration.keys[i] for q in world.exploration.queries for i in q.indices}
    for query in world.exploration.queries:
        if world.exploration.ids[query.number] not in closed:
            world.exploration.withdraw(query)
    world.applier.settle()
    assert world.found() == world.expected(), hidden
