"""Wheels for every platform, made on any of them: `python -m tools.wheels [FOLDER]` (`make wheels`), else in dist/.

Each holds the C library for its platform and is else the same as all others, which is checked. ziglang, which compiles,
and hatchling are there while a wheel is built only. The same sources give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from p3mdata.native.compiling import WHEELS, library_path

ROOT = Path(__file__).resolve().parent.parent


def build(tag: str, folder: Path, cache: Path) -> Path:
    """The wheel for one platform."""
    caches = {name: str(cache) for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(
        [*command, "--wheel-dir", str(folder), str(ROOT)],
        env={**caches, **os.environ, "P3MDATA_WHEEL": tag},
        check=True,
    )
    (made,) = folder.glob(f"*-py3-none-{tag}.whl")
    return made


def shared(wheel: Path, library: str) -> dict[str, str]:
    """SHA-256 of what a wheel has in common with the others."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        if [name for name in names if name.startswith("p3mdata/native/_p3mdata")] != [library]:
            raise SystemExit(f"{wheel}: does not hold {library} alone")
        own = (library, *(name for name in names if name.endswith((".dist-info/WHEEL", ".dist-info/RECORD"))))
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names if name not in own}


def main(folder: Path) -> None:
    """Make all, and say their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    first: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache:
        for tag, target in WHEELS.items():
            made = build(tag, folder, Path(cache))
            held = shared(made, library_path(Path("p3mdata/native"), target).as_posix())
            first = first or held
            if held != first:
                differ = sorted({*held.items()} ^ {*first.items()})
                raise SystemExit(f"{made}: is not as the others: {differ[0][0]}")
            print(f"{hashlib.sha256(made.read_bytes()).hexdigest()}  {made.name}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
