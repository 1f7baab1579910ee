"""What second looks found that had been left bare: a log beside that of decisions, of which an image's last row counts.

Like a decision it belongs to its sample, so that it enters the digest by which a run knows what is done: nothing that
goes on with the run releases the picture again as it was.
"""

from __future__ import annotations

from pathlib import Path

from p3mdata.base.jsonl import append_row, read_rows
from p3mdata.base.parsing import fault
from p3mdata.errors import RunFolderError
from p3mdata.records import Suspect
from p3mdata.run.layout import SUSPECTS
from p3mdata.typing import Json

_WAY_OUT = "Restore it from a copy: without it faces that were found would be released."


def read_suspects(out: Path) -> dict[str, tuple[Suspect, ...]]:
    """All suspects of a run, by id.

    Raises:
        RunFolderError: The log is damaged.
    """
    found = {}
    for row in read_rows(out / SUSPECTS, torn_tail=True, way_out=_WAY_OUT):
        try:
            found[str(row["id"])] = tuple(Suspect.from_json(suspect) for suspect in row["suspects"])
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise RunFolderError(
                f"{out / SUSPECTS}: holds a row that is no finding ({fault(exc)}). {_WAY_OUT}"
            ) from exc
    return found


def append_suspects(out: Path, identity: str, suspects: tuple[Suspect, ...]) -> None:
    """Write all suspects of an image to the log and wait until they are on disk."""
    append_row(out / SUSPECTS, _row(identity, suspects))


def _row(identity: str, suspects: tuple[Suspect, ...]) -> Json:
    return {"id": identity, "suspects": [suspect.to_json() for suspect in suspects]}
