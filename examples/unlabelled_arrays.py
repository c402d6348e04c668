"""Arrays with a few labels and no test data: what can be known all the same.

Labels are −1 where nobody has looked. Thirty images drawn uniformly are audited: they are asked
about first, never learnt, and tell the accuracy on the pool with an interval.

Run: python examples/unlabelled_arrays.py
"""

import numpy as np

from emoc_tf import Answer, Task, agents, load
from emoc_tf.envs import ActiveExplorationEnv


class Person:
    """Stands in for a person: knows the digits, and names those that nobody has listed."""

    def __init__(self, truth: np.ndarray) -> None:
        self._truth, self._names = truth, []

    def set_classes(self, class_names: tuple[str, ...]) -> None:
        """Is told which classes there are, at the start and whenever the list grows."""
        self._names = list(class_names)

    def label(self, indices: np.ndarray, images: np.ndarray) -> Answer:
        """Returns class ids; behind the end of the list they stand for new names."""
        names = [str(digit) for digit in self._truth[indices]]
        new = [name for name in dict.fromkeys(names) if name not in self._names]
        return Answer([[*self._names, *new].index(name) for name in names], new_classes=new)


def main(**settings) -> dict:
    """Labels sets that `emoc` chooses until the audit says 0.8, and returns the last info."""
    train, _ = load("digits")
    labels = np.full(len(train.images), -1)
    labels[:20] = np.where(train.labels[:20] < 3, train.labels[:20], -1)
    task = Task(train.images, labels, class_names=["0", "1", "2"])
    settings = {"audit": 30, "stop_when": "audit=0.8", "max_steps": 40, **settings}
    env = ActiveExplorationEnv(task=task, oracle=Person(train.labels), **settings)
    agent = agents.make("emoc", seed=0)
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        observation, _, terminated, truncated, info = env.step(agent.act(observation, env.state))
        over = terminated or truncated
        print(
            f"{info['labelled']} labelled, {len(env.state.known_classes)} classes, audit "
            f"{info['audit_accuracy']:.2f} [{info['audit_low']:.2f}, {info['audit_high']:.2f}]"
        )
    print(info.get("stopped", "no set is left, or max_steps was reached"))
    return info


if __name__ == "__main__":
    main()
