"""`p3mdata verify`: prove a finished run again, from its files and the sources alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p3mdata.anonymize.areas import mask
from p3mdata.anonymize.doubts import matte_is_picture
from p3mdata.anonymize.inputs import Loaded, load
from p3mdata.anonymize.masked import Masked
from p3mdata.anonymize.permission import difference, is_shown
from p3mdata.anonymize.pipeline import as_made, render
from p3mdata.anonymize.proofs import Promise, proof_doubts, prove
from p3mdata.base.files import is_torn, sha256
from p3mdata.base.jsonl import dumps
from p3mdata.base.pool import CRASH_SENTENCE, CRASHED
from p3mdata.errors import BrokenInput
from p3mdata.faces.ensemble import Detection, FaceFinder
from p3mdata.imaging import Picture, decode
from p3mdata.imaging.decode import exif_orientation, open_picture
from p3mdata.imaging.encode import encode_facemask
from p3mdata.imaging.facemask import RECOMPOSED, changed, facemask_of, is_facemask, replaced
from p3mdata.imaging.trimap import stored_plane
from p3mdata.records import ImageResult, Mask, Outcome, Sample
from p3mdata.run.inputs import read_inputs
from p3mdata.run.layout import KINDS, LEDGER, MANIFEST, PLANNING, PRIVATE, files_below, strays
from p3mdata.run.look import Looking, look_over
from p3mdata.run.plan import Plan
from p3mdata.run.planned import read_planned
from p3mdata.run.public import public_row
from p3mdata.run.receipts import WITHOUT_MASK
from p3mdata.typing import Json

# Another version of an image library may round otherwise; a clear face differs by far more.
_MOST_DEVIATION = 1 / 255
_WORTH_A_WORKER = 8


@dataclass(frozen=True)
class FailedProof:
    """One proof that failed: which released image (or file of the run), and what is wrong."""

    id: str
    code: str
    sentence: str


def check_files(plan: Plan, rows: Iterable[ImageResult]) -> Iterator[FailedProof]:
    """Counts, manifest and the set of released files, without opening any image."""
    out = plan.job.out
    expected: dict[str, set[str]] = {kind: set() for kind in KINDS}
    without_mask = []
    in_ledger, in_manifest = _Lines(out / LEDGER), _Lines(out / MANIFEST)
    for row in rows:
        in_ledger.expect(row.to_json())
        if row.outcome.released:
            in_manifest.expect(public_row(row))
            for kind, (name, _) in row.files.items():
                expected[kind].add(name)
            if not {"images", "facemasks"} <= set(row.files):
                without_mask.append(row.id)
    # Ids have a secret since 0.4; rows before it held less, in another order.
    old = "" if read_planned(out).keyed else "; it was made before 0.4: prove it with the version that made it"
    if not in_ledger.hold():
        yield FailedProof("", "ledger", f"{LEDGER} is not the list of the {plan.samples} source files' outcomes{old}")
    if not in_manifest.hold():
        yield FailedProof("", "manifest", f"{MANIFEST} is not the list of what was released{old}")
    for kind in KINDS:
        present = files_below(out / kind)
        for name in sorted(name for name in present - expected[kind] if not is_torn(Path(name).name)):
            yield FailedProof(
                name.split(".")[0], "stray_file", f"{kind}/{name} is in the release but not in the manifest"
            )
    for name in strays(out):
        if is_torn(Path(name).name) or name.startswith(f"{PRIVATE}/{PLANNING}"):
            why = f"was left by a process that was killed; 'p3mdata merge {out}' sweeps it away"
            yield FailedProof("", "torn_file", f"{name} {why}")
        else:
            yield FailedProof("", "stray_file", f"{name} is no file of a run; move it out")
    for identity in without_mask:
        yield FailedProof(identity, "no_mask", "was released without a facemask")


class _Lines:
    """Whether a file of JSON lines has exactly the rows that are expected, one after another."""

    def __init__(self, path: Path) -> None:
        self._path, self._wanted = path, hashlib.sha256()

    def expect(self, row: Json) -> None:
        self._wanted.update((dumps(row) + "\n").encode("utf-8", "surrogateescape"))

    def hold(self) -> bool:
        if not self._path.is_file():
            return False
        found = hashlib.sha256()
        with self._path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
        return found.digest() == self._wanted.digest()


def check_images(
    plan: Plan, released: Iterable[tuple[Sample, ImageResult]], number: int, workers: int = 1
) -> Iterator[list[FailedProof]]:
    """What is wrong with each of the released images, `number` of them, in their order."""
    return look_over(plan, released, number, workers, Looking(_checked, _unproved, _WORTH_A_WORKER))


def _checked(plan: Plan, sample: Sample, row: ImageResult, finder: FaceFinder) -> list[FailedProof]:
    return list(check_image(plan, sample, row, finder))


def _unproved(sample: Sample, row: ImageResult) -> list[FailedProof]:
    return [FailedProof(row.id, CRASHED, f"cannot be proved: it {CRASH_SENTENCE}")]


def check_image(plan: Plan, sample: Sample, row: ImageResult, finder: FaceFinder) -> Iterator[FailedProof]:
    """All proofs of one released image; stops at the first that makes the others meaningless."""
    contents, missing = _released_files(plan, row)
    yield from missing
    yield from _about_permission(sample, row)
    if "images" not in contents or "facemasks" not in contents:
        return
    try:
        loaded = as_made(load(read_inputs(sample, plan.job), plan.job.settings), row)
    except BrokenInput as exc:
        yield FailedProof(row.id, exc.code, f"cannot be compared with its source, which {exc.sentence}")
        return
    if _alpha_differs(loaded, contents):
        yield FailedProof(row.id, "changed_alpha", "the alpha matte differs from the source's")
    # Earlier versions published mattes that show a face in faint levels; of who may be shown, nothing is hidden.
    if not is_shown(sample.decision) and (shown := matte_is_picture(loaded, row.faces)):
        yield FailedProof(row.id, shown.code, shown.sentence)
    masked = mask(loaded, Detection(row.faces, ()), plan.job.settings, doubted=False)
    expected = facemask_of(masked.facemask, masked.recomposed)
    if expected.shape != (row.height, row.width):
        yield FailedProof(row.id, "other_size", "its row tells another size than its source has")
    facemask, failed = _released_facemask(row, contents["facemasks"], expected)
    if failed:
        yield failed
    if facemask is None:
        return
    try:
        proofs = prove(loaded.picture, contents["images"], _promise(row, facemask, masked), finder)
    except (BrokenInput, ValueError) as exc:
        yield FailedProof(row.id, "unreadable", f"the released image cannot be compared: {exc}")
        return
    differs = difference(loaded, contents["images"]) if is_shown(sample.decision) else []
    for doubt in (*proof_doubts(proofs), *differs):
        if sample.decision is not None and sample.decision.overrules(doubt):
            continue
        yield FailedProof(row.id, doubt.code, doubt.sentence)
    yield from _about_inside(row, contents["images"], render(loaded, masked, plan.job.settings)[0], facemask)
    if row.outcome not in WITHOUT_MASK and not facemask.any():
        yield FailedProof(row.id, "empty_mask", "the facemask is empty")


def _about_permission(sample: Sample, row: ImageResult) -> Iterator[FailedProof]:
    """Whether what is shown with its faces is so by permission, and what is permitted is shown."""
    shown = row.outcome is Outcome.SHOWN_BY_PERMISSION
    if shown and not (sample.decision is not None and sample.decision.permits):
        why = "nobody is recorded who permits it, or on what ground: it is shown with its faces"
        yield FailedProof(row.id, "no_permission", why)
    if is_shown(sample.decision) and not shown:
        yield FailedProof(row.id, "other_outcome", "it is to be shown by permission, and its outcome says otherwise")


def _released_facemask(
    row: ImageResult, data: bytes, expected: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8] | None, FailedProof | None]:
    """The facemask that was released, None when it is none, and what is wrong with it."""
    # The same bytes hold the same mask, and are made in a quarter of the time that reading them takes.
    if encode_facemask(expected) == data:
        return expected, None
    released = _read_facemask(data)
    if released is None or released.shape != expected.shape:
        return None, FailedProof(row.id, "bad_facemask", "the facemask is not an 8-bit mask of the image's size")
    if np.array_equal(expected, released):
        return released, None
    why = "the facemask is not the one that follows from faces and matte"
    return released, FailedProof(row.id, "other_facemask", why)


def _promise(row: ImageResult, facemask: NDArray[np.uint8], masked: Masked) -> Promise:
    """What the released image has to keep, by its facemask and its row."""
    kept = facemask == RECOMPOSED
    return Promise(
        changed(facemask),
        masked.transition,
        row.proofs is not None and row.proofs.exact,
        kept if kept.any() else None,
        masked.share,
        masked.regions,
        masked.rim,
    )


def is_intact(plan: Plan, sample: Sample, row: ImageResult, as_made: bool = False) -> bool:
    """Whether an image's released files and its inputs are, byte for byte, those that its row and the plan tell of.

    Args:
        plan, sample, row: Of the image.
        as_made: Ask besides what is not proved when an image is made: whether its alpha is that of the source, where
            this can be told without the photograph's pixels.
    """
    try:
        inputs = read_inputs(sample, plan.job)
        contents, missing = _released_files(plan, row)
        if missing or (as_made and "alphas" in contents) != (as_made and inputs.alpha is not None):
            return False
        return not as_made or inputs.alpha is None or _same_alpha(plan, inputs.photo, inputs.alpha, contents["alphas"])
    except (BrokenInput, OSError):
        return False


def _same_alpha(plan: Plan, photo: bytes, alpha: bytes, released: bytes) -> bool:
    """Whether a matte is the source's; not where it may have been turned with its photograph."""
    most = plan.job.settings.max_pixels
    if exif_orientation(open_picture(photo, most)) != 1:
        return False
    matte, source = stored_plane(released), decode(alpha, most).pixels
    return matte is not None and np.array_equal(source, matte)


def _released_files(plan: Plan, row: ImageResult) -> tuple[dict[str, bytes], list[FailedProof]]:
    """Bytes of an image's released files by kind, and which are missing or are others."""
    contents: dict[str, bytes] = {}
    failed = []
    for kind, (name, expected) in sorted(row.files.items()):
        path = plan.job.out / kind / name
        if not path.is_file():
            failed.append(FailedProof(row.id, "missing_file", f"{kind}/{name} is missing"))
            continue
        contents[kind] = path.read_bytes()
        if sha256(contents[kind]) != expected:
            failed.append(FailedProof(row.id, "changed_file", f"{kind}/{name} is not the file that was released"))
    return contents, failed


def _alpha_differs(loaded: Loaded, contents: Mapping[str, bytes]) -> bool:
    if loaded.alpha is None or "alphas" not in contents:
        return False
    alpha = stored_plane(contents["alphas"])
    return alpha is None or not np.array_equal(alpha, loaded.alpha)


def _about_inside(
    row: ImageResult, released: bytes, rendered: bytes, facemask: NDArray[np.uint8]
) -> Iterator[FailedProof]:
    """Whether what replaced the faces is what the source comes to."""
    if released == rendered:
        return
    one, other = (decode(data, max_pixels=facemask.size, by_libjpeg=True) for data in (released, rendered))
    for kind, which in (("inside the facemask", replaced(facemask)), ("a recomposed face", facemask == RECOMPOSED)):
        if _deviation(one, other, which) > _MOST_DEVIATION:
            yield FailedProof(row.id, "other_obfuscation", f"{kind} is not what obfuscating the source comes to")


def _deviation(one: Picture, other: Picture, facemask: Mask) -> float:
    """Mean difference inside the mask, as a share of the value range; of colours or opacity, whichever is larger."""
    if (one.opacity is None) != (other.opacity is None):
        return 1.0
    planes = [(one.pixels, other.pixels)]
    if one.opacity is not None and other.opacity is not None:
        planes.append((one.opacity, other.opacity))
    largest = 0.0
    for a, b in planes:
        if a.shape != b.shape or a.dtype != b.dtype:
            return 1.0
        gap = np.abs(a[facemask].astype(np.float32) - b[facemask])
        largest = max(largest, float(gap.mean()) / np.iinfo(a.dtype).max if gap.size else 0.0)
    return largest


def _read_facemask(data: bytes) -> NDArray[np.uint8] | None:
    array = stored_plane(data)
    return array if array is not None and is_facemask(array) else None
