"""Every command and example in README and docs works, every link leads somewhere; what marks blocks is in `pages`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml
from PIL import Image

from p3mdata.cli.sample import make_sample
from tests.factories import astronaut, matte, texture, write_png
from tests.pages import ROOT, Block, allowed_codes, blocks, commands, inline_commands, pages

PAGES = pages()
ALL = [block for page in PAGES for block in blocks(page)]
# Faults that a command has as it stands, not because the text around it is short.
_WRONG = ("NoSuchOption", "no such option", "No such command", "unexpected extra argument", "does not take a value")


def ids(value: Any) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


@cache
def program(name: str) -> Any:
    from p3mdata.cli import app as p3mdata_app
    from p3mdata.cli.commands import lines, load
    from p3mnet.cli import app as p3mnet_app

    found = typer.main.get_command({"p3mdata": p3mdata_app, "p3mnet": p3mnet_app}[name])
    for line in lines() if name == "p3mdata" else ():
        # Until it is called a command is a line of the help.
        found.commands[line.name] = load(line.panel, line.name)
    return found


def below(command: Any, name: str) -> Any:
    """A command of a group, as it is when it is called: until then a group may know a line of its help alone."""
    return command.resolve_command(typer.Context(command), [name])[1]


@cache
def every_option() -> frozenset[str]:
    found = {"--help", "--version"}

    def walk(command: Any) -> None:
        for parameter in command.params:
            found.update([*parameter.opts, *parameter.secondary_opts])
        context = typer.Context(command)
        for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
            walk(below(command, name))

    walk(program("p3mdata"))
    walk(program("p3mnet"))
    return frozenset(found)


def parse(words: list[str], strict: bool = True) -> None:
    """Give a command of ours to its own parser, without carrying it out.

    Raises:
        AssertionError: A command, option or value does not exist; with `strict` also where something is missing.
    """
    command, name, args = program(words[0]), words[0], words[1:]
    try:
        while True:
            is_group = hasattr(command, "list_commands")
            context = command.make_context(name, list(args))
            if not is_group:
                return
            rest = [*getattr(context, "_protected_args", ()), *context.args]
            name, command, args = command.resolve_command(context, rest)
    except Exception as exc:
        if "UsageError" not in [kind.__name__ for kind in type(exc).__mro__]:
            raise
        message = f"{type(exc).__name__}: {getattr(exc, 'message', exc)}"
        wrong = strict or any(word.lower() in message.lower() for word in _WRONG)
        assert not wrong, f"{shlex.join(words)}: {message}"


def extras(folder: Path) -> set[str]:
    """Names of optional parts of a distribution."""
    _, _, tables = (folder / "pyproject.toml").read_text().partition("[project.optional-dependencies]")
    return set(re.findall(r"^(\w+) = ", tables.partition("\n[")[0], re.M))


def check_words(words: list[str]) -> None:
    """Any command that a page gives, as far as it can be told without running it."""
    while words and re.fullmatch(r"[A-Z0-9_]+=\S*", words[0]):
        words = words[1:]
    words = [words[0].removeprefix(".venv/bin/"), *words[1:]]
    match words:
        case ["p3mdata" | "p3mnet", *_]:
            parse(words)
        case ["pip", "install", *what]:
            for target in what:
                found = re.fullmatch(r"(-e|--editable|\.|\./p3mnet|p3mdata)(?:\[([\w,]+)\])?", target)
                assert found, target
                assert set((found[2] or "").split(",")) - {""} <= extras(ROOT / found[1].replace("p3mdata", "."))
        case ["make", *targets]:
            rules = (ROOT / "Makefile").read_text()
            assert targets and all(re.search(rf"^{re.escape(target)}:", rules, re.M) for target in targets), targets
        case ["apt-get", "install", *packages]:
            script = (ROOT / "tools" / "system-libraries").read_text()
            assert all(
                name in ("make", "python3-venv") or name in script for name in packages if not name.startswith("-")
            ), packages
        case ["sbatch", *rest]:
            at = next(place for place, word in enumerate(rest) if word.endswith(".sh"))
            assert (ROOT / rest[at]).is_file(), rest[at]
            parse(["p3mdata", "anonymize", "dir", *rest[at + 1 :]])
        case ["kubectl", "apply", "-f", file]:
            assert (ROOT / file).is_file()
        case ["torchrun", *rest]:
            at = rest.index("-m")
            assert rest[at + 1] == "p3mnet", rest
            parse(["p3mnet", *rest[at + 2 :]])
        case ["python", "-m", module, *rest] if module.split(".")[0] in ("benchmarks", "tests"):
            source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
            assert all(f'"{word}"' in source for word in rest if word.startswith("--")), rest
        case ["python", "-m", "pytest", *rest]:
            assert all((ROOT / word.partition("::")[0]).exists() for word in rest if word.startswith("tests")), rest
        case ["git" | "cd" | "ln" | "sh" | "curl" | "python" | "python3" | "pre-commit", *_]:
            pass
        case _:
            pytest.fail(f"what is this command? {shlex.join(words)}")


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "sh"], ids=ids)
def test_commands_have_the_options_that_pages_give_them(block: Block) -> None:
    for command, _ in commands(block.text):
        for part in re.split(r"\s(?:&&|\||;)\s", command):
            words = shlex.split(part)
            if words[0] not in ("echo", "mkdir", "mv", "cp", "ls"):
                check_words(words)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_and_options_in_sentences_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md" or page.parent in (ROOT / "benchmarks", ROOT / "findings"):
        pytest.skip("tells of earlier versions, or of other programs")
    for line, span in inline_commands(page):
        if span.startswith("--"):
            # Options of benchmarks and of other programs stand in whole commands only.
            assert re.match(r"--[\w-]+", span)[0] in every_option(), f"{page.name}:{line}: {span}"
        else:
            parse([word for word in shlex.split(span.partition(" | ")[0]) if word != "..."], strict=False)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        if file.startswith(("http:", "https:")):
            continue
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{page.name}: {target}"


def test_every_page_of_docs_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in readme]
    assert not missing
    assert readme.count("\n") <= 130


@pytest.mark.parametrize("block", [block for block in ALL if block.language in ("python", "yaml", "json")], ids=ids)
def test_examples_are_well_formed(block: Block) -> None:
    if block.language == "python":
        compile(block.text, str(block), "exec")
    else:
        yaml.safe_load(block.text)


def _reduced(sample: Path, store: Path) -> None:
    """Some of the sample's photographs and mattes, smaller."""
    for name in ("grey.png", "large.jpg", "lossless.webp", "no-face.jpg", "scan.tif"):
        for source, target in (("photos", name), ("mattes", f"{Path(name).stem}.png")):
            (store / source).mkdir(exist_ok=True)
            with Image.open(sample / source / target) as picture:
                picture.resize((480, 480 * picture.height // picture.width)).save(store / source / target)


def _people(place: Path) -> None:
    """A dataset of pictures that are no copies of each other: the portrait, larger and smaller, before textures."""
    for number in range(9):
        side = 300 + 24 * number
        height, width, top, left = 520, 420 + 40 * (number % 4), 520 - side, 12 * number
        rgb = texture(height, width, number) * (0.5 + 0.06 * number)
        alpha = np.zeros((height, width), np.uint8)
        across = min(side, width - left)
        alpha[top:, left : left + across] = matte(side)[:, :across]
        person = np.zeros_like(rgb)
        person[top:, left : left + across] = astronaut(side)[:, :across]
        share = alpha[:, :, None] / 255
        write_png(
            place / "photos" / f"person{number}.png", np.rint(share * person + (1 - share) * rgb).astype(np.uint8)
        )
        write_png(place / "mattes" / f"person{number}.png", alpha)
    shell("p3mdata anonymize dir photos run --alphas mattes --quiet", place)
    shell("p3mdata build-split run data --validation 2 --quiet", place)


# What blocks can be tested with: names of things in their folder.
@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...], Path], None]:
    store = tmp_path_factory.mktemp("things")

    def make(name: str) -> Path:
        place = store / name
        if place.exists():
            return place
        if name == "sample":
            make_sample(place)
        elif name == "people":
            _people(place)
        elif name in ("photos", "mattes"):
            _reduced(make("sample"), store)
        elif name == "run":
            make("photos")
            shell("p3mdata anonymize dir photos run --alphas mattes --workers 1 --quiet", store)
        elif name == "data":
            make("run")
            shell("p3mdata build-split run data --validation 1 --quiet", store)
        else:
            raise AssertionError(f"nothing is known about '{name}', which a page wants to be tested with")
        return place

    def lay(names: tuple[str, ...], folder: Path) -> None:
        for name in names:
            # The sample is that of `make demo`; it and the people are folders of several things.
            whole = name in ("sample", "people")
            shutil.copytree(make(name), folder if whole else folder / name, dirs_exist_ok=True)

    return lay


@pytest.fixture(scope="module")
def path_with_programs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bin")
    for name in ("p3mdata", "p3mnet"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        script.chmod(0o755)
    return f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def shell(command: str, folder: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "400", "P3MDATA_WORKERS": "1"}
    if path is None:
        command = f'p3mdata() {{ "{sys.executable}" -m p3mdata "$@"; }}; {command}'
    else:
        environment["PATH"] = path
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
    )


def without_numbers(text: str) -> list[str]:
    return [
        re.sub(r"[-+]?[\d,]*\.?\d+(e-?\d+)?%?", "N", re.sub(r"\s+", " ", line)).strip() for line in text.splitlines()
    ]


def sections() -> Iterator[list[Block]]:
    """Blocks that share a folder."""
    for page in PAGES:
        part: list[Block] = []
        for block in blocks(page):
            if block.things is not None and part:
                yield part
                part = []
            if (block.language in ("sh", "python") or "output" in block.words) and not block.needs:
                part.append(block)
        if part:
            yield part


def runnable(part: list[Block]) -> bool:
    return part[0].things is not None


@pytest.mark.parametrize("part", list(sections()), ids=lambda part: str(part[0]))
def test_blocks_say_what_they_are_tested_with(part: list[Block]) -> None:
    assert runnable(part) or all(block.language == "sh" and set(_programs(block)) <= {"make"} for block in part), (
        f"{part[0]}: say '<!-- tested with: ... -->' before it, or 'needs=...' on its first line"
    )


def _programs(block: Block) -> list[str]:
    return [command.split()[0] for command, _ in commands(block.text)]


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in sections() if runnable(part)], ids=lambda part: str(part[0]))
def test_blocks_run_as_they_stand(
    part: list[Block],
    things: Callable[[tuple[str, ...], Path], None],
    path_with_programs: str,
    tmp_path: Path,
) -> None:
    things(part[0].things or (), tmp_path)
    printed = ""
    for block in part:
        if block.language == "sh":
            printed = ""
            for command, comment in commands(block.text):
                done = shell(command, tmp_path, path_with_programs)
                assert done.returncode in allowed_codes(comment), f"{block}: {command}\n{done.stdout}{done.stderr}"
                printed += done.stdout + done.stderr
        elif block.language == "python":
            done = subprocess.run(
                [sys.executable, "-c", block.text], cwd=tmp_path,
                capture_output=True, text=True, check=False, timeout=900,
            )  # fmt: skip
            assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
            printed = done.stdout
        else:
            real = without_numbers(printed.replace(f"{tmp_path}/", ""))
            for line in without_numbers(block.text):
                assert not line or line in real, f"{block}: '{line}' is not among\n{printed}"


def test_every_room_is_in_the_table_of_rooms() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.M)
    told = {name.strip("/"): int(floor) for floor, names in rows for name in re.findall(r"`([^`]+)`", names)}
    contract = (ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("]")[0]
    floors = re.findall(r'"([^"]+)"', contract)
    rooms = {room: len(floors) - 1 - at for at, floor in enumerate(floors) for room in floor.split(" | ")}
    unnamed = {"version"}
    assert {name.removesuffix(".py"): floor for name, floor in told.items()} == {
        room: floor for room, floor in rooms.items() if room not in unnamed
    }


def test_the_walk_of_one_image_names_each_file_once() -> None:
    walk = (ROOT / "ARCHITECTURE.md").read_text().partition("<!-- walk -->")[2].partition("\n## ")[0]
    files = re.findall(r"`([\w/]+\.py)`", walk)
    assert len(files) > 30 and len(set(files)) == len(files) and files[0].startswith("cli/")
    assert [file for file in files if not (ROOT / "p3mdata" / file).is_file()] == []


def test_every_option_of_anonymize_is_in_the_table_of_settings() -> None:
    command = program("p3mdata")
    for name in ("anonymize", "dir"):
        command = below(command, name)
    page = (ROOT / "docs" / "settings.md").read_text()
    given = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    options = [parameter.opts[0] for parameter in given if parameter.opts[0].startswith("--")]
    options = [option for option in options if option != "--help"]
    assert len(options) > 25
    assert [option for option in options if f"`{option}" not in page and f" {option}" not in page] == []
