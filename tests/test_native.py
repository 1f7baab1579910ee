"""The C library: made, found, and refused when it is stale or another one."""

from __future__ import annotations

import platform
import runpy
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from p3mdata.errors import SettingsError
from p3mdata.native import LEVELS, VARIABLE, compiling, finding, library
from p3mdata.native import __main__ as in_place
from p3mdata.native.images import size_of
from p3mdata.native.library import load
from tests.native_levels import use


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with the smallest sources that make a library."""
    folder = tmp_path / "native"
    folder.mkdir()
    for name in ("native.h", "processor.h", "about.c"):
        shutil.copy(compiling.HERE / name, folder)
    return folder


def compiled(folder: Path) -> Path:
    try:
        compiling.compilers()
    except compiling.CannotCompile:
        pytest.skip("no C compiler here")
    return compiling.compile_library(compiling.library_path(folder), folder=folder)


def test_a_library_is_used_while_its_sources_are_those_it_was_made_from(sources: Path) -> None:
    compiled(sources)
    functions, why = load(sources)
    assert functions is not None and not why
    assert 0 <= functions.p3m_best_level() < len(LEVELS)
    load.cache_clear()
    (sources / "about.c").write_text((sources / "about.c").read_text() + "// changed\n")
    assert load(sources) == (None, "not used, since it was compiled from other sources")
    assert [path.name for path in sources.iterdir() if path.name.startswith(".made")] == []


def test_line_ends_of_a_checkout_are_no_other_sources(sources: Path) -> None:
    before = compiling.digest(sources)
    (sources / "about.c").write_bytes((sources / "about.c").read_bytes().replace(b"\n", b"\r\n"))
    assert compiling.digest(sources) == before
    (sources / "about.c").rename(sources / "other.c")
    assert compiling.digest(sources) != before


@pytest.mark.parametrize(("attribute", "value"), [("byteorder", "big"), ("maxsize", 2**31 - 1)])
def test_other_processors_go_without(attribute: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, attribute, value)
    monkeypatch.setitem(finding.__globals__, "load", load.__wrapped__)
    monkeypatch.setitem(finding.__globals__, "library", lambda: None)
    assert finding() == (False, "not for this processor, which takes more than twice the time for the same bytes")


def test_a_library_that_cannot_be_loaded_is_not_used(sources: Path) -> None:
    assert load(sources) == (None, "not compiled")
    load.cache_clear()
    compiling.library_path(sources).write_bytes(b"\x7fELF, but cut off")
    functions, why = load(sources)
    assert functions is None and why.startswith("not used, since it cannot be loaded")


@pytest.mark.parametrize("text", ['"\\xff\\xfe"', "0", '""'])
def test_a_library_that_tells_something_else_is_not_used(sources: Path, text: str) -> None:
    about = sources / "about.c"
    about.write_text(about.read_text().replace("{ return P3M_SOURCES; }", f"{{ return {text}; }}"))
    compiled(sources)
    assert load(sources) == (None, "not used, since it was compiled from other sources")


def test_a_compiler_that_is_missing_or_fails_is_named(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(sources))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(compiling.CannotCompile, match="no C compiler"):
        compiling.compile_library(compiling.library_path(sources), folder=sources)
    monkeypatch.setenv("CC", "/nowhere/cc -m64")
    with pytest.raises(compiling.CannotCompile, match="/nowhere/cc -m64 cannot be run"):
        compiling.compile_library(compiling.library_path(sources), folder=sources)
    monkeypatch.setenv("CC", "'gcc")
    with pytest.raises(compiling.CannotCompile, match="CC is ''gcc', which is no command"):
        compiling.compile_library(compiling.library_path(sources), folder=sources)
    monkeypatch.setenv("CC", " ")
    with pytest.raises(compiling.CannotCompile, match="no C compiler"):
        compiling.compile_library(compiling.library_path(sources), folder=sources)
    assert {path.name for path in sources.iterdir()} == {"native.h", "processor.h", "about.c"}


def test_a_compiler_may_speak_any_encoding(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CC", f"{sys.executable} -c \"import sys; sys.stderr.buffer.write(b'error: \\xabno\\xbb'); exit(1)\""
    )
    with pytest.raises(compiling.CannotCompile, match="error: .no"):
        compiling.compile_library(compiling.library_path(sources), folder=sources)


def test_an_assembler_may_be_older_than_its_compiler(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not know is left out, which is one instruction set of four."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    old = sources.parent / "old.py"
    old.write_text(
        "import os, sys\n"
        "if '-DP3M_WITHOUT_AVXVNNI' not in sys.argv: sys.exit('Error: no such instruction: {vex} vpdpwssd')\n"
        f"os.execv({compiler!r}, [{compiler!r}, *sys.argv[1:]])\n"
    )
    monkeypatch.setenv("CC", f"{sys.executable} {old}")
    compiled(sources)
    functions, why = load(sources)
    assert functions is not None and not why
    (sources / "about.c").write_text("#error not like this\n")
    with pytest.raises(compiling.CannotCompile, match=r"^[^;]*old.py fails: Error: no such instruction[^;]*$"):
        compiled(sources)


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="asks Linux's GCC")
def test_gcc_for_windows_makes_no_vectors_which_would_crash(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no GCC here")
    monkeypatch.setenv("CC", "gcc -D__CYGWIN__")
    functions, _ = load(compiled(sources).parent)
    assert functions is not None and functions.p3m_best_level() == 0
    assert functions.p3m_level_names() == b"generic"
    monkeypatch.delenv("CC")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(shutil, "which", lambda name: f"C:\\{name}.exe")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(compiling.CannotCompile, match=r"no C compiler \(that of CC or the package ziglang\)"):
        compiling.compilers()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert [command[1:3] for command in compiling.compilers()] == [["-m", "ziglang"]]


def test_a_library_of_another_kind_of_processor_is_not_used(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems that emulate a processor may name their own: numbers of levels would stand for other ones."""
    compiled(sources)
    others = ("generic", "neon", "dotprod") if "avx2" in LEVELS else ("generic", "avx2", "avxvnni", "vnni")
    monkeypatch.setitem(load.__wrapped__.__globals__, "LEVELS", others)
    assert load(sources) == (None, "not for this processor")


def build_hook(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[str]]:
    """What hatch_build.py makes of a folder, without hatchling; and what it warns of."""
    interface = ModuleType("hatchling.builders.hooks.plugin.interface")
    vars(interface)["BuildHookInterface"] = object
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    for parent in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    build: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[1] / "hatch_build.py"))
    folder = root / "p3mdata" / "native"
    folder.mkdir(parents=True)
    for name in ("native.h", "processor.h", "about.c", "compiling.py"):
        shutil.copy(compiling.HERE / name, folder)
    hook, warnings = build["NativeBuildHook"](), []
    hook.root, hook.app = str(root), SimpleNamespace(display_warning=warnings.append)
    return hook, warnings


@pytest.mark.parametrize(("version", "left"), [("editable", True), ("standard", False)])
def test_building_without_a_compiler(version: str, left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library of a tree that others use stays; none gets into a wheel; one that stays in the way is no error."""
    monkeypatch.setenv("CC", "/nowhere/cc")
    hook, warnings = build_hook(tmp_path, monkeypatch)
    made, data = compiling.library_path(tmp_path / "p3mdata" / "native"), {"artifacts": []}
    made.write_bytes(b"others use it")
    hook.initialize(version, data)
    assert made.exists() is left and data == {"artifacts": []} and "goes without its C library" in warnings[0]
    made.unlink(missing_ok=True)
    made.mkdir()  # cannot be removed as a file, as in a tree that cannot be written to
    hook.initialize(version, data)
    assert hook.dependencies() == []


def program(path: Path, text: str) -> None:
    path.write_text(f"#!{sys.executable} -S\n{text}\n")
    path.chmod(0o755)


WRITES = "import sys; open(sys.argv[sys.argv.index('-o') + 1], 'w').write(' '.join(sys.argv))"


@pytest.mark.skipif(sys.platform == "win32", reason="makes programs of scripts")
def test_a_build_asks_for_a_compiler_where_none_works_and_one_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CC", VARIABLE, "P3MDATA_WHEEL", "UV"):
        monkeypatch.delenv(name, raising=False)
    hook, _ = build_hook(tmp_path, monkeypatch)
    tools = tmp_path / "tools"
    tools.mkdir()
    # A compiler that lacks its headers, as Debian's may, and an installer that says what it was asked for.
    program(tools / "cc", "exit(1)")
    program(tools / "uv", f"import sys; open({str(tmp_path / 'asked')!r}, 'w').write(' '.join(sys.argv[1:]))")
    program(tools / "no-uv", "exit(1)")
    program(tmp_path / "gcc", WRITES)
    monkeypatch.setenv("PATH", str(tools))
    for name in ("executable", "_base_executable"):
        monkeypatch.setattr(sys, name, "/nowhere/python", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert hook.dependencies() == [compiling.ZIGLANG]
    assert (tmp_path / "asked").read_text().endswith(compiling.ZIGLANG)
    for uv in (tools / "no-uv", "/nowhere/uv"):
        monkeypatch.setenv("UV", str(uv))
        assert hook.dependencies() == []
    monkeypatch.delenv("UV")
    monkeypatch.setenv(VARIABLE, "off")
    assert hook.dependencies() == []
    monkeypatch.delenv(VARIABLE)
    # Another compiler takes its place.
    (tmp_path / "gcc").rename(tools / "gcc")
    assert hook.dependencies() == []


@pytest.mark.skipif(sys.platform == "win32", reason="makes programs of scripts")
@pytest.mark.parametrize("tag", compiling.WHEELS)
def test_wheels_for_other_platforms(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ziglang alone, with a library that this tree does not load."""
    monkeypatch.setenv("P3MDATA_WHEEL", tag)
    hook, _ = build_hook(tmp_path, monkeypatch)
    program(tmp_path / "python", WRITES)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert hook.dependencies() == [compiling.ZIGLANG]
    data: dict[str, Any] = {"artifacts": [], "force_include": {}}
    hook.initialize("standard", data)
    ((made, place),) = data["force_include"].items()
    suffix = ".dll" if "win" in tag else ".dylib" if "macos" in tag else ".so"
    assert place == f"p3mdata/native/_p3mdata{suffix}"
    command = Path(made).read_text()
    assert f"-m ziglang cc -mcpu=baseline -fno-sanitize=all -g0 -s -target {compiling.WHEELS[tag]} " in command
    assert "-ffp-contract=off" in command and ("-fPIC" in command) == (suffix == ".so")
    assert data["tag"] == f"py3-none-{tag}" and not data["pure_python"] and not data["artifacts"]
    hook.finalize("standard", data, "")
    assert not Path(made).exists()
    assert not [path for path in (tmp_path / "p3mdata" / "native").iterdir() if "_p3mdata" in path.name]


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="reads Linux's list")
def test_instructions_are_those_that_the_system_lists(sources: Path) -> None:
    functions, _ = load(compiled(sources).parent)
    line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    flags, best = set(line.split()), LEVELS[functions.p3m_best_level()]
    assert (best != "generic") == ({"avx2", "fma", "bmi2"} <= flags)
    assert (best == "vnni") == ({"avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"} <= flags)


def test_who_has_no_library_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setitem(finding.__globals__, "load", lambda folder: (None, "not compiled"))
    monkeypatch.setitem(finding.__globals__, "library", lambda: None)
    used, words = finding()
    assert not used and words.endswith(
        f": install a C compiler, or one by 'pip install {compiling.ZIGLANG}', then run 'python -m p3mdata.native'"
    )


@pytest.mark.parametrize("fresh", [True, False])
def test_compiling_in_place_without_a_compiler(
    fresh: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library that a compiler made which is gone, as at installation, is no failure."""
    monkeypatch.setenv("CC", "/nowhere/cc")
    monkeypatch.setattr(in_place, "load", lambda folder: (object(), "") if fresh else (None, "not compiled"))
    assert in_place.main() == (0 if fresh else 1)
    told = capsys.readouterr()
    assert ("compiled before" in told.out, "not compiled: /nowhere/cc" in told.err) == (fresh, not fresh)


def test_an_error_in_the_sources_leaves_no_library(sources: Path) -> None:
    (sources / "about.c").write_text("#error not like this\n")
    with pytest.raises(compiling.CannotCompile, match="not like this"):
        compiled(sources)
    assert {path.name for path in sources.iterdir()} == {"native.h", "processor.h", "about.c"}


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    assert library() is None
    assert finding() == (
        False,
        "switched off by P3MDATA_NATIVE, which takes more than twice the time for the same bytes",
    )
    monkeypatch.setenv(VARIABLE, "sse9")
    with pytest.raises(SettingsError, match=f"Use auto, off, generic, .*{LEVELS[-1]}"):
        library()


def test_instructions_that_the_processor_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "generic")
    found = library()
    assert found is not None and found.level == 0
    if found.functions.p3m_best_level() < len(LEVELS) - 1:
        monkeypatch.setenv(VARIABLE, LEVELS[-1])
        with pytest.raises(SettingsError, match="this processor lacks"):
            library()


@pytest.mark.parametrize("wrong", [np.s_[:, ::2], np.s_[:, :, :2], np.s_[:, :, ::-1], np.s_[0]])
def test_images_that_c_cannot_walk_through_are_refused(wrong: Any) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert size_of(image[1:, 1:5]) == (3, 4) and size_of(image[::-1]) == (4, 6)
    for other in (image[wrong], image.astype(np.int8), image.transpose(1, 0, 2)):
        with pytest.raises(ValueError, match="whole rows"):
            size_of(other)
