"""A machine beside the two others that is of another kind: refused, or told in the records."""

import contextlib
import json
from dataclasses import replace

import keras
import pytest
from rich.console import Console

from emoc_tf.analysis.findings import gather
from emoc_tf.records.run_record import pretrained_path, read_config, run_path
from emoc_tf.running.grid import run_grid
from emoc_tf.running.pools.on_ray import OnRay
from emoc_tf.running.single_run import Grid
from emoc_tf.scoring import scoring_on
from emoc_tf.storage import checkpoint
from tests.ray.conftest import add_node
from tests.running.test_grid import CONFIG, images, own_environment

# Each is run by every Python of the machine as it begins.
OTHER_VERSIONS = """
import importlib.metadata, platform
version = importlib.metadata.version
importlib.metadata.version = lambda name: "9.9" if name == "emoc_tf" else version(name)
platform.python_version = lambda: "3.99.1"
"""
OTHER_PROCESSOR = """
import pathlib
read = pathlib.Path.read_text

def read_text(path, *given, **more):
    text = read(path, *given, **more)
    return "model name: Another\\n" + text if str(path) == "/proc/cpuinfo" else text

pathlib.Path.read_text = read_text
"""


@contextlib.contextmanager
def machine(cluster, folder, kind):
    (folder / "sitecustomize.py").write_text(kind)
    node = add_node(cluster, num_cpus=1, env_vars={"PYTHONPATH": str(folder)})
    try:
        yield
    finally:
        cluster.remove_node(node)
        cluster.wait_for_nodes(120)


def test_another_version_is_refused(cluster, connection, tmp_path):
    told = r"^ray: expected machines .* with (emoc_tf .*9\.9|python .*3\.99\.1)"
    with machine(cluster, tmp_path, OTHER_VERSIONS):
        for allow_mixed in (False, True):
            grid = Grid(CONFIG, tmp_path / "out", allow_mixed, environment=own_environment)
            with pytest.raises(ValueError, match=told):
                run_grid(grid, ["min"], [0], Console(quiet=True), pool=OnRay(cluster.address))
    assert not list((tmp_path / "out").glob("*"))
    assert [node.cpus for node in connection.nodes(cpus=1)] == [1, 1]


def test_another_processor_is_refused_or_told(cluster, connection, tmp_path, until):
    names, out, quiet = ["min", "max", "random"], tmp_path / "out", Console(quiet=True)
    grid = Grid(CONFIG, out, environment=own_environment)
    with machine(cluster, tmp_path, OTHER_PROCESSOR):
        with (
            OnRay(cluster.address) as pool,
            pytest.raises(ValueError, match=r"^ray: .* with cpu .*; --allow_mixed works on both"),
        ):
            run_grid(grid, names, [0], quiet, pool=pool)
        with OnRay(cluster.address) as pool:  # which has room for all runs at a time
            assert not run_grid(replace(grid, allow_mixed=True), names, [0], quiet, pool=pool)
        scoring, (data, _) = scoring_on(cluster.address), images()
        image = keras.Input((6, 6, 1))
        model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image)))
        with pytest.raises(ValueError, match=r"^ray: .* the bits of this process, .* Another"):
            # The two others may be done before it is there.
            until(lambda: not scoring.predict(model, data.images))
        scoring.close()
    configs = {name: read_config(run_path(out, name, 0)) for name in names}
    assert len({config["cpu"] for config in configs.values()}) == 2
    weights = checkpoint.read_arrays(pretrained_path(out, 0))
    made_on = json.loads(str(weights["environment"]))["cpu"]
    for config in configs.values():
        told = [place["cpu"] for place in config.get("mixed", [])]
        assert told == ([] if config["cpu"] == made_on else [made_on])
    notes = gather(out).notes
    assert any("is mixed: a part of it was made in another place" in note for note in notes)
    assert any("the runs differ in cpu: " in note and "Another" in note for note in notes)
