"""What `benchmarks.crashes` kills: verbs of runs and datasets with what is there before, and stand-ins for models."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.local_store import BUCKET
from p3mdata.anonymize.one_image import anonymize_file
from p3mdata.audit.advise import advise_run
from p3mdata.audit.attackers import attack_run
from p3mdata.audit.recall import recall_run
from p3mdata.audit.reidentify import audit_run
from p3mdata.base.jsonl import dumps
from p3mdata.config import Execution, Job, Method, Settings
from p3mdata.curation.folder import curate_folder, write_curation
from p3mdata.dataset.build import SplitSettings, build_split
from p3mdata.dataset.layout import read_layout
from p3mdata.export import export
from p3mdata.faces import ensemble, models
from p3mdata.faces.detectors import Box
from p3mdata.faces.ensemble import Detection
from p3mdata.faces.pyramid import Pyramid
from p3mdata.records import Doubt, Face
from p3mdata.review import batch, session
from p3mdata.review.removal import remove_images
from p3mdata.run import decisions, secret, verify
from p3mdata.run import tasks as run_tasks
from p3mdata.run.close import renew_report
from p3mdata.run.fetch import fetch_run
from p3mdata.run.job import anonymize_job, merge_tasks, run_staged
from p3mdata.run.merge import merge_runs
from p3mdata.run.sampling import sample_run
from p3mdata.run.stages import Stage
from tests.factories import astronaut, encoded, texture
from tests.test_attackers import Small

_SIDE, _PORTRAIT = 64, 192
_SECRET = 32 * "5e"


class _Spots:
    """A detector that sees one face: where a picture is pure red (`spotted`)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def detect(self, rgb: Any) -> list[Box]:
        rows, cols = np.nonzero((rgb[:, :, 0] > 230) & (rgb[:, :, 1:].max(axis=2) < 25))
        if not len(rows):
            return []
        box = float(cols.min()), float(rows.min()), float(cols.max() + 1), float(rows.max() + 1)
        return [Box(box, 0.9, None, self.name)]


class _Finder:
    """A face in the middle of every picture; of pictures whose width is odd nobody is sure.

    In pictures of the side of portraits it is a real one, with the landmarks that the real models find.
    """

    portrait: Face

    def __init__(self) -> None:
        self.detectors = {name: _Spots(name) for name in ("centerface", "libfacedetection")}

    def find(self, rgb: Any) -> Detection:
        height, width = (rgb if isinstance(rgb, Pyramid) else Pyramid(rgb)).size
        if width == _PORTRAIT:
            return Detection((self.portrait,), ())
        if width % 2:
            return Detection((), (Doubt("no_face_found", "shows no face."),))
        box = (0.3 * width, 0.2 * height, 0.7 * width, 0.7 * height)
        seen = ("centerface", "libfacedetection")
        return Detection((Face(box, 0.9, seen, None, None, "landmark model sees no face"),), ())

    def boxes(self, image: Any, looks: Any = ()) -> list[Any]:
        return []

    def mesh(self, image: Any, box: Any) -> tuple[None, str]:
        return None, "landmark model sees no face"

    def close(self) -> None:
        pass

    def __enter__(self) -> _Finder:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def stand_in() -> None:
    """Put the stand-ins in their places; processes that are forked have them too."""
    # Loaded here, since it looks for a compiler by way of temporary files.
    importlib.import_module("mediapipe")
    # Threads that OpenCV starts here, now or while it looks at what a case left, would be missing in forked processes,
    # which would wait for them for ever.
    cv2.setNumThreads(1)
    ask = f"from tests.factories import *; print(dumps(astronaut_face({_PORTRAIT}).to_json()))"
    found = subprocess.run(
        [sys.executable, "-c", f"from p3mdata.base.jsonl import dumps; {ask}"],
        check=True,
        capture_output=True,
        text=True,
    )
    _Finder.portrait = Face.from_json(json.loads(found.stdout))
    for module in (ensemble, models, verify):
        module.FaceFinder = _Finder  # type: ignore[attr-defined]
    secret.new_secret = lambda: _SECRET  # type: ignore[attr-defined]
    # A killed process that was at the plan is waited for no longer than that.
    run_tasks._PATIENCE_SECONDS = 1.0
    for module in (decisions, session, batch):
        if hasattr(module, "now"):
            module.now = lambda: "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Case:
    """A verb: what is there before, and the call, both below one folder."""

    name: str
    prepare: Callable[[Path], object]
    call: Callable[[Path], object]
    store: bool = False


def person(height: int, width: int) -> Any:
    """A matte with a soft edge around the middle."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((x / width - 0.5) / 0.45, (y / height - 0.5) / 0.48)
    return np.clip(255 * (1 - distance) * 8, 0, 255).astype(np.uint8)


def photographs(at: Path) -> None:
    """Six photographs with mattes; of one nobody is sure, one is a copy, one is damaged."""
    (at / "src/sub").mkdir(parents=True)
    (at / "alphas/sub").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.png", "sub/c.jpg", "odd.png")):
        width = _SIDE + 2 * number + (name == "odd.png")
        data = encoded(texture(_SIDE + 2 * number, width, seed=number), "JPEG" if name.endswith("jpg") else "PNG")
        (at / "src" / name).write_bytes(data)
        alpha = person(_SIDE + 2 * number, width)
        (at / "alphas" / name).with_suffix(".png").write_bytes(encoded(alpha, "PNG"))
    shutil.copy(at / "src/a.jpg", at / "src/sub/copy.jpg")
    shutil.copy(at / "alphas/a.png", at / "alphas/sub/copy.png")
    (at / "src/broken.jpg").write_bytes(b"no picture")
    (at / "alphas/broken.png").write_bytes(encoded(person(_SIDE, _SIDE), "PNG"))


def job(at: Path, out: Any = None, **execution: Any) -> Job:
    return Job(
        source=at / "src",
        alphas=at / "alphas",
        out=out or at / "run",
        settings=Settings(),
        execution=Execution(**{"workers": 1} | execution),
    )


def finished(at: Path) -> None:
    photographs(at)
    anonymize_job(job(at))


def staged(*stages: Stage) -> Callable[[Path], None]:
    """The stages before the one that is killed."""

    def prepare(at: Path) -> None:
        photographs(at)
        for stage in stages:
            a_stage(stage)(at)

    return prepare


def a_stage(stage: Stage) -> Callable[[Path], object]:
    if stage is Stage.DETECT:
        return lambda at: anonymize_job(job(at), Stage.DETECT)
    return lambda at: run_staged(at / "run", stage, workers=1)


def apart(at: Path) -> None:
    photographs(at)
    for name, files in {"one": "a.jpg\nb.png\nsub/copy.jpg", "two": "sub/c.jpg\nodd.png"}.items():
        (at / f"{name}.txt").write_text(files)
        anonymize_job(job(at, at / name, files=at / f"{name}.txt"))


def tasks(at: Path) -> None:
    for number in (1, 2):
        anonymize_job(job(at, task=f"{number}/2"))
    merge_tasks(at / "run")


def decided(at: Path) -> None:
    finished(at)
    said = [{"source": "odd.png", "action": "no_face"}, {"source": "b.png", "action": "exclude"}]
    (at / "decisions.jsonl").write_text("".join(dumps(row) + "\n" for row in said))


def built(at: Path) -> None:
    finished(at)
    split(at)


def split(at: Path) -> object:
    settings = SplitSettings(read_layout("p3m10k"), validation=1, verify=False)
    return build_split(at / "run", at / "data", settings, workers=1)


def exported(to: str) -> Callable[[Path], object]:
    return lambda at: export(at / "run", at / "release", to, "cc-by-4.0")


def curated(at: Path) -> object:
    return write_curation(curate_folder(at / "src", workers=1), at / "kept")


def one_image(at: Path) -> object:
    alpha, facemask = at / "alphas/a.png", at / "mask.png"
    done = anonymize_file(at / "src/a.jpg", at / "out.jpg", Settings(), alpha, facemask=facemask, overwrite=True)
    assert done.outcome.released
    return done


def stored(at: Path) -> object:
    return anonymize_job(job(at, f"s3://{BUCKET}/run"))


def fetched(at: Path) -> object:
    return fetch_run(f"s3://{BUCKET}/run", at / "fetched")


def portraits(at: Path) -> None:
    """A finished run of four people with two photographs each: one face in different tints."""
    (at / "src").mkdir(parents=True)
    for number in range(8):
        tint = np.array([(30, 0, -30), (-30, 0, 30), (0, 30, -30), (25, 25, 25)][number // 2]) + number
        pixels = np.clip(astronaut(_PORTRAIT).astype(int) + tint, 0, 255).astype(np.uint8)
        (at / "src" / f"person{number // 2}__{number}.png").write_bytes(encoded(pixels, "PNG"))
    settings = Settings(method=Method.MOSAIC)
    anonymize_job(Job(source=at / "src", out=at / "run", settings=settings, execution=Execution(workers=1)))


def spotted(at: Path) -> None:
    """A finished run; in the corner of two pictures the slow look sees a face that the run did not."""
    photographs(at)
    for name in ("b.png", "odd.png"):
        pixels = np.array(cv2.imread(str(at / "src" / name)))
        pixels[1:13, 1:13] = (0, 0, 255)
        (at / "src" / name).write_bytes(encoded(pixels[:, :, ::-1], "PNG"))
    anonymize_job(job(at))


def looked_again(at: Path) -> object:
    found = recall_run(at / "run", workers=1)
    # Where the picture was held before the kill, the call finds it so.
    assert len(found.waiting) == 1, found.waiting
    return found.figures.counted.pictures.to_json()


def audited(at: Path) -> object:
    found = audit_run(at / "run", "prefix", blur=(), mosaic=(), recogniser=Small())
    renew_report(at / "run")
    return found.photos


def attacked(at: Path) -> object:
    return attack_run(at / "run", "prefix", recogniser=Small(), steps=(2, 1)).photos


def advised(at: Path) -> object:
    tried = ((Method.FLAT, 1.0, None), (Method.ZERO, 1.0, None))
    return advise_run(at / "run", 0.1, "prefix", recogniser=Small(), tried=tried).photos


def permitted(at: Path) -> None:
    """A permission, and what the key h says: no face after all, of a picture that was left out."""
    finished(at)
    excluded = [{"source": "a.jpg", "action": "exclude"}]
    (at / "before.jsonl").write_text("".join(dumps(row) + "\n" for row in excluded))
    batch.apply_file(at / "run", at / "before.jsonl", workers=1)
    said = [{"source": "b.png", "action": "show", "basis": "consent"}, {"source": "a.jpg", "action": "accept"}]
    (at / "decisions.jsonl").write_text("".join(dumps(row) + "\n" for row in said))


def applied(at: Path) -> object:
    return batch.apply_file(at / "run", at / "decisions.jsonl", reviewer="anna", workers=1)


def redone(at: Path) -> object:
    return batch.redo_held(at / "run", {"boundary": "recomposite"}, workers=1)


RUN_CASES = (
    Case("anonymize", photographs, lambda at: anonymize_job(job(at))),
    Case("anonymize again, overwriting", finished, lambda at: anonymize_job(job(at, overwrite=True))),
    Case("detect", photographs, a_stage(Stage.DETECT)),
    Case("mask", staged(Stage.DETECT), a_stage(Stage.MASK)),
    Case("obfuscate", staged(Stage.DETECT, Stage.MASK), a_stage(Stage.OBFUSCATE)),
    Case("verify", staged(Stage.DETECT, Stage.MASK, Stage.OBFUSCATE), a_stage(Stage.VERIFY)),
    Case("anonymize --task", photographs, tasks),
    Case("merge", apart, lambda at: merge_runs([at / "one", at / "two"], at / "merged")),
    Case("review --apply", decided, lambda at: batch.apply_file(at / "run", at / "decisions.jsonl", workers=1)),
    Case("review --apply, permission", permitted, applied),
    Case("review --redo", finished, redone),
    Case("audit", portraits, audited),
    Case("audit --attackers", portraits, attacked),
    Case("advise", portraits, advised),
    Case("audit --recall", spotted, looked_again),
    Case("audit --sample", finished, lambda at: sample_run(at / "run", 2)),
    Case("remove", built, lambda at: remove_images(at / "run", ["a.jpg"])),
    Case("build-split", finished, split),
    Case("export webdataset", finished, exported("webdataset")),
    Case("export huggingface", finished, exported("huggingface")),
    Case("curate", photographs, curated),
    Case("anonymize image", photographs, one_image),
    Case("anonymize to a store", photographs, stored, store=True),
    Case("fetch", lambda at: (photographs(at), stored(at)), fetched, store=True),
)
