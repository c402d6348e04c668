"""Templates of the page about clusters: nobody has run some of them, but a shell reads them."""

import re
import shutil
import subprocess

import pytest

from tests import ROOT

TEXT = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("script", SCRIPTS, ids=[script.split("\n")[0] for script in SCRIPTS])
def test_a_shell_reads_the_commands(script):
    result = subprocess.run(
        ["bash", "-n"], input=script, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_steps_of_slurm_ask_for_the_processors_of_their_job():
    # Since Slurm 22.05 a step does not inherit them: it would have one.
    (script,) = (script for script in SCRIPTS if "#SBATCH" in script)
    steps = [line for line in script.replace("\\\n", " ").splitlines() if line.startswith("srun ")]
    assert len(steps) == 2
    for step in steps:
        assert '--cpus-per-task="$SLURM_CPUS_PER_TASK"' in step.partition(" ray start ")[0]
