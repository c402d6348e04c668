"""What the binaries show of their runs."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from emoc_tf.config import ExplorationConfig
from emoc_tf.exploration.outcome import StepOutcome


def say(console: Console, text: str) -> None:
    """Prints text as it is: no markup, no colours, no line breaks of its own."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def shows_bars(console: Console) -> bool:
    """Whether a bar can be drawn: not in a file or a notebook, also where colours are forced."""
    isatty = getattr(console.file, "isatty", None)
    return console.is_interactive and isatty is not None and isatty()


class Display:
    """Lines for the steps, and a bar where there is a terminal and only this process writes.

    Args:
        console: Where to.
        config: Of the runs.
        runs: How many there are.
        bar: Whether only this process writes.
        of_task: Whether the runs are of a task that was handed in, whose images tell when it ends.
    """

    def __init__(
        self,
        console: Console,
        config: ExplorationConfig,
        runs: int,
        bar: bool,
        of_task: bool = False,
    ) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        self._console, self._config = console, config
        self._of_task = of_task
        self._num_steps = config.max_steps if of_task else config.num_steps  # None: unknown
        self._progress = Progress(
            *columns, console=console, disable=not (bar and shows_bars(console))
        )
        self._runs = self._progress.add_task("runs", total=runs)
        steps = None if self._num_steps is None else runs * self._num_steps
        self._steps = self._progress.add_task("update steps", total=steps)

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._progress.disable:  # rich before 14 would end a line that it never began
            self._progress.stop()

    def say(self, run: tuple[str, int], line: str) -> None:
        """Prints a line about a run."""
        say(self._console, f"{run[0]}  seed {run[1]}  {line}")

    def restart(self, run: tuple[str, int], cause: str) -> None:
        """Prints that another process resumes a run."""
        self.say(run, f"its process died ({cause}); another one goes on")

    def end_run(self) -> None:
        """Advances the bar by a run."""
        self._progress.advance(self._runs)

    def show(
        self, run: tuple[str, int], outcome: StepOutcome, seconds: float, queried: str | None
    ) -> None:
        """Prints what a step led to.

        Args:
            run: Policy and seed.
            outcome: Of the step.
            seconds: It took.
            queried: Name of the class that was queried, if one was.
        """
        of = "" if self._num_steps is None else f"/{self._num_steps}"
        to_find = "" if self._of_task else f"/{self._config.novel_classes}"
        accuracies = {
            "accuracy": outcome.test_accuracy,
            "accuracy on answers": outcome.answer_accuracy,
            "on audit": outcome.audit_accuracy,
        }
        self.say(
            run,
            f"step {outcome.step}{of}  "
            + "".join(f"{name} {a:.3f}  " for name, a in accuracies.items() if a is not None)
            + f"classes found {outcome.discovered_classes}{to_find}  {seconds:.1f} s"
            + (f"  queried {queried}" if queried else ""),
        )
        self._progress.advance(self._steps, int(outcome.step > 0))
