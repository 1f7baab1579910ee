"""The only printer: progress and messages on stderr, results (or JSON) on stdout.

rich is imported when the first line is printed: a quiet call never needs it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from p3mdata.base.progress import Pace, Progress, silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# A line soon, then ever fewer: a run of days must not fill its log.
_FIRST_LINE_SECONDS, _MOST_LINE_SECONDS, _LINE_SHARE = 5.0, 300.0, 0.1
_BAR_SECONDS = 0.2
# Variables by which rich takes any stream for a terminal.
_SHOW_STYLES = ("FORCE_COLOR", "TTY_COMPATIBLE")


@dataclass
class Output:
    """How this call prints; set once by the command line."""

    json: bool = False
    quiet: bool = False
    progress: bool = True


out = Output()


@functools.cache
def screen(stderr: bool) -> Console:
    """What prints on a stream of this process: messages go to stderr, results to stdout."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


def _printable(text: str) -> str:
    """Text in which nothing of a file name reaches the terminal as a control sequence."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def plain_text(text: str) -> str:
    """Markup-safe text, and printable."""
    from rich.markup import escape

    return escape(_printable(text))


def _shows_styles(stream: TextIO | None) -> bool:
    """Whether rich may take a stream for a terminal; it knows what to do without a stream."""
    return stream is None or stream.isatty() or any(map(os.environ.get, _SHOW_STYLES))


def _print(text: str, stderr: bool, title: str = "", style: str = "") -> None:
    """Print a line behind a title in a style of its own, which a stream that shows no styles gets without rich."""
    stream = sys.stderr if stderr else sys.stdout
    if not _shows_styles(stream):
        stream.write(f"{title}{_printable(text)}\n")
        stream.flush()
    else:
        screen(stderr).print((f"[{style}]{title}[/]" if title else "") + plain_text(text))


def one_line(text: str) -> str:
    """Text of a list's entry, on one line whatever a file name in it holds."""
    return text.replace("\n", "\\n")


def say(text: str) -> None:
    """A message for a person; nothing for an empty one."""
    if text and not out.quiet:
        _print(text, stderr=True)


def error(text: str) -> None:
    """One sentence about what went wrong; shown even when quiet."""
    _print(text, True, "Error: ", "bold red")


def failure(code: int, sentence: str) -> None:
    """How a call with --json ended that gives no result."""
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps({"error": {"code": code, "sentence": sentence}}, sort_keys=True) + "\n")


def result(row: Any, text: str | Table | None = None) -> None:
    """The result of a verb: `row` as JSON with --json, else `text`."""
    if out.json:
        # ASCII, so that names that are no text survive any stream.
        sys.stdout.write(json.dumps(row, sort_keys=True) + "\n")
        # Whoever reads it acts on it while the command goes on: an address to open, a stage that is done.
        sys.stdout.flush()
    elif isinstance(text, str) and not out.quiet:
        _print(text, stderr=False)
    elif text is not None and not out.quiet:
        screen(stderr=False).print(text)


def page(text: Text) -> None:
    """What was asked for by --help, as it is."""
    screen(stderr=False).print(text)


@contextmanager
def progress(done: Callable[[], int], work: Callable[[], float] | None = None) -> Iterator[Progress]:
    """Show how far a run is.

    Args:
        done: Reads the number of finished images.
        work: What these amount to, in images of mean size, where some take more than others; asked after `done`.

    Yields:
        A function that takes the total and gives a function to call now and then.
    """
    if out.quiet:
        yield silent
        return
    if not (out.progress and _shows_styles(sys.stderr) and screen(stderr=True).is_terminal):
        yield lambda total: _plain(total, _Speed(done, work))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
        console=screen(stderr=True), transient=True,
    )  # fmt: skip
    with bar:

        def start(total: int) -> Callable[[], None]:
            speed, shown = _Speed(done, work), 0.0
            # Work may go over the images more than once.
            for before in bar.task_ids:
                bar.remove_task(before)
            task = bar.add_task("images", total=total, completed=speed.done, rate="", left="")

            def show() -> None:
                nonlocal shown
                # Counting opens files: not for every image.
                if time.monotonic() - shown < _BAR_SECONDS:
                    return
                shown = time.monotonic()
                speed.look()
                bar.update(task, completed=speed.done, rate=f"{speed.rate:.1f} images/s", left=speed.left(total))

            return show

        yield start


@contextmanager
def counted() -> Iterator[Progress]:
    """Progress of work that tells each step itself: yields what takes the total and gives what is called per step."""
    done = 0

    def start_counting(total: int) -> Callable[[], None]:
        nonlocal done
        # Work may go over them more than once.
        done = 0
        show = start(total)

        def step() -> None:
            nonlocal done
            done += 1
            show()

        return step

    with progress(lambda: done) as start:
        yield start_counting


class _Speed:
    """Images a second and the time that is left, by looks at what is done."""

    def __init__(self, count: Callable[[], int], work: Callable[[], float] | None) -> None:
        self._count, self._work = count, work
        self.done, now = count(), time.monotonic()
        self._images, self._all = Pace(self.done, now), Pace(self._amount(), now)

    def _amount(self) -> float:
        return self.done if self._work is None else self._work()

    def look(self) -> None:
        """See what is done by now."""
        self.done, now = self._count(), time.monotonic()
        self._images.seen(self.done, now)
        self._all.seen(self._amount(), now)

    @property
    def rate(self) -> float:
        return self._images.rate

    def left(self, total: int) -> str:
        """In words; empty before anything tells, and at the end."""
        left = self._all.left(total)
        return f"{duration(left)} left" if left is not None and self.done < total else ""


def _plain(total: int, speed: _Speed) -> Callable[[], None]:
    begun = last = looked = time.monotonic()

    def show() -> None:
        nonlocal last, looked
        now = time.monotonic()
        due = now - last >= min(_MOST_LINE_SECONDS, max(_FIRST_LINE_SECONDS, _LINE_SHARE * (now - begun)))
        # The pace counts from the first image on, which is not to wait for a line.
        if due or (not speed.rate and now - looked >= _BAR_SECONDS):
            looked = now
            speed.look()
        if not due:
            return
        last = now
        left = speed.left(total)
        say(f"{speed.done} of {total} images, {speed.rate:.2f} images/s{', ' if left else ''}{left}")

    return show


def duration(seconds: float) -> str:
    """A time in words of at most two units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
