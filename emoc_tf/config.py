"""The configuration of an exploration: one frozen record of JSON values."""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from emoc_tf import registries
from emoc_tf.values import class_ranges, plain, stop_rules

OPTIMIZERS = ("sgd", "adam", "adamw")
_PLACES = ("data_dir", "cache_dir")


def _field(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ExplorationConfig:
    """All settings of an exploration; the defaults are the preset `demo`.

    The same names are keyword arguments of `gym.make` and flags of the binaries (there
    `--steps` is `max_steps`). Values are JSON values, checked when the record is made.

    Raises:
        ValueError: A value has the wrong type or lies out of range. What is so for drawn classes
            and images alone is told by `check_drawn`, where they are drawn.

    Example:
        >>> from emoc_tf import ExplorationConfig
        >>> config = ExplorationConfig.preset("paper", max_steps=3)
        >>> config.set_size, config.num_steps
        (25, 3)
    """

    dataset: str = _field(
        "digits", "'digits' (embedded), 'folder:PATH' or a tensorflow-datasets name"
    )
    data_dir: str | None = _field(
        None, "tensorflow-datasets folder; if not given, TFDS_DATA_DIR or ~/tensorflow_datasets"
    )
    cache_dir: str | None = _field(
        None,
        "folder where what frozen layers compute of a data set's images is kept, for all runs of a "
        "network of pretrained weights or of a model of your own; if not given, each run computes "
        "it of its own images",
    )
    classes: str | None = _field(
        None,
        "class ids that classes are drawn from, such as 0-49,60; if not given, all",
    )
    known_classes: int = _field(4, "classes the model knows at the start")
    novel_classes: int = _field(6, "classes that wait in the pool to be discovered")
    initial_per_class: int = _field(10, "labelled images of each known class at the start")
    pool_per_class: int | None = _field(
        60, "unlabelled images of each known and novel class; none: all there are"
    )
    imbalance: float = _field(
        1.0, "how many times more images wait of the most frequent class than of the rarest"
    )
    duplicates: float = _field(0.0, "share of the waiting images that are copies of others")
    wrong_answers: float = _field(0.0, "share of the images whose answer names another class")
    rejected: float = _field(0.0, "share of the images that nobody can name")
    num_candidate_sets: int = _field(100, "M, candidate sets per step")
    set_size: int = _field(5, "K, images per candidate set")
    sampler: str = _field(
        "single_class",
        "how candidate sets are built: 'single_class' (the paper's), 'uniform', 'cluster', "
        "'minibatch-cluster' (for large pools), 'top' (the images that the policy wants most) or "
        "one that was registered",
    )
    network: str = _field(
        "small_cnn",
        "'small_cnn', 'cifar10_quick' (the paper's), 'efficientnet_lite0' (frozen, learnt on "
        "ImageNet), 'efficientnet_lite0-last-block' (the last block is trained), some of "
        "keras.applications, such as 'MobileNetV2', or one that was registered",
    )
    pretrain_iterations: int = _field(300, "training iterations on the initial images")
    update_iterations: int = _field(100, "training iterations after each query")
    batch_size: int = _field(32, "images per mini-batch")
    learning_rate: float = _field(0.02, "learning rate η; 0.001 is usual with adam and adamw")
    momentum: float = _field(0.9, "momentum μ of sgd; does not count for adam and adamw")
    optimizer: str = _field("sgd", "'sgd' with momentum (the paper's), 'adam' or 'adamw'")
    weight_decay: float = _field(
        5e-4,
        "weight decay d: ω(θ) = ½·d·‖θ‖², in training and scores; with adamw θ ← θ − η·d·θ in each "
        "iteration instead, of all weights and biases, and not in scores",
    )
    old_fraction: float = _field(0.8, "probability λ that a mini-batch image is an old one")
    pseudo_labels: float | None = _field(
        None,
        "entropy in nats, such as 0.05, below which waiting images are learnt as the model names "
        "them, in one update each; lowered each step, to 0 after 15. If not given, none are",
    )
    reward: str = _field(
        "accuracy_gain",
        "'accuracy_gain', 'discovery', 'area', one that was registered, or a sum, such as "
        "accuracy_gain+0.1*discovery",
    )
    max_steps: int | None = _field(12, "update steps; fewer when the pool runs out first")
    audit: int = _field(
        0, "images drawn uniformly to be audited: never learnt, they tell the accuracy on the pool"
    )
    stop_when: str | None = _field(
        None,
        "rules that end an episode: audit=SHARE (audit accuracy reached), right=SETS (in a row "
        "whose answers the model had right), no_new=SETS (in a row without a new class), several "
        "with commas",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check_type(field)
        positive = (
            "num_candidate_sets", "set_size", "update_iterations", "batch_size", "learning_rate",
        )  # fmt: skip
        for name in positive:
            self._check(name, getattr(self, name) > 0, "a number above 0")
        at_least_0 = (
            "known_classes", "novel_classes", "initial_per_class", "pretrain_iterations",
            "weight_decay", "audit",
        )  # fmt: skip
        for name in at_least_0:
            self._check(name, getattr(self, name) >= 0, "a number of at least 0")
        self._check("momentum", 0 <= self.momentum < 1, "a number in [0, 1)")
        self._check("old_fraction", 0 <= self.old_fraction < 1, "a number in [0, 1)")
        for name in ("duplicates", "wrong_answers", "rejected"):
            self._check(name, 0 <= getattr(self, name) < 1, "a share in [0, 1)")
        self._check("imbalance", self.imbalance >= 1, "a number of at least 1")
        for name in ("max_steps", "pool_per_class", "pseudo_labels"):
            value = getattr(self, name)
            self._check(name, value is None or value > 0, "above 0, or none")
        if self.stop_when is not None:
            stop_rules(self.stop_when)
        self._check_classes()
        self._check("optimizer", self.optimizer in OPTIMIZERS, f"one of {list(OPTIMIZERS)}")
        registries.SAMPLERS.check("sampler", self.sampler)
        registries.NETWORKS.check("network", self.network)
        registries.reward_terms(self.reward)

    def _check_type(self, field: dataclasses.Field) -> None:
        value = plain(getattr(self, field.name))
        object.__setattr__(self, field.name, value)
        kinds = typing.get_args(field.type) if isinstance(field.type, types.UnionType) else ()
        kinds = kinds or (field.type,)
        if float in kinds and type(value) is int:
            object.__setattr__(self, field.name, float(value))
        elif not any(type(value) is kind for kind in kinds):
            expected = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
            self._check(
                field.name, False, f"a value of type {expected.replace('NoneType', 'None')}"
            )
        elif type(value) is float:
            self._check(field.name, abs(value) < float("inf"), "a finite number")

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

    def check_drawn(self) -> None:
        """Checks what counts where classes and images are drawn, and not for a task handed in.

        Raises:
            ValueError: No class would be known at the start, or no set could be formed.
        """
        for name in ("known_classes", "initial_per_class"):
            self._check(name, getattr(self, name) > 0, "a number above 0")
        available = self.pool_per_class
        if available is None:
            return
        where = "pool_per_class, since sets hold images of one class; none takes all images"
        if self.sampler != "single_class":
            available *= self.known_classes + self.novel_classes
            where = "the number of pool images"
        self._check("set_size", self.set_size <= available, f"at most {available} ({where})")

    def _check_classes(self) -> None:
        if self.classes is None:
            return
        part = r"\d{1,6}(-\d{1,6})?"
        well_formed = re.fullmatch(rf"{part}(,{part})*", self.classes) is not None
        ranges = class_ranges(self.classes) if well_formed else []
        ascending = all(part[0] <= part[-1] for part in ranges)
        self._check("classes", well_formed and ascending, "class ids such as 0-49,60")
        enough = len(self.class_ids or ()) >= self.known_classes + self.novel_classes
        self._check("classes", enough, "at least known_classes + novel_classes ids")

    @property
    def class_ids(self) -> frozenset[int] | None:
        """The class ids that `classes` names; None for all."""
        if self.classes is None:
            return None
        parts = class_ranges(self.classes)
        return frozenset(c for part in parts for c in range(part[0], part[-1] + 1))

    @property
    def num_steps(self) -> int | None:
        """How many update steps an episode has, `max_steps` or less if the pool runs out first.

        With `single_class` every class gives ⌊pool_per_class / K⌋ sets; the other samplers go on
        while K images are left at all, `top` while any is. Fewer where classes have fewer images
        than asked for. None if only the data tell.
        """
        if self.pool_per_class is None:
            return self.max_steps
        classes = self.known_classes + self.novel_classes
        if self.sampler == "single_class":
            possible = classes * (self.pool_per_class // self.set_size)
        elif self.sampler == "top":
            possible = -(-classes * self.pool_per_class // self.set_size)
        else:
            possible = classes * self.pool_per_class // self.set_size
        return possible if self.max_steps is None else min(self.max_steps, possible)

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some fields changed; raises `ValueError` for an unknown field."""
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(f"{name}: expected a field of {known}, got an unknown one")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a dictionary of JSON values."""
        return dataclasses.asdict(self)

    def record(self) -> dict[str, Any]:
        """Returns the settings that a run is a function of: where files lie is not one."""
        return {name: value for name, value in self.to_dict().items() if name not in _PLACES}

    def differences(self, record: Mapping[str, Any]) -> list[str]:
        """Returns in words where another record has other settings; empty if nowhere.

        A record from before a setting was there has its default.
        """
        there = {**type(self)().record(), **record}
        return [
            f"{name}={there[name]!r} there, {value!r} here"
            for name, value in self.record().items()
            if there[name] != value
        ]

    def to_json(self) -> str:
        """Returns the record as JSON; `from_json` reads it back to an equal record."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        return cls().replace(**json.loads(text))

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Returns a preset, changed.

        They are `demo` (digits, minutes), `paper` (CIFAR-100, hours) and `transfer` (all of
        CIFAR-100, a frozen backbone that has learnt on ImageNet, minutes a run). All draw classes
        and images, so that `check_drawn` holds for what is returned.

        Raises:
            ValueError: There is no such preset or field, or a value is out of range.
        """
        if name not in PRESETS:
            raise ValueError(f"preset: expected one of {sorted(PRESETS)}, got {name!r}")
        config = cls().replace(**{**PRESETS[name], **changes})
        config.check_drawn()
        return config


# Section 4 of the paper; BUILD_NOTES.md tells which of these the paper leaves open.
PRESETS: dict[str, dict[str, Any]] = {
    "demo": {},
    "paper": {
        "dataset": "cifar100",
        "known_classes": 10,
        "novel_classes": 10,
        "initial_per_class": 100,
        "pool_per_class": 100,
        "num_candidate_sets": 1000,
        "set_size": 25,
        "network": "cifar10_quick",
        "pretrain_iterations": 1000,
        "update_iterations": 1000,
        "batch_size": 64,
        "learning_rate": 1e-4,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "old_fraction": 0.9,
        "max_steps": 10,
    },
    # Learning rate and iterations: results/transfer/PLAN.md.
    "transfer": {
        "dataset": "cifar100",
        "cache_dir": "~/.cache/emoc_tf",
        "known_classes": 10,
        "novel_classes": 90,
        "initial_per_class": 100,
        "pool_per_class": 400,
        "num_candidate_sets": 1000,
        "set_size": 25,
        "sampler": "minibatch-cluster",
        "network": "efficientnet_lite0",
        "pretrain_iterations": 250,
        "update_iterations": 250,
        "batch_size": 64,
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "old_fraction": 0.9,
        "max_steps": 40,
    },
}
