"""Samplers, networks and rewards by name: the library's own, and those that were registered.

Only names live here, so that a configuration can be checked before TensorFlow is loaded. The things
themselves are loaded when they are asked for.
"""

import importlib
import math
import re
from collections.abc import Container, Iterator, Mapping, MutableMapping
from typing import Any

# Beside the policies' folders an output folder holds this one, and files that end like these.
_RESERVED = frozenset({"shared"})
_ENDINGS = (".csv", ".html", ".json", ".keras", ".npz", ".png", ".svg", ".tex")


class Registry(MutableMapping[str, Any]):
    """Things by name.

    What was registered in one process is told to another by `registered` there and `update` here.

    Args:
        own: The library's own. A text `"module:attribute"` is loaded when it is asked for, as
            Gymnasium's entry points are.
    """

    def __init__(self, own: Mapping[str, Any]) -> None:
        self._own = dict(own)
        self._things = dict(own)

    def register(self, name: str, thing: Any) -> None:
        """Adds a function or class under a new name; raises `ValueError` as `check_new` does."""
        check_new(name, thing, self)
        self._things[name] = thing

    def registered(self) -> dict[str, Any]:
        """Returns what is there beyond the library's own, or in its place."""
        return {
            name: thing for name, thing in self._things.items() if self._own.get(name) is not thing
        }

    def check(self, argument: str, name: Any) -> None:
        """Raises `ValueError`, which names the argument, unless there is something of this name."""
        if not isinstance(name, str) or name not in self._things:
            raise ValueError(f"{argument}: expected one of {sorted(self)}, got {name!r}")

    def __getitem__(self, name: str) -> Any:
        thing = self._things[name]
        if not isinstance(thing, str):
            return thing
        module, _, attribute = thing.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __setitem__(self, name: str, thing: Any) -> None:
        self._things[name] = thing

    def __delitem__(self, name: str) -> None:
        del self._things[name]

    def __contains__(self, name: object) -> bool:  # without loading it
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


def check_new(name: Any, thing: Any, taken: Container[str], argument: str = "function") -> None:
    """Checks what is to be registered under a name; `argument` is what errors call the thing.

    Raises:
        ValueError: The name is taken, or is no letter or digit followed by letters, digits, `.`,
            `_` and `-`: names become folders, flags and legends. Or an output folder uses the name
            itself. Or the thing cannot be called.
    """
    if not isinstance(name, str) or name in taken or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ValueError(
            f"name: expected a new name of letters, digits, '.', '_' and '-', got {name!r}"
        )
    if name.lower() in _RESERVED or name.lower().endswith(_ENDINGS):
        raise ValueError(
            f"name: expected a new name that output folders do not use themselves, got {name!r}; "
            f"choose another"
        )
    if not callable(thing):
        raise ValueError(
            f"{argument}: expected a function or a class, not an object of one, got {thing!r}"
        )


SAMPLERS = Registry(
    {
        "single_class": "emoc_tf.exploration.candidates:SingleClass",
        "uniform": "emoc_tf.exploration.candidates:uniform",
        "cluster": "emoc_tf.exploration.clusters:cluster",
        "minibatch-cluster": "emoc_tf.exploration.clusters:MiniBatchCluster",
        "top": "emoc_tf.exploration.top:top",
    }
)
# Of keras.applications, with weights that Keras fetches.
APPLICATIONS = (
    "ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "MobileNet", "MobileNetV2",
    "MobileNetV3Large", "MobileNetV3Small", "ResNet50", "ResNet50V2", "VGG16",
)  # fmt: skip
NETWORKS = Registry(
    {
        "small_cnn": "emoc_tf.models.networks:small_cnn",
        "cifar10_quick": "emoc_tf.models.networks:cifar10_quick",
        "efficientnet_lite0": "emoc_tf.models.backbones:efficientnet_lite0",
        "efficientnet_lite0-last-block": "emoc_tf.models.backbones:efficientnet_lite0_last_block",
        **{name: f"emoc_tf.models.backbones:{name}" for name in APPLICATIONS},
    }
)
REWARDS = Registry(
    {
        "accuracy_gain": "emoc_tf.exploration.rewards:accuracy_gain",
        "discovery": "emoc_tf.exploration.rewards:discovery",
        "area": "emoc_tf.exploration.rewards:area",
    }
)

_TERM = r"(?:([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*\*\s*)?([A-Za-z0-9][\w.-]*)"
_SUM = re.compile(rf"\s*{_TERM}\s*(?:\+\s*{_TERM}\s*)*")


def reward_terms(text: str) -> list[tuple[float, str]]:
    """Returns weight and name of each term of a reward.

    Args:
        text: Terms `name` or `weight*name` with `+` between them, such as
            `"accuracy_gain + 0.1*discovery"`; names are those of `REWARDS`.

    Raises:
        ValueError: A term is something else.
    """
    found = re.findall(_TERM, text) if _SUM.fullmatch(text) else []
    terms = [(float(weight or 1), name) for weight, name in found]
    if not terms or not all(name in REWARDS and math.isfinite(weight) for weight, name in terms):
        raise ValueError(
            f"reward: expected one of {sorted(REWARDS)} or a weighted sum of them such as "
            f"'accuracy_gain+0.1*discovery', got {text!r}"
        )
    return terms
