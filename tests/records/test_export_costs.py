"""What exports cost for many images and classes."""

import numpy as np
import pytest

from emoc_tf import ExplorationConfig
from emoc_tf.exploration.loop import Exploration
from emoc_tf.records import exports
from emoc_tf.records.labels import LabelledImage, RunLabels
from tests.records.tasks import leave


class Name(str):
    """A text that counts how often it is looked at."""

    looks = 0

    def __eq__(self, other):
        Name.looks += 1
        return str.__eq__(self, other)

    def __hash__(self):
        Name.looks += 1
        return str.__hash__(self)


@pytest.mark.parametrize("name", exports.FORMATS)
def test_work_grows_with_the_number_of_images_alone(tmp_path, monkeypatch, name):
    """Not with its square: people label many thousands, of many classes."""
    (tmp_path / "images").mkdir()
    count, labelled = 300, []
    for i in range(count):
        (tmp_path / "images" / f"{i}.png").write_bytes(b"")
        labelled.append(LabelledImage(i, Name(i % 150), f"{i}.png", guess=Name((i + 1) % 150)))
    config = {"agent": "random", "task": {}}
    labels = RunLabels(tmp_path, config, labelled, frozenset(), {}, tmp_path / "images", {})
    monkeypatch.setattr(exports, "read_labels", lambda run: labels)
    Name.looks = 0
    _, found = exports.export(tmp_path, name)
    assert found == count
    assert Name.looks < 20 * count


def test_the_names_of_a_data_set_are_made_different_once(tmp_path, monkeypatch):
    config = ExplorationConfig(
        known_classes=2, novel_classes=2, pool_per_class=6, set_size=3, num_candidate_sets=4,
        pretrain_iterations=0, update_iterations=1,
    )  # fmt: skip
    found = Exploration(config)
    found.reset(5)
    for _ in range(2):
        found.advance(int(np.flatnonzero(found.state.candidate_mask)[0]))
    run, calls = leave(tmp_path, found, config), []
    distinct = exports.distinct
    monkeypatch.setattr(exports, "distinct", lambda names: calls.append(1) or distinct(names))
    exports.export(run, "folders")
    assert len(calls) == 1
