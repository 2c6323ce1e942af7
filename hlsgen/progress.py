"""What a long job says while it runs: to nobody, or to a terminal."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress(Protocol):
    """Where a job reports to."""

    def stage(self, name: str, text: str) -> None:
        """A stage begins; `text` says in a few words what it does."""

    def step(self, done: int, total: int) -> None:
        """`done` of `total` equal pieces of the current stage are finished."""

    def done(self, name: str, seconds: float, text: str) -> None:
        """A stage ended after `seconds`; `text` says what came of it."""

    def note(self, text: str) -> None:
        """Something that the user must not overlook."""


class Quiet:
    """Says nothing."""

    def stage(self, name: str, text: str) -> None:
        pass

    def step(self, done: int, total: int) -> None:
        pass

    def done(self, name: str, seconds: float, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Terminal(AbstractContextManager["Terminal"]):
    """One line a finished stage, and on a terminal a live bar for the current one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            TextColumn("  {task.fields[name]:<9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task("", name="", total=None, visible=False)

    def __enter__(self) -> "Terminal":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, name: str, text: str) -> None:
        self._bars.reset(self._task, name=name, description=text, total=None, visible=True)

    def step(self, done: int, total: int) -> None:
        self._bars.update(self._task, completed=done, total=total)

    def done(self, name: str, seconds: float, text: str) -> None:
        self._bars.update(self._task, visible=False)
        self._console.print(f"  {name:<9} {seconds:6.1f} s  {text}", markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        self._console.print(text, style="bold yellow", markup=False, highlight=False, soft_wrap=True)
