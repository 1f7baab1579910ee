"""Speed and memory of `p3mdata anonymize dir`, against deface and against decoding and encoding alone.

All tools get the same JPEG files, run in turns (A B C A B C) in one worker pinned to one core, and write their
output files. The first round is not counted. See README.md in this folder.
"""

from __future__ import annotations

import argparse
import atexit
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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LONG_SIDE = {"1080p": 1920, "4k": 3840}
QUALITY = 92
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
# Where each tool writes its pictures.
WRITTEN = ("*_anonymized.jpg", "images/*.jpg", "*.out.jpg")
STAGES = ("read", "decode", "detect", "mask", "obfuscate+encode", "verify", "write")
REDETECTION = "re-detection (part of verify)"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
RUN_DEFACE = "from deface.deface import main; main()"
FIND_BACKEND = "from deface.centerface import CenterFace; print(CenterFace(backend='auto').backend)"
FIND_VERSIONS = "import importlib.metadata as m; print(*sorted({d.name + ' ' + d.version for d in m.distributions()}))"
NAMED_VERSIONS = ("p3mdata", "deface", "onnxruntime", "onnx", "opencv-python", "mediapipe", "numpy", "pillow")
FLOOR = "decode+encode, Pillow"
HELD_BACK = 3  # exit code of p3mdata when a picture waits for a person

Work = Callable[[Path], None]
# What one contender came to: a list per measured quantity, one entry per counted round.
Series = dict[str, list[Any]]


@dataclass(frozen=True)
class Contender:
    """One row of a table: a command over a folder. A looped one loads first and reports its own times."""

    name: str
    command: list[str]
    looped: bool


# What runs inside a child process: models are loaded once, then every file is timed.


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

    copy = {"pillow": with_pillow, "cv2": with_cv2}[library]

    def work(path: Path) -> None:
        (out / f"{path.stem}.out.jpg").write_bytes(copy(path.read_bytes()))

    return work


def _ours(jpeg: str, source: Path, out: Path, stages: Counter[str]) -> Work:
    from p3mdata import proofs
    from p3mdata.config import Job, JpegMode, Settings
    from p3mdata.faces.ensemble import FaceFinder
    from p3mdata.plan import make_plan
    from p3mdata.records import Outcome
    from p3mdata.shards import Stage, process

    job = Job(source=source, out=out, settings=Settings(jpeg=JpegMode(jpeg)))
    samples = {sample.source: sample for sample in make_plan(job)[1]}
    finder = FaceFinder()
    atexit.register(finder.close)
    redetect, last = proofs.redetect, 0.0

    def tick(stage: str) -> None:
        nonlocal last
        begin, last = last, time.perf_counter()
        stages[stage] += last - begin  # type: ignore[assignment]

    def timed(*args: Any) -> Any:
        begin = time.perf_counter()
        found = redetect(*args)
        stages[REDETECTION] += time.perf_counter() - begin  # type: ignore[assignment]
        return found

    proofs.redetect = timed  # type: ignore[assignment]

    def work(path: Path) -> None:
        nonlocal last
        last = time.perf_counter()
        result = process(samples[path.name], job, lambda: finder, Stage.ALL, tick)
        if result.outcome is Outcome.BROKEN:
            raise RuntimeError(result.detail)

    return work


def _deface(scale: str, out: Path) -> Work:
    from deface.centerface import CenterFace
    from deface.deface import image_detect

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
    files = sorted(source.iterdir())
    wall, cpu = time.perf_counter(), time.process_time()
    for path in files:
        work(path)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    report.write_text(json.dumps({"wall": wall, "cpu": cpu, "stages": stages}))


def contenders(pythons: Sequence[str], backends: Sequence[str], folders: Sequence[Path]) -> list[Contender]:
    """All rows in the order of their turns; `backends` are what deface runs its network with in each of `pythons`."""
    source, out, report = map(str, folders)

    def looped(name: str, python: str, kind: str) -> Contender:
        return Contender(name, [python, str(Path(__file__).resolve()), "--child", kind, source, out, report], True)

    command = [sys.executable, "-m", "p3mdata", "anonymize", "dir", source, out, "--workers", "1", "--overwrite", "-q"]
    whole = [Contender("p3mdata exact", command, False)]
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
        command = [python, "-c", RUN_DEFACE, out]
        whole += [Contender(f"deface ({backend})", command, False)]
        whole += [Contender(f"deface 640x640 ({backend})", [*command, "--scale", "640x640"], False)]
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

    count = min(limit, len(paths)) or limit
    chosen = [paths[i * len(paths) // count] for i in range(count)] if paths else []
    pictures: Iterable[Image.Image] = (ImageOps.exif_transpose(Image.open(p)).convert("RGB") for p in chosen)
    what = f"{count} of {len(paths)} photographs"
    if not paths:
        from p3mdata.demo import portrait

        pictures, what = [Image.fromarray(portrait())] * count, f"{count} copies of the demo's portrait"
    pixels = size = 0
    for number, picture in enumerate(pictures):
        factor = long_side / max(picture.size)
        width, height = (max(1, round(side * factor)) for side in picture.size)
        path = into / f"{number:03d}.jpg"
        picture.resize((width, height), Image.Resampling.LANCZOS).save(path, quality=QUALITY, subsampling=2)
        pixels, size = pixels + width * height, size + path.stat().st_size
    return f"{what}, longer side {long_side} px, mean {pixels / 1e6 / count:.2f} MP and {size / 1e6 / count:.2f} MB"


def run_once(row: Contender, source: Path, out: Path, report: Path) -> dict[str, Any]:
    """One contender over all files, in a process of its own and a fresh folder."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(source, out) if RUN_DEFACE in row.command else out.mkdir()
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": str(ROOT)}
    messages = report.with_name("log.txt")
    begin = time.perf_counter()
    with messages.open("wb") as log:
        child = subprocess.Popen(row.command, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, HELD_BACK):
        sys.exit(f"{row.name} failed:\n{messages.read_text(errors='replace')[-2000:]}")
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
            how = "models loaded" if row.looped else "whole process"
            print(f"round {number}: {row.name}, {how}: {got['images_per_s']:.2f} images/s", file=sys.stderr)
            for key, value in got.items() if number else ():
                into.setdefault(key, []).append(value)
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
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(ROOT.glob("p3mdata/**/*.py")))).hexdigest()
    about = [f"Processor: {[*models, platform.machine()][0]}, {os.cpu_count()} cores, one used"]
    about += [f"Python {platform.python_version()}; SHA-256 of p3mdata's code {code[:12]}"]
    for number, python in enumerate(dict.fromkeys([sys.executable, *pythons])):
        words = ask(python, FIND_VERSIONS).split()
        named = [f"{name} {words[words.index(name) + 1]}" for name in NAMED_VERSIONS if name in words]
        about.append(f"Environment {number + 1}: {', '.join(named)}")
    return about


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--child"]:
        loop(sys.argv[2], *map(Path, sys.argv[3:]))
        return
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
        about.append(prepare(portraits(args.images), args.limit, LONG_SIDE[args.size], folders[0]))
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
        args.json.write_text(json.dumps({"about": about, "images": count, "rows": named}, indent=1))


if __name__ == "__main__":
    main()
