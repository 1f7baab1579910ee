"""The Python API: each verb of the command line as a function. Heavy modules are imported when a verb is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p3mdata.audit.reidentify import Audit
    from p3mdata.dataset.build import Built
    from p3mdata.dataset.check import Check
    from p3mdata.export import Exported
    from p3mdata.records import ImageResult
    from p3mdata.review.removal import Removal
    from p3mdata.run.close import RunSummary
    from p3mdata.run.fetch import Fetched
    from p3mdata.run.status import Status
    from p3mdata.run.verify import FailedProof
    from p3mnet.benchmark import Benchmark
    from p3mnet.traincheck import TrainCheck


PathLike = str | Path


def _path(value: PathLike | None) -> Path | None:
    return None if value is None else Path(value)


def anonymize_dir(
    source: PathLike,
    out: PathLike,
    *,
    alphas: PathLike | None = None,
    trimaps: PathLike | None = None,
    masks: PathLike | None = None,
    **settings: Any,
) -> RunSummary:
    """Anonymize all pictures below a folder into a run folder, or resume the run that is there.

    Args:
        source: Folder with photographs.
        out: Run folder, or address of a run in an object store.
        alphas, trimaps, masks: Folders with companions of equal relative name or stem.
        **settings: Any field of `p3mdata.config.Settings` or `Execution`, such as `method="mosaic"`, `workers=2`.

    Returns:
        Counts of outcomes; `exit_code` is what the command line would return.

    Raises:
        p3mdata.errors.P3MError: With one sentence that names the file or setting.
    """
    from p3mdata.config import Job, resolve
    from p3mdata.run.job import anonymize_job

    chosen, execution = resolve(settings)
    job = Job(
        source=Path(source), out=Path(out), alphas=_path(alphas), trimaps=_path(trimaps), masks=_path(masks),
        settings=chosen, execution=execution,
    )  # fmt: skip
    return anonymize_job(job)


def anonymize_image(
    source: PathLike,
    out: PathLike,
    *,
    alpha: PathLike | None = None,
    trimap: PathLike | None = None,
    mask: PathLike | None = None,
    facemask: PathLike | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> ImageResult:
    """Anonymize one picture; `out` is written only when the result's outcome is a released one."""
    from p3mdata.anonymize.one_image import anonymize_file
    from p3mdata.config import resolve

    chosen, _ = resolve(settings)
    companions = {"alpha": _path(alpha), "trimap": _path(trimap), "mask": _path(mask), "facemask": _path(facemask)}
    return anonymize_file(Path(source), Path(out), chosen, **companions, overwrite=overwrite)


def verify_run(run: PathLike, *, workers: int = 1) -> list[FailedProof]:
    """Prove every released image of a run again; an empty list means that all proofs hold."""
    from p3mdata.run.job import verify_run as prove

    return prove(Path(run), workers=workers)[1]


def run_status(run: PathLike) -> Status:
    """How far a run is, in a folder or at an address, while any number of processes work on it."""
    from p3mdata.run.remote_job import status_anywhere

    return status_anywhere(Path(run))


def fetch_run(address: PathLike, out: PathLike) -> Fetched:
    """Bring a finished run from an object store into a folder, where every other function works on it."""
    from p3mdata.run.fetch import fetch_run as fetch

    return fetch(address, Path(out))


def merge_runs(runs: Sequence[PathLike], out: PathLike) -> RunSummary:
    """Make one run of finished runs with equal settings over different source files."""
    from p3mdata.run.merge import merge_runs as merge

    return merge([Path(run) for run in runs], Path(out))


def apply_decisions(
    run: PathLike, decisions: PathLike, *, masks: PathLike | None = None, reviewer: str | None = None, workers: int = 0
) -> RunSummary:
    """Carry out a person's decisions (JSON lines) about images of a finished run, as `p3mdata review --apply` does."""
    from p3mdata.review.batch import apply_file

    return apply_file(Path(run), Path(decisions), _path(masks), reviewer, workers)


def remove_images(run: PathLike, names: Sequence[str]) -> Removal:
    """Withdraw images from a finished run by id or source path, leaving tombstones without personal data."""
    from p3mdata.review.removal import remove_images as remove

    return remove(Path(run), names)


def audit_run(run: PathLike, identities: str = "auto", *, max_rank1: float | None = None) -> Audit:
    """Try to re-identify the people of a finished run; writes audit.json, audit.png and a part of the report."""
    from p3mdata.audit.reidentify import audit_run as audit
    from p3mdata.run.close import renew_report

    found = audit(Path(run), identities, max_rank1=max_rank1)
    renew_report(Path(run))
    return found


def build_split(run: PathLike, out: PathLike, *, layout: str = "p3m10k", workers: int = 0, **settings: Any) -> Built:
    """Build a dataset from a finished run; `settings` are fields of `p3mdata.dataset.build.SplitSettings`."""
    from p3mdata.dataset.build import SplitSettings
    from p3mdata.dataset.build import build_split as build
    from p3mdata.dataset.layout import read_layout

    return build(Path(run), Path(out), SplitSettings(read_layout(layout), **settings), workers)


def check_dataset(dataset: PathLike, *, layout: str | None = None, duplicates: bool = True) -> Check:
    """Check a dataset, ours or one of others; `errors` of the result is 0 when it can be used."""
    from p3mdata.dataset.check import check_dataset as check

    return check(Path(dataset), layout, duplicates)


def export_release(source: PathLike, out: PathLike, to: str, *, licence: str | None = None, **options: Any) -> Exported:
    """Write a release of a run or dataset; `options` as for `p3mdata.export.export`."""
    from p3mdata.export import export as write

    return write(Path(source), Path(out), to, licence, **options)


def benchmark(
    dataset: PathLike,
    out: PathLike,
    methods: Sequence[str] = ("all",),
    *,
    checkpoints: Sequence[str] = (),
    onnx: Sequence[str] = (),
    layout: str | None = None,
    **plan: Any,
) -> Benchmark:
    """Benchmark matting methods on the validation sets of a dataset, as `p3mdata benchmark` does.

    Args:
        dataset: Its folder.
        out: Folder for alphas, tables, plot; of a new or an earlier benchmark.
        methods, checkpoints, onnx: See `p3mnet.baselines.opening.parse_requests`.
        layout: Of the dataset; None takes the one that fits.
        **plan: Fields of `p3mnet.benchmark.BenchmarkPlan`, such as `trials=10`.
    """
    from p3mnet.baselines.opening import parse_requests
    from p3mnet.benchmark import BenchmarkPlan, run_benchmark

    requests = parse_requests(methods, checkpoints, onnx)
    return run_benchmark(Path(dataset), Path(out), requests, BenchmarkPlan(**plan), layout=layout)


def explain_photo(
    photo: PathLike,
    out: PathLike,
    *,
    alpha: PathLike | None = None,
    trimap: PathLike | None = None,
    mask: PathLike | None = None,
    **settings: Any,
) -> None:
    """Draw the six steps of the paper's figure 3 for one picture. The drawing shows the clear face."""
    from p3mdata.anonymize.explain import explain as draw
    from p3mdata.config import resolve

    chosen, _ = resolve(settings)
    draw(Path(photo), Path(out), chosen, alpha=_path(alpha), trimap=_path(trimap), mask=_path(mask))


def train_check(
    dataset: PathLike,
    out: PathLike,
    *,
    originals: PathLike | None = None,
    faces: PathLike | None = None,
    **settings: Any,
) -> TrainCheck:
    """Train under the paper's protocols and judge the cost of anonymization; needs the extra `train`.

    Args:
        dataset: A dataset of build-split, or the original P3M-10k.
        out: Folder of the result; the same call goes on in it after an interruption.
        originals: The photographs before anonymization; only read.
        faces: Facemasks of celeba-facemask, with `copy_paste="icp"` or "fcp".
        **settings: Fields of `p3mnet.traincheck.TrainCheckSettings`, such as `budget=900`, `seeds=3`.

    Returns:
        Tables, costs and rules in `report`, and the verdict.
    """
    from p3mnet.traincheck import TrainCheckSettings
    from p3mnet.traincheck import train_check as check

    return check(
        Path(dataset), Path(out), TrainCheckSettings(originals=_path(originals), faces=_path(faces), **settings)
    )
