import pytest

from tests.data.pictures import make_folder


@pytest.fixture
def folder(tmp_path):
    """Six images, `pictures.PATHS`, in two classes and without a label."""
    return make_folder(tmp_path / "images")
