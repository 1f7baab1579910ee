"""The C library: made, found, and refused when it is stale or another one."""

from __future__ import annotations

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
from p3mdata.native.images import size_of
from p3mdata.native.library import load
from tests.native_levels import use


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with the smallest sources that make a library."""
    folder = tmp_path / "native"
    folder.mkdir()
    for name in ("native.h", "about.c"):
        shutil.copy(compiling.HERE / name, folder)
    return folder


def compiled(folder: Path) -> Path:
    try:
        compiling.compiler()
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
    assert {path.name for path in sources.iterdir()} == {"native.h", "about.c"}


def test_a_compiler_may_speak_any_encoding(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "CC", f"{sys.executable} -c \"import sys; sys.stderr.buffer.write(b'error: \\xabno\\xbb'); exit(1)\""
    )
    with pytest.raises(compiling.CannotCompile, match="error: .no"):
        compiling.compile_library(compiling.library_path(sources), folder=sources)


@pytest.mark.parametrize(("version", "left"), [("editable", True), ("standard", False)])
def test_building_without_a_compiler(version: str, left: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library of a tree that others use stays; none gets into a wheel; one that stays in the way is no error."""
    interface = ModuleType("hatchling.builders.hooks.plugin.interface")
    vars(interface)["BuildHookInterface"] = object
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    for parent in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    build: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[1] / "hatch_build.py"))
    folder = tmp_path / "p3mdata" / "native"
    folder.mkdir(parents=True)
    for name in ("native.h", "about.c", "compiling.py"):
        shutil.copy(compiling.HERE / name, folder)
    monkeypatch.setenv("CC", "/nowhere/cc")
    hook, warnings = build["NativeBuildHook"](), []
    hook.root, hook.app = str(tmp_path), SimpleNamespace(display_warning=warnings.append)
    made, data = compiling.library_path(folder), {"artifacts": []}
    made.write_bytes(b"others use it")
    hook.initialize(version, data)
    assert made.exists() is left and data == {"artifacts": []} and "goes without its C library" in warnings[0]
    made.unlink(missing_ok=True)
    made.mkdir()  # cannot be removed as a file, as in a tree that cannot be written to
    hook.initialize(version, data)


def test_an_error_in_the_sources_leaves_no_library(sources: Path) -> None:
    (sources / "about.c").write_text("#error not like this\n")
    with pytest.raises(compiling.CannotCompile, match="not like this"):
        compiled(sources)
    assert {path.name for path in sources.iterdir()} == {"native.h", "about.c"}


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    assert library() is None
    assert finding() == (
        False,
        "switched off by P3MDATA_NATIVE, which takes more than twice the time for the same bytes",
    )
    monkeypatch.setenv(VARIABLE, "sse9")
    with pytest.raises(SettingsError, match="Use auto, off, generic, avx2, avxvnni or vnni"):
        library()


def test_instructions_that_the_processor_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "generic")
    found = library()
    assert found is not None and found.level == 0
    if found.functions.p3m_best_level() < 3:
        monkeypatch.setenv(VARIABLE, "vnni")
        with pytest.raises(SettingsError, match="this processor lacks"):
            library()


@pytest.mark.parametrize("wrong", [np.s_[:, ::2], np.s_[:, :, :2], np.s_[:, :, ::-1], np.s_[0]])
def test_images_that_c_cannot_walk_through_are_refused(wrong: Any) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert size_of(image[1:, 1:5]) == (3, 4) and size_of(image[::-1]) == (4, 6)
    for other in (image[wrong], image.astype(np.int8), image.transpose(1, 0, 2)):
        with pytest.raises(ValueError, match="whole rows"):
            size_of(other)
