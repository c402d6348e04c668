"""Flags of the binaries that work on several initialisations."""

from absl import flags

from emoc_tf.running.grid import check_distinct

SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Initialisations.")
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write into.", required=True)


def seeds_from_flags() -> list[int]:
    """Returns the seeds; raises `ValueError` unless they are different integers of at least 0."""
    if not all(seed.strip().isdecimal() for seed in SEEDS.value):
        raise ValueError(f"seeds: expected integers of at least 0, got {SEEDS.value}")
    seeds = [int(seed) for seed in SEEDS.value]
    check_distinct("seeds", seeds)
    return seeds


def check_no_arguments(argv: list[str]) -> None:
    """Raises `ValueError` if anything but flags was given."""
    if argv[1:]:
        raise ValueError(f"arguments: expected flags only, got {argv[1:]}")
