"""Flags for the fields of `ExplorationConfig`: a preset fills them, any single one overrides."""

import dataclasses
from collections.abc import Callable

from absl import flags

from emoc_tf.config import PRESETS, ExplorationConfig
from emoc_tf.experiments import data_flags

flags.adopt_module_key_flags(data_flags)
PRESET = flags.DEFINE_string(
    "preset", "demo", f"Settings to start from, one of {', '.join(PRESETS)}; flags override them."
)
# `--steps` is what one types; `--max_steps` is the field's own name.
_FLAG_OF = {"max_steps": "steps"}
_DEFINE: dict[type, Callable] = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def _define() -> dict[str, flags.FlagHolder]:
    holders = {"data_dir": data_flags.DATA_DIR}
    for field in dataclasses.fields(ExplorationConfig):
        if field.name in holders:
            continue
        kind = next(kind for kind in _DEFINE if kind is field.type or kind in _parts(field.type))
        presets = {name: getattr(ExplorationConfig.preset(name), field.name) for name in PRESETS}
        values = ", ".join(f"{name}: {value}" for name, value in presets.items())
        text = field.metadata["help"]
        text = text[0].upper() + text[1:]
        if set(presets.values()) != {None}:
            text += f" ({values})"
        holders[field.name] = _DEFINE[kind](_FLAG_OF.get(field.name, field.name), None, f"{text}.")
    flags.DEFINE_alias("max_steps", "steps")
    return holders


def _parts(annotation: object) -> tuple:
    return getattr(annotation, "__args__", ())


_HOLDERS = _define()


def config_from_flags() -> ExplorationConfig:
    """Returns the preset with the flags that were given.

    Raises:
        ValueError: The preset is unknown or a value is out of range.
    """
    given = {name: flag.value for name, flag in _HOLDERS.items() if flag.value is not None}
    return ExplorationConfig.preset(PRESET.value, **given)
