"""Flags of the binaries. Each is defined once, when the first binary asks for it.

So a binary has the flags that it uses and no others, and several can be imported side by side.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

from absl import flags

from emoc_tf import agents
from emoc_tf.analysis import families
from emoc_tf.config import PRESETS, ExplorationConfig
from emoc_tf.experiments import saved_models
from emoc_tf.running.grid import check_distinct
from emoc_tf.running.pools.on_ray import FILES, OBJECTS, OnRay
from emoc_tf.running.pools.pool import Pool, on_this_machine
from emoc_tf.running.single_run import Grid

# `--help` of a binary lists what is defined here for it among its own flags.
flags.disclaim_key_flags()
_HOLDERS: dict[str, flags.FlagHolder] = {}
# `--steps` is what one types; the field's own name is taken too.
_SHORT = {"max_steps": "steps"}
_NONE = ("none", "null")
_MOST_SEEDS = 100_000
# What `make demo` compares in minutes.
_DEMO_AGENTS = [
    "random", "min", "min-literal", "1-vs-2", "max", "emoc", "emoc-expected", "learned",
]  # fmt: skip


def _once(define: Callable, name: str, *arguments: Any, **settings: Any) -> flags.FlagHolder:
    if name in _HOLDERS:
        flags.declare_key_flag(name)
    else:
        _HOLDERS[name] = define(name, *arguments, **settings)
    return _HOLDERS[name]


class _OrNone(flags.ArgumentParser):
    """Reads `none` where a setting may be None, and otherwise what another parser reads."""

    def __init__(self, parser: flags.ArgumentParser) -> None:
        self._parser = parser
        self.syntactic_help = f"{parser.syntactic_help or 'a text'}, or none"

    def parse(self, argument: Any) -> Any:
        if isinstance(argument, str) and argument.strip().lower() in _NONE:
            return None
        return self._parser.parse(argument)

    def flag_type(self) -> str:
        return f"{self._parser.flag_type()} or none"


_PARSERS: dict[type, Callable[[], flags.ArgumentParser]] = {
    int: flags.IntegerParser,
    float: flags.FloatParser,
    str: flags.ArgumentParser,
}


def data_dir() -> flags.FlagHolder:
    """Defines `--data_dir`."""
    return _setting(ExplorationConfig.__dataclass_fields__["data_dir"])


def settings() -> Callable[[], ExplorationConfig]:
    """Defines `--preset` and a flag for each setting; returns what makes the record of them.

    Raises, when the record is made:
        ValueError: The preset is unknown or a value is out of range.
    """
    names = ", ".join(PRESETS)
    preset = _once(
        flags.DEFINE_string, "preset", "demo",
        f"Settings to start from, one of {names}; flags override them.",
    )  # fmt: skip
    fields = {field.name: field for field in dataclasses.fields(ExplorationConfig)}
    holders = [(name, _setting(field)) for name, field in fields.items()]
    holders += [(name, _setting(fields[name], short)) for name, short in _SHORT.items()]

    def config() -> ExplorationConfig:
        given = {
            name: holder.value
            for name, holder in holders
            if not flags.FLAGS[holder.name].using_default_value
        }
        return ExplorationConfig.preset(preset.value, **given)

    return config


def _setting(field: dataclasses.Field, name: str | None = None) -> flags.FlagHolder:
    kinds = getattr(field.type, "__args__", (field.type,))
    parser = next(_PARSERS[kind]() for kind in kinds if kind in _PARSERS)
    presets = {name: getattr(ExplorationConfig.preset(name), field.name) for name in PRESETS}
    text = field.metadata["help"]
    text = text[0].upper() + text[1:]
    if name is None and field.name in _SHORT:
        text = f"The same as --{_SHORT[field.name]}"
    elif set(presets.values()) != {None}:
        values = ", ".join(f"{n}: {'none' if v is None else v}" for n, v in presets.items())
        text += f" ({values})"

    def define(name: str) -> flags.FlagHolder:
        reader = _OrNone(parser) if type(None) in kinds else parser
        return flags.DEFINE(reader, name, None, f"{text}.", serializer=flags.ArgumentSerializer())

    return _once(define, name or field.name)


def output_dir() -> flags.FlagHolder:
    """Defines `--output_dir`, which has to be given."""
    return _once(
        flags.DEFINE_string, "output_dir", None, "Folder to write into.", required=True
    )  # fmt: skip


def seed() -> flags.FlagHolder:
    """Defines `--seed`."""
    return _once(flags.DEFINE_integer, "seed", 0, "Everything random descends from it.", 0)


def seeds() -> Callable[[], list[int]]:
    """Defines `--seeds`; returns what reads them.

    Raises, when they are read:
        ValueError: They are no different integers of at least 0.
    """
    holder = _once(
        flags.DEFINE_list, "seeds", ["0", "1", "2"], "Initialisations, such as 0-8 or 0,3,5-7."
    )
    return lambda: _numbers("seeds", holder.value)


def only_agents() -> flags.FlagHolder:
    """Defines `--only_agents`."""
    return _once(
        flags.DEFINE_list, "only_agents", [],
        "Policies to report on; all that are there if none are given.",
    )  # fmt: skip


def only_seeds() -> Callable[[], list[int]]:
    """Defines `--only_seeds`; returns what reads them.

    Raises, when they are read:
        ValueError: They are no different integers of at least 0.
    """
    holder = _once(
        flags.DEFINE_list, "only_seeds", [],
        "Initialisations to report on, such as 0-8 or 0,3,5-7; all that are there if none are "
        "given.",
    )  # fmt: skip
    return lambda: _numbers("only_seeds", holder.value) if holder.value else []


def _numbers(name: str, texts: list[str]) -> list[int]:
    found: list[int] = []
    for text in texts:
        part = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text.strip())
        first, last = (int(end or part[1]) for end in part.groups()) if part else (1, 0)
        if first > last or last - first >= _MOST_SEEDS:
            raise ValueError(
                f"{name}: expected integers of at least 0, or ranges of them such as 0-8, got "
                f"{','.join(texts)}"
            )
        found += range(first, last + 1)
    check_distinct(name, found)
    return found


def agent() -> flags.FlagHolder:
    """Defines `--agent`."""
    return _once(
        flags.DEFINE_string, "agent", "emoc",
        f"Query policy, of these families: {_by_family()}. Variants as name:key=value.",
    )  # fmt: skip


def grid() -> Callable[[], Grid]:
    """Defines the settings, `--output_dir` and `--allow_mixed`; returns what makes the grid."""
    config, folder = settings(), output_dir()
    allow_mixed = _once(
        flags.DEFINE_bool, "allow_mixed", False,
        "Resume an unfinished run of another version, processor or thread count, whose results "
        "differ in the last bits, and mark it as mixed.",
    )  # fmt: skip
    save_model = _once(
        flags.DEFINE_bool, "save_model", False,
        "Write the model that each run ends with into its folder, as model.keras.",
    )  # fmt: skip
    model = _once(
        flags.DEFINE_string, "model", None,
        "Start from this model, a .keras file that --save_model wrote, in place of a network.",
    )  # fmt: skip

    scoring_ray = _once(
        flags.DEFINE_string, "scoring_ray", None,
        "Compute the EMOC policies' scores and the predictions of the pool on a Ray cluster: auto "
        "for the one that this machine is part of, HOST:PORT, or local for this machine alone. The "
        "runs and their bits are the same. Needs pip install 'emoc_tf[ray]'.",
    )  # fmt: skip

    def made() -> Grid:
        settings, given = config(), {"scoring_ray": scoring_ray.value}
        if model.value is not None:
            if flags.FLAGS["known_classes"].using_default_value:
                settings = settings.replace(known_classes=saved_models.outputs(model.value))
            given["environment"] = functools.partial(saved_models.environment, model.value)
        return Grid(settings, folder.value, allow_mixed.value, save_model=save_model.value, **given)

    return made


def policies() -> flags.FlagHolder:
    """Defines `--agents`."""
    return _once(
        flags.DEFINE_list, "agents", _DEMO_AGENTS,
        f"Query policies, of these families: {_by_family()}. all stands for every one. Variants, "
        "as name:key=value, such as emoc:output=softmax, get a folder each.",
    )  # fmt: skip


def _by_family() -> str:
    of_families = families.by_family(agents.names()).items()
    return "; ".join(f"{family}: {', '.join(names)}" for family, names in of_families)


def pool() -> Callable[[], Pool]:
    """Defines `--workers`, `--ray` and what belongs to it; returns what makes the pool of runs.

    Raises, when it is made:
        ValueError: Both are given, or something of Ray's without `--ray`.
    """
    workers = _once(
        flags.DEFINE_integer, "workers", 1,
        "Runs side by side, in processes of their own if more than 1.", 1,
    )  # fmt: skip
    ray = _once(
        flags.DEFINE_string, "ray", None,
        "Work on a Ray cluster: auto for the one that this machine is part of, HOST:PORT, or local "
        "for this machine alone. Needs pip install 'emoc_tf[ray]'.",
    )  # fmt: skip
    cpus = _once(
        flags.DEFINE_integer, "cpus_per_run", 1,
        "With --ray: CPUs that a run reserves, and threads that it uses; other numbers of threads "
        "give other last bits.", 1,
    )  # fmt: skip
    gpus = _once(
        flags.DEFINE_float, "gpus_per_run", 0.0,
        "With --ray: GPUs that a run reserves, or a part of one.", 0,
    )  # fmt: skip
    storage = _once(
        flags.DEFINE_enum, "ray_storage", FILES, [FILES, OBJECTS],
        "With --ray: files if all machines share OUTPUT_DIR; objects brings records and "
        "checkpoints back through Ray after each step.",
    )  # fmt: skip

    def made() -> Pool:
        if ray.value is None:
            for holder in (cpus, gpus, storage):
                if not flags.FLAGS[holder.name].using_default_value:
                    raise ValueError(f"{holder.name}: expected beside --ray only, got it without")
            return on_this_machine(workers.value)
        if workers.value != 1:
            raise ValueError(
                f"workers: expected none beside --ray, where machines and --cpus_per_run tell how "
                f"many runs are worked on at a time, got {workers.value}"
            )
        return OnRay(ray.value, cpus.value, gpus.value, storage.value)

    return made


def check_no_arguments(argv: list[str]) -> None:
    """Raises `ValueError` if anything but flags was given."""
    if argv[1:]:
        raise ValueError(f"arguments: expected flags only, got {argv[1:]}")
