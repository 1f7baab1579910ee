"""Running a benchmark: methods one after the other, each picture's alpha and figures kept as soon as they are there."""

from __future__ import annotations

import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from p3mdata.base.files import lies_in, owned_folder
from p3mdata.base.ids import read_secret
from p3mdata.base.processes import default_workers
from p3mdata.base.progress import Progress, silent
from p3mdata.dataset.folder import Dataset, open_dataset
from p3mdata.errors import P3MError, RunFolderError, SettingsError, SetupError
from p3mnet.baselines import CATALOGUE, Family, Image, Method
from p3mnet.baselines.opening import Request, open_method
from p3mnet.benchmark import report
from p3mnet.benchmark.alphas import VERSION, Made, Maker, MethodFault, Task, described
from p3mnet.benchmark.page import page
from p3mnet.benchmark.pictures import (
    NORMAL_SUFFIX,
    Picture,
    as_photographed,
    choose_sets,
    kernel_of,
    notes_on,
    pictures_of,
    timing_picture,
)
from p3mnet.benchmark.results import Benchmark, Looked, MethodResult, State
from p3mnet.benchmark.store import PAGE, Kept, KeptTime, Store, key_of
from p3mnet.benchmark.timing import SIDE, Timing, device_of, measure
from p3mnet.evaluate import ImageRow, evaluate_one, predictions_of, summary_of

# What tables say of how networks looked at pictures.
RULES = {
    "hybrid": "Networks look by the rule 'hybrid': trimap from half the size, alpha from the full one. Published "
    "figures are of another rule, 'legacy_resize'.",
    "resize": "Networks look by the rule 'resize': half the size, aspect ratio kept. Published figures are of another "
    "rule, 'legacy_resize'.",
    "legacy_resize": "Networks look by the rule 'legacy_resize', that of published figures, to the pixel.",
}


@dataclass(frozen=True)
class BenchmarkPlan:
    """What to do besides dataset and methods.

    Attributes:
        sets: To test on; None = those of validation.
        limit: Of each set the first so many pictures; 0 = all.
        trials: Runs on the 512x512 picture; 0 = no times.
        trial_seconds: No further run of a method begins after this long, once there are three.
        max_side: Longest side that classic methods and ONNX files of open size see.
        mode: How networks look at pictures, see `p3mnet.predict`.
        device: Of networks and ONNX files: auto, cpu, cuda, cuda:N.
        corrected: Metrics as defined, see `p3mnet.metrics`.
        originals: Folder of the photographs that the dataset was made of; obfuscated sets are then tested as they were
            photographed too (protocols B:N and N:N of the paper's tables 2 and 3). Only read.
        secret_file: `private/secret` of the run, by which photographs of other names than the pictures are found.
        workers: Processes for the pictures of a classic method, which has one thread; fewer where memory is short. 0
            takes all cores; of a script, more than 1 needs `if __name__ == "__main__":`.
    """

    sets: tuple[str, ...] | None = None
    limit: int = 0
    trials: int = 100
    trial_seconds: float = 60.0
    max_side: int = 1024
    mode: str = "hybrid"
    device: str = "auto"
    corrected: bool = False
    originals: Path | None = None
    workers: int = 1
    secret_file: Path | None = None


def run_benchmark(
    root: Path,
    out: Path,
    requests: Sequence[Request],
    plan: BenchmarkPlan | None = None,
    progress: Progress | None = None,
    layout: str | None = None,
) -> Benchmark:
    """Benchmark methods on the validation sets of a dataset; see `p3mnet.benchmark.store` for what is written.

    Alphas, figures and times are kept by what they depend on: the same call goes on where it was, and more methods add
    to the folder. Tables and plot are those of the last call.

    Args:
        root: The dataset.
        out: A new folder, or one of an earlier benchmark, outside the dataset.
        requests: Methods, see `p3mnet.baselines.opening.parse_requests`.
        plan: What else.
        progress: Gets the number of alphas; gives a function to call after each.
        layout: Of the dataset; None takes the one that fits.

    Raises:
        SettingsError: Dataset, sets or settings cannot be used.
        RunFolderError: `out` is something else's, or cannot be written.
        KeyboardInterrupt: Passed on, after tables of what is there were written.
    """
    plan = plan or BenchmarkPlan()
    _check(plan)
    dataset = open_dataset(root, layout)
    sets = choose_sets(dataset, plan.sets)
    store = Store(out, root)
    pictures = pictures_of(dataset, sets, plan.limit)
    if plan.originals is not None:
        if lies_in(out, plan.originals):
            raise SettingsError(f"{out}: lies in the photographs' folder. Give a folder outside it.")
        secret = None if plan.secret_file is None else read_secret(plan.secret_file)
        normal = as_photographed(dataset, pictures, plan.originals, default_workers(), secret)
        names = list(dict.fromkeys(picture.set for picture in normal))
        sets = [each for name in sets for each in (name, f"{name}{NORMAL_SUFFIX}") if each == name or each in names]
        pictures = sorted([*pictures, *normal], key=lambda picture: sets.index(picture.set))
    bench = _Bench(dataset, store, pictures, plan)
    with owned_folder(out), bench.reporting(sets):
        step = (progress or silent)(len(pictures) * len(requests))
        for request in requests:
            bench.results.append(_unreached(request))
        for number, request in enumerate(requests):
            bench.results[number] = bench.one(request, step)
    assert bench.found is not None
    return bench.found


def _check(plan: BenchmarkPlan) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", plan.device):
        raise SettingsError(f"device must be auto, cpu, cuda or cuda:N, not '{plan.device}'.")
    for name, value, least in (("limit", plan.limit, 0), ("trials", plan.trials, 0), ("max_side", plan.max_side, 32),
                               ("workers", plan.workers, 0)):  # fmt: skip
        if value < least:
            raise SettingsError(f"{name} must be at least {least}, not {value}.")
    if plan.mode not in RULES:
        raise SettingsError(f"mode must be hybrid, resize or legacy_resize, not '{plan.mode}'.")


def _unreached(request: Request) -> MethodResult:
    return MethodResult(
        request.label, request.title, request.entry.family, State.NOT_REACHED, "not reached: the call was interrupted"
    )


def _is_network(label: str) -> bool:
    entry = CATALOGUE.get(label.partition("+")[0])
    return entry is not None and entry.trainable


class _Bench:
    """One call."""

    def __init__(self, dataset: Dataset, store: Store, pictures: list[Picture], plan: BenchmarkPlan) -> None:
        self.dataset, self.store, self.pictures, self.plan = dataset, store, pictures, plan
        self.results: list[MethodResult] = []
        self.alphas: dict[tuple[str, str, str], Path] = {}
        self.found: Benchmark | None = None
        self.card: tuple[Image, Image, str] | None = None
        self.kernel = kernel_of(dataset)
        self.notes: list[str] = []

    @contextmanager
    def reporting(self, sets: Sequence[str]) -> Iterator[None]:
        """Tables and plot afterwards, also when the call is interrupted."""
        try:
            yield
        except KeyboardInterrupt:
            self._report(sets)
            raise
        self._report(sets)

    def _report(self, sets: Sequence[str]) -> None:
        counts = Counter(picture.set for picture in self.pictures)
        plan, version = self.plan, None if self.dataset.about is None else self.dataset.about.version
        networks = [each.label for each in self.results if _is_network(each.label)]
        rule = (RULES[plan.mode],) if networks else ()
        self.found = Benchmark(
            self.dataset.root, None if version is None else str(version), self.store.out,
            {name: counts[name] for name in sets}, (*rule, *notes_on(self.dataset, counts), *self.notes),
            tuple(self.results),
            Looked(plan.limit, plan.max_side, plan.mode, plan.corrected),
        )  # fmt: skip
        report.write(self.found, self.store)
        if text := page(self.found, self.pictures, self.alphas):
            self.store.write(self.store.out / PAGE, text.encode("utf-8", "surrogateescape"))

    def one(self, request: Request, step: Callable[[], None]) -> MethodResult:
        """A method from opening to figures; whatever it does wrong is in the result."""
        base = MethodResult(request.label, request.title, request.entry.family, State.DONE)
        left = len(self.pictures)

        def stepped() -> None:
            nonlocal left
            left -= 1
            step()

        try:
            return self._folder(request, base, stepped) if request.kind == "pngs" else self._run(request, base, stepped)
        except RunFolderError:
            raise
        except (SetupError, SettingsError) as exc:
            return replace(base, state=State.CANNOT_RUN, sentence=str(exc))
        except P3MError as exc:
            return replace(base, state=State.FAILED, sentence=str(exc))
        except Exception as exc:
            trace = self.store.error(request.label)
            told = exc.trace if isinstance(exc, MethodFault) else traceback.format_exc()
            self.store.write(trace, told.encode("utf-8", "surrogateescape"))
            sentence = str(exc) if isinstance(exc, MethodFault) else described(exc)
            return replace(base, state=State.FAILED, sentence=sentence, trace=trace)
        finally:
            for _ in range(left):
                step()

    def _folder(self, request: Request, base: MethodResult, step: Callable[[], None]) -> MethodResult:
        """Alphas that are there already."""
        assert request.path is not None
        if not request.path.is_dir():
            raise SettingsError(f"{request.path}: is no folder of alphas.")
        shared = predictions_of(request.path)
        folders: dict[str, dict[str, list[Path]]] = {}
        rows = []
        for picture in self.pictures:
            if picture.set not in folders:
                own = request.path / picture.set
                folders[picture.set] = predictions_of(own) if own.is_dir() else shared
            found = folders[picture.set].get(picture.stem, [])
            if len(found) == 1:
                self.alphas[request.label, picture.set, picture.stem] = found[0]
            if len(found) == 1 or picture.problem:
                rows.append(self._evaluated(picture, found[0] if found else request.path))
            else:
                names = ", ".join(path.name for path in found)
                problem = f"has several predictions ({names})" if found else f"has no prediction in {request.path}"
                rows.append(ImageRow(picture.set, picture.stem, {}, problem))
            step()
        return _summed(base, rows)

    def _run(self, request: Request, base: MethodResult, step: Callable[[], None]) -> MethodResult:
        plan = self.plan
        method = open_method(request, plan.max_side, plan.mode, plan.device)
        base = replace(base, parameters=method.parameters)
        if request.kind == "onnx" and request.entry.name == request.entry.title:
            base = replace(base, family=Family.DEEP if method.needs_trimap else Family.FREE)
        kept = self.store.kept(request.label)
        if not method.trained:
            timing = self._timing(request.label, method, kept)
            return replace(base, state=State.UNTRAINED, sentence="untrained: no checkpoint", timing=timing)
        rows, seconds = self._alphas(request, method, kept, step)
        timing = self._timing(request.label, method, kept)
        mean = sum(seconds) / len(seconds) if seconds else None
        return replace(_summed(base, rows), timing=timing, seconds=mean)

    def _alphas(
        self, request: Request, method: Method, kept: Kept, step: Callable[[], None]
    ) -> tuple[list[ImageRow], list[float]]:
        """Figures of all pictures, and how long their alphas took."""
        plan, label = self.plan, request.label
        maker = Maker(self.store.out, request, plan.max_side, plan.mode, plan.device, self.kernel, plan.corrected)
        tasks = []
        for number, picture in enumerate(self.pictures):
            target = self.store.prediction(label, picture.set, picture.stem)
            tasks.append(Task(number, picture, target, kept.alphas.get((picture.set, picture.stem))))
            if not picture.problem:
                self.alphas[label, picture.set, picture.stem] = target
        workers = maker.processes([task for task in tasks if not task.kept and not task.picture.problem], plan.workers)
        if workers > 1:
            self.notes.append(
                f"{request.label} worked on {workers} pictures at a time, each in a process of up to "
                f"{maker.memory() / 1e9:.1f} GB; seconds per picture of the set are so measured."
            )
        found: dict[int, Made] = {}
        for made in maker.all(method, tasks, workers):
            found[made.number] = made
            if made.keep is not None:
                self.store.add(label, made.keep)
            step()
        ordered = [found[task.number] for task in tasks]
        return [made.row for made in ordered], [made.seconds for made in ordered if made.seconds is not None]

    def _evaluated(self, picture: Picture, prediction: Path) -> ImageRow:
        if picture.problem:
            return ImageRow(picture.set, picture.stem, {}, picture.problem)
        return evaluate_one(picture.task(prediction), self.plan.corrected)

    def _timing(self, label: str, method: Method, kept: Kept) -> Timing | None:
        plan = self.plan
        if not plan.trials:
            return None
        if self.card is None:
            self.card = timing_picture(self.pictures, SIDE)
        image, trimap, name = self.card
        key = key_of(VERSION, dict(method.identity), device_of(method), name, plan.trials, plan.trial_seconds)
        if kept.time is not None and kept.time.key == key:
            return kept.time.timing
        timing = measure(method, image, trimap, plan.trials, plan.trial_seconds)
        self.store.add(label, KeptTime(key, timing))
        return timing


def _summed(base: MethodResult, rows: list[ImageRow]) -> MethodResult:
    """Figures by set; incomplete where pictures lack them."""
    names = dict.fromkeys(row.set for row in rows)
    sets = {name: summary_of(name, [row for row in rows if row.set == name]) for name in names}
    lacking = [row for row in rows if row.problem]
    if not lacking:
        return replace(base, sets=sets, rows=tuple(rows))
    first = f"{lacking[0].stem} {lacking[0].problem}" + (f", and {len(lacking) - 1} more" if len(lacking) > 1 else "")
    sentence = f"{len(lacking)} of {len(rows)} images do not count: {first}"
    return replace(base, state=State.INCOMPLETE, sentence=sentence, sets=sets, rows=tuple(rows))
