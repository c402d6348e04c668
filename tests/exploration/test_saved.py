"""Tasks whose images come and go between two days: they are recognised by their content."""

import hashlib

import numpy as np
import pytest

from emoc_tf import REJECT, SKIP, Task
from emoc_tf.exploration import Exploration
from tests.exploration.tasks import Still, Told, config, explore, first_set, images, model, say


class Files:
    """As `emoc_tf.data.ImageFolder`: images by name, equal names are equal files."""

    def __init__(self, names, shape=(1, 1, 2)):
        drawn = [np.random.default_rng(ord(name)).random(shape) for name in names]
        self._array = np.array(drawn, np.float32)
        self.shape, self.dtype = self._array.shape, self._array.dtype
        self.sha256 = [hashlib.sha256(name.encode()).hexdigest() for name in names]

    def __len__(self):
        return len(self._array)

    def __getitem__(self, indices):
        return self._array[indices]


def task(names, labels=(), num_names=2):
    """A task of the files `names`, with a class id for some of them."""
    labels = dict(labels)
    return Task(Files(names), [labels.get(n, -1) for n in names], ("cat", "dog")[:num_names])


def taken_up(exploration, names, labels=(), num_names=2, answers=()):
    other = Exploration(
        config(**{"audit": exploration.config.audit}), task=task(names, labels, num_names),
        model=exploration.initial_model, learner=Still, oracle=Told(*answers) if answers else None,
    )  # fmt: skip
    other.restore(exploration.save(), None, None)
    return other


def by_name(exploration, names):
    """Returns the class of each file; of equal files, of all."""
    found = {}
    for name, label in zip(names, exploration.labels, strict=True):
        text = exploration.class_names[label] if label >= 0 else int(label)
        found.setdefault(name, []).append(text)
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in found.items()}


START = {"A": 0, "B": 1}


@pytest.mark.parametrize("now", ["ABCDEFGH", "HGFEDCBA", "xABCDEFGHy", "BAzDCFEGH"])
@pytest.mark.filterwarnings("ignore:task")
def test_what_was_said_stays_with_the_image(now):
    then = "ABCDEFGH"
    exploration = explore(0, task_=task(then, START))
    say(exploration, ["fox", REJECT])
    say(exploration, [SKIP, 0])
    before = by_name(exploration, then)
    again = taken_up(exploration, now, START)
    assert by_name(again, now) == {name: before.get(name, SKIP) for name in now}
    assert again.class_names == exploration.class_names
    assert again.state.known_classes == exploration.state.known_classes
    while not again.finished:
        indices = again.state.candidates[first_set(again)]
        say(again, [0] * (indices >= 0).sum())
    assert (again.labels != SKIP).all()


@pytest.mark.parametrize("now", ["xABCCCD", "CABxCCD", "DCCCxBA"])
@pytest.mark.filterwarnings("ignore:task")
def test_equal_files_are_images_of_their_own(now):
    then = "ABCCCD"
    exploration = explore(0, task_=task(then, START))
    exploration.correct([2, 3], ["fox", REJECT])
    again = taken_up(exploration, now, START)
    assert by_name(again, now)["C"] == ["fox", REJECT, SKIP]
    assert sum(by_name(again, now).get(name) == SKIP for name in "xD") == 2


@pytest.mark.parametrize("gone", ["C", "CD"])
@pytest.mark.filterwarnings("ignore:task")
def test_a_class_goes_with_its_images_and_comes_back_with_them(gone):
    then = "ABCDEF"
    exploration = explore(0, task_=task(then, START))
    exploration.correct([2, 3], ["fox", "fox"])
    now = "".join(name for name in then if name not in gone)
    again = taken_up(exploration, now, START)
    known = (0, 1, 2) if gone == "C" else (0, 1)
    assert again.state.known_classes == known
    assert again.state.model.output_shape == (None, len(known))
    assert again.class_names == ("cat", "dog", "fox")
    for one, other in zip(exploration.state.model.get_weights(), again.state.model.get_weights(),
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(one[..., : len(known)] if one.shape[-1] == 3 else one, other)
    back = taken_up(again, then, START)
    assert back.labels.tolist() == [0, 1, 2, 2, SKIP, SKIP]


@pytest.mark.parametrize("now", ["yABCDEFGH", "HGFEDCBA"])
@pytest.mark.filterwarnings("ignore:task")
def test_an_answer_that_is_not_learnt_yet_is_about_its_images(now):
    then = "ABCDEFGH"
    exploration = explore(0, ["fox", REJECT], task_=task(then, START))

    def on_query():
        if exploration.query.classes is not None:
            raise KeyboardInterrupt

    exploration.on_query = on_query
    with pytest.raises(KeyboardInterrupt):
        exploration.advance(0)
    asked = [then[i] for i in exploration.query.indices]
    # The folder says something new on the same day, with a new class.
    names = dict(START, **{next(n for n in "CDEFGH" if n not in asked): 0})
    again = taken_up(exploration, now, names, answers=[None])
    assert [now[i] for i in again.query.indices] == asked
    again.advance(again.query.choice)
    assert [by_name(again, now)[name] for name in asked] == ["fox", REJECT]
    assert {by_name(again, now)[name] for name, label in names.items() if label == 0} == {"cat"}


def test_new_classes_of_a_folder_come_before_those_of_an_answer_not_learnt_yet():
    def at(labels, names, *answers):
        return Exploration(
            config(), task=Task(Files("ABCDEFGH", (8, 8, 1)), labels, names), learner=Still,
            oracle=Told(*answers),
        )  # fmt: skip

    def on_query():
        if exploration.query.classes is not None:
            raise KeyboardInterrupt

    labels = [0, 1] + [-1] * 6
    exploration = at(labels, ("cat", "dog"), ["fox", "fox"])
    exploration.reset(0)
    exploration.on_query = on_query
    with pytest.raises(KeyboardInterrupt):
        exploration.advance(0)
    asked = exploration.query.indices
    other = next(i for i in range(2, 8) if i not in asked)
    labels[other] = 2
    again = at(labels, ("cat", "dog", "owl"))
    again.restore(exploration.save(), None, None)
    again.advance(again.query.choice)
    assert again.class_names == ("cat", "dog", "owl", "fox")
    assert again.labels[asked].tolist() == [3, 3]
    assert again.labels[other] == 2


@pytest.mark.parametrize("now", ["ABDEFGH", "HGFEDCBAx"])
@pytest.mark.filterwarnings("ignore:task")
def test_open_queries_follow_their_images(now):
    then = "ABCDEFGH"
    exploration = explore(0, task_=task(then, START))
    queries = [exploration.ask(first_set(exploration)) for _ in range(2)]
    asked = [[then[i] for i in query.indices if then[i] in now] for query in queries]
    again = taken_up(exploration, now, START)
    assert [[now[i] for i in query.indices] for query in again.queries] == asked
    hidden = {i for query in again.queries for i in query.indices.tolist()}
    shown = again.state.candidates[again.state.candidate_mask]
    assert not hidden & set(shown.ravel().tolist())
    for query in again.queries:
        np.testing.assert_array_equal(query.images, again.episode.raw_images[query.indices])
        again.answer(query, [0] * len(query.indices))


@pytest.mark.parametrize("count", [7, 9])
def test_arrays_are_not_recognised_and_have_to_be_the_same(count):
    exploration = explore([0, 1] + [-1] * 6)
    other = Exploration(
        config(), task=Task(images(count), [0, 1] + [-1] * (count - 2), ("cat", "dog")),
        model=model(2), learner=Still,
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"got one of 8 for a task of {count}"):
        other.restore(exploration.save(), None, None)


@pytest.mark.parametrize("names", ["ABCDEFGH", "ABCDEFGHx"])
def test_images_of_another_size_are_refused(names):
    """Also where images have come: the same files look otherwise to a model."""
    exploration = explore(0, task_=task("ABCDEFGH", START))
    given = Task(Files(names, (1, 2, 2)), [0, 1] + [-1] * (len(names) - 2), ("cat", "dog"))
    other = Exploration(config(), task=given, model=model(2, (1, 2, 2)), learner=Still)
    with pytest.raises(ValueError, match=r"images: expected .* \(1, 1, 2\), .* got \(1, 2, 2\)"):
        other.restore(exploration.save(), None, None)


@pytest.mark.parametrize("seed", [1, 2])
def test_other_arrays_of_the_same_size_are_refused(seed):
    exploration = explore([0, 1] + [-1] * 6)
    given = Task(images(8, seed), [0, 1] + [-1] * 6, ("cat", "dog"))
    other = Exploration(config(), task=given, model=model(2), learner=Still)
    with pytest.raises(ValueError, match="expected one of the same images, got others"):
        other.restore(exploration.save(), None, None)


@pytest.mark.parametrize("said", ["dog", REJECT, SKIP])
def test_what_a_folder_says_once_is_a_correction_once(said):
    """What people say after it stands on all days that follow."""
    names, sorted_in = "ABCDEFGH", {**START, "C": 0}
    first = explore(0, task_=task(names, START))
    second = taken_up(first, names, sorted_in)
    assert by_name(second, names)["C"] == "cat"
    second.correct(names.index("C"), said)
    third = taken_up(taken_up(second, names, sorted_in), names, sorted_in)
    assert by_name(third, names)["C"] == said


@pytest.mark.filterwarnings("ignore:task")
@pytest.mark.parametrize("said", ["fox", "cat", REJECT])
def test_images_that_come_back_are_what_they_were(said):
    names = "ABCDEFGH"
    first = explore(0, task_=task(names, START))
    first.correct(names.index("C"), said)
    without = taken_up(first, "ABDEFGH", START)
    assert by_name(taken_up(without, names, START), names)["C"] == said


@pytest.mark.filterwarnings("ignore:task")
def test_folders_whose_names_are_composed_now_say_nothing_new():
    """A copy on another system may have them so."""

    def of(form, names, labels):
        return Task(Files(names), [labels.get(n, -1) for n in names], (form, "dog"))

    first = explore(0, task_=of("the\u0301", "ABCDEFGH", START))
    first.correct([2], ["th\u00e9"])
    again = Exploration(
        config(), task=of("th\u00e9", "ABCDEFGHI", {**START, "I": 0}), model=first.initial_model,
        learner=Still,
    )  # fmt: skip
    again.restore(first.save(), None, None)
    assert again.class_names == ("the\u0301", "dog")
    assert again.labels.tolist() == [0, 1, 0, *[-1] * 5, 0]


@pytest.mark.filterwarnings("ignore:task")
@pytest.mark.parametrize("change", ["rename", "merge"])
def test_new_images_of_a_folder_follow_what_its_class_became(change):
    first = explore(0, task_=task("ABCDEFGH", START))
    if change == "rename":
        first.rename("cat", "lynx")
    else:
        first.merge("cat", "dog")
    second = taken_up(first, "ABCDEFGHI", {**START, "I": 0})
    assert by_name(second, "ABCDEFGHI")["I"] == ("lynx" if change == "rename" else "dog")


@pytest.mark.parametrize("now", [{"A": 0, "B": 1, "C": 2}, dict.fromkeys("ABCDEFG", 0) | {"B": 1}])
def test_folders_that_were_sorted_since_can_be_resumed(now):
    """With a class that the model had no output for, and with fewer loose files than audited."""
    names = "ABCDEFGH"
    first = explore(0, task_=task(names, START), audit=3)
    first.answer(first.queries[0], [0, 1, None])
    other = Exploration(
        config(audit=3),
        task=Task(Files(names), [now.get(n, -1) for n in names], ("cat", "dog", "fox")),
        model=first.initial_model,
        learner=Still,
    )
    calls = []
    other.on_query = lambda: calls.append(other.save())
    other.restore(first.save(), None, None)
    assert not calls  # there is nothing new that the restoring has not told
    assert by_name(other, names)["A"] == "cat"
