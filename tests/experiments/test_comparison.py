import pytest
from absl import flags
from rich.console import Console

from emoc_tf import agents
from emoc_tf.experiments import compare as compare_binary
from emoc_tf.experiments import comparison
from emoc_tf.running.single_run import Grid
from tests.records.written import CONFIG


@pytest.fixture
def own():
    agents.register("own", agents.RandomAgent)
    yield "own"
    del agents.AGENTS["own"]


def test_a_comparison_runs_every_policy(own, tmp_path, monkeypatch):
    """By the flag and in a script; records are of names, none of `all`."""
    asked = []

    def run_grid(grid, names, seeds, console, num_workers, pool):
        asked.append(list(names))
        return {(name, seed): "made up" for name in names for seed in seeds}

    monkeypatch.setattr(comparison, "run_grid", run_grid)
    findings, failed = comparison.compare(Grid(CONFIG, tmp_path), ["all"], [0, 1], Console())
    assert findings is None
    assert "own with seed 1: made up" in failed
    assert asked == [agents.names()]
    with pytest.raises(ValueError, match="agents: expected distinct ones, got 'own' twice"):
        comparison.compare(Grid(CONFIG, tmp_path), ["all", "own"], [0], Console())
    assert len(asked) == 1


def test_the_demo_compares_eight_policies_whatever_is_registered(own):
    assert compare_binary.AGENTS.default == [
        "random", "min", "min-literal", "1-vs-2", "max", "emoc", "emoc-expected", "learned",
    ]  # fmt: skip


def test_help_lists_policies_by_family():
    text = flags.FLAGS["agents"].help
    assert "all stands for every one" in " ".join(text.split())
    assert "chance: random; uncertainty: min, min-literal, 1-vs-2" in " ".join(text.split())
    for name in agents.names():
        assert name in text
