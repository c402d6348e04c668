"""What the bits of a run depend on besides its configuration: versions, processor, threads."""

import functools
import hashlib
import importlib.util
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

from emoc_tf.storage.system_locks import cores

# Variables that change which operations run, or in how many parts.
_VARIABLES = (
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_XLA_FLAGS",
    "XLA_FLAGS", "TF_DETERMINISTIC_OPS", "ONEDNN_MAX_CPU_ISA",
)  # fmt: skip

# What the bits of a run depend on: of the library these modules and folders, of the environment all
# but its pictures, and of the policies the library's own. Other records name what else they do.
_DECIDES = {
    "emoc_tf": (
        "config.py", "registries.py", "streams.py", "uncertainty.py", "values.py", "data",
        "models", "exploration", "scoring", "running/single_run.py",
    ),
    "emoc_tf.envs": ("active_exploration.py", "nearest.py", "observation.py", "options.py"),
    "emoc_tf.agents": (
        "agent.py", "bayesian.py", "diversity.py", "emoc.py", "emoc_new.py", "gp_emoc.py",
        "gradient_length.py", "grown.py", "head_gram.py", "herding.py", "heuristics.py",
        "information.py", "kernel_solve.py", "learned.py", "lookahead.py", "novelty.py",
        "reference_images.py", "refusals.py", "set_evidence.py",
    ),
}  # fmt: skip

# Modules in these folders that decide no result: they draw pictures, bring models into files or out
# of them, warn, or refuse to work at all.
WITHOUT_EFFECT = (
    "emoc_tf.data.figures", "emoc_tf.data.mosaic", "emoc_tf.models.compiled",
    "emoc_tf.models.files", "emoc_tf.models.forks", "emoc_tf.models.raw_images",
)  # fmt: skip
_PACKAGES = ("emoc_tf", "tensorflow", "keras", "numpy", "scipy", "scikit-learn", "pillow")


@functools.cache
def environment(*more: str) -> dict[str, Any]:
    """Returns versions, processors and thread count as JSON values, as of the first call.

    `source` is a hash of the library's own modules that results depend on, `commit` the one they
    were checked out from. The thread count is TensorFlow's for single operations: another one
    gives other bits.

    Args:
        *more: Modules that decide this kind of record beside those that decide runs.
    """
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "commit": _commit(),
        "source": _source(more),
        "cpu": _cpu(),
        "gpus": [
            str(tf.config.experimental.get_device_details(device).get("device_name", device.name))
            for device in tf.config.list_physical_devices("GPU")
        ],
        "onednn": onednn(),
        "intra_op_threads": threads(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def threads() -> int:
    """Returns how many threads a single operation of this process uses, whoever decided it."""
    told = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    by_variable = int(told) if told.isdigit() else 0
    return tf.config.threading.get_intra_op_parallelism_threads() or by_variable or cores()


def onednn() -> bool:
    """Returns whether TensorFlow computes with oneDNN in this process, whatever variables say."""
    # TensorFlow has no public way to ask; it decides once, by variable and processor.
    return bool(importlib.import_module("tensorflow.python.util._pywrap_util_port").IsMklEnabled())


def device(place: Mapping[str, Any] | None = None) -> str:
    """Returns in words what computes, for a line before long work; `place` as in `differences`."""
    found = environment() if place is None else place
    if found["gpus"]:
        return f"computing on {', '.join(found['gpus'])}"
    text = f"computing on the CPU, {found['intra_op_threads']} threads"
    text += f", oneDNN {'on' if found['onednn'] else 'off'}"
    if place is None and Path("/dev/nvidia0").exists():
        text += (
            "; TensorFlow cannot use the GPU that is here: TF_CPP_MIN_LOG_LEVEL=0 shows why, and "
            "pip install 'emoc_tf[gpu]' brings its libraries"
        )
    return text


def differences(
    found: Mapping[str, Any], *more: str, place: Mapping[str, Any] | None = None
) -> list[str]:
    """Returns in words where another environment differs from this one; empty if nowhere.

    The commit does not count: `source` tells whether the library is another one. Nor does the
    version of a package that was not recorded there.

    Args:
        found: What `environment` returned there.
        *more: The modules that it was called with.
        place: What `environment` returned in the process that stands for this one; None for itself.
    """
    here = environment(*more) if place is None else place
    if there := found.get("versions"):
        versions = {name: text for name, text in here["versions"].items() if name in there}
        here = {**here, "versions": versions}
    return [
        f"{name} {found.get(name)} there, {value} here"
        for name, value in here.items()
        if name != "commit" and found.get(name) != value
    ]


def _source(more: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name, file in source_files(*more).items():
        digest.update(f"{name} ".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def source_files(*more: str) -> dict[str, Path]:
    """Returns each module, by name, that the results of the library's own runs depend on, and more.

    Not among them is what starts runs, writes or looks at records, draws pictures, or lists
    policies, nor `WITHOUT_EFFECT`, nor a policy of your own: unfinished runs are resumed after a
    change there.
    """
    files = {}
    for package, parts in _DECIDES.items():
        spec = importlib.util.find_spec(package)  # imports nothing but emoc_tf
        folder = Path(spec.origin).parent  # in a copy of the repository others are searched too
        for part in parts:
            found = sorted((folder / part).rglob("*.py")) or [folder / part]
            for file in found:
                inside = file.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
                name = f"{package}.{inside}".removesuffix(".__init__")
                if name not in WITHOUT_EFFECT:
                    files[name] = file
    return files | {name: Path(importlib.util.find_spec(name).origin) for name in more}


def _commit() -> str | None:
    """Returns the commit of the source tree, `-dirty` behind it if changed; None outside git."""
    folder = Path(__file__).parent
    try:
        inside = subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__],
            cwd=folder, capture_output=True, check=False,
        )  # fmt: skip
        if inside.returncode:
            return None
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=folder, capture_output=True, check=True, text=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def _cpu(info: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the processor's name with its family and model, where Linux tells.

    A virtual machine's may be called "AMD EPYC" in every generation, at twice the speed.
    """
    found: dict[str, str] = {}
    try:
        for line in info.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    if "model name" not in found:
        return platform.processor() or platform.machine()
    labels = {"cpu family": "family", "model": "model"}
    numbers = [f"{label} {found[name]}" for name, label in labels.items() if name in found]
    return ", ".join([found["model name"], *numbers])
