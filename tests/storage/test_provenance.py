"""What is told of versions and machine, and which source counts for which records."""

import ast
import copy
import importlib.util
import inspect

import pytest

from emoc_tf.agents.registry import AGENTS
from emoc_tf.experiments import headroom, true_change
from emoc_tf.running import training
from emoc_tf.storage import provenance


def test_the_environment_is_told():
    found = provenance.environment()
    assert found["intra_op_threads"] >= 1
    assert found["cpu"]


def test_generations_of_a_processor_have_different_names(tmp_path):
    text = "processor\t: 0\ncpu family\t: {}\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n"
    info = tmp_path / "cpuinfo"
    info.write_text(text.format(26) + text.format(25))  # the first core's
    assert provenance._cpu(info) == "AMD EPYC, family 26, model 2"
    info.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")  # has no names
    assert provenance._cpu(info) == provenance._cpu(tmp_path / "none") != ""


# What a deciding module may use without being decided by it.
WITHOUT_EFFECT = (
    "emoc_tf.storage", "emoc_tf.envs.rendering", "emoc_tf.envs.fingerprint", "emoc_tf.envs.info",
    "emoc_tf.cluster", "emoc_tf.records", *provenance.WITHOUT_EFFECT,
)  # fmt: skip


def test_the_source_that_counts_is_what_results_depend_on():
    files = provenance.source_files()
    assert {"emoc_tf.exploration.loop", "emoc_tf.scoring.scorer", "emoc_tf.agents.emoc"} <= set(
        files
    )
    assert not {"emoc_tf.report.plots", "emoc_tf.agents.policy_gradient"} & set(files)
    assert not any(name.startswith("emoc_tf.storage") for name in files)
    pictures = {"emoc_tf.data.mosaic", "emoc_tf.data.figures"}
    brought = {"emoc_tf.models.files", "emoc_tf.models.raw_images"}
    assert pictures | brought | {"emoc_tf.models.compiled", "emoc_tf.models.forks"} == set(
        provenance.WITHOUT_EFFECT
    )
    assert not set(provenance.WITHOUT_EFFECT) & set(files)
    for name in provenance.WITHOUT_EFFECT:
        assert importlib.util.find_spec(name) is not None
    for name, file in files.items():
        if name == "emoc_tf.running.single_run":
            continue  # it writes the records too
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module.startswith("emoc_tf"):
                continue
            for part in node.names:
                used = {node.module, f"{node.module}.{part.name}"} - {"emoc_tf"}
                allowed = any(module.startswith(WITHOUT_EFFECT) for module in used)
                assert allowed or used & set(files), (name, used)
    shipped = {inspect.getmodule(policy).__name__ for policy in AGENTS.values()}
    assert shipped <= set(files)


@pytest.mark.parametrize("module", [training, true_change, headroom])
def test_other_records_depend_on_what_makes_them_too(module):
    more = module.SOURCE
    found, runs = provenance.source_files(*more), provenance.source_files()
    assert {name: found.get(name) for name in runs} == runs
    assert set(found) - set(runs) == {*more}
    assert str(found[module.__name__]) == module.__file__
    here, of_runs = provenance.environment(*more), provenance.environment()
    assert here | {"source": ""} == of_runs | {"source": ""}
    assert provenance.differences(here, *more) == provenance.differences(of_runs) == []
    told = f"source {of_runs['source']} there, {here['source']} here"
    assert provenance.differences(of_runs, *more) == [told]


def test_records_that_lack_a_version_are_of_this_environment():
    here = provenance.environment()
    assert here["versions"]["pillow"]
    found = copy.deepcopy(here)
    del found["versions"]["pillow"]  # as earlier versions wrote it
    assert provenance.differences(found) == []
    found["versions"]["numpy"] = "1.0"
    (told,) = provenance.differences(found)
    assert told.startswith("versions ") and "'numpy': '1.0'" in told
    del found["versions"]
    (told,) = provenance.differences(found)
    assert told.startswith("versions None there")
    found = copy.deepcopy(here)
    found["versions"]["pillow"] = "1.0"
    assert len(provenance.differences(found)) == 1


def test_threads_are_those_that_operations_use(monkeypatch):
    set_here = iter([0, 0, 0, 3])
    threading = provenance.tf.config.threading
    monkeypatch.setattr(threading, "get_intra_op_parallelism_threads", lambda: next(set_here))
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert provenance.threads() == provenance.cores()
    for told, wanted in (("5", 5), ("many", provenance.cores()), ("5", 3)):
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", told)
        assert provenance.threads() == wanted


def test_a_record_tells_the_threads_that_operations_use(monkeypatch):
    monkeypatch.setattr(provenance, "threads", lambda: 7)
    provenance.environment.cache_clear()
    try:
        assert provenance.environment()["intra_op_threads"] == 7
    finally:
        provenance.environment.cache_clear()
