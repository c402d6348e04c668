"""A grid on Ray as far as no cluster is needed; tests/ray has the rest."""

import subprocess
import sys

import pytest
from rich.console import Console

from emoc_tf.running.grid import run_grid
from emoc_tf.running.pools.on_ray import OnRay
from emoc_tf.running.single_run import Grid
from tests.running.test_grid import CONFIG

FLAGS = """
import sys
from absl import flags
from emoc_tf.experiments import flags as shared
POOL = shared.pool()
assert not any(name == "ray" or name.startswith("ray.") for name in sys.modules)
for given in (
    ["--workers=2"], ["--ray=local", "--workers=2"], ["--cpus_per_run=2"], ["--gpus_per_run=1"],
    ["--ray_storage=objects"], ["--ray=auto", "--gpus_per_run=1.5"], ["--ray=auto"],
):
    flags.FLAGS.unparse_flags()
    for name in ("workers", "ray", "cpus_per_run", "gpus_per_run", "ray_storage"):
        flags.FLAGS[name].unparse()
    flags.FLAGS(["x", *given])
    try:
        print(type(POOL()).__name__)
    except ValueError as error:
        print(error)
assert "ray" not in sys.modules
"""


def test_flags_make_the_pool_and_ray_is_not_loaded_before_it_is_needed():
    result = subprocess.run(
        [sys.executable, "-c", FLAGS], capture_output=True, text=True, check=False
    )
    lines = result.stdout.splitlines()
    starts = [
        "Processes", "workers: expected none beside --ray", "cpus_per_run: expected beside --ray",
        "gpus_per_run: expected beside", "ray_storage: expected beside",
        "gpus_per_run: expected a part of one GPU or a whole number", "OnRay",
    ]  # fmt: skip
    assert len(lines) == len(starts), result.stderr
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_without_ray_grids_run_and_only_ray_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    grid = Grid(CONFIG, tmp_path / "here")
    assert not run_grid(grid, ["random"], [0], Console(quiet=True))
    with pytest.raises(ValueError, match=r"pip install 'emoc_tf\[ray\]'"):
        run_grid(
            Grid(CONFIG, tmp_path / "there"), ["random"], [0], Console(quiet=True),
            pool=OnRay("local"),
        )  # fmt: skip
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"cpus": 0}, "cpus_per_run: expected an integer of at least 1, got 0"),
        ({"gpus": -1}, "gpus_per_run: expected a part"),
        ({"storage": "s3"}, "ray_storage: expected files or objects, got 's3'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        OnRay("local", **settings)
