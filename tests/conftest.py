import gc
import os
import subprocess
from pathlib import Path

import pytest

from emoc_tf.config import ExplorationConfig
from tests import processes

# As binaries have it, see `emoc_tf.experiments.binary.prepare`: processes are compared bit for bit.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Workers of pytest-xdist share the cores out, before TensorFlow counts them: threads of several
# processes on the same cores wait for one another.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if _WORKER:
    _cores = sorted(os.sched_getaffinity(0))
    _workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.sched_setaffinity(0, _cores[int(_WORKER.removeprefix("gw")) % len(_cores) :: _workers])


# Folders whose tests need an extra of the same name.
_EXTRAS = [Path(__file__).parent / name for name in ("rl", "readers", "web", "ray")]


def pytest_ignore_collect(collection_path, config):
    """Leaves out the folders that need an extra, unless they are asked for by name."""
    asked = (Path(str(argument).split("::")[0]).resolve() for argument in config.args)
    left_out = collection_path in _EXTRAS and not any(
        path.is_relative_to(collection_path) for path in asked
    )
    return True if left_out else None


def pytest_collection_modifyitems(items):
    """Puts long modules first, and skips the tests that need a GPU where there is none."""
    # Those that start processes: begun last, one would be left alone at the end.
    long = {"subprocess", "processes", "run_each", "run_from_nothing", "soak", "example"}
    items.sort(key=lambda item: long.isdisjoint(vars(item.getparent(pytest.Module).obj)))
    marked = [item for item in items if "gpu" in item.keywords]
    if marked:
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def pytest_collection_finish(session):
    """Spares the garbage collector what imports leave, which it would go over again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def seen(monkeypatch):
    """How many images met the frozen layers, at each call of them."""
    from emoc_tf.models import trained_part

    numbers, compile_prefix = [], trained_part.compile_prefix

    def counting(model):
        run = compile_prefix(model)

        def count(images):
            numbers.append(len(images))
            return run(images)

        return count

    monkeypatch.setattr(trained_part, "compile_prefix", counting)
    return numbers


@pytest.fixture(scope="session")
def cifar_dir():
    """The folder with the prepared CIFAR-100; tests never download it."""
    places = [os.environ.get("TFDS_DATA_DIR"), "../shared/tensorflow_datasets"]
    for place in filter(None, places):
        if (Path(place) / "cifar100").is_dir():
            return str(Path(place).resolve())
    if os.environ.get("CI"):
        pytest.fail(f"CIFAR-100 is not prepared: looked in {places}")
    pytest.skip("CIFAR-100 is not prepared: set TFDS_DATA_DIR to the folder that holds it")


@pytest.fixture
def start():
    """Starts processes as `subprocess.Popen` does; none of them outlives the test."""
    started = []

    def popen(command):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, **pipes))
        return started[-1]

    yield popen
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def fork():
    """Starts `python ARGUMENTS` with TensorFlow loaded, see `tests.processes`, like `start`."""
    started = []

    def begin(*arguments):
        started.append(processes.Started(arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def tiny():
    """A configuration whose episode takes a second or two."""
    return ExplorationConfig(
        known_classes=2,
        novel_classes=3,
        initial_per_class=5,
        pool_per_class=6,
        num_candidate_sets=8,
        set_size=3,
        pretrain_iterations=60,
        update_iterations=30,
        batch_size=8,
        max_steps=4,
    )
