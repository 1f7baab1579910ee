"""What a face is turned into for the audit: as it is, as released, attacked, and at every strength to choose from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from p3mdata.audit.measures import People, Vectors, rank1
from p3mdata.audit.portraits import Portrait
from p3mdata.config import Method
from p3mdata.run.audit import SweepPoint

Pixels = NDArray[np.uint8]
View = str | tuple[Method, float]

CLEAR, RELEASED, DECONVOLVED = "clear", "released", "deconvolved"
ZERO = (Method.ZERO, 1.0)
# Shares of each face's width: standard deviation of the blur, side of a mosaic cell.
BLUR_STRENGTHS = (0.02, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30)
MOSAIC_STRENGTHS = (1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 5, 1 / 4, 1 / 3)
# The other methods; dp-pix with its usual epsilon.
OTHERS = (
    *((Method.PIXELISE_THEN_BLUR, strength) for strength in (0.2, 0.33, 0.5)),
    *((Method.DP_PIX, strength) for strength in (0.1, 0.2)),
    (Method.FLAT, 1.0),
)


def settings_to_try(
    blur: Sequence[float], mosaic: Sequence[float], others: Sequence[tuple[Method, float]] = ()
) -> list[tuple[Method, float]]:
    """All settings of the sweep, weakest first within blur and mosaic."""
    return [*((Method.BLUR, s) for s in sorted(blur)), *((Method.MOSAIC, s) for s in sorted(mosaic)), *others, ZERO]


def views(
    portrait: Portrait, used: tuple[Method, float], tried: Sequence[tuple[Method, float]]
) -> Iterator[tuple[View, Pixels]]:
    """Every aligned face to embed, one at a time: its name and CHIP x CHIP x 3 pixels.

    Args:
        portrait: The face.
        used: Method and strength of the run.
        tried: The settings of the sweep.
    """
    method, strength = used
    yield CLEAR, portrait.aligned(portrait.clear)
    yield RELEASED, portrait.aligned(portrait.released)
    if method is Method.BLUR:
        yield DECONVOLVED, portrait.aligned(portrait.deconvolved(portrait.released, strength))
    for setting in tried:
        yield setting, portrait.aligned(portrait.obfuscated(*setting))


def points(
    vectors: Mapping[View, Vectors], people: People, tried: Sequence[tuple[Method, float]]
) -> tuple[SweepPoint, ...]:
    """Rank-1 rates of every setting: against clear photographs, and against ones anonymized alike."""
    return tuple(
        SweepPoint(
            setting[0],
            round(setting[1], 4),
            rank1(vectors[setting], vectors[CLEAR], people),
            rank1(vectors[setting], vectors[setting], people),
        )
        for setting in tried
    )
