"""What an environment was made of besides its configuration, as a hash.

It is the same in all processes of a script, whose own module has another name in those it starts.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from emoc_tf.data import views
from emoc_tf.data.images import ImageData
from emoc_tf.data.named import load
from emoc_tf.exploration.task import Task
from emoc_tf.registries import NETWORKS

# Images that are hashed at a time, of pools that may be larger than memory.
_CHUNK = 1024
# A script's own module in processes that multiprocessing starts.
_STARTED = "__mp_main__"
# Where an object lies, which `repr` tells of many: another place in each process.
_PLACE = re.compile(r" at 0x[0-9a-fA-F]+")
_WRITTEN_OUT = 1000  # numbers of an array, of which `repr` leaves more out


def fingerprint(
    data: Sequence[ImageData] | None,
    model: keras.Model | None,
    model_classes: Sequence[int] | None,
    parts: Sequence[Any],
    task: Task | None = None,
) -> str | None:
    """Returns a hash of what was handed in; None if that is nothing.

    Args:
        data: Training and test part: images, labels and names count.
        model: Its architecture and all its weights count, not the names of its layers.
        model_classes: Class id of each output.
        parts: Oracle, reward and other things with code, or None: their `fingerprint` counts where
            they have one, and else where their class or function is defined and what it is called.
            Of a `functools.partial` the arguments count too: arrays, and what others say of
            themselves by `repr`.
        task: Its labels, names and test data count, and its images as far as `Task.digest` tells
            them; of a folder, which may be another one tomorrow, the size of the images.
    """
    if data is None and task is None and model is None and all(part is None for part in parts):
        return None
    digest = hashlib.sha256()
    if task is not None:
        if task.image_ids() is None:
            digest.update(repr((task.digest(), task.class_names)).encode() + task.labels.tobytes())
        else:  # images that are recognised by their content may come and go
            digest.update(repr((task.images.shape[1:], str(task.images.dtype))).encode())
        data = () if task.test is None else (task.test,)
    for part in data or ():
        digest.update(repr((part.images.shape, str(part.images.dtype), part.class_names)).encode())
        for images in views.batches(part.images, _CHUNK):
            digest.update(np.ascontiguousarray(images).tobytes())
        digest.update(part.labels.tobytes())
    if model is not None:
        digest.update(json.dumps(_architecture(model), sort_keys=True, default=repr).encode())
        for weight in model.get_weights():
            digest.update(repr(weight.shape).encode() + weight.tobytes())
    names = [None if part is None else _name(part) for part in parts]
    classes = None if model_classes is None else [int(c) for c in model_classes]
    told = _PLACE.sub("", repr((classes, names))).replace(_STARTED, "__main__")
    digest.update(told.encode())
    return digest.hexdigest()[:16]


def content(env: Any) -> str:
    """Returns a hash of all that an environment's runs are made of: equal where they are paired.

    Data sets that are named count too, the images of a folder, and the file of a network's weights.

    Args:
        env: An `ActiveExplorationEnv`.
    """
    data, model, classes, parts, task = env._handed_in
    told: list[Any] = []
    if task is not None:
        told += [task.digest(), task.class_names, task.labels.tobytes()]
    elif data is None:
        data = load(env.config.dataset, env.config.data_dir)
    told.append(fingerprint(data, model, classes, parts, task))
    weights_file = getattr(NETWORKS[env.config.network], "weights_file", None)
    if model is None and weights_file is not None:
        told.append(hashlib.sha256(Path(weights_file()).read_bytes()).hexdigest())
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _architecture(model: keras.Model) -> Any:
    """Returns a model's configuration with its names numbered as they come.

    Keras counts names on in a process, so that the same model has other names a second time.
    """
    config = model.get_config()
    names: dict[str, str] = {}

    def renamed(part: Any) -> Any:
        if isinstance(part, dict):
            if "class_name" in part and isinstance(part.get("config"), dict):
                name = part["config"].get("name")
                names.setdefault(name, f"{part['class_name']} {len(names)}")
            return {key: renamed(value) for key, value in part.items() if key != "build_config"}
        if isinstance(part, list | tuple):
            return [renamed(value) for value in part]
        if part == _STARTED:  # Keras has nothing in its place in the script itself
            return None
        return names.get(part, part) if isinstance(part, str) else part

    config.pop("name", None)
    return renamed(renamed(config))


def _name(part: Callable | Any) -> str:
    if isinstance(part, functools.partial):
        told = tuple(_argument(each) for each in part.args)
        named = [(key, _argument(each)) for key, each in sorted(part.keywords.items())]
        return repr((_name(part.func), told, named))
    own = getattr(part, "fingerprint", None)
    if own is not None:
        return str(own)
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}.{named.__qualname__}"


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.size > _WRITTEN_OUT and not value.dtype.hasobject:
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return value.shape, value.dtype.str, content
    if isinstance(value, set | frozenset):  # texts have another order in each process
        return sorted(map(repr, value))
    return value
