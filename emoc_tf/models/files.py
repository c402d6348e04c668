"""Models in files, with the names of their classes beside them."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras

from emoc_tf.storage import atomic


def save_model(model: keras.Model, path: str | Path, class_names: Sequence[str]) -> None:
    """Writes a model, and the names of its outputs to `<name>.classes.json` beside it.

    Each file is written whole or not at all. Stopped in between, there is a model without names,
    never one with those of another.

    Args:
        model: Ending in an output for each class.
        path: Where to; it ends in `.keras`.
        class_names: Different names, in the order of the outputs.

    Raises:
        ValueError: The path ends in something else, or names and outputs do not fit each other.

    Example:
        >>> import keras
        >>> from emoc_tf.models import save_model
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> save_model(model, "pets.keras", class_names=["cat", "dog"])
        >>> from pathlib import Path
        >>> Path("pets.classes.json").read_text().split()
        ['[', '"cat",', '"dog"', ']']
        >>> save_model(model, "pets.keras", class_names=["cat"])
        Traceback (most recent call last):
            ...
        ValueError: class_names: expected 2 different names, one for each output, got ['cat']
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"path: expected a file name that ends in .keras, got {path}")
    names = class_names if isinstance(class_names, str) else list(class_names)
    if problem := _problem(names, model):
        raise ValueError(f"class_names: expected {problem}, got {names}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        content = file.read_bytes()
    names_file(path).unlink(missing_ok=True)
    atomic.write_bytes(path, content)
    atomic.write_text(names_file(path), json.dumps(names, ensure_ascii=False, indent=2) + "\n")


def load_model(path: str | Path) -> tuple[keras.Model, list[str] | None]:
    """Reads what `save_model` or Keras wrote; no code in the file is run.

    Args:
        path: A file `.keras` or `.h5`.

    Returns:
        The model, not compiled, and the names of its outputs; None where no file names them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no model, or the names beside it are not those of its outputs.

    Example:
        >>> import keras
        >>> from emoc_tf.models import load_model, save_model
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> save_model(model, "pets.keras", class_names=["cat", "dog"])
        >>> model, class_names = load_model("pets.keras")
        >>> class_names
        ['cat', 'dog']
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a file with a Keras model, got no file at {path}")
    try:
        model = keras.saving.load_model(path, compile=False)
    except MemoryError:
        raise  # tells nothing about the file
    except Exception as error:  # whatever a broken file makes the parsers raise
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"path: expected a Keras model (.keras or .h5) of registered layers without Lambda, "
            f"got {path}, which fails: {reason}"
        ) from error
    if not names_file(path).exists():
        return model, None
    try:
        names = json.loads(names_file(path).read_text())
    except ValueError:
        names = None
    if problem := _problem(names, model):
        raise ValueError(
            f"path: expected {problem} in {names_file(path)}, got {names!r}; save the model again, "
            f"or delete that file"
        )
    return model, names


def names_file(path: Path) -> Path:
    """Returns where the names of a model's classes lie."""
    return path.with_name(f"{path.stem}.classes.json")


def _problem(names: object, model: keras.Model) -> str | None:
    """Returns what was expected of names, or None if they fit."""
    outputs = model.output_shape[-1]
    fits = (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names) == outputs
    )
    return None if fits else f"{outputs} different names, one for each output"
