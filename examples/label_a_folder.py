"""A folder of images, answered in the terminal: from no label at all, with classes as they come.

Type a name, or one for each image with commas between them; nothing skips, a minus rejects; "undo"
takes the last answer back, "stop" ends. All answers are kept in a folder beside the images, and the
same call resumes with them the next day. `emoc-export` makes lists and folders of them.

Run: python examples/label_a_folder.py FOLDER
"""

import sys
from collections.abc import Callable
from pathlib import Path

from emoc_tf import REJECT, SKIP, ExplorationConfig, Task, agents
from emoc_tf.envs.observation import observe
from emoc_tf.exploration import Exploration
from emoc_tf.records.recording import Recording


def read(text: str, count: int) -> list[str | int]:
    """Returns what was typed as an answer: a name, `SKIP` or `REJECT` for each image."""
    parts = [part.strip() for part in text.split(",")]
    parts = parts * count if len(parts) == 1 else parts
    return [{"": SKIP, "-": REJECT}.get(part, part) for part in parts]


def show(step: str, done: int, total: int) -> None:
    """Shows how far a folder is read; of a large one it takes a while."""
    print(f"\r{step} {done} of {total}", end="\n" if done == total else "", flush=True)


def main(
    folder: str,
    ask: Callable[[str], str] = input,
    image_size: int = 64,
    output_dir: str | Path | None = None,
    **settings,
) -> Exploration:
    """Asks until "stop" is typed or no image is left; answers go to FOLDER-labels or output_dir."""
    task = Task.from_folder(folder, image_size=image_size, progress=show)
    task.images.print_left_out()
    chosen = {"set_size": 4, "num_candidate_sets": 50, "learning_rate": 0.002}
    config = ExplorationConfig(**chosen | settings)
    exploration = Exploration(config, task=task)
    if output_dir is None:
        place = Path(folder).resolve()
        output_dir = place.with_name(f"{place.name}-labels")
    agent = agents.make("emoc", seed=0)
    with Recording(exploration, output_dir) as recording:
        if recording.resumed:
            print(f"{(exploration.labels >= 0).sum()} images are labelled already")
        while not exploration.finished:
            state = exploration.state
            if exploration.queries:  # one of yesterday's, or one whose answer was none
                query = exploration.queries[0]
            else:
                query = exploration.ask(agent.act(observe(state, config), state))
            print("  ".join(task.images.paths[i] for i in query.indices))
            known = ", ".join(exploration.class_names) or "nothing yet"
            typed = ask(f"what are they? known: {known}\n> ")
            if typed == "stop":
                break
            try:
                if typed == "undo":
                    exploration.withdraw(query)
                    exploration.undo()
                    continue
                outcome = exploration.answer(query, read(typed, len(query.indices)))
            except ValueError as error:
                print(error)
                continue
            recording.write()
            found = len(exploration.state.known_classes)
            print(f"{outcome.labelled} labelled, {found} classes known")
    print(f"emoc-export {recording.path} --format=csv")
    return exploration


if __name__ == "__main__":
    main(sys.argv[1])
