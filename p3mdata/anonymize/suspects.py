"""What a second look found on a picture: hidden like any face, and a doubt until a person says what it is."""

from __future__ import annotations

from p3mdata.anonymize.inputs import Loaded
from p3mdata.records import Action, Doubt, Face


def suspected(loaded: Loaded) -> list[Face]:
    """The faces of a second look that nobody called none: the run's own detectors do not see them."""
    return [suspect.face for suspect in loaded.suspects if not suspect.is_none(loaded.decision)]


def suspect_doubts(loaded: Loaded) -> list[Doubt]:
    """Doubts about them, but where a person has decided since.

    Who drew a mask since is asked whether it leaves one of them bare, as about any face.
    """
    decision = loaded.decision
    doubts = []
    for suspect in loaded.suspects:
        doubt = suspect.doubt()
        if suspect.is_none(decision):
            continue
        said = decision if suspect.settled_by(decision) else None
        if said is None or not (said.action is Action.MASK or said.overrules(doubt)):
            doubts.append(doubt)
    return doubts
