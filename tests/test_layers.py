"""The floors of the house (pyproject.toml): imports point downwards only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library as a wheel unpacks it: only there `emoc_tf.agents` lies inside `emoc_tf`."""
    folder = tmp_path_factory.mktemp("library")
    source = folder / "source"
    source.mkdir()
    for name in ("emoc_tf", "envs", "agents"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", folder / "unpacked"],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "unpacked"


def lint(library):
    code = (
        "import sys; from importlinter.cli import lint_imports; "
        f"sys.exit(lint_imports(config_filename={str(ROOT / 'pyproject.toml')!r}, no_cache=True))"
    )
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(library)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=library, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    return result.returncode, result.stdout + result.stderr


def test_imports_point_downwards(library):
    code, text = lint(library)
    assert code == 0, text


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("agents/agent.py", "emoc_tf.experiments.comparison"),
        ("agents/heuristics.py", "emoc_tf.envs.observation"),
        ("envs/observation.py", "emoc_tf.agents.agent"),
        ("emoc_tf/exploration/rewards.py", "emoc_tf.testing.agent_contract"),
        ("emoc_tf/data/images.py", "emoc_tf.exploration.loop"),
        ("emoc_tf/running/console.py", "emoc_tf.report.tables"),
    ],
)
def test_an_import_that_points_upwards_is_refused(library, tmp_path, importer, imported):
    copy = tmp_path / "library"
    shutil.copytree(library, copy)
    place = copy / importer if importer.startswith("emoc_tf") else copy / "emoc_tf" / importer
    place.write_text(place.read_text() + f"\nimport {imported}\n")
    code, text = lint(copy)
    name = str(place.relative_to(copy).with_suffix("")).replace("/", ".")
    assert code == 1
    assert f"{name} -> {imported}" in text, text


def test_a_circle_is_refused(library, tmp_path):
    copy = tmp_path / "library"
    shutil.copytree(library, copy)
    with open(copy / "emoc_tf/scoring/gradients/stages.py", "a") as file:
        file.write("\nimport emoc_tf.scoring.gradients.per_example\n")
    code, text = lint(copy)
    assert code == 1
    assert "no circles, in any folder BROKEN" in text, text
