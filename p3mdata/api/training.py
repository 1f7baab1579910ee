"""Verbs about networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p3mdata.api.paths import PathLike, path_of, with_paths

if TYPE_CHECKING:
    from p3mnet.benchmark import Benchmark
    from p3mnet.traincheck import TrainCheck


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
        BenchmarkPlan(**with_paths(plan, "originals", "secret_file")),
        layout=layout,
    )


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
        originals=path_of(originals), faces=path_of(faces), secret_file=path_of(secret_file), **settings
    )
    return check(Path(dataset), Path(out), chosen)
