import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[1]


def example(name):
    """The module `examples/<name>.py`."""
    return _module("examples", name)


def benchmark(name):
    """The module `benchmarks/<name>.py`; a second one would define its flags again."""
    return _module("benchmarks", name)


def _module(folder, name):
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
