"""Writes what was answered in a run for other tools, and what its model says about the rest.

Takes one argument, the run's folder. Labels go to --format: csv or jsonl (lists of paths and
labels), folders (one for each class), labelstudio (tasks to import), fiftyone (a labelled data set)
or imagefolder (Hugging Face's). With --predictions, the class and the second class of every image
without an answer, as CSV and JSON Lines. Nothing is ever overwritten.

Example: python -m emoc_tf.experiments.export out/emoc/0 --format=csv
"""

from absl import flags
from rich.console import Console

from emoc_tf.experiments.binary import run_binary
from emoc_tf.experiments.flags import data_dir
from emoc_tf.records.exports import FORMATS, export
from emoc_tf.records.placing import WAYS
from emoc_tf.running.console import say

DATA_DIR = data_dir()
FORMAT = flags.DEFINE_enum("format", None, list(FORMATS), "What labels are written as.")
PREDICTIONS = flags.DEFINE_bool(
    "predictions", False, "Write predictions of the images without an answer."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "A new file or folder; if not given, in exports/ of the run's folder."
)
IMAGES = flags.DEFINE_string(
    "images", None,
    "Folder of images: where those of the run are now, or, for predictions, others.",
)  # fmt: skip
FILES = flags.DEFINE_enum(
    "files", WAYS[0], list(WAYS), "How image files come into a folder; links where possible."
)


def main(argv: list[str]) -> None:
    """Exports the run given."""
    if len(argv) != 2:
        raise ValueError(f"arguments: expected one run folder, got {argv[1:]}")
    if (FORMAT.value is None) == (not PREDICTIONS.value):
        raise ValueError(
            f"format: expected --predictions or one of --format={'|'.join(FORMATS)}, got "
            f"{'both' if PREDICTIONS.value else 'neither'}"
        )
    if PREDICTIONS.value:
        from emoc_tf.records.predictions import export_predictions

        files, count = export_predictions(
            argv[1], OUTPUT.value, images=IMAGES.value, data_dir=DATA_DIR.value
        )
        say(Console(), f"{count} images without an answer: {', '.join(map(str, files))}")
        return
    target, count = export(
        argv[1], FORMAT.value, OUTPUT.value, images=IMAGES.value, way=FILES.value,
        data_dir=DATA_DIR.value,
    )  # fmt: skip
    say(Console(), f"{count} labelled images: {target}")


if __name__ == "__main__":
    run_binary(main)
