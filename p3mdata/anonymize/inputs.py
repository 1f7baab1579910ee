"""What belongs to one sample, as bytes and decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from p3mdata.anonymize.hand import drawn_area
from p3mdata.config import Format, JpegMode, Settings
from p3mdata.faces.pyramid import Pyramid
from p3mdata.imaging import Picture, decode, decode_matte
from p3mdata.records import Decision, Mask, Suspect

# Which rules make the areas of a picture with a matte; rows tell it, so that what others made is proved too. 0: as in
# 0.4. 1: `--boundary auto` leaves no rim of an eye, and a face behind the matte's person takes nothing of that person.
AREAS = 1


@dataclass(frozen=True)
class Inputs:
    """What belongs to one sample: bytes of files (None where there is none), a person's decision, and what a second
    look found.

    `secret` is that of its run, for noise; None where the run has none.
    """

    photo: bytes
    alpha: bytes | None = None
    trimap: bytes | None = None
    mask: bytes | None = None
    decision: Decision | None = None
    secret: bytes | None = field(default=None, repr=False)
    suspects: tuple[Suspect, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """Decoded inputs, all of one size and in displayed orientation. Mattes are HxW, uint8 or uint16.

    `whole_blocks` masks JPEG files as it was done in 0.4: blocks that a mask touches were obfuscated as a whole.
    `areas` is `AREAS`, or that of the rules which a picture was made by.
    """

    photo: bytes
    picture: Picture
    alpha: NDArray[Any] | None
    trimap: NDArray[Any] | None
    hand: Mask | None
    decision: Decision | None = None
    secret: bytes | None = field(default=None, repr=False)
    whole_blocks: bool = False
    suspects: tuple[Suspect, ...] = ()
    areas: int = AREAS

    @cached_property
    def seen(self) -> Pyramid:
        """The picture as detectors look at it."""
        return Pyramid(self.picture.seen8())

    @property
    def matte(self) -> NDArray[Any] | None:
        """What tells the person from the background: the matte, else the trimap."""
        return self.alpha if self.alpha is not None else self.trimap


def load(inputs: Inputs, settings: Settings) -> Loaded:
    """Decode a photo and its companions.

    Raises:
        BrokenInput: One of them cannot be used.
    """
    edited = settings.jpeg is JpegMode.EXACT and settings.quality is None
    picture = decode(
        inputs.photo, settings.max_pixels, coefficients=edited and settings.format in (Format.KEEP, Format.JPG)
    )

    def companion(data: bytes | None, what: str) -> NDArray[Any] | None:
        return None if data is None else decode_matte(data, picture, what, settings.max_pixels)

    hand = companion(inputs.mask, "mask")
    return Loaded(
        photo=inputs.photo,
        picture=picture,
        alpha=companion(inputs.alpha, "alpha"),
        trimap=companion(inputs.trimap, "trimap"),
        hand=None if hand is None else drawn_area(hand),
        decision=inputs.decision,
        secret=inputs.secret,
        suspects=inputs.suspects,
    )
