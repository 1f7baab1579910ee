"""Reading README and docs: their fenced blocks, the commands in them, and what they are tested with.

A block is tried as it stands:

- `sh`: every command is run, in order, in one folder for a page; it must end with 0 or 3 (something was held back), or
  with the code with which its comment begins (`# exit 4`).
- `sh needs=WHAT`: it needs a cluster, a GPU, a store, a network, ...: its commands are parsed only, so that an option
  that does not exist fails.
- `python`: executed in that folder; `python needs=WHAT`: compiled only.
- `text output`: what the block before printed; numbers may differ.

`<!-- tested with: photos run -->` before a block begins a new folder with those things in it (see `test_docs`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^```(\S*) ?(.*)$")
_WITH = re.compile(r"^<!-- tested with:(.*)-->$")


@dataclass(frozen=True)
class Block:
    """A fenced block; `things` is None where it goes on in the folder of the block before."""

    page: str
    line: int
    language: str
    words: tuple[str, ...]
    text: str
    things: tuple[str, ...] | None

    @property
    def needs(self) -> str | None:
        """What is not there when tests run."""
        return next((word.partition("=")[2] for word in self.words if word.startswith("needs=")), None)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page for users and for who changes the code."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("[!.]*/README.md"))]


def blocks(page: Path) -> list[Block]:
    """Fenced blocks in order."""
    found: list[Block] = []
    things: tuple[str, ...] | None = None
    opened: tuple[int, str, str] | None = None
    content: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened:
            if line.strip() != "```":
                content.append(line)
                continue
            start, language, words = opened
            name = str(page.relative_to(ROOT))
            found.append(Block(name, start, language, tuple(words.split()), "\n".join(content) + "\n", things))
            opened, content, things = None, [], None
        elif fence := _FENCE.match(line.strip()):
            opened = (number, fence[1], fence[2])
        elif with_ := _WITH.match(line.strip()):
            things = tuple(with_[1].split())
    assert opened is None, f"{page}:{opened}: the block has no end"
    return found


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Command and comment of each line of a shell block; lines that end with a backslash go on."""
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        command, _, comment = line.partition(" #")
        shlex.split(command)  # its quotes are closed
        yield command.strip(), comment.strip()


def inline_commands(page: Path) -> Iterator[tuple[int, str]]:
    """Line and text of commands of ours that stand in sentences and tables."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if not fenced:
            for span in re.findall(r"`([^`]+)`", line):
                if re.match(r"(p3mdata|p3mnet) [a-z]", span) or re.match(r"--[a-z]", span):
                    yield number, span.replace("\\|", "|")


def allowed_codes(comment: str) -> set[int]:
    """Exit codes that a command's comment allows."""
    named = re.match(r"exit (\d+)", comment)
    return {int(named[1])} if named else {0, 3}
