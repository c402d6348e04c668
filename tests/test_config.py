import dataclasses
import json
import pathlib

import numpy as np
import pytest

from emoc_tf import ExplorationConfig


@pytest.mark.parametrize("preset", ["demo", "paper", "transfer"])
def test_json_round_trip(preset):
    config = ExplorationConfig.preset(preset, data_dir="somewhere")
    assert ExplorationConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json()) == config.to_dict()


def test_the_paper_preset_is_the_papers_protocol():
    config = ExplorationConfig.preset("paper")
    assert (config.known_classes, config.novel_classes) == (10, 10)
    assert (config.initial_per_class, config.pool_per_class) == (100, 100)
    assert (config.num_candidate_sets, config.set_size, config.sampler) == (
        1000,
        25,
        "single_class",
    )
    assert (config.update_iterations, config.batch_size, config.old_fraction) == (1000, 64, 0.9)
    assert (config.learning_rate, config.momentum, config.weight_decay) == (1e-4, 0.9, 5e-4)
    assert config.replace(max_steps=None).num_steps == 80


def test_the_transfer_preset_is_all_of_cifar_100():
    config = ExplorationConfig.preset("transfer")
    assert (config.known_classes, config.novel_classes) == (10, 90)
    assert (config.initial_per_class, config.pool_per_class) == (100, 400)
    assert (config.num_candidate_sets, config.set_size) == (1000, 25)
    assert (config.sampler, config.network) == ("minibatch-cluster", "efficientnet_lite0")
    assert (config.batch_size, config.old_fraction, config.max_steps) == (64, 0.9, 40)
    assert "cache_dir" not in config.record()  # where files lie is no setting of a run


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"max_steps": 3}, 3),
        ({"max_steps": None}, 2 * 10),
        ({"max_steps": None, "sampler": "uniform"}, 10 * 13 // 5),
        ({"max_steps": 100}, 20),
    ],
)
def test_number_of_steps(changes, steps):
    config = ExplorationConfig(known_classes=4, novel_classes=6, pool_per_class=13, set_size=5)
    assert config.replace(**changes).num_steps == steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known_classes": 0}, "known_classes: expected a number above 0, got 0"),
        ({"known_classes": 2.0}, "known_classes: expected a value of type int, got 2.0"),
        ({"known_classes": True}, "known_classes: expected a value of type int, got True"),
        ({"novel_classes": -1}, "novel_classes: expected a number of at least 0, got -1"),
        ({"set_size": -3}, "set_size: expected a number above 0, got -3"),
        ({"set_size": 61}, r"set_size: expected at most 60 \(pool_per_class.*got 61"),
        ({"set_size": 601, "sampler": "cluster"}, r"set_size: expected at most 600 .*got 601"),
        ({"old_fraction": 1.5}, r"old_fraction: expected a number in \[0, 1\), got 1.5"),
        ({"momentum": 1.0}, r"momentum: expected a number in \[0, 1\), got 1.0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a finite number, got nan"),
        ({"optimizer": "lion"}, r"optimizer: expected one of \['sgd', 'adam', 'adamw'\], got 'lio"),
        ({"max_steps": 0}, "max_steps: expected above 0, or none, got 0"),
        ({"max_steps": "3"}, "max_steps: expected a value of type int or None, got '3'"),
        ({"colour": 1}, "colour: expected a field of .*'known_classes'.*got an unknown one"),
    ],
)
def test_bad_values_get_one_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        ExplorationConfig.preset("demo", **changes)


def test_unknown_preset():
    with pytest.raises(
        ValueError, match=r"preset: expected one of \['demo', 'paper', 'transfer'\], got 'x'"
    ):
        ExplorationConfig.preset("x")


def test_numbers_of_numpy_and_paths_are_taken():
    config = ExplorationConfig(
        known_classes=np.int64(3), momentum=np.float32(0.5), data_dir=pathlib.Path("folder")
    )
    assert config == ExplorationConfig(known_classes=3, momentum=0.5, data_dir="folder")
    assert ExplorationConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint16, np.int64, np.array, lambda value: np.array(value, np.uint8)]
)
def test_whole_numbers_of_every_kind_are_taken(kind):
    names = [f.name for f in dataclasses.fields(ExplorationConfig) if f.type in (int, int | None)]
    plain = ExplorationConfig(**dict.fromkeys(names, 3))
    found = ExplorationConfig(**{name: kind(3) for name in names})
    assert found == plain
    assert all(type(getattr(found, name)) is int for name in names)
    assert (
        found.replace(learning_rate=kind(1)).to_json() == plain.replace(learning_rate=1).to_json()
    )


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble, np.array])
def test_numbers_of_every_kind_are_taken(kind):
    names = [field.name for field in dataclasses.fields(ExplorationConfig) if field.type is float]
    values = dict.fromkeys(names, 0.25) | {"imbalance": 1.25}
    found = ExplorationConfig(**{name: kind(value) for name, value in values.items()})
    assert found == ExplorationConfig(**values)
    assert json.loads(found.to_json()) == found.to_dict()


@pytest.mark.parametrize("name", ["known_classes", "max_steps", "learning_rate", "old_fraction"])
@pytest.mark.parametrize("value", [True, False, np.True_, np.array(True)])
def test_booleans_are_no_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a value of type .*got (True|False)"):
        ExplorationConfig(**{name: value})


@pytest.mark.parametrize("value", [np.array([3]), np.float64(3), np.array(2.5), np.str_("3"), [3]])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="known_classes: expected a value of type int, got"):
        ExplorationConfig(known_classes=value)


def test_classes_are_ranges_and_single_ids():
    assert ExplorationConfig(classes="0-9,12,20-20").class_ids == {*range(10), 12, 20}
    assert ExplorationConfig().class_ids is None
    for bad in ("", "a", "1-", "-3", "1,,2", "1 2", "9-0", "0-9,20-15", "0-99999999999"):
        with pytest.raises(ValueError, match=r"classes: expected class ids such as 0-49,60"):
            ExplorationConfig(classes=bad)
    for few in ("0", "0-8"):
        with pytest.raises(ValueError, match=r"classes: expected at least known_classes \+ nov"):
            ExplorationConfig(classes=few)


@pytest.mark.parametrize("name", sorted(ExplorationConfig().record()))
def test_a_record_from_before_a_setting_was_there_has_its_default(name):
    record = ExplorationConfig().record()
    del record[name]
    assert ExplorationConfig().differences(record) == []
    assert ExplorationConfig(known_classes=3).differences(record) == (
        ["known_classes=4 there, 3 here"]
    )


def test_another_optimizer_than_the_default_differs_from_an_old_record():
    record = ExplorationConfig().record()
    del record["optimizer"]
    differing = ExplorationConfig(optimizer="adam").differences(record)
    assert differing == ["optimizer='sgd' there, 'adam' here"]
