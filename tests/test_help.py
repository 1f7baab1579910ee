"""Help as people read it, and what all commands understand alike: nothing cut off, defaults, OUT in both spellings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import typer

from p3mdata.base import console
from p3mdata.base.commands import App
from p3mdata.cli import app as p3mdata_app
from p3mdata.cli import commands as command_lines
from p3mdata.errors import SettingsError
from p3mnet.cli import app as p3mnet_app
from tests.runs import p3mdata_here


def every_command() -> Iterator[tuple[str, Any]]:
    """All commands of both programs by what is typed; groups are walked through."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        for word, one in (inner or {}).items():
            yield from walk(f"{name} {word}", one)

    for name, _, panel in command_lines.lines():
        yield from walk(f"p3mdata {name}", command_lines.load(panel, name))
    yield from walk("p3mnet", typer.main.get_command(p3mnet_app))


COMMANDS = dict(every_command())


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", "80")
    return 80


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    command = COMMANDS[name]
    with pytest.raises(BaseException) as ended:  # noqa: PT011
        command.main(["--help"], prog_name=name, standalone_mode=False)
        raise typer.Exit
    assert type(ended.value).__name__ == "Exit"
    return capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_nothing_is_cut_off_at_80_columns_and_defaults_are_marked(
    name: str, columns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(name, capsys)
    assert max(map(len, shown.splitlines())) <= columns
    assert "…" not in shown
    options = dict(re.findall(r"(?m)^  (?:-\w, )?(--[\w-]+)(.*(?:\n {4,}.*)*)", shown))
    for parameter in COMMANDS[name].params:
        if getattr(parameter, "hidden", False) or parameter.param_type_name != "option":
            continue
        long = [flag for flag in parameter.opts if flag.startswith("--")]
        assert all(flag in shown for flag in [*long, *parameter.secondary_opts])
        if parameter.default not in (None, False, ()):
            assert "[default: " in " ".join(options[long[0]].split()), long


def test_settings_mark_the_defaults_that_they_have(columns: int, capsys: pytest.CaptureFixture[str]) -> None:
    shown = " ".join(help_of("p3mdata anonymize dir", capsys).split())
    for default in ("p3m", "auto", "0.02", "5", "keep", "exact", "recursive", "id", "SRC-anonymized", "progress"):
        assert f"[default: {default}]" in shown, default


def test_every_command_that_writes_takes_out_as_an_option() -> None:
    writing = [name for name, command in COMMANDS.items() if any(p.name == "out" for p in command.params)]
    assert len(writing) >= 19
    for name in writing:
        parameters = COMMANDS[name].params
        assert any({"-o", "--out"} <= set(parameter.opts) for parameter in parameters), name
        # Of commands with any number of arguments the last one is OUT, which they see to.
        arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
        assert any(p.name.startswith("out") or p.nargs == -1 for p in arguments), name


def told(*args: str, required: bool = True) -> list[Path | None]:
    """What two small commands, that name OUT as an argument and as an option, are called with."""
    found: list[Path | None] = []
    app = App(pretty_exceptions_enable=False)

    @app.command()
    def argument(source: Path, out: Annotated[Path, typer.Argument(metavar="OUT", help="where")], n: int = 0) -> None:
        found.append(out)

    @app.command()
    def option(
        source: Path, out: Annotated[Path | None, typer.Option("--out", "-o", help="where")] = None, n: int = 0
    ) -> None:
        found.append(out)

    app(list(args), standalone_mode=False)
    return found


@pytest.mark.parametrize("command", ["argument", "option"])
def test_both_spellings_mean_the_same(command: str) -> None:
    wanted = [Path("there")]
    for args in (("src", "there"), ("src", "-o", "there"), ("-o", "there", "src"), ("--out=there", "--n", "1", "src")):
        assert told(command, *args) == wanted, args
    with pytest.raises(SettingsError, match="given twice"):
        told(command, "src", "there", "--out", "elsewhere")


def test_a_missing_out_is_one_sentence() -> None:
    assert told("option", "src") == [None]
    with pytest.raises(typer.BadParameter, match="--out OUT"):
        told("argument", "src")
    done = p3mdata_here("export", "nowhere", "--to", "p3m10k")
    assert done.returncode == 2 and "OUT" in done.stderr


def test_lines_of_progress_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    for progress in (True, False):
        monkeypatch.setattr(console, "out", console.Output(progress=progress))
        clock[0] = 0.0
        with console.counted() as start:
            step = start(1000)
            for _ in range(1000):
                clock[0] += 1.0
                step()
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "5 of 1000 images, 1.00 images/s, 16 min 35 s left"
        # Ever fewer of them.
        assert 20 < len(lines) < 60
    # Of 16 seconds, nearly 5 of them models: no line foresees that start for each image.
    for models, left in ((4.9, "11 s left"), (6.0, None)):
        monkeypatch.setattr(console, "out", console.Output())
        clock[0] = 0.0
        with console.counted() as start:
            step = start(130)
            clock[0] = models
            for _ in range(130):
                step()
                clock[0] += 0.085
        line = capsys.readouterr().err.splitlines()[0]
        assert line.endswith(left or "images/s") and " of 130 images" in line
    monkeypatch.setattr(console, "out", console.Output(quiet=True))
    with console.counted() as start:
        clock[0] += 100
        start(3)()
    assert capsys.readouterr().err == ""


def test_completion_knows_commands_options_and_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for app, program, typed, wanted in (
        (p3mdata_app, "p3mdata", "build", "build-split"),
        (p3mdata_app, "p3mdata", "anonymize dir --bound", "--boundary"),
        (p3mdata_app, "p3mdata", "anonymize --bound", "--boundary"),
        (p3mdata_app, "p3mdata", "anonymize dir --method ", "mosaic"),
        (p3mdata_app, "p3mdata", "train-check --bud", "--budget"),
        (p3mnet_app, "p3mnet", "inf", "infer"),
    ):
        words = f"{program} {typed}"
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        monkeypatch.setenv(f"_{program.upper()}_COMPLETE", "complete_bash")
        with pytest.raises(SystemExit):
            app(prog_name=program)
        assert wanted in capsys.readouterr().out.split(), typed
