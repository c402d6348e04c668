"""Makes a page, figures and tables of a comparison, from its run folders alone.

Takes one argument, the output folder, and writes into it, or into --report_dir: report.html, which
needs no network; curves, differences, penalties and seconds as PNG and SVG; table.csv and
differences.csv. It works while runs are unfinished, and says which are missing.

Example: python -m emoc_tf.experiments.report out
"""

from absl import flags
from rich.console import Console

from emoc_tf.experiments.binary import run_binary
from emoc_tf.experiments.comparison import report
from emoc_tf.experiments.flags import data_dir, only_agents, only_seeds

DATA_DIR = data_dir()  # for the images and class names on the page
BASELINES = flags.DEFINE_list(
    "baselines", [], "Policies that the others are compared with (random and emoc)."
)
ACCURACY = flags.DEFINE_float(
    "accuracy", None, "Test accuracy to count labels to; if not given, the first baseline's last."
)
ONLY_AGENTS = only_agents()
ONLY_SEEDS = only_seeds()
REPORT_DIR = flags.DEFINE_string(
    "report_dir", None, "Where the files go; into the output folder if not given."
)
LATEX = flags.DEFINE_bool("latex", False, "Also write table.tex.")


def main(argv: list[str]) -> None:
    """Reports on the folder given."""
    if len(argv) != 2:
        raise ValueError(f"arguments: expected one output folder, got {argv[1:]}")
    report(
        argv[1],
        Console(),
        data_dir=DATA_DIR.value,
        baselines=BASELINES.value,
        accuracy=ACCURACY.value,
        latex=LATEX.value,
        only_agents=ONLY_AGENTS.value,
        only_seeds=ONLY_SEEDS(),
        report_dir=REPORT_DIR.value,
    )


if __name__ == "__main__":
    run_binary(main)
