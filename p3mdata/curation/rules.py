"""Which pictures a data set keeps: the paper's collection rules, with a reason for each picture that is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from p3mdata.curation.fingerprints import NEAR
from p3mdata.curation.scan import Look
from p3mdata.records import ImageResult


class Rules(BaseModel):
    """What is asked of a picture. Those that fail a rule are rejected; blur and light only warn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_side: int = Field(1080, ge=0, description="reject pictures with a side below this many pixels")
    min_person: float = Field(0.05, ge=0, le=1, description="smallest share of the picture that the matte must cover")
    max_person: float = Field(0.95, ge=0, le=1, description="largest share of the picture that the matte may cover")
    min_face: float = Field(0.002, ge=0, le=1, description="without a matte: smallest share that the faces must cover")
    near_duplicates: bool = Field(
        True, description="keep one of resized, cropped, mirrored copies too, not of equal files only"
    )
    distance: float = Field(NEAR, gt=0, le=0.1, description="distance up to which two pictures are near duplicates")
    max_blur: float = Field(2.0, gt=0, description="warn of more blur: pixels, at a shorter side of 1080")
    min_light: int = Field(60, ge=0, le=255, description="warn when 95 % of the person is darker than this level")
    max_light: int = Field(190, ge=0, le=255, description="warn when 95 % of the person is brighter than this level")


@dataclass(frozen=True)
class Remark:
    """A stable code and a sentence that follows the file's name."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Entry:
    """What was decided about one file: kept when `rejected` is None; warnings reject nothing."""

    source: str
    rejected: Remark | None
    warnings: tuple[Remark, ...] = ()


def _face_share(row: ImageResult, width: int, height: int) -> float:
    """Share of the picture inside the boxes of its faces; where boxes overlap it counts twice."""
    total = 0.0
    for face in row.faces:
        left, top, right, bottom = face.box
        total += max(0.0, min(right, width) - max(left, 0.0)) * max(0.0, min(bottom, height) - max(top, 0.0))
    return total / (width * height)


def _fault(name: str, look: Look, row: ImageResult | None, rules: Rules) -> Remark | None:
    """The first rule that a picture fails on its own."""
    if "\n" in name or "\r" in name:
        return Remark("line_break_in_name", "has a line break in its name, which no list of names can hold. Rename it.")
    if look.problem is not None:
        return Remark(*look.problem)
    mark = look.fingerprint
    assert mark is not None
    if min(mark.width, mark.height) < rules.min_side:
        return Remark("too_small", f"is {mark.width}x{mark.height}; both sides must have {rules.min_side} pixels.")
    if look.person is not None:
        shown = f"a person covers {look.person:.1%} of it by its matte"
        if look.person < rules.min_person:
            return Remark("person_too_small", f"{shown}, less than {rules.min_person:.1%}.")
        if look.person > rules.max_person:
            return Remark("person_too_large", f"{shown}, more than {rules.max_person:.1%}.")
    elif row is not None:
        if not row.faces and rules.min_face > 0:
            return Remark("no_person", "has no face that was found, and no matte that tells of a person.")
        share = _face_share(row, mark.width, mark.height)
        if share < rules.min_face:
            return Remark("face_too_small", f"has faces on {share:.2%} of it, less than {rules.min_face:.2%}.")
    return None


def _warnings(look: Look, rules: Rules) -> tuple[Remark, ...]:
    found = []
    if look.blur is not None and look.blur > rules.max_blur:
        found.append(Remark("blurred", f"its sharpest edges are {look.blur:g} px soft, more than {rules.max_blur:g}."))
    if look.light is not None:
        low, high = look.light
        if high < rules.min_light:
            found.append(Remark("dark", f"95 % of it is darker than level {high + 1} of 255."))
        if low > rules.max_light:
            found.append(Remark("bright", f"95 % of it is brighter than level {low - 1} of 255."))
    return tuple(found)


def rank(name: str, look: Look) -> tuple[int, int, int, str]:
    """Sorts the best of some copies first: the most pixels, then the least blur, then the largest file, then the path.

    Blur counts in half pixels: below that, the blocks of a strong compression look sharper than what they destroyed.
    """
    mark = look.fingerprint
    assert mark is not None
    return -mark.width * mark.height, round(2 * (look.blur or 0)), -mark.size, name


def curate(
    names: Sequence[str],
    looks: Sequence[Look],
    clusters: Sequence[Sequence[int]],
    rules: Rules,
    rows: Sequence[ImageResult | None] | None = None,
) -> list[Entry]:
    """Decide about every file. A picture that another rule rejects does not make its copies duplicates.

    Args:
        names: Paths relative to their folder.
        looks: What was seen of each.
        clusters: Copies, as indices, see `clusters.cluster`.
        rules: What is asked.
        rows: What a run found about each, for its faces; None where it was not in the run.

    Returns:
        One entry per file, in the order given.
    """
    given = rows or [None] * len(names)
    faults = [_fault(*args, rules) for args in zip(names, looks, given, strict=True)]
    for members in clusters:
        left = sorted((i for i in members if faults[i] is None), key=lambda i: rank(names[i], looks[i]))
        for i in left[1:]:
            faults[i] = _copy_of(looks[i], names[left[0]], looks[left[0]])
    return [Entry(name, fault, _warnings(look, rules)) for name, look, fault in zip(names, looks, faults, strict=True)]


def _copy_of(look: Look, kept: str, best: Look) -> Remark:
    assert look.fingerprint is not None and best.fingerprint is not None
    if look.fingerprint.sha256 == best.fingerprint.sha256:
        return Remark("exact_duplicate", f"is the same file as {kept}, which is kept.")
    return Remark("near_duplicate", f"is the same photograph as {kept}, which is kept.")
