"""Every failure a user can meet: one sentence that names the file and the way out, and one exit code.

Exit codes: 0 all released; 1 a bug; 2 usage or settings; 3 done, but items are broken or need review;
4 a proof failed; 5 an object store failed (a later call resumes); 130 interrupted (a second call resumes).
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_HELD_BACK = 3
EXIT_PROOF_FAILED = 4
EXIT_STORE = 5
EXIT_INTERRUPTED = 130

MAKE_ROOM = "Make room or change permissions, then run the same command again."
OTHER_PLACE = "Choose another place."


class P3MError(Exception):
    """Base of all errors with a sentence for the user; `exit_code` is what the command line returns."""

    exit_code = EXIT_USAGE


class SettingsError(P3MError):
    """A setting, recipe or environment variable that cannot be used."""


class RunFolderError(P3MError):
    """A run folder that is foreign, unwritable, or was made with other settings."""


class StoreError(RunFolderError):
    """An object store cannot be reached, or refuses; what was done so far is there."""

    exit_code = EXIT_STORE


class SetupError(P3MError):
    """A library or model file is missing or is not the one this version was checked with."""


class Interrupted(P3MError):
    """The run was stopped from outside; everything finished so far is kept."""

    exit_code = EXIT_INTERRUPTED


def start_anew(out: object) -> str:
    """The way out of a damaged plan; nobody's decisions are lost by it."""
    return (
        "Restore it from a copy, or start again in another OUT; what reviewers decided carries over with "
        f"'p3mdata review NEW --apply {out}/private/decisions.jsonl'."
    )


def unwritable(
    place: object, why: OSError | str, way_out: str = MAKE_ROOM, kind: type[P3MError] = RunFolderError
) -> P3MError:
    """The error of a place that cannot be written, to be raised from the system's own.

    Args:
        place: What cannot be written, as its user knows it.
        why: The system's error, or its reason.
        way_out: What to do about it.
        kind: Class of the error.
    """
    reason = why if isinstance(why, str) else why.strerror or why
    return kind(f"{place}: cannot be written ({reason}). {way_out}")


def reason_of(error: Exception) -> str:
    """Why a file cannot be read, for a sentence that names it: without the system's number and without the path."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    return getattr(error, "strerror", None) or str(error)


def not_finished(run: object) -> RunFolderError:
    """The error of a run that misses outcomes or its closing files."""
    return RunFolderError(f"{run}: the run is not finished. Run 'p3mdata anonymize dir' again to finish it.")


def deleted_meanwhile(run: object) -> RunFolderError:
    """The error of a run folder that was deleted under a command: made again it would be a run without a plan."""
    return RunFolderError(f"{run}: was deleted while this command was at work. It is not made again.")


class BrokenInput(Exception):
    """One input file cannot be used. It ends as outcome `broken` with this reason; the run goes on.

    Args:
        code: A short stable name for the reason, for counting.
        sentence: What is wrong with the file and what to do, without the file's name.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
