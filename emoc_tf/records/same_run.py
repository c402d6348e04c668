"""Whether recorded settings are those of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emoc_tf.config import ExplorationConfig

_MADE_OF = {
    "fingerprint": "whose policy was made from another file",
    "environment": "whose data, model, oracle or reward were others",
}


def check_same(
    path: Path,
    found: Mapping[str, Any],
    identity: Mapping[str, Any],
    config: ExplorationConfig,
    allow_rate: bool,
) -> None:
    """Checks that a folder holds records of a run.

    Args:
        path: Of the folder.
        found: What its `config.json` tells.
        identity: The run's policy (`agent`), its `seed`, and fingerprints of what else it is of.
        config: The run's configuration.
        allow_rate: Whether the learning rate may be another.

    Raises:
        ValueError: They are of another policy or seed, of something else, or of another
            configuration.
    """
    agent, seed = identity["agent"], identity["seed"]
    if (found["agent"], found["seed"]) != (agent, seed):
        raise ValueError(
            f"output_dir: expected a run of {agent!r} with seed {seed} in {path}, got one "
            f"of {found['agent']!r} with seed {found['seed']}"
        )
    for name, what in _MADE_OF.items():
        if found.get(name) != identity.get(name):
            raise ValueError(
                f"output_dir: expected a run of {agent!r} as it is now in {path}, got one "
                f"{what}; use another output folder"
            )
    rate = {"learning_rate": config.learning_rate} if allow_rate else {}
    if settings := config.differences(found["configuration"] | rate):
        raise ValueError(
            f"output_dir: expected a run of this configuration in {path}, got another one "
            f"({'; '.join(settings)})"
        )
