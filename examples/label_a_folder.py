"""A folder of images, answered in the terminal: from no label at all, with classes as they come.

Type a name, or one for each image with commas between them; nothing skips, a minus rejects; "undo"
takes the last answer back, "stop" ends. The answers are written as `path,label` beside.

Run: python examples/label_a_folder.py FOLDER
"""

import sys
from collections.abc import Callable
from pathlib import Path

from emoc_tf import REJECT, SKIP, ExplorationConfig, Task, agents
from emoc_tf.envs.observation import observe
from emoc_tf.exploration import Exploration
from emoc_tf.storage import csv_files


def read(text: str, count: int) -> list[str | int]:
    """Returns what was typed as an answer: a name, `SKIP` or `REJECT` for each image."""
    parts = [part.strip() for part in text.split(",")]
    parts = parts * count if len(parts) == 1 else parts
    return [{"": SKIP, "-": REJECT}.get(part, part) for part in parts]


def main(
    folder: str, ask: Callable[[str], str] = input, image_size: int = 64, **settings
) -> Exploration:
    """Asks until "stop" is typed or no image is left, and writes the answers."""
    task = Task.from_folder(folder, image_size=image_size)
    task.images.print_left_out()
    config = ExplorationConfig(**{"set_size": 4, "num_candidate_sets": 50, **settings})
    exploration = Exploration(config, task=task)
    exploration.reset(0)
    agent = agents.make("emoc", seed=0)
    while not exploration.finished:
        state = exploration.state
        query = exploration.ask(agent.act(observe(state, config), state))
        print("  ".join(task.images.paths[i] for i in query.indices))
        typed = ask(f"what are they? known: {', '.join(query.class_names) or 'nothing yet'}\n> ")
        if typed in ("stop", "undo"):
            exploration.withdraw(query)
            if typed == "stop":
                break
            exploration.undo()
            continue
        try:
            outcome = exploration.answer(query, read(typed, len(query.indices)))
        except ValueError as error:
            print(error)
            exploration.withdraw(query)
            continue
        print(f"{outcome.labelled} labelled, {len(exploration.state.known_classes)} classes known")
    write(exploration, Path(folder).with_suffix(".csv"))
    return exploration


def write(exploration: Exploration, path: Path) -> None:
    """Writes the labels there are as a list that `Task.from_folder` reads."""
    images, labels = exploration.episode.raw_images, exploration.labels
    rows = [
        (f"{images.root}/{images.paths[i]}", exploration.class_names[label])
        for i, label in enumerate(labels)
        if label >= 0
    ]
    path.write_text(csv_files.text([("path", "label"), *rows]), encoding="utf-8")
    print(f"{len(rows)} labels in {path}")


if __name__ == "__main__":
    main(sys.argv[1])
