"""The steps one by one: each keeps its products in private/stages until `verify` releases them."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path

from p3mdata.anonymize.areas import mask
from p3mdata.anonymize.inputs import Inputs, load
from p3mdata.anonymize.pipeline import Anonymized, anonymize, detect, render
from p3mdata.base.files import write_atomic
from p3mdata.base.jsonl import PRIVATE_MODE, dumps, read_json
from p3mdata.config import Job
from p3mdata.errors import P3MError, RunFolderError
from p3mdata.faces.ensemble import Detection, FaceFinder
from p3mdata.records import Sample
from p3mdata.run.inputs import inputs_digest, read_inputs
from p3mdata.run.layout import stages_folder
from p3mdata.run.room import room_for


class Stage(str, Enum):
    """What to do with each image: everything in one pass, or one step of it."""

    ALL = "anonymize"
    DETECT = "detect"
    MASK = "mask"
    OBFUSCATE = "obfuscate"
    VERIFY = "verify"

    @property
    def publishes(self) -> bool:
        """Whether images reach their outcome in this stage."""
        return self in (Stage.ALL, Stage.VERIFY)

    @property
    def looks(self) -> bool:
        """Whether it needs the models."""
        return self not in (Stage.MASK, Stage.OBFUSCATE)


_PRODUCTS = {Stage.DETECT: "detect.json", Stage.MASK: "mask.png", Stage.OBFUSCATE: "image"}


def _stage_path(out: Path, sample: Sample, suffix: str) -> Path:
    # Other inputs, other names: a hand-drawn mask that is added makes earlier products count no more.
    return stages_folder(out) / f"{sample.id}.{inputs_digest(sample)[:12]}.{suffix}"


def run_stage(sample: Sample, job: Job, finder: Callable[[], FaceFinder], stage: Stage, crashing: bool = False) -> None:
    """One step that does not publish; its product waits under private/stages.

    A fault of one image stops nothing: it leaves a mark, and the stage that publishes finds out and records why.
    """
    path, failed = (_stage_path(job.out, sample, suffix) for suffix in (_PRODUCTS[stage], "failed"))
    if stage is Stage.DETECT and not crashing:
        failed.unlink(missing_ok=True)
    if path.exists() or failed.exists():
        return
    try:
        data = None if crashing else _product(sample, job, finder, stage)
    except P3MError:
        raise
    except Exception:
        data = None
    write_atomic(failed if data is None else path, data or b"", PRIVATE_MODE)


def _product(sample: Sample, job: Job, finder: Callable[[], FaceFinder], stage: Stage) -> bytes:
    inputs = read_inputs(sample, job)
    with room_for(inputs.photo, job):
        return _made(sample, job, inputs, finder, stage)


def _made(sample: Sample, job: Job, inputs: Inputs, finder: Callable[[], FaceFinder], stage: Stage) -> bytes:
    loaded = load(inputs, job.settings)
    if stage is Stage.DETECT:
        return dumps(detect(loaded, finder()).to_json()).encode()
    masked = mask(loaded, _load_detection(job.out, sample), job.settings)
    facemask = masked.facemask_file()
    if stage is Stage.MASK:
        return facemask
    drawn = _stage_path(job.out, sample, _PRODUCTS[Stage.MASK])
    if not drawn.exists():
        raise RunFolderError(f"{job.out}: {sample.source} has no mask yet. Run 'p3mdata mask' first.")
    _refuse_edited(drawn, facemask, "Give own masks with --masks; delete it and run 'p3mdata mask'.")
    return render(loaded, masked, job.settings)[0]


def _load_detection(out: Path, sample: Sample) -> Detection:
    path = _stage_path(out, sample, _PRODUCTS[Stage.DETECT])
    if not path.exists():
        raise RunFolderError(f"{out}: nothing is detected for {sample.source} yet. Run 'p3mdata detect' first.")
    return Detection.from_json(read_json(path))


def _refuse_edited(path: Path, expected: bytes, way_out: str) -> None:
    if path.read_bytes() != expected:
        raise RunFolderError(f"{path}: was edited. {way_out}")


def anonymize_staged(
    sample: Sample, job: Job, inputs: Inputs, finder: FaceFinder, tick: Callable[[str], None]
) -> Anonymized:
    """Prove and release what the earlier stages made; what they could not make gets the full pass."""
    path = _stage_path(job.out, sample, _PRODUCTS[Stage.OBFUSCATE])
    detection = _load_detection(job.out, sample) if path.exists() else None
    done = anonymize(sample, inputs, job.settings, finder, detection, tick=tick)
    if detection and "images" in done.files:
        _refuse_edited(path, done.files["images"][1], "Delete it and run 'p3mdata obfuscate'.")
    return done
