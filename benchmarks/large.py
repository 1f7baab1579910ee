"""Memory of large pictures beside each other, held against what was planned for them.

    python -m benchmarks.large                      # two progressive JPEG files of 190 megapixels, two workers
    python -m benchmarks.large --spare 0            # as on a machine that has nothing beyond the workers' shares

The demo's portrait is enlarged and saved. The run is a process of its own; twenty times a second the resident memory
of all its processes is summed. Exit 1 when the sum exceeds the shares of the workers and what was lent beyond them, or
when a picture was not released.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from p3mdata.base.files import sha256
from p3mdata.base.ids import new_secret, sample_id
from p3mdata.base.processes import MODEL_BYTES, WORKER_BYTES
from p3mdata.cli.sample import portrait
from p3mdata.imaging.memory import memory_for

_MIB = 1024**2
_SHARD = 4
# The parent: libraries, no models.
_PARENT = 250 * _MIB
_RUN = """
import sys
from pathlib import Path
from p3mdata.config import Execution, Job
from p3mdata.run import room
from p3mdata.run.job import anonymize_job
if __name__ == "__main__":
    source, out, workers, spare = sys.argv[1:]
    if spare != "free":
        room.free_memory = lambda: int(workers) * room.WORKER_BYTES + int(spare)
    execution = Execution(workers=int(workers), secret_file=Path(source).with_name("secret"))
    done = anonymize_job(Job(source=Path(source), out=Path(out), execution=execution))
    print(done.released)
"""


def resident(process: int) -> int:
    """Bytes of a process and of those that it started; pages that they share count once for each."""
    total, waiting = 0, [process]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            waiting += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except OSError:
            continue
    return total


def apart(source: Path, pictures: int) -> str:
    """A secret under which the large pictures come into different shards, so that workers meet them at once."""
    digests = {path.name: sha256(path.read_bytes()) for path in source.iterdir()}
    while True:
        secret = new_secret()
        order = sorted(digests, key=lambda name: sample_id(digests[name], name, 0, secret))
        if len({order.index(f"{number}.jpg") // _SHARD for number in range(pictures)}) == pictures:
            return secret


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=13800)
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--spare", default="free", help="bytes beyond the workers' shares; free = what there is")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p3mdata-large-") as place:
        source = Path(place) / "src"
        source.mkdir()
        for number in range(args.pictures):
            large = Image.fromarray(portrait()).resize((args.side, args.side), Image.Resampling.BILINEAR)
            large.save(source / f"{number}.jpg", quality=85 - number, progressive=True)
            del large
            # Shards of four pictures: each picture is to be in one of its own.
            for filler in range(3):
                Image.fromarray(portrait()).save(source / f"{number}-{filler}.png", compress_level=filler + 1)
        (Path(place) / "secret").write_text(apart(source, args.pictures))
        needed = memory_for((source / "0.jpg").read_bytes(), args.side**2) + MODEL_BYTES - WORKER_BYTES
        (Path(place) / "run.py").write_text(_RUN)
        command = [sys.executable, f"{place}/run.py", str(source), f"{place}/out", str(args.workers), args.spare]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        peak, begun = 0, time.monotonic()
        while run.poll() is None:
            peak = max(peak, resident(run.pid))
            time.sleep(0.05)
        released = int(run.communicate()[0] or 0)
    together = args.workers if args.spare == "free" else max(1, int(args.spare) // needed)
    planned = _PARENT + args.workers * WORKER_BYTES + together * needed
    print(
        f"{args.pictures} pictures of {args.side**2 / 1e6:.0f} megapixels, {args.workers} workers, spare {args.spare}: "
        f"peak {peak / _MIB:,.0f} MiB, planned {planned / _MIB:,.0f} MiB ({together} at a time), {released} released, "
        f"{time.monotonic() - begun:.0f} s"
    )
    sys.exit(0 if peak <= planned and released == 4 * args.pictures else 1)


if __name__ == "__main__":
    main()
