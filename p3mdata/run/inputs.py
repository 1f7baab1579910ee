"""What an image is made from: its files read, and the digest that a finished row counts for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from p3mdata.anonymize.inputs import Inputs
from p3mdata.base.files import sha256
from p3mdata.base.ids import read_secret
from p3mdata.base.jsonl import dumps
from p3mdata.config import Job
from p3mdata.errors import BrokenInput, SettingsError
from p3mdata.imaging.listing import read_source
from p3mdata.records import Action, Decision, Sample
from p3mdata.run.layout import PRIVATE, SECRET


def inputs_digest(sample: Sample) -> str:
    """Changes when any file of a sample changes."""
    return sha256(dumps(sample.to_json()).encode("utf-8", "surrogateescape"))


def _read(path: Path, expected: str, what: str = "") -> bytes:
    subject = f"has {'an' if what[0] in 'aeiou' else 'a'} {what} that " if what else ""
    try:
        data = read_source(path)
    except OSError as exc:
        raise BrokenInput("cannot_read", f"{subject}cannot be read ({exc.strerror or exc}). Check it.") from exc
    if not expected:
        raise BrokenInput(
            "cannot_read", f"{subject}could not be read when the run was planned. Run again, without --task."
        )
    if sha256(data) != expected:
        raise BrokenInput(
            "changed",
            f"{subject}has changed since the run was planned. Put back what it was and run again, or use another OUT.",
        )
    return data


def read_inputs(sample: Sample, job: Job) -> Inputs:
    """Bytes of a sample and its companions, checked against the plan.

    Raises:
        BrokenInput: A file is unreadable, changed, ambiguous, or a matte is missing where mattes were given.
    """
    if sample.problem:
        raise BrokenInput("ambiguous_companion", sample.problem)
    photo = _read(job.source / sample.source, sample.sha256)
    found: dict[str, bytes | None] = {}
    decided = sample.decision
    if decided is not None and decided.action in (Action.NO_FACE, Action.MASK):
        sample = replace(sample, mask=decided.mask)
    drawn = job.out / PRIVATE if decided is not None and decided.action is Action.MASK else job.masks
    for what, root in (("alpha", job.alphas), ("trimap", job.trimaps), ("mask", drawn)):
        entry = getattr(sample, what)
        if root is not None and entry is not None:
            found[what] = _read(root / entry[0], entry[1], what)
        elif root is not None and what != "mask":
            raise BrokenInput(
                f"{what}_missing", f"has no {what} of its name in the folder given as --{what}s. Add it or move it out."
            )
    secret = _secret_for_noise(job, decided)
    return Inputs(photo, **found, decision=decided, secret=secret, suspects=sample.suspects)


def _secret_for_noise(job: Job, decided: Decision | None) -> bytes | None:
    """The run's secret where a picture's method draws noise from it; None where it does not, or there is none."""
    if job.settings.decided(decided).privacy() is None:
        return None
    try:
        return read_secret(job.out / SECRET).encode()
    except SettingsError:
        return None
