import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[1]


def example(name):
    """The module `examples/<name>.py`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
