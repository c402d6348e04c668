"""Lists the programs of the library: `python -m emoc_tf`."""

import ast
import importlib.util
import signal
from importlib.metadata import entry_points
from pathlib import Path

PREFIX = "emoc-"


def programs() -> dict[str, tuple[str, str]]:
    """Returns module and first sentence of each installed program, by its name."""
    found = {}
    for entry in sorted(entry_points(group="console_scripts"), key=lambda entry: entry.name):
        package = entry.module
        if not entry.name.startswith(PREFIX) or package.partition(".")[0] != "emoc_tf":
            continue
        name = entry.name.removeprefix(PREFIX).replace("-", "_")
        module = f"{package}.{name}" if entry.attr == f"run_{name}" else package
        found[entry.name] = module, _first_sentence(module)
    return found


def _first_sentence(module: str) -> str:
    """Returns what a module says first, without importing it: that would load TensorFlow."""
    spec = importlib.util.find_spec(module)
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return text.partition("\n\n")[0].replace("\n", " ")


def main() -> None:
    """Prints them."""
    print("emoc_tf: active exploration with deep networks by expected model output changes.\n")
    for name, (module, sentence) in programs().items():
        print(f"{name}, or python -m {module}\n    {sentence}\n")
    print("--help after any of them lists its flags.")


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # behind `| head`, end as other programs do
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
