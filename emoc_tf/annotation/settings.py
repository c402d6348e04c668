"""What the two processes have in common: settings, and the messages between them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from emoc_tf.config import ExplorationConfig

# In the output folder: what the worker has to say.
LOG = "worker.log"
# Settings of an exploration that a person can give; the others are of simulations.
FIELDS = (
    "num_candidate_sets", "set_size", "sampler", "network", "pretrain_iterations",
    "update_iterations", "batch_size", "learning_rate", "momentum", "optimizer", "weight_decay",
    "old_fraction", "pseudo_labels", "audit", "stop_when",
)  # fmt: skip
# Photographs want a lower rate than the images of few pixels that the usual one is made for.
DEFAULTS = {
    "set_size": 25, "sampler": "cluster", "learning_rate": 0.002, "max_steps": None,
}  # fmt: skip
# A head on features that stay as they are takes a higher rate, and there `herding` learnt most in
# ten of ten simulations (results/few-labels), `emoc` less than chance. With a small network from
# scratch no policy could be told from `emoc` (results/few-labels-scratch).
FROZEN, FROZEN_RATE = "efficientnet_lite0", 0.01
USUAL_AGENT, FROZEN_AGENT = "emoc:references=256", "herding:images=2000"
# Names under which labels, predictions and the model can be written, as `records.exports.FORMATS`.
EXPORTS = (
    "csv", "jsonl", "folders", "labelstudio", "fiftyone", "imagefolder", "predictions", "model",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What is annotated, and how.

    Attributes:
        images: Folder or list of images.
        output_dir: Where all is written.
        image_size: Pixels that images are brought to for the network; None: those of the model that
            was handed in, or 96.
        fit: See `ImageFolder`.
        store: Folder of decoded images.
        model: A `.keras` file to start from; None for `config.network`.
        agent: The policy that chooses sets; None for the one that suits the network, see `policy`.
        seed: Everything random descends from it.
        config: Fields of the configuration that were given.
        scoring_ray: Where scores are computed, see `emoc_tf.scoring.scoring_on`.
    """

    images: str
    output_dir: str
    image_size: int | None = None
    fit: str = "letterbox"
    store: str | None = None
    model: str | None = None
    agent: str | None = None
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    scoring_ray: str | None = None

    @property
    def exploration(self) -> ExplorationConfig:
        """The configuration; raises `ValueError` if a value is out of range."""
        usual = DEFAULTS | ({"learning_rate": FROZEN_RATE} if self._frozen else {})
        return ExplorationConfig(**usual | self.config)

    @property
    def policy(self) -> str:
        """The name of the policy that chooses sets."""
        return self.agent or (FROZEN_AGENT if self._frozen else USUAL_AGENT)

    @property
    def _frozen(self) -> bool:
        return self.model is None and self.config.get("network") == FROZEN

    @property
    def folder(self) -> Path:
        """The folder that all is written into."""
        return Path(self.output_dir)

    @property
    def store_folder(self) -> Path:
        """The folder of decoded images."""
        return Path(self.store) if self.store else self.folder / "decoded"

    def to_json(self) -> str:
        """Returns the settings as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns what `to_json` was called of."""
        return cls(**json.loads(text))
