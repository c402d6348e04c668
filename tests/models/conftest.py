"""What several test modules of this folder use."""

import pytest

from emoc_tf.models import trained_part


@pytest.fixture
def seen(monkeypatch):
    """How many images meet a prefix at each call of it."""
    numbers, compile_prefix = [], trained_part.compile_prefix

    def counting(model):
        run = compile_prefix(model)

        def count(images):
            numbers.append(len(images))
            return run(images)

        return count

    monkeypatch.setattr(trained_part, "compile_prefix", counting)
    return numbers
