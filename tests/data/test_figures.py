import os
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from emoc_tf.data.figures import literal
from tests import processes

ABSENT = (
    "module://matplotlib_inline.backend_inline",
    "module://ipympl.backend_nbagg",
    "module://no.such.module",
    "inline",
    "nonsense",
)


@pytest.mark.parametrize(
    "text", ["US$ 5_$", "$", "$$", r"\$x$", "a$b$c", r"$\frac{$", "plain_1", ""]
)
def test_texts_are_written_out(text):
    figure = Figure()
    axes = figure.subplots()
    axes.set_title(literal(text))
    axes.set_xticks([0], [literal(text)])
    figure.canvas.draw()
    assert axes.title._preprocess_math(axes.title.get_text()) == (text, False)


@pytest.mark.parametrize("backend", ABSENT)
def test_matplotlib_is_imported_whatever_backend_is_named(backend):
    code = (
        "import os\n"
        "from emoc_tf.data.figures import import_matplotlib\n"
        "import_matplotlib()\n"
        "from matplotlib.figure import Figure\n"
        "Figure().subplots().figure.canvas.draw()\n"
        f"assert os.environ['MPLBACKEND'] == {backend!r}\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "MPLBACKEND": backend}
    )


def test_a_backend_that_is_not_there_does_no_harm():
    backend = ABSENT[0]
    code = (
        "import os, gymnasium, emoc_tf\n"
        "env = gymnasium.make('emoc_tf/Digits-v0', render_mode='rgb_array', max_steps=1,\n"
        "                     pretrain_iterations=1, num_candidate_sets=5, pool_per_class=10)\n"
        "env.reset(seed=0)\n"
        "assert env.render().std() > 20\n"
        "import emoc_tf.report.plots\n"
        f"assert os.environ['MPLBACKEND'] == {backend!r}\n"
    )
    ended = processes.run("-c", code, env={**os.environ, "MPLBACKEND": backend})
    assert ended.returncode == 0, ended.stderr


def test_a_binary_runs_with_a_notebooks_backend(tmp_path):
    command = ["-m", "emoc_tf.experiments.report", tmp_path]
    result = processes.run(*command, env={**os.environ, "MPLBACKEND": ABSENT[0]}, cwd=tmp_path)
    assert "output_dir: expected run folders" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_backend_that_is_there_stays_chosen():
    code = "import emoc_tf, matplotlib; assert matplotlib.get_backend().lower() == 'svg'"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "MPLBACKEND": "svg"}
    )
