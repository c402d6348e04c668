"""The process that owns the exploration: it chooses sets and learns answers.

It is a child of the one that serves the page, reads commands from its standard input and tells
what happens on its standard output, a JSON object a line. It ends with its parent.
"""

import json
import math
import os
import queue
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from typing import Any, TextIO

from emoc_tf.annotation.journal import FILE, Follower
from emoc_tf.annotation.settings import LOG, Settings
from emoc_tf.running import quiet
from emoc_tf.storage.locks import FolderLock

# Exit statuses: settings that cannot work, a training that diverged.
WRONG, DIVERGED = 3, 4
# Share of the sets that are asked for which has to lie ready before an answer is learnt: learning
# may take a while, and there may be several people.
_AT_LEAST = 2 / 3
# So many sets are chosen at once.
_MANY = 4
# Seconds in which a worker without a page ends.
_MOST_WAITED = 20.0


@dataclass(frozen=True)
class Ranking:
    """The scores of all candidate sets, and the state that they are of."""

    state: Any
    scores: Any

    def holds(self, state: Any) -> bool:
        """Whether the sets that can be chosen now are among those, and the model is the same."""
        mask, then = state.candidate_mask, self.state
        # What the model computes is computed anew whenever it has changed.
        same = state.probabilities is then.probabilities and mask.shape == then.candidate_mask.shape
        return same and bool((state.candidates[mask] == then.candidates[mask]).all())


class Worker:
    """Does what there is to do, the most urgent first.

    Args:
        settings: What is annotated.
        commands: What the page's process sends.
        out: Where messages go.

    Attributes:
        is_ready: Whether images and model are there.
    """

    def __init__(self, settings: Settings, commands: "queue.Queue[dict]", out: TextIO) -> None:
        self._settings, self._commands, self._out = settings, commands, out
        self.is_ready = False
        self._lines = 0
        self._reserve, self._shown = 1, set[str]()
        self._to_withdraw: list[str] = []
        self._exports: list[tuple[int, dict[str, Any]]] = []  # and how much of it has to be learnt
        self._backlog: list[dict[str, Any]] = []
        self._told: dict[str, dict[str, Any]] = {}
        self._ranking: Ranking | None = None
        self._nearest: Any = None  # distances of the choice before

    def tell(self, type: str, **told: Any) -> None:
        """Sends a message."""
        self._out.write(json.dumps({"type": type, **told}, ensure_ascii=False) + "\n")
        self._out.flush()

    def run(self) -> None:
        """Works until the process ends."""
        from emoc_tf.annotation import exploring
        from emoc_tf.annotation.applying import Applier
        from emoc_tf.records.recording import Recording

        def progress(step: str, done: int, total: int) -> None:
            self.tell("status", phase=f"{step} images", done=done, total=total)

        self.tell("status", phase="reading images")
        self._take()  # how many lines are safe
        self._exploration, self._agent, rest = exploring.make(self._settings, progress)
        if left_out := self._exploration.task.images.left_out_text():
            print(f"{left_out}\nthese files are left out", file=sys.stderr, flush=True)  # into LOG
        self._wait_for_the_worker_before()
        self.tell("status", phase="training on what is labelled")
        self._recording = Recording(
            self._exploration, self._settings.output_dir, seed=self._settings.seed
        )
        rest()
        follower = Follower(self._settings.folder / FILE)
        lines = follower.read(self._lines)
        applied = self._exploration.applied
        if applied > len(lines):
            raise ValueError(
                f"output_dir: expected all {applied} lines that were learnt in {FILE}, got "
                f"{len(lines)}; put the file back, or use another output folder"
            )
        self._applier = Applier(self._exploration, lines[:applied])
        self._follower, self._backlog = follower, lines[applied:]
        self._tell_ready()
        self._publish()
        self.is_ready = True
        while True:
            self._work()

    def _wait_for_the_worker_before(self) -> None:
        """Waits until a worker whose page was killed has seen that, and ended."""
        from emoc_tf.records.run_record import run_path

        lock = FolderLock(run_path(self._settings.output_dir, "person", self._settings.seed))
        end = time.monotonic() + _MOST_WAITED
        while lock.held_elsewhere() and time.monotonic() < end:
            time.sleep(0.1)

    def _tell_ready(self) -> None:
        exploration, images = self._exploration, self._exploration.task.images
        self.tell(
            "ready", root=str(images.root), paths=images.paths, keys=exploration.keys,
            labels=exploration.told_labels(), applied=exploration.applied,
            classes=self._classes(), left_out=len(images.left_out), gone=len(images.gone),
            outcomes=[_told(outcome) for outcome in exploration.outcomes],
        )  # fmt: skip

    def _classes(self) -> list[str]:
        exploration = self._exploration
        return [exploration.class_names[c] for c in exploration.state.known_classes]

    def _work(self) -> None:
        """Does one thing."""
        self._take()
        if self._to_withdraw:
            self._withdraw()
        elif self._missing(math.ceil(_AT_LEAST * self._reserve), fresh=False):
            self._ask()
        elif self._exports and self._exploration.applied >= self._exports[0][0]:
            self._export(self._exports.pop(0)[1])
        elif self._backlog:
            self._learn()
        elif self._missing(self._reserve, fresh=True):
            self._ask()
        else:
            self.tell("status", phase="ready")
            self._take(wait=True)

    def _take(self, wait: bool = False) -> None:
        """Reads what was sent meanwhile."""
        first = not self._lines and not hasattr(self, "_exploration")
        while wait or first or not self._commands.empty():
            told = self._commands.get()
            wait = first = False
            self._to_withdraw += told.get("withdraw", ())
            if "export" in told:
                self._exports.append((told["lines"], told["export"]))
            if "lines" in told:
                self._lines = told["lines"]
                self._reserve, self._shown = told["reserve"], set(told["shown"])
        if hasattr(self, "_follower"):
            self._backlog += self._follower.read(self._lines)

    def _step(self) -> int:
        return self._exploration.state.step

    def _missing(self, wanted: int, fresh: bool) -> int:
        """Returns how many sets fewer than wanted lie ready; 0 if no more can be formed.

        Args:
            wanted: How many should.
            fresh: Whether only those of the model of now count.
        """
        if not self._exploration.state.candidate_mask.any():
            return 0
        answered = {line.get("query") for line in self._backlog if line["kind"] == "answer"}
        ids = set(self._exploration.ids.values()) - self._shown - answered
        if fresh:
            ids = {i for i in ids if self._told.get(i, {}).get("generation") == self._step()}
        return max(0, wanted - len(ids))

    def _ask(self) -> None:
        """Chooses one set more."""
        self.tell("status", phase="choosing sets", behind=len(self._backlog))
        self._exploration.ask(self._choose())
        self._publish()

    def _choose(self) -> int:
        """Returns the set that the policy wants most.

        Where many are needed all are scored at once, and the next ones chosen by these scores: that
        takes about as long as one choice by elimination.
        """
        from emoc_tf.agents.agent import ScoringAgent
        from emoc_tf.envs.nearest import NearestLabelled
        from emoc_tf.envs.observation import observe

        state, agent = self._exploration.state, self._agent
        if self._ranking is not None and not self._ranking.holds(state):
            self._ranking = None
        ranks = isinstance(agent, ScoringAgent) and state.known_classes
        ranks = ranks and not agent.heeds_open_sets
        if ranks and self._ranking is None and self._missing(self._reserve, fresh=True) >= _MANY:
            self._ranking = Ranking(state, agent.score(state))
        if self._ranking is not None:
            return agent.best(self._ranking.scores, state)
        self._nearest = self._nearest or NearestLabelled()
        config = self._exploration.config
        return agent.act(observe(state, config, nearest=self._nearest), state)

    def _withdraw(self) -> None:
        wanted, self._to_withdraw = self._to_withdraw, []
        for query_id in wanted:
            query = self._applier.find(query_id)
            if query is not None and query.choice is not None:
                self._exploration.withdraw(query)
        self._applier.settle()
        self._publish()

    def _learn(self) -> None:
        """Brings the next line in."""
        self.tell("status", phase="learning", behind=len(self._backlog))
        line, start = self._backlog.pop(0), time.monotonic()
        self._applier.apply(line)
        self._recording.write()
        exploration = self._exploration
        learning = time.monotonic() - start if line["kind"] == "answer" else None
        self.tell(
            "applied", applied=exploration.applied, outcome=_told(exploration.outcomes[-1]),
            classes=self._classes(), seconds=learning,
        )  # fmt: skip
        self._publish()

    def _export(self, job: dict[str, Any]) -> None:
        from emoc_tf.annotation import exporting

        self.tell("status", phase=f"writing {job['format']}")
        try:
            folder = self._settings.folder / "exports"
            path, count = exporting.write(
                self._exploration, self._recording, job["format"], folder.absolute()
            )
            self.tell("export", **job, state="done", path=str(path), count=count)
        except (ValueError, OSError) as error:
            self.tell("export", **job, state="failed", text=str(error))

    def _publish(self) -> None:
        """Tells all sets that are open."""
        exploration, told = self._exploration, {}
        for query in exploration.queries:
            query_id = exploration.ids[query.number]
            images = [exploration.keys_at(i) for i in query.indices.tolist()]
            known = self._told.get(query_id)
            if known is None or known["images"] != images:
                known = {
                    "query": query_id, "images": images, "generation": self._step(),
                    "audit": query.choice is None, "guesses": exploration.guesses(query),
                }  # fmt: skip
            told[query_id] = known
        self._told = told
        exhausted = not exploration.state.candidate_mask.any()
        self.tell("sets", sets=list(told.values()), generation=self._step(), exhausted=exhausted)


def _told(outcome: Any) -> dict[str, Any]:
    names = (
        "step", "labelled", "discovered_classes", "answer_accuracy", "audit_accuracy", "audit_low",
        "audit_high", "stopped",
    )  # fmt: skip
    return {name: getattr(outcome, name) for name in names}


def _listen(source: TextIO, commands: "queue.Queue[dict]") -> None:
    for line in source:
        commands.put(json.loads(line))
    os._exit(0)  # the page's process has ended; all files are whole


def main() -> None:
    """Runs the worker; the first line of its input has the settings."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no message
    settings = Settings.from_json(sys.stdin.readline())
    commands: queue.Queue[dict] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, commands), daemon=True).start()
    worker = Worker(settings, commands, out)
    warnings.showwarning = lambda message, *_: worker.tell("warning", text=_at_the_page(message))
    try:
        worker.tell("status", phase="loading TensorFlow")
        quiet.load_tensorflow()
        worker.run()
    except FloatingPointError as error:
        worker.tell("died", text=str(error))
        sys.exit(DIVERGED)
    except ValueError as error:
        worker.tell("died", text=str(error))
        if not worker.is_ready:
            sys.exit(WRONG)
        raise
    except Exception as error:
        worker.tell("died", text=f"{type(error).__name__}: {error}")
        raise


def _at_the_page(message: object) -> str:
    """Returns a warning with the remedy of somebody who writes no Python."""
    return str(message).replace("ImageFolder.print_left_out()", f"{LOG} in the output folder")
