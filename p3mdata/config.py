"""Settings: what a run does (part of its plan) and how it is carried out (not part of it).

Precedence: flag > environment variable `P3MDATA_<NAME>` > recipe or config file > default.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, field_validator, model_validator

from p3mdata.base import console
from p3mdata.base.addresses import is_address, is_remote, location, staging_folder
from p3mdata.base.parsing import fault
from p3mdata.errors import SettingsError
from p3mdata.obfuscations import DP_EPSILON, DP_PIXELS, OBFUSCATIONS, PRESETS, Method, Obfuscation, Preset
from p3mdata.records import Decision
from p3mdata.typing import Json

__all__ = [
    "DP_EPSILON",
    "DP_PIXELS",
    "ENVIRONMENT_PREFIX",
    "MAX_PIXELS",
    "OBFUSCATIONS",
    "OF_A_PICTURE",
    "OLD_NAMES",
    "TOLERANCE",
    "Area",
    "Boundary",
    "Execution",
    "Executor",
    "Folder",
    "Format",
    "Job",
    "JpegMode",
    "Method",
    "Names",
    "Obfuscation",
    "Preset",
    "Settings",
    "exact_jpeg_is_possible",
    "resolve",
]

# Levels of 255 that a matte may lack to 0 or to its maximum and still be pure: networks leave that much in large parts.
TOLERANCE = 5
# Larger pictures are refused unless settings allow them: a small file can hold a picture that fills the memory.
MAX_PIXELS = 200_000_000
ENVIRONMENT_PREFIX = "P3MDATA_"


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


# Settings that had another name until 0.3; files, environments and calls may still use it.
OLD_NAMES = {"shard": "task"}


class Executor(str, Enum):
    """Who does the shards: processes of this machine, or actors on a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


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


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(_Strict):
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


class Execution(_Strict):
    """How a run is carried out; but for the ids, which follow the secret, nothing here changes a byte of the result."""

    workers: int = Field(0, ge=0, description="worker processes; 0 = as many as cores and memory allow")
    limit: int | None = Field(None, ge=1, description="take only the first N source files")
    files: Path | None = Field(None, description="take only the source files of this list, one path below SRC per line")
    secret_file: Path | None = Field(
        None, description="private/secret of another run, so that equal photographs get equal ids; absent = a new one"
    )
    overwrite: bool = Field(False, description="delete an earlier run in OUT first; its secret, and so its ids, stay")
    task: str | None = Field(
        None, description="K/N: do task K of N (from 1) of a run that N calls on one or many machines share"
    )

    executor: Executor = Field(Executor.LOCAL, description="local processes, or ray: actors on the nodes of a cluster")
    address: str | None = Field(
        None, description="with --executor ray: the cluster; absent = RAY_ADDRESS, or this machine"
    )

    @field_validator("task")
    @classmethod
    def _is_a_task(cls, value: str | None) -> str | None:
        number, _, of = (value or "1/1").partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ValueError("must be K/N with K from 1 to N, such as 3/8")
        return value

    @property
    def task_number(self) -> tuple[int, int] | None:
        """Number of the task, from 1, and how many there are; None when this call does the whole run."""
        if self.task is None:
            return None
        number, _, of = self.task.partition("/")
        return int(number), int(of)


def _local_or_remote(value: Any, check: Callable[[Any], Any]) -> Any:
    there = location(value)
    return there if is_remote(there) else check(there)


# A local path, or an address such as s3://bucket/photos.
Folder = Annotated[Path, WrapValidator(_local_or_remote)]


class Job(_Strict):
    """One `anonymize` stage: a source folder, its companions, where to, and the settings.

    Attributes:
        chosen: Paths below the source folder that are taken, where single files were named; empty takes all.
        out: The run folder; given an address, the folder of this machine in which the run is staged.
        store: The run's address in an object store; None when the run is `out`.
    """

    source: Folder
    out: Path
    alphas: Folder | None = None
    trimaps: Folder | None = None
    masks: Folder | None = None
    settings: Settings = Settings()
    execution: Execution = Execution()
    store: Folder | None = None
    chosen: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _staged(cls, values: Any) -> Any:
        """An OUT that is an address becomes `store`."""
        if not isinstance(values, dict) or not is_address(values.get("out", "")):
            return values
        there = location(str(values["out"]).rstrip("/"))
        if not is_remote(there):
            return {**values, "out": there}
        task = getattr(values.get("execution"), "task", None)
        return {**values, "store": there, "out": staging_folder(there, task)}

    @property
    def place(self) -> Path:
        """Where the run lies for its user: a folder or an address."""
        return self.out if self.store is None else self.store


def _from_environment(environment: Mapping[str, str], fields: Iterable[str]) -> dict[str, str]:
    return {
        name: environment[ENVIRONMENT_PREFIX + name.upper()]
        for name in fields
        if ENVIRONMENT_PREFIX + name.upper() in environment
    }


def _renamed(values: Mapping[str, Any], where: str) -> Json:
    """Values under today's names of their settings."""
    renamed = dict(values)
    for old, new in OLD_NAMES.items():
        if old in renamed:
            if new in renamed:
                raise SettingsError(f"{where}: '{old}' is the old name of '{new}'; give only '{new}'.")
            renamed[new] = renamed.pop(old)
    return renamed


def resolve(
    flags: Mapping[str, Any],
    file: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    where: str = "settings",
) -> tuple[Settings, Execution]:
    """Merge flags, environment and file into settings; a flag that is None was not given.

    Raises:
        SettingsError: A key is unknown or a value is out of range; the sentence names it.
    """
    environment = os.environ if environment is None else environment
    given = {k: v for k, v in flags.items() if v is not None}
    merged = _renamed(file or {}, where)
    names = [*Settings.model_fields, *Execution.model_fields, *OLD_NAMES]
    merged |= _renamed(_from_environment(environment, names), where)
    merged |= _renamed(given, where)
    known = {**Settings.model_fields, **Execution.model_fields}
    if unknown := [key for key in merged if key not in known]:
        listed = ", ".join(sorted(known))
        raise SettingsError(f"{where}: unknown setting '{unknown[0]}'. Known settings: {listed}.")
    execution = {k: merged.pop(k) for k in list(merged) if k in Execution.model_fields}
    asked = "jpeg" in merged
    try:
        settings, how = Settings(**merged), Execution(**execution)
    except ValidationError as exc:
        raise SettingsError(f"{where}: {fault(exc)}.") from exc
    if settings.privacy() is None and (unused := next((k for k in ("epsilon", "dp_pixels") if k in merged), None)):
        raise SettingsError(f"{where}: {unused} goes with method dp-pix. Give --method dp-pix, or leave it out.")
    return _as_possible(settings, asked, where), how


def exact_jpeg_is_possible() -> bool:
    """Whether the library is there that edits blocks of JPEG files; it has no package for some systems."""
    return importlib.util.find_spec("jpeglib") is not None


def _as_possible(settings: Settings, asked: bool, where: str) -> Settings:
    """Settings that this system can carry out: its default for JPEG sources, unless that was asked for."""
    if settings.jpeg is not JpegMode.EXACT or settings.format is not Format.KEEP or exact_jpeg_is_possible():
        return settings
    if asked:
        raise SettingsError(
            f"{where}: jpeg 'exact' needs jpeglib, which is not installed here. Use --format png, which is exact to "
            "the pixel, or --jpeg reencode."
        )
    console.say(
        "jpeglib is not installed here: JPEG pictures are encoded as a whole (--jpeg reencode). --format png keeps "
        "every pixel outside the masks."
    )
    return settings.model_copy(update={"jpeg": JpegMode.REENCODE})
