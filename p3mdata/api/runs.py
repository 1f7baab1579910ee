"""Verbs that make a run, and look at one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p3mdata.api.paths import PathLike, path_of

if TYPE_CHECKING:
    from p3mdata.records import ImageResult
    from p3mdata.run.close import RunSummary
    from p3mdata.run.fetch import Fetched
    from p3mdata.run.status import Status
    from p3mdata.run.verify import FailedProof


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
        **settings: Any field of `p3mdata.config.Settings` or `Execution`, such as `method="mosaic"`, `workers=2`;
            `secret_file=RUN/"private/secret"` gives the ids of another run, see docs/faults.md.

    Returns:
        Counts of outcomes; `exit_code` is what the command line would return.

    Raises:
        p3mdata.errors.P3MError: With one sentence that names the file or setting.
    """
    from p3mdata.config import Job, resolve
    from p3mdata.run.job import anonymize_job

    chosen, execution = resolve(settings)
    job = Job(
        source=Path(source), out=Path(out), alphas=path_of(alphas), trimaps=path_of(trimaps), masks=path_of(masks),
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
    """Anonymize one picture; `out` is written only when the result's outcome is a released one.

    Args:
        source: A photograph.
        out: File to write, not in a run, a dataset or an export; its ending chooses the format.
        alpha, trimap: What must stay exact, of the photograph's size: 0..255 or 0..65535; a trimap's unknown band is
            what lies between.
        mask: Hand-drawn, white = obfuscate; takes the place of detection.
        facemask: File to write: PNG of 0 and 255, where 255 may differ from the source.
        overwrite: Replace files that are there.
        **settings: Any field of `p3mdata.config.Settings`.

    Returns:
        Outcome, reason, faces in pixels, proofs; `outcome.released` tells whether `out` was written.

    Raises:
        p3mdata.errors.P3MError: With one sentence that names the file or setting.
    """
    from p3mdata.anonymize.one_image import anonymize_file
    from p3mdata.config import resolve
    from p3mdata.dataset.places import refuse_in_release

    for path in (out, facemask):
        if path is not None:
            refuse_in_release(Path(path))
    chosen, _ = resolve(settings)
    companions = {
        "alpha": path_of(alpha),
        "trimap": path_of(trimap),
        "mask": path_of(mask),
        "facemask": path_of(facemask),
    }
    return anonymize_file(Path(source), Path(out), chosen, **companions, overwrite=overwrite)


def explain_photo(
    photo: PathLike,
    out: PathLike,
    *,
    alpha: PathLike | None = None,
    trimap: PathLike | None = None,
    mask: PathLike | None = None,
    **settings: Any,
) -> None:
    """Draw the six steps of the paper's figure 3 for one picture. The drawing shows the clear face: keep it private.

    Args:
        photo: A photograph.
        out: Drawing to write, PNG; not in a run, a dataset or an export, with which it would be published.
        alpha, trimap, mask, **settings: As for `anonymize_image`.

    Raises:
        p3mdata.errors.P3MError: A file cannot be used or written.
    """
    from p3mdata.anonymize.explain import explain as draw
    from p3mdata.config import resolve
    from p3mdata.dataset.places import refuse_in_release

    refuse_in_release(Path(out))
    chosen, _ = resolve(settings)
    draw(Path(photo), Path(out), chosen, alpha=path_of(alpha), trimap=path_of(trimap), mask=path_of(mask))


def verify_run(run: PathLike, *, workers: int = 1) -> list[FailedProof]:
    """Prove every released image of a run again, from the files alone.

    Args:
        run: Folder of a finished run; its photographs must still be where they were.
        workers: Processes.

    Returns:
        What failed, by id; an empty list means that all proofs hold.

    Raises:
        p3mdata.errors.RunFolderError: It is no finished run.
    """
    from p3mdata.run.job import verify_run as prove

    return prove(Path(run), workers=workers)[1]


def run_status(run: PathLike) -> Status:
    """How far a run is, in a folder or at an address, while any number of processes work on it.

    Returns:
        Counts of outcomes and shards, images per second, seconds left.

    Raises:
        p3mdata.errors.RunFolderError: There is no run.
    """
    from p3mdata.run.remote_job import status_anywhere

    return status_anywhere(Path(run))


def fetch_run(address: PathLike, out: PathLike) -> Fetched:
    """Bring a finished run from an object store into a folder, where every other function works on it.

    Args:
        address: Such as s3://bucket/run; needs the extra of its store.
        out: Folder, new or of an interrupted call.

    Raises:
        p3mdata.errors.RunFolderError: The run is not finished, or a file is not the one that was released.
        p3mdata.errors.StoreError: The store failed; the same call goes on.
    """
    from p3mdata.run.fetch import fetch_run as fetch

    return fetch(address, Path(out))


def merge_runs(runs: Sequence[PathLike], out: PathLike) -> RunSummary:
    """Make one run of finished runs with equal settings over different source files.

    Args:
        runs: Their folders, in any order.
        out: Folder of the new run.

    Raises:
        p3mdata.errors.RunFolderError: Settings differ, a photograph is in two of them, or a file is damaged; by name.
    """
    from p3mdata.run.merge import merge_runs as merge

    return merge([Path(run) for run in runs], Path(out))
