import email
import importlib
import pathlib
import re
import shutil
import subprocess
import sys
import types
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import emoc_tf
from tests import conftest, processes

ROOT = pathlib.Path(__file__).parents[1]


def test_the_wheels_only_top_level_name_is_emoc_tf(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "demo_results")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", tmp_path, source],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    check_metadata(zipfile.ZipFile(wheel))
    assert {re.sub(r"-[\d.]+\.dist-info", "", name.split("/")[0]) for name in names} == {"emoc_tf"}
    for expected in ("py.typed", "agents/__init__.py", "envs/__init__.py", "scoring/scorer.py"):
        assert f"emoc_tf/{expected}" in names
    sources = {
        str(file.relative_to(ROOT))
        for part in ("agents", "envs")
        for file in (ROOT / part).glob("*.py")
    }
    assert {f"emoc_tf/{name}" for name in sources} <= set(names)
    page = {file.name for file in (ROOT / "emoc_tf/annotation/page").iterdir()}
    assert {f"emoc_tf/annotation/page/{name}" for name in page} <= set(names)


def check_metadata(wheel):
    """What an installer and a person see: the version, who may use it, where it runs."""
    (place,) = (name for name in wheel.namelist() if name.endswith("dist-info/METADATA"))
    found = email.message_from_bytes(wheel.read(place))
    assert found["Version"] == emoc_tf.__version__
    assert "Apache-2.0" in (found["License"], found["License-Expression"])
    assert any(name.endswith("/LICENSE") for name in wheel.namelist())
    assert set(found["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    classifiers = found.get_all("Classifier")
    assert "Operating System :: POSIX :: Linux" in classifiers
    minors = [c.rpartition("3.")[2] for c in classifiers if re.search(r":: 3\.\d+$", c)]
    assert minors == ["11", "12", "13"]


def test_there_is_one_version_and_a_list_of_changes():
    (version,) = re.findall(r'version="(.+?)"', (ROOT / "setup.py").read_text())
    assert emoc_tf.__version__ == version, "setup.py is newer: install again"
    assert not re.search(r'__version__ = "\d+\.', (ROOT / "emoc_tf/__init__.py").read_text())
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert changes.index("## Unreleased") < changes.index(f"## {version}")


def test_the_oldest_releases_that_are_asked_for_are_those_that_are_tested():
    setup = (ROOT / "setup.py").read_text()
    asked = re.search(r"install_requires=\[(.*?)\n    \]", setup, re.DOTALL)[1]
    asked += re.search(r'"annotate": \[(.*?)\]', setup)[1]
    floors = dict(re.findall(r'"([\w-]+)>=([\d.]+)"', asked))
    lowest = (ROOT / ".ci" / "lowest.txt").read_text()
    tested = dict(re.findall(r"^([\w-]+)==([\d.]+)$", lowest, re.M))
    assert len(floors) > 15 and floors.keys() <= tested.keys()
    for name, floor in floors.items():
        assert re.sub(r"(\.0)+$", "", tested[name]) == re.sub(r"(\.0)+$", "", floor), name


def test_agents_and_envs_never_become_top_level_modules(tmp_path):
    code = (
        "import sys, gymnasium, emoc_tf, emoc_tf.agents, emoc_tf.envs, emoc_tf.scoring\n"
        "gymnasium.make('emoc_tf/Digits-v0')\n"
        "assert not {'agents', 'envs'} & set(sys.modules), sorted(sys.modules)"
    )
    ended = processes.run("-c", code, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_a_copy_of_the_repository_is_whole_where_python_starts_in_it():
    """`pip install .` put another one elsewhere, which this one then hides."""
    code = (
        "import sys\n"
        "sys.meta_path = [one for one in sys.meta_path if 'editable' not in str(one).lower()]\n"
        "import emoc_tf, emoc_tf.agents.registry, emoc_tf.envs\n"
        "from emoc_tf import agents, envs\n"
        "print(emoc_tf.__file__, agents.__file__, envs.__file__)\n"
        "assert not {'agents', 'envs'} & set(sys.modules)\n"
        "from emoc_tf.storage import provenance\n"  # a run's record tells which source it is of
        "assert provenance.environment()['source']\n"
    )
    ended = processes.run("-c", code, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    folders = ("emoc_tf", "agents", "envs")
    assert ended.stdout.split() == [str(ROOT / folder / "__init__.py") for folder in folders]


@pytest.mark.parametrize("name", ["emoc_tf", "emoc_tf.agents", "emoc_tf.envs", "emoc_tf.scoring"])
def test_public_names_exist_and_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in module.__all__:
        thing = getattr(module, public)
        assert not callable(thing) or thing.__doc__, public


def test_the_readmes_script_runs(tmp_path):
    (script,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        if "gym.make" in block
    ]
    script = script.replace('"emoc_tf/Digits-v0"', '"emoc_tf/Digits-v0", max_steps=2')
    ended = processes.run("-c", script, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_the_scripts_for_images_and_scores_run(tmp_path, monkeypatch):
    task, scores = (
        next(
            block
            for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
            if mark in block
        )
        for page, mark in (("docs/tasks.md", "exploration.ask"), ("README.md", "EMOCScorer(model)"))
    )
    rng = np.random.default_rng(0)
    for i in range(30):
        file = tmp_path / "pictures" / ["cat", "hen", ""][i % 3] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(20, 20, 3), dtype=np.uint8)).save(file)
    monkeypatch.chdir(tmp_path)
    names = {
        "images": rng.normal(size=(12, 6, 6, 1)),
        "model": keras.Sequential(
            [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
        ),
        "reference_images": rng.normal(size=(4, 6, 6, 1)),
        "candidate_images": rng.normal(size=(7, 6, 6, 1)),
        "sets": np.arange(12).reshape(4, 3),
    }
    exec(task.replace("max_steps=None", "pretrain_iterations=2, update_iterations=2"), names)
    assert {"dog", "hare"} <= set(names["env"].exploration.class_names)
    exec(scores, names)
    assert names["scores"].shape == (7,)
    assert names["best"].index in range(4)


def test_ruff_is_content():
    ruff = [sys.executable, "-m", "ruff"]
    for arguments in (["check", "."], ["format", "--check", "."]):
        result = subprocess.run(
            [*ruff, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", ["rl", "readers", "web"])
def test_tests_of_an_extra_run_where_they_are_asked_for_alone(name):
    def left_out(*arguments):
        config = types.SimpleNamespace(args=arguments)
        return conftest.pytest_ignore_collect(ROOT / "tests" / name, config)

    assert left_out("tests") and left_out() and left_out(str(ROOT))
    assert left_out("tests/test_docs.py", "tests/exploration")
    assert not left_out(f"tests/{name}") and not left_out(
        "tests/test_docs.py", f"tests/{name}/x.py"
    )
    assert not left_out(str(ROOT / "tests" / name / "x.py::test_it"))
    config = types.SimpleNamespace(args=["tests"])
    assert conftest.pytest_ignore_collect(ROOT / "tests" / "records", config) is None
    assert f'"{name}": [' in (ROOT / "setup.py").read_text()
    assert f"test-{name}" in (ROOT / "Makefile").read_text()
