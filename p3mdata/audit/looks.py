"""What an attacker's tools see of the faces of a run: vectors, small pictures, outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.audit import networks
from p3mdata.audit.measures import People, Vectors
from p3mdata.audit.portraits import Portrait
from p3mdata.audit.recogniser import Recogniser
from p3mdata.config import Method

Pixels = NDArray[np.uint8]
_Value = TypeVar("_Value", np.float32, np.uint8)
# What an attacker guesses who knows that it is a blur, and not how strong.
GUESSES = (0.1, 0.2, 0.4)
_OUTLINE_SIDE = 24


@dataclass(frozen=True)
class Faces:
    """Faces of the photographs that take part, as an attacker's tools see them.

    Attributes:
        people: (n,) numbers.
        groups: (n,) names, or None.
        vectors: By view (clear, hidden, floor, wiener, guess 0.1, ...): n x d of the recogniser.
        small: By view (clear, hidden, floor, wiener): n x SIDE x SIDE x 3, 8-bit.
        outline: n x d, or None.
    """

    people: People
    groups: tuple[str | None, ...] | None
    vectors: dict[str, Vectors]
    small: dict[str, Pixels]
    outline: Vectors | None = None


class Looks:
    """What an attacker's tools see of portraits that come one after the other; no portrait is kept.

    Args:
        recogniser: Gives a vector for each aligned face.
        guesses: Strengths that an attacker tries who does not know a blur's.
    """

    def __init__(self, recogniser: Recogniser, guesses: Sequence[float] = GUESSES) -> None:
        self._recogniser, self._guesses = recogniser, guesses
        # By what was done to the face (None: the same whatever was done) and view.
        self._vectors: dict[tuple[str | None, str], list[NDArray[np.float32]]] = {}
        self._small: dict[tuple[str | None, str], list[Pixels]] = {}
        self._outlines: list[NDArray[np.float32] | None] = []

    def add(self, portrait: Portrait, treated: Mapping[str, tuple[tuple[Method, float], Pixels]]) -> None:
        """Look at a portrait.

        Args:
            portrait: Of whom.
            treated: By name, how its face was obfuscated, and the window that came of it: what is attacked.
        """
        self._see(portrait, None, "clear", portrait.clear)
        self._see(portrait, None, "floor", portrait.obfuscated(Method.ZERO, 1.0))
        for name, ((method, strength), window) in treated.items():
            self._see(portrait, name, "hidden", window)
            if method is Method.BLUR:
                self._see(portrait, name, "wiener", portrait.deconvolved(window, strength))
                for guess in self._guesses:
                    self._see(portrait, name, f"guess {guess:g}", portrait.deconvolved(window, guess))
        self._outlines.append(_outline(portrait))

    def _see(self, portrait: Portrait, name: str | None, view: str, window: Pixels) -> None:
        chip = portrait.aligned(window)
        self._vectors.setdefault((name, view), []).append(self._recogniser.embed(chip))
        if view in ("clear", "hidden", "floor", "wiener"):
            side = (networks.SIDE, networks.SIDE)
            small = np.asarray(cv2.resize(chip, side, interpolation=cv2.INTER_AREA), np.uint8)
            self._small.setdefault((name, view), []).append(small)

    def faces(
        self, name: str, kept: Sequence[int], people: People, groups: tuple[str | None, ...] | None = None
    ) -> Faces:
        """What was seen of faces treated in one way; `kept` are the portraits that take part, those of `people`."""

        def of(found: dict[tuple[str | None, str], list[NDArray[_Value]]]) -> dict[str, NDArray[_Value]]:
            return {
                view: np.stack([seen[i] for i in kept]) for (own, view), seen in found.items() if own in (None, name)
            }

        outlines = [outline for i in kept if (outline := self._outlines[i]) is not None]
        return Faces(
            people=people,
            groups=groups,
            vectors=of(self._vectors),
            small=of(self._small),
            outline=np.stack(outlines) if len(outlines) == len(kept) else None,
        )


def _outline(portrait: Portrait) -> NDArray[np.float32] | None:
    """The person's silhouette around a recomposed face, as its matte tells it; None where the face is replaced."""
    share = next((region.share for region in portrait.regions if region.share is not None), None)
    if share is None:
        return None
    grey = (share.astype(np.float64) * (255 / np.iinfo(share.dtype).max)).astype(np.uint8)
    chip = portrait.aligned(np.repeat(grey[:, :, None], 3, axis=2))[:, :, 0]
    small = cv2.resize(chip, (_OUTLINE_SIDE, _OUTLINE_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small.ravel() / 255, np.float32)
