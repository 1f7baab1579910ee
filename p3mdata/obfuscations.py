"""How faces are made unrecognisable: methods, presets, what is said of each. `anonymize.obfuscate` carries them out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Method(str, Enum):
    """How the adjusted private area is made unrecognisable."""

    BLUR = "blur"
    MOSAIC = "mosaic"
    ZERO = "zero"
    FLAT = "flat"
    PIXELISE_THEN_BLUR = "pixelise-then-blur"
    DP_PIX = "dp-pix"


class Preset(str, Enum):
    """Named pairs of method and strength."""

    P3M = "p3m"
    YANG = "yang"
    MAX = "max"


# Blur: standard deviation as a share of the face's width; mosaic: side of a cell. Yang et al. 2021 use 10 %.
PRESETS = {Preset.P3M: (Method.BLUR, 0.25), Preset.YANG: (Method.BLUR, 0.10), Preset.MAX: (Method.ZERO, 1.0)}


@dataclass(frozen=True)
class Obfuscation:
    """What is said of a method, and its default.

    Attributes:
        strength: Default, a share of each face's width.
        report, card: Words for a run's report and for dataset cards; {strength:g} is the strength in percent,
            {epsilon:g} and {m} are those of dp-pix.
        folder: Stands for {obfuscated} in the layouts of datasets.
        traced: How its faces are called where they keep traces of who they were; None where nothing is left.
    """

    strength: float
    report: str
    card: str
    folder: str
    traced: str | None


# Fan 2018 keeps pictures alike that differ in 16 pixels.
DP_EPSILON, DP_PIXELS = 1.0, 16
_DP_PIX = (
    "mosaic with cells as wide as {strength:g}% of each face's width and Laplace noise (differentially private "
    "pixelisation, epsilon {epsilon:g} for pictures that differ in {m} pixels of a face 100 px wide)"
)

OBFUSCATIONS = {
    Method.BLUR: Obfuscation(
        strength=0.25,
        report="Gaussian blur with a standard deviation of {strength:g}% of each face's width",
        card="Gaussian blur with a standard deviation of {strength:g}% of each face's width",
        folder="blurred",
        traced="Blurred",
    ),
    Method.MOSAIC: Obfuscation(
        strength=0.2,
        report="mosaic with cells as wide as {strength:g}% of each face's width",
        card="a mosaic with cells as wide as {strength:g}% of each face's width",
        folder="mosaic",
        traced="Mosaicked",
    ),
    Method.ZERO: Obfuscation(
        strength=1.0, report="everything inside the masks is black", card="black", folder="zero", traced=None
    ),
    Method.FLAT: Obfuscation(
        strength=1.0,
        report="each face is filled with its mean colour",
        card="the face's mean colour",
        folder="flat",
        # A tone of skin is no identity.
        traced=None,
    ),
    Method.PIXELISE_THEN_BLUR: Obfuscation(
        strength=0.33,
        report="mosaic with cells as wide as {strength:g}% of each face's width, blurred until no cell has an edge",
        card="a blurred mosaic with cells as wide as {strength:g}% of each face's width",
        folder="pixelise-then-blur",
        traced="Mosaicked and blurred",
    ),
    Method.DP_PIX: Obfuscation(
        strength=0.2,
        report=_DP_PIX,
        card=f"a {_DP_PIX}",
        folder="dp-pix",
        traced="Noisily mosaicked",
    ),
}
