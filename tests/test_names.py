"""`--names keep`: released files are called as their sources, no two alike, and every later step agrees."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from pathlib import Path

import jsonschema
import pytest

import p3mdata
import p3mnet
from p3mdata.base.jsonl import read_json, read_rows
from p3mdata.base.resources import manifests_dir
from p3mdata.base.tables import csv_line
from p3mdata.cli.chosen import chosen_sources
from p3mdata.config import Execution, Format, Job, Names, Settings
from p3mdata.dataset.build import SplitSettings, build_split
from p3mdata.dataset.check import check_dataset
from p3mdata.dataset.layout import read_layout
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.export import export
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import ImageResult, Outcome
from p3mdata.review.removal import remove_images
from p3mdata.run.fetch import fetch_run
from p3mdata.run.job import anonymize_job, verify_run
from p3mdata.run.layout import MANIFEST, NAMES, PLAN
from p3mdata.run.merge import merge_runs
from p3mdata.run.names import KeptNames
from p3mdata.run.rows import names_file
from tests.factories import encoded, matte
from tests.runs import contents, p3mdata_here, portraits

SIDE = 160
SOURCES = ("anna/photo.jpg", "anna/photo.png", "bob/photo.JPEG", "top.jpg")
KEPT = Settings(names=Names.KEEP)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = portraits(tmp_path_factory.mktemp("names") / "src", *SOURCES, side=SIDE)
    for index, name in enumerate(SOURCES):
        path = folder.with_name("alphas") / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(matte(SIDE + index), "PNG"))
    return folder


def a_run(source: Path, out: Path | str, settings: Settings = KEPT, **more: object) -> Path:
    job = Job(
        source=source,
        out=out,
        alphas=source.parent / "alphas",
        settings=settings,
        execution=Execution(workers=1),
        **more,
    )
    assert anonymize_job(job).released
    return Path(out)


@pytest.fixture(scope="module")
def run(source: Path, kept_models: FaceFinder) -> Path:
    return a_run(source, source.with_name("run"))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def table(run: Path) -> dict[str, dict[str, str]]:
    with (run / NAMES).open(newline="") as rows:
        return {row["source"]: row for row in csv.DictReader(rows)}


def test_files_keep_their_names_and_folders_and_no_two_are_alike(run: Path) -> None:
    assert files(run / "images") == sorted(SOURCES)
    # Beside a photo.png the facemask of photo.jpg says whose it is.
    facemasks = ["anna/photo.jpg.png", "anna/photo.png.png", "bob/photo.png", "top.png"]
    assert files(run / "facemasks") == files(run / "alphas") == facemasks
    assert verify_run(run)[1] == []
    schema = json.loads((manifests_dir() / "record.schema.json").read_text())
    for row in read_rows(run / MANIFEST):
        jsonschema.validate(row, schema)


def test_no_name_is_a_formula_in_the_table(tmp_path: Path) -> None:
    """A sender of photographs names them; a spreadsheet would calculate what opens with such a character."""
    odd = ("=1+1.jpg", "+a.jpg", "-a.jpg", "@a.jpg", "\ta.jpg", "\ra.jpg")
    (tmp_path / NAMES).parent.mkdir()
    with names_file(tmp_path / NAMES) as add:
        for name in (*odd, "a=.jpg"):
            add(ImageResult("0123456789ab", name, Outcome.BROKEN))
    assert set(table(tmp_path)) == {*(f"'{name}" for name in odd), "a=.jpg"}


def test_every_table_of_names_is_written_in_rows_that_readers_take_for_rows() -> None:
    name = 'a\rb,"c"\nd.jpg'
    assert next(csv.reader(io.StringIO(csv_line([name, 1]), newline=""))) == [name, "1"]
    assert csv_line(["a", "b c", "d,e"]) == 'a,b c,"d,e"\n'
    sources = [path for package in (p3mdata, p3mnet) for path in Path(package.__path__[0]).rglob("*.py")]
    assert [path.name for path in sources if "csv.writer(" in path.read_text()] == ["tables.py"]


def test_a_table_tells_names_and_ids_in_both_ways(run: Path, source: Path, tmp_path: Path) -> None:
    rows = table(run)
    assert list(rows) == sorted(SOURCES)
    assert {name: row["image"] for name, row in rows.items()} == {name: f"images/{name}" for name in SOURCES}
    ids = {row["image"]["path"]: row["id"] for row in read_rows(run / MANIFEST)}
    assert {row["image"]: row["id"] for row in rows.values()} == ids
    assert (run / NAMES).stat().st_mode & 0o777 == 0o600
    named_by_id = a_run(source, tmp_path / "ids", Settings())
    assert {row["image"] for row in table(named_by_id).values()} == {
        f"images/{n}" for n in files(named_by_id / "images")
    }
    assert not set(files(named_by_id / "images")) & set(SOURCES)
    # Plans of runs that are named by ids are what they were.
    assert "names" not in read_json(named_by_id / PLAN)["settings"]
    with pytest.raises(RunFolderError, match=r"names \(id -> keep\)"):
        a_run(source, named_by_id)


def test_other_formats_have_other_endings(source: Path, tmp_path: Path, kept_models: FaceFinder) -> None:
    run = a_run(source, tmp_path / "png", Settings(names=Names.KEEP, format=Format.PNG))
    assert files(run / "images") == ["anna/photo.jpg.png", "anna/photo.png", "bob/photo.png", "top.png"]
    assert verify_run(run)[1] == []


def test_a_take_down_leaves_no_name(run: Path, source: Path, tmp_path: Path, kept_models: FaceFinder) -> None:
    other = a_run(source, tmp_path / "run")
    remove_images(other, ["bob/photo.JPEG"])
    left = [
        path.relative_to(other).as_posix()
        for kind in ("images", "facemasks", "alphas")
        for path in (other / kind).rglob("*")
    ]
    assert not [name for name in left if "bob" in name]
    assert table(other)["bob/photo.JPEG"]["image"] == ""
    assert verify_run(other)[1] == []
    (other / "images/bob").mkdir()
    (other / "images/bob/photo.jpg").write_bytes(b"another")
    assert [found.code for found in verify_run(other)[1]] == ["stray_file"]


def test_runs_of_folders_merge_to_the_run_over_both(
    run: Path, source: Path, tmp_path: Path, kept_models: FaceFinder
) -> None:
    parts = []
    for name in ("anna", "bob"):
        job = Job(
            source=source / name, out=tmp_path / name, alphas=source.with_name("alphas") / name, settings=KEPT,
            execution=Execution(workers=1),
        )  # fmt: skip
        assert anonymize_job(job).released
        parts.append(tmp_path / name)
    assert merge_runs(parts, tmp_path / "merged").released == 3
    assert files(tmp_path / "merged/images") == [name for name in SOURCES if "/" in name]
    assert verify_run(tmp_path / "merged")[1] == []
    mine, whole = contents(tmp_path / "merged"), contents(run)
    assert all(whole[name] == data for name, data in mine.items() if name.startswith(("images/", "facemasks/")))


def test_a_run_in_a_store_comes_back_with_its_names(
    run: Path, source: Path, tmp_path: Path, kept_models: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("upath", reason="universal-pathlib is not installed (pip install 'p3mdata[remote]')")
    # Staging folders are called by the address: those of another process that tests this one are elsewhere.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    a_run(source, "memory://names/run")
    fetch_run("memory://names/run", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(run)
    assert (tmp_path / "back" / NAMES).read_bytes() == (run / NAMES).read_bytes()


def test_datasets_and_exports_are_named_by_ids(run: Path, tmp_path: Path, kept_models: FaceFinder) -> None:
    settings = SplitSettings(read_layout("plain"), validation=0, group_by=("auto",), verify=False)
    build_split(run, tmp_path / "data", settings, 1)
    ids = {row["id"] for row in table(run).values()}
    pictures = [path for path in (tmp_path / "data").rglob("*") if path.suffix in (".jpg", ".png", ".JPEG")]
    assert {path.stem for path in pictures} == ids and {path.suffix for path in pictures} <= {".jpg", ".png"}
    assert check_dataset(tmp_path / "data", duplicates=False).errors == 0
    for place, source in (("of-run", run), ("of-data", tmp_path / "data")):
        export(source, tmp_path / place, "huggingface", "cc0-1.0")
        assert not [name for name in files(tmp_path / place) if "photo" in name or "anna" in name or "JPEG" in name]


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["a.jpg"], {"a.jpg": "a"}),
        (["a.jpg", "a.png"], {"a.jpg": "a.jpg", "a.png": "a.png"}),
        (["A.jpg", "a.png"], {"A.jpg": "A.jpg", "a.png": "a.png"}),
        # No name is left that nobody else could have.
        (["a.jpg", "a.png", "a.jpg.png"], {"a.jpg": None, "a.png": "a.png", "a.jpg.png": "a.jpg"}),
        (["a.bmp", "a.png/b.png"], {"a.bmp": "a.bmp", "a.png/b.png": "a.png/b"}),
        (["a\n.jpg", "b.jpg"], {"a\n.jpg": None, "b.jpg": "b"}),
        ([f"{'x' * 190}.jpg"], {f"{'x' * 190}.jpg": None}),
        (["a\\b.jpg"], {"a\\b.jpg": None}),
        (["a.jpg", "a.txt"], {"a.jpg": "a"}),
    ],
)
def test_names_are_kept_where_no_two_come_to_one(tmp_path: Path, names: list[str], kept: dict[str, str | None]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = KeptNames(tmp_path)
    assert {name: found.of(name) for name in kept} == kept


def test_names_that_are_no_text_are_ids(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.jpg")
    (tmp_path / name).touch()
    assert KeptNames(tmp_path).of(name) is None


def test_several_photographs_and_patterns_are_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("p/a.jpg", "p/b.png", "p/sub/c.jpg", "p/text.txt", "q/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    def chosen(*names: str, out: str | None = None) -> tuple[str, tuple[str, ...], str | None]:
        folder, paths, place = chosen_sources([Path(name) for name in names], None if out is None else Path(out))
        return os.path.relpath(folder), paths, None if place is None else str(place)

    assert chosen("p") == ("p", (), None)
    assert chosen("p", "run") == ("p", (), "run")
    assert chosen("p", "q") == ("p", (), "q")
    assert chosen("p", out="run") == ("p", (), "run")
    assert chosen("p/a.jpg", "p/b.png", "run") == ("p", ("a.jpg", "b.png"), "run")
    assert chosen("p/a.jpg", "p/b.png") == ("p", ("a.jpg", "b.png"), None)
    assert chosen("p/*", "run") == ("p", ("a.jpg", "b.png"), "run")
    assert chosen("p/**/*.jpg", "run") == ("p", ("a.jpg", "sub/c.jpg"), "run")
    assert chosen("p/sub", "q/d.jpg", out="run") == (".", ("p/sub/c.jpg", "q/d.jpg"), "run")
    assert chosen("p/a.jpg", out="run") == ("p", ("a.jpg",), "run")
    # Alone and without OUT it is what `anonymize image` is for.
    assert chosen("p/a.jpg") == ("p/a.jpg", (), None)
    for names, said in (
        (("p/a.jpg", "p/none.jpg", "run"), "none.jpg: does not exist"),
        (("p/a.jpg", "p/text.txt", "run"), "text.txt: is no picture"),
        (("z/*.jpg", "run"), r"z/\*.jpg: fits no picture"),
    ):
        with pytest.raises(SettingsError, match=said):
            chosen(*names)


def test_chosen_photographs_become_a_run_that_may_lie_beside_them(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_models: FaceFinder
) -> None:
    folder = portraits(tmp_path / "here", "a.jpg", "b.jpg", "c.png", side=SIDE)
    monkeypatch.chdir(folder)
    for _ in range(2):
        done = p3mdata_here("anonymize", "*.jpg", "run", "--workers", "1", "--json")
        assert done.returncode == 0, done.stderr
    assert sorted(table(Path("run"))) == ["a.jpg", "b.jpg"]
    assert verify_run(Path("run"))[1] == []
    done = p3mdata_here("anonymize", "a.jpg", "c.png", "-o", "run", "--workers", "1")
    assert done.returncode == 2 and "c.png is new" in done.stderr
