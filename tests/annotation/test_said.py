"""The replay of the journal: labels, classes, and what was taken back."""

import random

import pytest

from emoc_tf.annotation.said import Said, class_of


def cls(name):
    return {"class": name}


def answer(query, labels, seat="s"):
    return {"kind": "answer", "query": query, "seat": seat, "images": list(labels),
            "labels": list(labels.values())}  # fmt: skip


def names(said):
    return {key: class_of(label) or label for key, label in said.labels.items()}


def undo(said, number=None):
    said.enter(said.undoing(said.last_of("s") if number is None else number))


def test_answers_of_all_kinds_are_kept_apart():
    said = Said()
    labels = {"1": cls("cat"), "2": "skip", "3": "unsure", "4": "left", "5": "reject"}
    said.enter(answer("a", labels))
    assert names(said) == {"1": "cat", "2": "skip", "3": "unsure", "4": "left", "5": "reject"}
    assert {k: v for k, v in said.tally.items() if k != "none"} == dict.fromkeys(
        ["class", "skip", "unsure", "left", "reject"], 1
    )
    assert said.by_people == {"1", "5"} and list(said.members) == ["cat"]
    assert said.answered == {"a": 0}


def test_labels_of_the_folder_are_nobodys_answers():
    said = Said([{"kind": "folder", "images": ["1", "2"], "labels": [cls("cat"), cls("dog")]}])
    assert not said.by_people and said.last_of("s") is None
    said.enter({"kind": "correct", "seat": "s", "images": ["1"], "labels": [cls("dog")]})
    assert said.by_people == {"1"}
    undo(said)
    assert names(said) == {"1": "cat", "2": "dog"} and not said.by_people


def test_undo_goes_back_step_by_step():
    said = Said()
    states = [{}]
    said.enter(answer("a", {"1": cls("cat"), "2": cls("cat"), "3": "left"}))
    states.append(names(said))
    said.enter(answer("b", {"4": cls("dog"), "5": "reject"}))
    states.append(names(said))
    said.enter({"kind": "correct", "seat": "s", "images": ["1", "4"], "labels": [cls("owl")] * 2})
    states.append(names(said))
    said.enter({"kind": "rename", "seat": "s", "name": "owl", "to": "barn owl"})
    states.append(names(said))
    said.enter({"kind": "merge", "seat": "s", "name": "cat", "into": "barn owl"})
    for expected in reversed(states):
        undo(said)
        assert names(said) == expected
        counts = {name: len(images) for name, images in said.members.items()}
        found = [name for name in expected.values() if name in counts]
        assert counts == {name: found.count(name) for name in found}
    assert said.last_of("s") is None


def test_only_what_still_stands_is_taken_back():
    said = Said()
    said.enter(answer("a", {"1": cls("cat"), "2": cls("cat")}))
    said.enter({"kind": "correct", "seat": "t", "images": ["1"], "labels": [cls("dog")]})
    undo(said, 0)
    assert names(said) == {"1": "dog"}
    with pytest.raises(ValueError, match="undo: expected an entry"):
        said.undoing(0)
    said.enter(answer("b", {"3": cls("cat")}))
    said.enter({"kind": "correct", "seat": "t", "images": ["3"], "labels": [cls("dog")]})
    with pytest.raises(ValueError, match="nothing of that entry stands"):
        said.undoing(3)


def test_somebodys_last_entry_is_their_own():
    said = Said()
    said.enter(answer("a", {"1": cls("cat")}, "s"))
    said.enter(answer("b", {"2": cls("dog")}, "t"))
    assert said.last_of("s") == 0 and said.last_of("t") == 1 and said.last_of("u") is None
    undo(said, 0)
    assert said.last_of("s") is None


def test_names_of_then_mean_the_classes_of_now():
    said = Said()
    said.enter(answer("a", {"1": cls("cat"), "2": cls("owl")}))
    said.enter({"kind": "rename", "seat": "s", "name": "cat", "to": "feline"})
    said.enter({"kind": "merge", "seat": "s", "name": "feline", "into": "owl"})
    assert said.now("cat", 1) == "owl" and said.now("feline", 2) == "owl"
    assert said.now("cat", 2) == "cat" and said.now("dog", 0) == "dog"
    undo(said)
    assert said.now("cat", 1) == "feline"


def test_what_was_said_before_a_renaming_is_taken_back_under_the_new_name():
    said = Said()
    said.enter(answer("a", {"1": cls("cat"), "2": cls("cat")}))
    said.enter({"kind": "correct", "seat": "s", "images": ["1"], "labels": ["reject"]})
    said.enter({"kind": "rename", "seat": "t", "name": "cat", "to": "feline"})
    undo(said, 1)
    assert names(said) == {"1": "feline", "2": "feline"}


def test_a_renaming_is_not_taken_back_onto_another_class():
    said = Said()
    said.enter(answer("a", {"1": cls("cat")}))
    said.enter({"kind": "rename", "seat": "s", "name": "cat", "to": "feline"})
    said.enter(answer("b", {"2": cls("cat")}))
    with pytest.raises(ValueError, match="undo: expected a class 'feline' and none called 'cat'"):
        said.undoing(1)


def test_a_renaming_is_not_taken_back_from_the_class_that_it_was_merged_into():
    said = Said()
    said.enter(answer("a", {"1": cls("cat"), "2": cls("dog")}))
    said.enter({"kind": "rename", "seat": "s", "name": "cat", "to": "feline"})
    said.enter({"kind": "rename", "seat": "s", "name": "feline", "to": "felid"})
    said.enter({"kind": "merge", "seat": "s", "name": "felid", "into": "dog"})
    with pytest.raises(ValueError, match="undo: expected a class 'feline' and none called 'cat'"):
        said.undoing(1)
    undo(said)
    undo(said, 1)
    assert names(said) == {"1": "cat", "2": "dog"}


@pytest.mark.parametrize("seed", range(30))
def test_a_replay_is_what_was_there(seed):
    """Random journals: books that are kept step by step are those of a replay."""
    rng, said, entries = random.Random(seed), Said(), []
    images = [str(i) for i in range(12)]
    for step in range(40):
        labels = [cls("cat"), cls("dog"), cls("owl"), "skip", "left", "unsure", "reject", "none"]
        kind = rng.choice(["answer", "correct", "rename", "merge", "undo", "undo"])
        chosen = rng.sample(images, 3)
        entry = {"kind": kind, "seat": "s", "key": f"key {step}"}
        if kind in ("answer", "correct"):
            entry |= {"images": chosen, "labels": [rng.choice(labels) for _ in chosen]}
            entry |= {"query": str(step)} if kind == "answer" else {}
        elif kind == "undo":
            number = said.last_of("s")
            if number is None:
                continue
            try:
                entry |= said.undoing(number)
            except ValueError:
                continue
        else:
            if len(said.members) < 2:
                continue
            name, other = rng.sample(sorted(said.members), 2)
            entry |= {"name": name}
            entry |= {"to": f"new {step}"} if kind == "rename" else {"into": other}
        said.enter(entry)
        entries.append(entry)
        by_class = {}
        for image, label in said.labels.items():
            if class_of(label) is not None:
                by_class.setdefault(class_of(label), set()).add(image)
        assert by_class == {name: set(found) for name, found in said.members.items()}
        assert said.tally["class"] == sum(map(len, by_class.values()))
        assert said.by_people == {i for i, x in said.labels.items()
                                  if class_of(x) is not None or x == "reject"}  # fmt: skip
    again = Said(entries)
    assert again.labels == said.labels and again.members == said.members
    assert again.keys == said.keys and again.undone == said.undone
