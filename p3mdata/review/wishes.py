"""A decision as the review page sends it, read before anything is done."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from p3mdata.records import XYXY, Action
from p3mdata.review.session import Refused
from p3mdata.typing import Json

_ACTIONS = {action.value: action for action in Action if action is not Action.REMOVE}


@dataclass(frozen=True)
class Wish:
    """What a person decided on the page; see `Session.decide`.

    Attributes:
        action: Any but a take-down.
        version: Number of decisions that the person knew of.
        settings: Of this picture.
        dropped: Boxes that are no faces.
        basis: On what ground faces may be shown.
        mask: A PNG as it came, or what else came in its place; empty without one.
        keep_transition: Only with a mask.
        confirmed: Release although detectors see a face.
    """

    action: Action
    version: int
    settings: Json
    dropped: tuple[XYXY, ...]
    basis: str | None
    mask: bytes
    keep_transition: bool
    confirmed: bool


def read_wish(row: Json, faces: Sequence[XYXY]) -> Wish:
    """What the page sent.

    Args:
        row: JSON.
        faces: Boxes of the picture's faces, which the page knows by number.

    Raises:
        Refused: It is no decision.
    """
    action, version = _ACTIONS.get(str(row.get("action"))), row.get("version")
    if action is None or not isinstance(version, int):
        raise Refused(f"a decision has a version, and an action of {', '.join(_ACTIONS)}")
    settings, numbers = row.get("settings") or {}, row.get("dropped") or []
    if not isinstance(settings, dict) or not isinstance(numbers, list):
        raise Refused("settings are an object, and dropped faces a list of numbers")
    if not all(type(number) is int and 0 <= number < len(faces) for number in numbers):
        raise Refused(f"a dropped face is a number from 0 to {len(faces) - 1}")
    basis = row.get("basis")
    if basis is not None and not isinstance(basis, str):
        raise Refused("a basis is a text")
    return Wish(
        action=action,
        version=version,
        settings=settings,
        dropped=tuple(faces[number] for number in numbers),
        basis=basis,
        mask=_decoded(row.get("mask")) if action is Action.MASK else b"",
        keep_transition=row.get("keep_transition") is True and action is Action.MASK,
        confirmed=row.get("confirmed") is True,
    )


def _decoded(mask: Any) -> bytes:
    try:
        return base64.b64decode(mask, validate=True) if isinstance(mask, str) else b""
    except binascii.Error:
        return b""
