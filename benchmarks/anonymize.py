"""Speed and memory of `p3mdata anonymize dir`, against deface and against decoding and encoding alone.

All tools get the same JPEG files, run in turns (A B C A B C) in one worker pinned to one core, and write their
output files. The first round is not counted. See README.md in this folder.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import hashlib
import io
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LONG_SIDE = {"1080p": 1920, "4k": 3840}
QUALITY = 92
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
# Where each tool writes its pictures.
WRITTEN = ("*_anonymized.jpg", "images/*.jpg", "*.out.jpg")
STAGES = ("read", "decode", "detect", "mask", "obfuscate+encode", "verify", "write")
REDETECTION = "re-detection (part of verify)"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
FIND_BACKEND = "from deface.centerface import CenterFace; print(CenterFace(backend='auto').backend)"
NAMED = ("deface", "onnxruntime", "onnx", "opencv-python", "mediapipe", "numpy", "pillow", "jpeglib")
FIND_VERSIONS = f"""import importlib.metadata as m
versions = {{d.name: d.version for d in m.distributions()}}
print(*[f"{{name}} {{versions[name]}}" for name in {NAMED} if name in versions], sep=", ")"""
FLOOR = "decode+encode, Pillow"

Work = Callable[[Path], None]
# What one contender came to: a list per measured quantity, one entry per counted round.
Series = dict[str, list[Any]]


class Contender(NamedTuple):
    """One row of a table: a command over a folder. A looped one loads first and reports its own times."""

    name: str
    command: list[str]
    looped: bool


def _floor(library: str, out: Path) -> Work:
    import cv2
    import numpy as np
    from PIL import Image

    def with_pillow(data: bytes) -> bytes:
        image, sink = Image.open(io.BytesIO(data)), io.BytesIO()
        tables, pixels = image.quantization, np.array(image)  # type: ignore[attr-defined]
        Image.fromarray(pixels).save(sink, "JPEG", qtables=tables, subsampling=2)
        return sink.getvalue()

    def with_cv2(data: bytes) -> bytes:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()

    def work(path: Path) -> None:
        (out / f"{path.stem}.out.jpg").write_bytes((with_cv2 if library == "cv2" else with_pillow)(path.read_bytes()))

    return work


def _ours(jpeg: str, source: Path, out: Path, stages: Counter[str]) -> Work:
    from p3mdata.anonymize import proofs
    from p3mdata.config import Job, JpegMode, Settings
    from p3mdata.faces.models import Models
    from p3mdata.records import Outcome
    from p3mdata.run.plan import make_plan
    from p3mdata.run.shards import process
    from p3mdata.run.stages import Stage

    job = Job(source=source, out=out, settings=Settings(jpeg=JpegMode(jpeg)))
    samples = {sample.source: sample for sample in make_plan(job)[1]}
    models = Models()
    models()
    atexit.register(models.close)
    redetect, last = proofs.redetect, 0.0

    def tick(stage: str) -> None:
        nonlocal last
        begin, last = last, time.perf_counter()
        stages[stage] += last - begin  # type: ignore[assignment]

    def timed(*args: Any) -> Any:
        begin, found = time.perf_counter(), redetect(*args)
        stages[REDETECTION] += time.perf_counter() - begin  # type: ignore[assignment]
        return found

    def work(path: Path) -> None:
        nonlocal last
        last = time.perf_counter()
        result = process(samples[path.name], job, models, Stage.ALL, tick)
        if result.outcome is Outcome.BROKEN:
            raise RuntimeError(result.detail)

    proofs.redetect = timed  # type: ignore[assignment]
    return work


def _one_onnx_thread() -> None:
    """Keep deface's onnxruntime from starting a second thread, which would spin on the one core and slow it down."""
    with contextlib.suppress(ImportError):
        import onnxruntime

        (options := onnxruntime.SessionOptions()).intra_op_num_threads = 1
        onnxruntime.InferenceSession = functools.partial(onnxruntime.InferenceSession, sess_options=options)


def _deface(scale: str, out: Path) -> Work:
    from deface.centerface import CenterFace
    from deface.deface import image_detect

    _one_onnx_thread()
    finder = CenterFace(in_shape=(int(scale), int(scale)) if scale else None, backend="auto")

    def work(path: Path) -> None:
        # The arguments are the defaults of its command line.
        image_detect(
            str(path), str(out / f"{path.stem}_anonymized.jpg"), finder, threshold=0.2, replacewith="blur",
            mask_scale=1.3, ellipse=True, draw_scores=False, enable_preview=False, keep_metadata=False,
        )  # fmt: skip

    return work


def loop(kind: str, source: Path, out: Path, report: Path) -> None:
    """Body of a child process: load, then process every file of `source`, then write the times to `report`."""
    stages: Counter[str] = Counter()
    tool, _, variant = kind.partition("-")
    if tool == "ours":
        work = _ours(variant, source, out, stages)
    else:
        work = _floor(variant, out) if tool == "floor" else _deface(variant, out)
    wall, cpu = time.perf_counter(), time.process_time()
    for path in sorted(source.iterdir()):
        work(path)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    report.write_text(json.dumps({"wall": wall, "cpu": cpu, "stages": stages}))


def contenders(pythons: Sequence[str], backends: Sequence[str], folders: Sequence[Path]) -> list[Contender]:
    """All rows in the order of their turns; `backends` are what deface runs its network with in each of `pythons`."""
    this, source, out, report = map(str, (Path(__file__).resolve(), *folders))

    def looped(name: str, python: str, kind: str) -> Contender:
        return Contender(name, [python, this, "--child", kind, source, out, report], True)

    ours = [sys.executable, "-m", "p3mdata", "anonymize", "dir", source, out, "--workers", "1", "--overwrite", "-q"]
    whole = [Contender("p3mdata exact", ours, False)]
    running = [
        looped(FLOOR, sys.executable, "floor-pillow"),
        looped("decode+encode, cv2", sys.executable, "floor-cv2"),
        looped("p3mdata exact", sys.executable, "ours-exact"),
        looped("p3mdata reencode", sys.executable, "ours-reencode"),
    ]
    for python, backend in zip(pythons, backends, strict=True):
        running += [looped(f"deface ({backend})", python, "deface")]
        running += [looped(f"deface 640x640 ({backend})", python, "deface-640")]
        # It writes beside its inputs: `run_once` puts copies there.
        for name, options in (("deface", []), ("deface 640x640", ["--scale", "640x640"])):
            whole += [Contender(f"{name} ({backend})", [python, this, "--deface", out, *options], False)]
    return running + whole


def ask(python: str, code: str) -> str:
    """Last line that a snippet of Python prints in another environment."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def portraits(folder: Path | None) -> list[Path]:
    """Files of the given folder, else of the shared test data; none where that is absent."""
    shared = Path(os.environ.get("P3MDATA_SHARED", "../shared")) / "testdata"
    folders = [folder] if folder else [shared / "portraits", shared / "identity"]
    return [p for f in folders if f.is_dir() for p in sorted(f.iterdir()) if p.suffix.lower() in SUFFIXES]


def prepare(paths: Sequence[Path], limit: int, long_side: int, into: Path) -> str:
    """Write the inputs: `limit` files spread evenly over the sorted list, scaled, as JPEG 4:2:0. Says what they are."""
    from PIL import Image, ImageOps

    from p3mdata.cli.sample import portrait

    count = min(limit, len(paths)) or limit
    what = f"{count} of {len(paths)} photographs" if paths else f"{count} copies of the demo's portrait"
    pixels = size = 0
    for number in range(count):
        picture = Image.open(paths[number * len(paths) // count]) if paths else Image.fromarray(portrait())
        picture = ImageOps.exif_transpose(picture).convert("RGB")
        factor = long_side / max(picture.size)
        width, height = (round(side * factor) for side in picture.size)
        path = into / f"{number:03d}.jpg"
        picture.resize((width, height), Image.Resampling.LANCZOS).save(path, quality=QUALITY, subsampling=2)
        pixels, size = pixels + width * height, size + path.stat().st_size
    return f"{what}, longer side {long_side} px, mean {pixels / 1e6 / count:.2f} MP and {size / 1e6 / count:.2f} MB"


def run_once(row: Contender, source: Path, out: Path, report: Path) -> dict[str, Any]:
    """One contender over all files, in a process of its own and a fresh folder."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(source, out) if "--deface" in row.command else out.mkdir()
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    with report.with_suffix(".log").open("wb") as log:
        child = subprocess.Popen(row.command, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 3):  # 3: p3mdata held a picture back for a person
        sys.exit(f"{row.name} failed:\n{report.with_suffix('.log').read_text(errors='replace')[-2000:]}")
    whole = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime}
    own: dict[str, Any] = json.loads(report.read_text()) if row.looped else whole
    count = len(list(source.iterdir()))
    return {
        "images_per_s": count / own["wall"],
        "cpu_ms_per_image": own["cpu"] * 1000 / count,
        "peak_mib": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
        "startup_s": wall - own["wall"],
        "stages_ms": {name: seconds * 1000 / count for name, seconds in own.get("stages", {}).items()},
        "written": sum(len(list(out.glob(pattern))) for pattern in WRITTEN),
    }


def measure(rows: Sequence[Contender], folders: Sequence[Path], repeat: int) -> list[Series]:
    """All rounds; the first is a warm-up."""
    series: list[Series] = [{} for _ in rows]
    for number in range(repeat + 1):
        for row, into in zip(rows, series, strict=True):
            got = run_once(row, *folders)
            print(f"round {number}: {row.name}: {got['images_per_s']:.2f} images/s", file=sys.stderr)
            for key in got if number else ():
                into.setdefault(key, []).append(got[key])
    return series


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in plain text too."""
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *body]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def speed_table(group: Sequence[tuple[str, Series]], count: int) -> str:
    """Speed and memory of some contenders, and the ratio of each one's speed to the references among them."""
    references = [(name, s) for name, s in group if name.startswith("deface") or name == FLOOR]
    head = ["tool", "images/s", "CPU ms/image", "peak MiB", "start-up s", "written", *[f"x {n}" for n, _ in references]]
    body = []
    for name, s in group:
        # Ratios are taken within a round, where both ran under about the same load.
        pairs = [list(zip(s["images_per_s"], r["images_per_s"], strict=True)) for _, r in references]
        ratios = [f"{statistics.median(a / b for a, b in pair):.2f}" for pair in pairs]
        startup = f"{statistics.median(s['startup_s']):.1f}" if any(s["startup_s"]) else "included"
        figures = [spread(s["images_per_s"]), spread(s["cpu_ms_per_image"], 0), f"{max(s['peak_mib']):.0f}", startup]
        body.append([name, *figures, f"{min(s['written'])}/{count}", *ratios])
    return table(head, body)


def stage_table(group: Sequence[tuple[str, Series]]) -> str:
    """Where the time of p3mdata goes, in ms per image and as shares."""
    ours = [(name, s["stages_ms"]) for name, s in group if s["stages_ms"][0]]
    names = (*STAGES, REDETECTION)
    medians = [{k: statistics.median(r.get(k, 0.0) for r in rounds) for k in names} for _, rounds in ours]
    totals = [sum(m[stage] for stage in STAGES) for m in medians]
    both = list(zip(medians, totals, strict=True))
    body = [[name, *[f"{m[name]:.1f} ({m[name] / total:.0%})" for m, total in both]] for name in names]
    body += [["all", *[f"{total:.1f}" for total in totals]]]
    for name in (REDETECTION, "verify"):
        body += [[f"images/s without {name}", *[f"{1000 / (total - m[name]):.2f}" for m, total in both]]]
    return table(["stage, ms per image", *[name for name, _ in ours]], body)


def machine(pythons: Sequence[str]) -> list[str]:
    """Device and versions, in lines."""
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if (info := Path("/proc/cpuinfo")).exists() else []
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(ROOT.glob("p3mdata/**/*.py")))).hexdigest()
    device = f"{[*models, platform.machine()][0]}, {os.cpu_count()} cores, one used; Python {platform.python_version()}"
    about = [f"Processor: {device}", f"SHA-256 of p3mdata's code: {code[:12]}"]
    return about + [f"Environment: {ask(p, FIND_VERSIONS)}" for p in dict.fromkeys([sys.executable, *pythons])]


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--child"]:
        return loop(sys.argv[2], *map(Path, sys.argv[3:]))
    if sys.argv[1:2] == ["--deface"]:
        from deface.deface import main as deface

        _one_onnx_thread()
        sys.argv[:2] = ["deface"]
        return deface()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--images", type=Path, help="folder with portraits")
    add("--size", choices=LONG_SIDE, default="1080p", help="what portraits are scaled to")
    add("--limit", type=int, default=24, help="take N portraits, evenly over the sorted list")
    add("--repeat", type=int, default=3, help="rounds that count; one more is run first")
    add("--deface-python", action="append", help="interpreter that has deface; may be repeated")
    add("--json", type=Path, help="also write all figures to this file")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # inherited by all children
    pythons = args.deface_python or [sys.executable]
    about = [*machine(pythons), f"Load average of the machine before: {os.getloadavg()[0]:.2f}"]
    backends = [ask(python, FIND_BACKEND) for python in pythons]
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, name) for name in ("source", "out", "report.json")]
        folders[0].mkdir()
        work = (portraits(args.images), args.limit, LONG_SIDE[args.size], folders[0])
        with ProcessPoolExecutor(1) as pool:  # what it loads would count as the children's memory
            about.append(pool.submit(prepare, *work).result())
        count = len(list(folders[0].iterdir()))
        rows = contenders(pythons, backends, folders)
        series = measure(rows, folders, args.repeat)
    about.append(f"Load average of the machine after: {os.getloadavg()[0]:.2f}")
    about.append(f"{args.repeat} rounds after a warm-up; medians (lowest-highest)")
    print("\n".join(about))
    for looped, title in ((True, "Models loaded, start-up excluded"), (False, "Whole process, start-up included")):
        group = [(row.name, s) for row, s in zip(rows, series, strict=True) if row.looped is looped]
        print(f"\n{title}\n\n{speed_table(group, count)}")
        if looped:
            print(f"\nStages\n\n{stage_table(group)}")
    if args.json:
        named = [{"name": row.name, "looped": row.looped, **s} for row, s in zip(rows, series, strict=True)]
        args.json.write_text(json.dumps({"about": about, "rows": named}, indent=1))


if __name__ == "__main__":
    main()
