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


class Display:
    """Lines for the steps, and a bar where there is a terminal and only this process writes.

    Args:
        console: Where to.
        config: Of the runs.
        runs: How many there are.
        bar: Whether only this process writes.
    """

    def __init__(self, console: Console, config: ExplorationConfig, runs: int, bar: bool) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        self._console, self._config = console, config
        self._progress = Progress(
            *columns, console=console, disable=not (bar and console.is_terminal)
        )
        self._runs = self._progress.add_task("runs", total=runs)
        self._steps = self._progress.add_task("update steps", total=runs * config.num_steps)

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, run: tuple[str, int], line: str) -> None:
        """Prints a line about a run."""
        say(self._console, f"{run[0]}  seed {run[1]}  {line}")

    def restart(self, run: tuple[str, int], cause: str) -> None:
        """Prints that another process goes on with a run."""
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
        self.say(
            run,
            f"step {outcome.step}/{self._config.num_steps}  "
            f"accuracy {outcome.test_accuracy:.3f}  "
            f"classes found {outcome.discovered_classes}/{self._config.novel_classes}  "
            f"{seconds:.1f} s" + (f"  queried {queried}" if queried else ""),
        )
        self._progress.advance(self._steps, int(outcome.step > 0))
