"""The Python API: each verb of the command line as a function. Heavy modules are imported when a verb is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p3mdata.audit.advice import Advice
    from p3mdata.audit.recall import Recall
    from p3mdata.dataset.build import Built
    from p3mdata.dataset.check import Check
    from p3mdata.export import Exported
    from p3mdata.records import ImageResult
    from p3mdata.review.removal import Removal
    from p3mdata.run.attackers import Attackers
    from p3mdata.run.audit import Audit
    from p3mdata.run.close import RunSummary
    from p3mdata.run.fetch import Fetched
    from p3mdata.run.status import Status
    from p3mdata.run.verify import FailedProof
    from p3mnet.benchmark import Benchmark
    from p3mnet.traincheck import TrainCheck


PathLike = str | Path


def _path(value: PathLike | None) -> Path | None:
    return None if value is None else Path(value)


def _with_paths(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Options in which those of these names, which the code below takes as paths, may be texts."""
    return {name: _path(value) if name in names else value for name, value in options.items()}


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
    companions = {"alpha": _path(alpha), "trimap": _path(trimap), "mask": _path(mask), "facemask": _path(facemask)}
    return anonymize_file(Path(source), Path(out), chosen, **companions, overwrite=overwrite)


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


def apply_decisions(
    run: PathLike, decisions: PathLike, *, masks: PathLike | None = None, reviewer: str | None = None, workers: int = 0
) -> RunSummary:
    """Carry out a person's decisions about images of a finished run, as `p3mdata review RUN --apply` does.

    Args:
        run: Its folder.
        decisions: JSON lines (docs/review.md); all are checked before the first is carried out.
        masks: Folder with the masks that they name: white = obfuscate.
        reviewer: Who decided; kept with each decision.
        workers: Processes; 0 takes as many as cores and memory allow.

    Returns:
        Counts of the run now.

    Raises:
        p3mdata.errors.P3MError: A line cannot be carried out; nothing was changed.
    """
    from p3mdata.review.batch import apply_file

    return apply_file(Path(run), Path(decisions), _path(masks), reviewer, workers)


def remove_images(run: PathLike, names: Sequence[str]) -> Removal:
    """Withdraw images from a finished run, leaving tombstones without personal data.

    Args:
        run: Its folder.
        names: Ids, or paths of sources below SRC; copies of the same photograph go too.

    Raises:
        p3mdata.errors.P3MError: A name is unknown; nothing was changed.
    """
    from p3mdata.review.removal import remove_images as remove

    return remove(Path(run), names)


def audit_run(run: PathLike, identities: str = "auto", *, max_rank1: float | None = None) -> Audit:
    """Try to re-identify the people of a finished run; writes audit.json, audit.png and a part of the report.

    Args:
        run: Its folder; needs the extra `audit`.
        identities: Who is on which photograph: "auto", "prefix", "folder", or a CSV file of source and identity.
        max_rank1: Largest share in [0, 1] of faces that the worst attack may name; more fails the audit.

    Raises:
        p3mdata.errors.P3MError: Too few persons are known, or a library is missing.
    """
    from p3mdata.audit.reidentify import audit_run as audit
    from p3mdata.run.close import renew_report

    found = audit(Path(run), identities, max_rank1=max_rank1)
    renew_report(Path(run))
    return found


def audit_attackers(
    run: PathLike,
    identities: str = "auto",
    *,
    groups: PathLike | None = None,
    max_rank1: float | None = None,
    seed: int = 0,
) -> Attackers:
    """Let attackers who learn from faces obfuscated alike at a finished run; writes attackers.json.

    Args:
        run: Its folder; needs the extra `audit`, and `train` for attackers with networks.
        identities: As for `audit_run`.
        groups: CSV file of source and group, told apart.
        max_rank1: The claim to test, a share in (0, 1).
        seed: Deals people out.

    Raises:
        p3mdata.errors.P3MError: Too few persons are known, or a library is missing.
    """
    from p3mdata.audit.attackers import attack_run
    from p3mdata.run.close import renew_report

    found = attack_run(Path(run), identities, _path(groups), max_rank1, seed)
    renew_report(Path(run))
    return found


def audit_recall(run: PathLike, *, sample: int | None = None, seed: int = 0, workers: int = 0) -> Recall:
    """Look a second time, slowly, for faces that a finished run left bare, and hold their pictures back again.

    Args:
        run: Its folder; the photographs must still be where they were.
        sample: How many released pictures, drawn at random; None looks at all.
        seed: Another seed, another sample.
        workers: Processes; 0 takes as many as cores and memory allow.

    Returns:
        Figures as in recall.json, what was held back, and what waits for a person.

    Raises:
        p3mdata.errors.P3MError: The run is not finished, was made by another version, or has no source to look at.
    """
    from p3mdata.audit.recall import recall_run
    from p3mdata.run.close import renew_report

    found = recall_run(Path(run), sample, seed, workers)
    renew_report(Path(run))
    return found


def advise_run(run: PathLike, max_rank1: float = 0.1, identities: str = "auto", *, seed: int = 0) -> Advice:
    """Propose method and strength from a finished run's faces, rendered with each and attacked; writes advice.json.

    Args:
        run: Its folder; needs the extra `audit`.
        max_rank1: Share of faces in (0, 1) that no attacker may pass.
        identities: As for `audit_run`.
        seed: Deals people out.

    Raises:
        p3mdata.errors.P3MError: Too few persons are known, or a library is missing.
    """
    from p3mdata.audit.advise import advise_run as advise

    return advise(Path(run), max_rank1, identities, seed)


def build_split(run: PathLike, out: PathLike, *, layout: str = "p3m10k", workers: int = 0, **settings: Any) -> Built:
    """Build a dataset from a finished run, or finish or renew the one that is there.

    Args:
        run: Folder of the run.
        out: Folder of the dataset.
        layout: p3m10k, plain, or a YAML file like those of manifests/layouts.
        workers: Processes; 0 takes as many as cores and memory allow.
        **settings: Fields of `p3mdata.dataset.build.SplitSettings`: `validation=500` images, or 0.05 as a share.

    Returns:
        Images per set, what was refused and why.

    Raises:
        p3mdata.errors.P3MError: The run is not finished, a proof fails, or the sizes cannot be had.
    """
    from p3mdata.dataset.build import SplitSettings
    from p3mdata.dataset.build import build_split as build
    from p3mdata.dataset.layout import read_layout

    wanted = SplitSettings(read_layout(layout), **_with_paths(settings, "free_list", "previous"))
    return build(Path(run), Path(out), wanted, workers)


def check_dataset(dataset: PathLike, *, layout: str | None = None, duplicates: bool = True) -> Check:
    """Check a dataset, ours or one of others.

    Args:
        dataset: Its folder.
        layout: As for `build_split`; None takes the one that fits.
        duplicates: Look for near-duplicates too.

    Returns:
        Images per set, and findings; `errors` is 0 when it can be used.

    Raises:
        p3mdata.errors.P3MError: There is no dataset, or its layout is unknown.
    """
    from p3mdata.dataset.check import check_dataset as check

    return check(Path(dataset), layout, duplicates)


def export_release(source: PathLike, out: PathLike, to: str, *, licence: str | None = None, **options: Any) -> Exported:
    """Write a release of a run or dataset, or finish or renew one that is there.

    Args:
        source: Folder of a finished run, or of a dataset of `build_split`.
        out: Folder of the release.
        to: p3m10k, webdataset, huggingface, huggingface-parquet or croissant.
        licence: Its name or address; yours to state.
        **options: As for `p3mdata.export.export`: `name`, `about`, `run`, `stated`.

    Raises:
        p3mdata.errors.P3MError: The source is not finished or was changed, or OUT is something else.
    """
    from p3mdata.export import export as write

    return write(Path(source), Path(out), to, licence, **_with_paths(options, "about", "run", "stated"))


def release_record(
    source: PathLike, out: PathLike, *, stated: PathLike | None = None, **options: Any
) -> dict[str, Any]:
    """Write what ISO/IEC 27559, GDPR Art. 30 and datasheets ask about a release, as Markdown and JSON.

    Args:
        source: Folder of a finished run, or of a dataset of `build_split`.
        out: Folder for release-record.md and release-record.json.
        stated: YAML file with what only you can say; what is missing is named in the record.
        **options: `licence`, `name`, `about`, `run`, as for `export_release`.

    Returns:
        What release-record.json holds; `not_stated` lists what is open and what fills it.

    Raises:
        p3mdata.errors.P3MError: The source is not finished or was changed, or the YAML has an unknown key.
    """
    from p3mdata.export import write_record

    return write_record(Path(source), Path(out), stated=_path(stated), **_with_paths(options, "about", "run")).to_json()


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

    Raises:
        p3mdata.errors.P3MError: A method is unknown, or the dataset cannot be used. A method that cannot run is told in
            the result, and the others go on.
    """
    from p3mnet.baselines.opening import parse_requests
    from p3mnet.benchmark import BenchmarkPlan, run_benchmark

    requests = parse_requests(methods, checkpoints, onnx)
    return run_benchmark(
        Path(dataset),
        Path(out),
        requests,
        BenchmarkPlan(**_with_paths(plan, "originals", "secret_file")),
        layout=layout,
    )


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
    draw(Path(photo), Path(out), chosen, alpha=_path(alpha), trimap=_path(trimap), mask=_path(mask))


def train_check(
    dataset: PathLike,
    out: PathLike,
    *,
    originals: PathLike | None = None,
    faces: PathLike | None = None,
    secret_file: PathLike | None = None,
    **settings: Any,
) -> TrainCheck:
    """Train under the paper's protocols and judge the cost of anonymization; needs the extra `train`.

    Args:
        dataset: A dataset of build-split, or the original P3M-10k.
        out: Folder of the result; the same call goes on in it after an interruption.
        originals: The photographs before anonymization; only read.
        secret_file: `private/secret` of the run, by which originals of other names than the pictures are found.
        faces: Facemasks of celeba-facemask, with `copy_paste="icp"` or "fcp".
        **settings: Fields of `p3mnet.traincheck.TrainCheckSettings`, such as `budget=900`, `seeds=3`.

    Returns:
        Tables, costs and rules in `report`, and the verdict.

    Raises:
        p3mdata.errors.P3MError: The dataset cannot be trained on, or a library is missing.
    """
    from p3mnet.traincheck import TrainCheckSettings
    from p3mnet.traincheck import train_check as check

    chosen = TrainCheckSettings(
        originals=_path(originals), faces=_path(faces), secret_file=_path(secret_file), **settings
    )
    return check(Path(dataset), Path(out), chosen)
