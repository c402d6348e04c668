"""What a request of the page may hold, and why it is refused."""

from collections.abc import Iterable, Mapping
from typing import Any

from emoc_tf.annotation import names
from emoc_tf.data.listings import is_no_class


class RefusedError(ValueError):
    """What was sent cannot be written down; nothing was saved.

    Args:
        text: Why.
        status: Of the reply.
        **told: More for the page.
    """

    def __init__(self, text: str, status: int = 409, **told: Any) -> None:
        super().__init__(text)
        self.status, self.told = status, told


def key_of(told: Mapping[str, Any]) -> str:
    """Returns the key that tells a request from all others; raises `RefusedError` without one."""
    key = told.get("key")
    if not isinstance(key, str) or not 8 <= len(key) <= 64:
        raise RefusedError("key: expected 8 to 64 characters of the page's own", 400)
    return key


def recognised(text: Any, known: Iterable[str]) -> str | None:
    """Returns the class that a text names, whose own name may be as untidy as a folder's."""
    if not isinstance(text, str) or text in known:
        return text if isinstance(text, str) else None
    spelt = names.spelt(text)
    return next((name for name in known if names.spelt(name) == spelt), None)


def tidy(text: Any, field: str = "name") -> str:
    """Returns a name as it is kept; raises `RefusedError` if a field holds none."""
    try:
        name = names.tidy(text)
    except ValueError as error:
        raise RefusedError(str(error).replace("name:", f"{field}:", 1), 400) from None
    if is_no_class(name):
        raise RefusedError(
            f"{field}: expected the name of a class, got {name!r}, which stands for none where "
            f"labels are read; choose another",
            400,
        )
    return name


def is_index(index: Any, count: int) -> bool:
    """Whether something is the index of one of so many images."""
    return isinstance(index, int) and not isinstance(index, bool) and 0 <= index < count
