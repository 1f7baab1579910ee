"""What a run does to every image: part of its plan."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from p3mdata.base.parsing import fault
from p3mdata.errors import SettingsError
from p3mdata.obfuscations import DP_EPSILON, DP_PIXELS, OBFUSCATIONS, PRESETS, Method, Preset
from p3mdata.records import Decision

# Levels of 255 that a matte may lack to 0 or to its maximum and still be pure: networks leave that much in large parts.
TOLERANCE = 5
# Larger pictures are refused unless settings allow them: a small file can hold a picture that fills the memory.
MAX_PIXELS = 200_000_000


class Area(str, Enum):
    """How much of the head is private: the paper's area, with forehead, or the whole head."""

    P3M = "p3m"
    OVAL = "oval"
    HEAD = "head"


class Boundary(str, Enum):
    """What happens where a face reaches the matte's edge.

    `paper` keeps the transition area; `recomposite` obfuscates the face's layer up to the silhouette and keeps the
    matte; `auto` does so for faces of which the paper's rule would leave an eye, the nose or the mouth bare.
    """

    PAPER = "paper"
    RECOMPOSITE = "recomposite"
    AUTO = "auto"


class Format(str, Enum):
    """File format of the released images."""

    KEEP = "keep"
    JPG = "jpg"
    PNG = "png"
    WEBP = "webp"


class Names(str, Enum):
    """What released files are called: by ids that say nothing of their sources, or as their sources are."""

    ID = "id"
    KEEP = "keep"


class JpegMode(str, Enum):
    """`exact` rewrites only the blocks under the mask; `reencode` compresses the whole picture again.

    Where jpeglib is missing, `resolve` makes `reencode` the default, so that plan and rows tell what was done.
    """

    EXACT = "exact"
    REENCODE = "reencode"


# Settings that a person may change for one picture.
OF_A_PICTURE = frozenset(
    {
        "boundary",
        "transition_width",
        "alpha_tolerance",
        "area",
        "method",
        "preset",
        "strength",
        "epsilon",
        "dp_pixels",
        "format",
    }
)


class Strict(BaseModel):
    """A record that is read from flags, environment or file: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Strict):
    """What a run does to every image. Two runs with equal settings and sources give equal bytes."""

    method: Method | None = Field(
        None,
        description="blur, mosaic, zero, flat (one colour), pixelise-then-blur or dp-pix (mosaic with noise); "
        "the preset decides when absent",
    )
    preset: Preset = Field(Preset.P3M, description="p3m (blur of 0.25), yang (weaker blur) or max (zero mask)")
    strength: float | None = Field(
        None, ge=0.05, le=1, description="share of each face's width: blur sigma, or side of a mosaic cell"
    )
    # Without a default value, so that runs of before can go on.
    epsilon: float | None = Field(
        None, gt=0, le=100, description=f"dp-pix: privacy budget, smaller hides more [default: {DP_EPSILON:g}]"
    )
    dp_pixels: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="dp-pix: pixels (m) of a face 100 px wide in which pictures may differ without being told apart "
        f"[default: {DP_PIXELS}]",
    )
    area: Area = Field(Area.P3M, description="p3m (brows to jaw), oval (with forehead) or head")
    boundary: Boundary = Field(
        Boundary.AUTO,
        description="faces at the matte's edge: paper (the band stays bare), recomposite (hidden up to the silhouette, "
        "the matte stays true) or auto (only where the band would leave an eye, nose or mouth bare)",
    )
    transition_width: float = Field(
        0.02,
        ge=0,
        le=0.2,
        description="width of the band around the matte's edge, as a share of the shorter side; 0 = the matte's own "
        "unknown pixels",
    )
    alpha_tolerance: int = Field(
        TOLERANCE, ge=0, le=60, description="levels of 255 that a matte may lack to 0 or to full and still be pure"
    )
    format: Format = Field(Format.KEEP, description="format of released images")
    quality: int | None = Field(None, ge=1, le=100, description="quality of re-encoded JPEG; absent = as the source")
    jpeg: JpegMode = Field(JpegMode.EXACT, description="exact (only masked blocks change) or reencode (faster)")
    min_side: int = Field(0, ge=0, description="exclude images with a shorter side below this many pixels")
    max_pixels: int = Field(
        MAX_PIXELS,
        gt=0,
        description="refuse larger images (decompression bombs); one of this size takes 4.8 to 8 GB of memory",
    )
    trust_no_face: bool = Field(False, description="release images in which no detector sees any face")
    recursive: bool = Field(True, description="look into subfolders")
    names: Names = Field(
        Names.ID,
        description="names of released files: id (say nothing of the source) or keep (the sources' own names and "
        "subfolders, which may identify people)",
    )
    seed: int = Field(0, ge=0, description="draws another random sample and, with the run's secret, other ids")

    @field_validator("quality", mode="before")
    @classmethod
    def _keep(cls, value: Any) -> Any:
        return None if value == "keep" else value

    def decided(self, decision: Decision | None) -> Settings:
        """These settings with those that a person chose for one picture.

        Raises:
            SettingsError: They are no settings of one picture, or out of range.
        """
        if decision is None or not decision.settings:
            return self
        if unknown := sorted(decision.settings.keys() - OF_A_PICTURE):
            raise SettingsError(
                f"'{unknown[0]}' cannot be set for one picture. Known are: {', '.join(sorted(OF_A_PICTURE))}."
            )
        try:
            return Settings(**{**self.model_dump(), **decision.settings})
        except ValidationError as exc:
            raise SettingsError(f"settings of a decision: {fault(exc)}.") from exc

    def obfuscation(self) -> tuple[Method, float]:
        """Method and strength after the preset."""
        method, strength = PRESETS[self.preset]
        if self.method is not None and self.method is not method:
            method, strength = self.method, OBFUSCATIONS[self.method].strength
        return method, self.strength if self.strength is not None else strength

    def privacy(self) -> tuple[float, int] | None:
        """Epsilon and m of dp-pix; None for methods without noise."""
        if self.obfuscation()[0] is not Method.DP_PIX:
            return None
        return self.epsilon or DP_EPSILON, self.dp_pixels or DP_PIXELS

    def named(self) -> str:
        """Method and parameters as records have them: 'blur 0.25', 'dp-pix 0.2 epsilon 1 m 16'."""
        method, strength = self.obfuscation()
        noise = self.privacy()
        return f"{method.value} {strength:g}" + (f" epsilon {noise[0]:g} m {noise[1]}" if noise else "")

    def in_words(self, where: Literal["report", "card"]) -> str:
        """The same for a run's report, or for dataset cards."""
        method, strength = self.obfuscation()
        epsilon, m = self.privacy() or (0, 0)
        words: str = getattr(OBFUSCATIONS[method], where)
        return words.format(strength=100 * strength, epsilon=epsilon, m=m)
