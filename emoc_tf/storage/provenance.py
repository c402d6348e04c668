"""What the bits of a run depend on besides its configuration: versions, processor, threads."""

import functools
import hashlib
import importlib.util
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

# Variables that change which operations run, or in how many parts.
_VARIABLES = (
    "TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_XLA_FLAGS",
    "XLA_FLAGS", "TF_DETERMINISTIC_OPS", "ONEDNN_MAX_CPU_ISA",
)  # fmt: skip

# What no bit of a run depends on: what looks at finished runs, starts them or draws pictures, the
# list of policies, and policies that are not the library's own.
_WITHOUT_EFFECT = (
    "measures.py", "statistics.py", "plots.py", "drawing.py", "mosaic.py", "replay.py",
    "experiments", "testing", "rendering.py", "registry.py",
)  # fmt: skip
_POLICIES = ("__init__.py", "agent.py", "heuristics.py", "emoc.py", "learned.py")


@functools.cache
def environment() -> dict[str, Any]:
    """Returns versions, processors and thread count as JSON values, as of the first call.

    `source` is a hash of the library's own modules that results depend on, `commit` the one they
    were checked out from. The thread count is TensorFlow's for single operations: another one
    gives other bits.
    """
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {
        "versions": {
            "python": platform.python_version(),
            **{
                name: metadata.version(name)
                for name in ("emoc_tf", "tensorflow", "keras", "numpy", "scikit-learn")
            },
        },
        "commit": _commit(),
        "source": _source(),
        "cpu": _cpu(),
        "gpus": [
            str(tf.config.experimental.get_device_details(device).get("device_name", device.name))
            for device in tf.config.list_physical_devices("GPU")
        ],
        "intra_op_threads": threads or len(os.sched_getaffinity(0)),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def differences(found: dict[str, Any]) -> list[str]:
    """Returns in words where another environment differs from this one; empty if nowhere.

    The commit does not count: `source` tells whether the library is another one.
    """
    return [
        f"{name} {found.get(name)} there, {value} here"
        for name, value in environment().items()
        if name != "commit" and found.get(name) != value
    ]


def _source() -> str:
    digest = hashlib.sha256()
    for package, file in source_files():
        digest.update(f"{package} {file.name} ".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def source_files() -> list[tuple[str, Path]]:
    """Returns package and path of each module that the results of the library's own runs depend on.

    A policy of one's own, beside the others or elsewhere, is not among them, nor is what makes
    reports: runs that were begun can be gone on with after a change there.
    """
    files = []
    for package in ("emoc_tf", "emoc_tf.envs", "emoc_tf.agents"):
        spec = importlib.util.find_spec(package)  # imports nothing but emoc_tf
        for folder in spec.submodule_search_locations if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                first = file.relative_to(folder).parts[0]
                others = package == "emoc_tf.agents" and first not in _POLICIES
                if first not in _WITHOUT_EFFECT and not others:
                    files.append((package, file))
    return files


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
