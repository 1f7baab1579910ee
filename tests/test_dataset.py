"""Datasets built from runs: the layout, what may enter it, and that every planted fault of a dataset is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from PIL import Image

import p3mdata as p3mdata_api
from p3mdata.base.files import sha256, write_atomic
from p3mdata.base.jsonl import read_rows, write_json
from p3mdata.base.resources import manifests_dir
from p3mdata.config import Execution, Job, Settings
from p3mdata.dataset.about import BUILDING
from p3mdata.dataset.build import SplitSettings, build_split
from p3mdata.dataset.check import check_dataset
from p3mdata.dataset.folder import LISTING, open_dataset
from p3mdata.dataset.layout import Layout, read_layout
from p3mdata.dataset.places import EXPORTING, refuse_in_release
from p3mdata.dataset.stats import Stats, draw, stats_of
from p3mdata.errors import EXIT_USAGE, RunFolderError, SettingsError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging import decode
from p3mdata.imaging.trimap import trimap_of
from p3mdata.records import Action
from p3mdata.review.removal import remove_images
from p3mdata.review.session import reviewing
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import LEDGER
from tests.factories import FACELESS, astronaut, encoded, matte, texture
from tests.runs import p3mdata_here

SIDE = 160
P3M = read_layout("p3m10k")


def soft_disc(side: int, seed: int) -> np.ndarray:
    """A matte of a disc with soft edges, another one for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(y - side * rng.uniform(0.4, 0.6), x - side * rng.uniform(0.4, 0.6))
    return np.clip((side * 0.3 - distance) * 20 + 128, 0, 255).astype(np.uint8)


pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> Path:
    """A run of one face and its near-duplicates, two series of a person each, free pictures, and one without matte."""
    folder = tmp_path_factory.mktemp("dataset")
    source, alphas = folder / "src", folder / "alphas"
    source.mkdir()
    alphas.mkdir()
    person = astronaut(SIDE)
    for name, array in {
        "zoe.png": person,
        "zoeflipped.png": person[:, ::-1],
        "zoesmall.png": astronaut(SIDE - 8),
    }.items():
        (source / name).write_bytes(encoded(np.ascontiguousarray(array), "JPEG" if name.endswith("jpg") else "PNG"))
        alpha = matte(array.shape[0])
        (alphas / f"{Path(name).stem}.png").write_bytes(
            encoded(np.ascontiguousarray(alpha[:, ::-1] if name == "zoeflipped.png" else alpha), "PNG")
        )
    for i in range(12):
        name = f"ann__{i}" if i < 3 else f"free{i}"
        (source / f"{name}.png").write_bytes(encoded(texture(SIDE, SIDE + i, seed=FACELESS[i]), "PNG"))
        (alphas / f"{name}.png").write_bytes(encoded(cv2.resize(soft_disc(SIDE, i), (SIDE + i, SIDE)), "PNG"))
    job = Job(
        source=source,
        out=folder / "run",
        alphas=alphas,
        settings=Settings(trust_no_face=True),
        execution=Execution(workers=1),
    )
    assert anonymize_job(job).released == 15
    return folder / "run"


@pytest.fixture(scope="module")
def built(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "data"
    build_split(run, out, SplitSettings(P3M, validation=4, free=3), workers=2)
    return out


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "data")
    return tmp_path / "data"


def files(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256(p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def codes(folder: Path, **options: Any) -> set[tuple[str, str]]:
    """(file, code) of all errors."""
    return {(f.file, f.code) for f in check_dataset(folder, **options).findings if f.error}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return list(read_rows(folder / LISTING))


def test_the_layout_of_p3m10k(built: Path, run: Path) -> None:
    found = {path.parent.relative_to(built).as_posix() for path in built.rglob("*.png")}
    assert found == {
        *(f"train/{name}" for name in ("blurred_image", "mask", "facemask")),
        *(f"validation/P3M-500-P/{name}" for name in ("blurred_image", "mask", "trimap", "facemask")),
        *(f"validation/P3M-500-NP/{name}" for name in ("original_image", "mask", "trimap")),
    }
    counts = {name: len(list((built / name).iterdir())) for name in sorted(found)}
    assert {n for name, n in counts.items() if "500-P/" in name} == {4}
    assert {n for name, n in counts.items() if "NP/" in name} == {3}
    assert {n for name, n in counts.items() if name.startswith("train")} == {8}
    assert check_dataset(built, workers=1).errors == 0


def test_the_manifest_keeps_to_its_schema(built: Path) -> None:
    schema = json.loads((manifests_dir() / "dataset.schema.json").read_text())
    rows = rows_of(built)
    assert len(rows) == 15
    for row in rows:
        jsonschema.validate(row, schema)


def test_files_are_the_released_ones_and_trimaps_follow_the_mattes(built: Path, run: Path) -> None:
    released = (
        set(files(run / "images").values())
        | set(files(run / "alphas").values())
        | set(files(run / "facemasks").values())
    )
    made = files(built)
    assert sum("/trimap/" in path for path in made) >= 4 and sum(digest in released for digest in made.values()) > 8
    for path, digest in made.items():
        if "/trimap/" in path:
            alpha = cv2.imread(str(built / path.replace("/trimap/", "/mask/")), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(cv2.imread(str(built / path), cv2.IMREAD_UNCHANGED), trimap_of(alpha))
        elif path.endswith((".png", ".jpg")):
            assert digest in released


def test_the_trimap_is_that_of_the_rule() -> None:
    alpha = soft_disc(200, 1)
    trimap = trimap_of(alpha, 15)
    assert set(np.unique(trimap)) == {0, 128, 255}
    soft = (alpha > 0) & (alpha < 255)
    assert (trimap[soft] == 128).all() and (alpha[trimap == 255] == 255).all() and (alpha[trimap == 0] == 0).all()
    assert np.array_equal(trimap_of(alpha.astype(np.uint16) * 257, 15), trimap)
    assert (trimap_of(alpha, 31) == 128).sum() > (trimap == 128).sum()


def sets_of(folder: Path, run: Path) -> dict[str, str]:
    sources = {row["id"]: row["source"] for row in read_rows(run / LEDGER)}
    return {sources[row["id"]]: row["set"] for row in rows_of(folder)}


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_and_persons_share_a_set(run: Path, tmp_path: Path, seed: int) -> None:
    build_split(run, tmp_path / "d", SplitSettings(P3M, validation=0.4, seed=seed, verify=False))
    sets = sets_of(tmp_path / "d", run)
    assert len({sets[name] for name in ("zoe.png", "zoeflipped.png", "zoesmall.png")}) == 1
    assert len({sets[f"ann__{i}.png"] for i in range(3)}) == 1


def test_only_pictures_with_nothing_to_hide_enter_the_free_set(built: Path, run: Path) -> None:
    free = {source for source, name in sets_of(built, run).items() if name == "P3M-500-NP"}
    assert len(free) == 3 and all(not name.startswith("zoe") for name in free)


def test_a_list_of_free_pictures(run: Path, tmp_path: Path) -> None:
    listed = tmp_path / "free.txt"
    listed.write_text("free5.png\nfree7.png\n")
    build_split(run, tmp_path / "d", SplitSettings(P3M, validation=2, free=2, free_list=listed, verify=False))
    assert {s for s, name in sets_of(tmp_path / "d", run).items() if name == "P3M-500-NP"} == {"free5.png", "free7.png"}
    for text, words in (("zoe.png", "was obfuscated"), ("other.png", "is no released image")):
        listed.write_text(text)
        with pytest.raises(SettingsError, match=words):
            build_split(run, tmp_path / "e", SplitSettings(P3M, free=1, free_list=listed, verify=False))
    assert not (tmp_path / "e").exists()


def test_nothing_of_the_sources_is_in_a_dataset(built: Path, run: Path) -> None:
    private = list(read_rows(run / "private" / "sources.jsonl"))
    assert private
    words = [row["sha256"] for row in private] + [Path(row["source"]).stem for row in private] + [str(run), "landmarks"]
    for path in built.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            # Three letters turn up in compressed pixels by chance.
            sought = [word for word in words if len(word) > 4 or path.suffix != ".png"]
            assert not [word for word in words if word in path.name], path
            assert not [word for word in sought if word.encode() in content], path


def test_the_same_bytes_for_any_number_of_workers_and_after_an_interruption(
    run: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SplitSettings(P3M, validation=4, free=3, verify=False)
    build_split(run, tmp_path / "one", settings, workers=1)
    assert files(tmp_path / "one") == files(built)
    calls = 0
    passes: list[int] = []

    def stop(total: int) -> Callable[[], None]:
        passes.append(total)

        def step() -> None:
            nonlocal calls
            # Copies are looked for before anything is written.
            calls += len(passes) == 2
            if calls == 5:
                raise KeyboardInterrupt

        return step

    with pytest.raises(KeyboardInterrupt):
        build_split(run, tmp_path / "two", settings, workers=2, progress=stop)
    assert len(passes) == 2 and passes[0] == passes[1]
    assert ("dataset.json", "half_built") in codes(tmp_path / "two", layout="p3m10k", duplicates=False)
    build_split(run, tmp_path / "two", settings, workers=2)
    assert files(tmp_path / "two") == files(built)


def test_a_full_disk_is_told_and_the_same_call_goes_on(
    run: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SplitSettings(P3M, validation=4, free=3, verify=False)
    written = 0

    def full(*args: Any, **kwargs: Any) -> None:
        nonlocal written
        written += 1
        if written > 10:
            raise OSError(28, "No space left on device")
        write_atomic(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr("p3mdata.dataset.files.write_released", full)
        with pytest.raises(RunFolderError, match="No space left.*run the same command again"):
            build_split(run, tmp_path / "d", settings, workers=1)
    build_split(run, tmp_path / "d", settings, workers=1)
    assert files(tmp_path / "d") == files(built)


def test_building_again_keeps_the_split_and_removes_what_moved(run: Path, dataset: Path) -> None:
    before = {row["id"]: row["set"] for row in rows_of(dataset)}
    build_split(run, dataset, SplitSettings(P3M, validation=6, free=3, seed=9, verify=False))
    after = {row["id"]: row["set"] for row in rows_of(dataset)}
    assert {i for i, name in before.items() if name == "P3M-500-P"} < {
        i for i, name in after.items() if name == "P3M-500-P"
    }
    assert check_dataset(dataset).errors == 0
    renamed = P3M.renamed({"P3M-500-P": "LAB-6-P"})
    build_split(run, dataset, SplitSettings(renamed, validation=6, obfuscated="hidden", verify=False))
    assert (dataset / "validation/LAB-6-P/hidden_image").is_dir() and not (dataset / "validation/P3M-500-P").is_dir()
    assert check_dataset(dataset).errors == 0


def test_a_share_that_came_out_otherwise_is_told(run: Path, tmp_path: Path) -> None:
    done = [
        build_split(run, tmp_path / str(s), SplitSettings(P3M, validation=0.3, seed=s, verify=False)) for s in range(6)
    ]
    for built in done:
        off = abs(built.sets["P3M-500-P"] / 15 - 0.3) > 0.075
        assert bool(built.notes) is off
    assert any(built.notes for built in done) and not all(built.notes for built in done)


def test_what_the_run_cannot_give_is_refused(run: Path, tmp_path: Path) -> None:
    for settings, words in (
        (SplitSettings(P3M, validation=99, verify=False), "99 are wanted"),
        (SplitSettings(P3M, validation=2, free=40, verify=False), "40 are wanted"),
        (SplitSettings(P3M, group_by=("folder",), verify=False), "folder"),
    ):
        with pytest.raises(SettingsError, match=words):
            build_split(run, tmp_path / "d", settings)
        assert not (tmp_path / "d").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(RunFolderError, match="not empty"):
        build_split(run, tmp_path / "full", SplitSettings(P3M, verify=False))
    with pytest.raises(SettingsError, match="inside each other"):
        build_split(run, run / "data", SplitSettings(P3M, verify=False))


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy of the run to damage."""
    shutil.copytree(run.parent, tmp_path / "copy")
    job = tmp_path / "copy" / "run" / "private" / "job.json"
    job.write_text(job.read_text().replace(str(run.parent), str(tmp_path / "copy")))
    (tmp_path / "copy" / "run" / "private" / "derived.jsonl").unlink(missing_ok=True)
    return tmp_path / "copy" / "run"


def test_an_image_that_fails_a_proof_is_left_out(own_run: Path, tmp_path: Path) -> None:
    row = next(row for row in read_rows(own_run / LEDGER) if row["source"] == "free8.png")
    path = own_run / "images" / row["files"]["images"][0]
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    pixels[3, 3] ^= 1
    cv2.imwrite(str(path), pixels)
    done = build_split(own_run, tmp_path / "d", SplitSettings(P3M, validation=2))
    assert [source for source, _ in done.refused] == ["free8.png"] and "free8.png" not in sets_of(
        tmp_path / "d", own_run
    )
    with pytest.raises(RunFolderError, match="not the file that was released"):
        build_split(own_run, tmp_path / "e", SplitSettings(P3M, validation=2, verify=False))


def test_a_take_down_reaches_datasets(own_run: Path, tmp_path: Path) -> None:
    build_split(own_run, tmp_path / "d", SplitSettings(P3M, validation=2, free=2, verify=False))
    identity = next(row["id"] for row in read_rows(own_run / LEDGER) if row["source"] == "free9.png")
    done = remove_images(own_run, ["free9.png"])
    assert done.cleaned == (str(tmp_path / "d"),)
    assert not list((tmp_path / "d").rglob(f"{identity}*")) and identity not in (tmp_path / "d" / LISTING).read_text()
    assert json.loads((tmp_path / "d" / "dataset.json").read_text())["version"] == 2
    assert check_dataset(tmp_path / "d").errors == 0


def test_a_renewed_dataset_that_changed_is_a_new_version(own_run: Path, tmp_path: Path) -> None:
    def version() -> int:
        return int(json.loads((tmp_path / "d" / "dataset.json").read_text())["version"])

    settings = SplitSettings(P3M, validation=2, verify=False)
    assert build_split(own_run, tmp_path / "d", settings).version == version() == 1
    before = (tmp_path / "d" / "dataset.json").read_bytes()
    assert build_split(own_run, tmp_path / "d", settings).version == 1
    assert (tmp_path / "d" / "dataset.json").read_bytes() == before
    other = SplitSettings(P3M, validation=2, verify=False, kernel=15)

    passes: list[int] = []

    def stop(total: int) -> Callable[[], None]:
        passes.append(total)
        if len(passes) == 2:
            raise KeyboardInterrupt
        return lambda: None

    # An interruption forgets nothing.
    with pytest.raises(KeyboardInterrupt):
        build_split(own_run, tmp_path / "d", other, progress=stop)
    assert build_split(own_run, tmp_path / "d", other).version == version() == 2
    remove_images(own_run, ["free9.png"])
    assert version() == 3
    # Groups are numbered anew; then nothing changes any more.
    again = build_split(own_run, tmp_path / "d", other).version
    assert again == version() >= 3
    assert build_split(own_run, tmp_path / "d", other).version == version() == again


def test_nobody_warns_of_a_set_that_nobody_asked_for(own_run: Path, tmp_path: Path) -> None:
    done = p3mdata_here("build-split", own_run, tmp_path / "d", "--validation", "2", "--no-verify")
    assert done.returncode in (0, 3), done.stderr
    assert "P3M-500-NP" not in done.stdout + done.stderr
    done = p3mdata_here("check", tmp_path / "d", "--no-duplicates")
    assert done.returncode == 0 and "P3M-500-NP" not in done.stdout
    # A set that was asked for is missed.
    shutil.rmtree(tmp_path / "d" / "validation" / "P3M-500-P")
    assert check_dataset(tmp_path / "d", duplicates=False).errors


def test_images_that_are_held_back_do_not_enter(own_run: Path, tmp_path: Path) -> None:
    with reviewing(own_run) as session:
        identity = next(row["id"] for row in read_rows(own_run / LEDGER) if row["source"] == "zoe.png")
        session.decide(identity, Action.EXCLUDE)
    build_split(own_run, tmp_path / "d", SplitSettings(P3M, validation=2))
    assert "zoe.png" not in sets_of(tmp_path / "d", own_run)


def first(dataset: Path, folder: str) -> Path:
    return sorted((dataset / folder).iterdir())[0]


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), change(array))


def with_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    with Image.open(path) as image:
        image.save(path, exif=exif)


def in_two_levels(path: Path) -> None:
    """A matte that is 254 in the place of 255 where the picture is dark, in and around the facemask."""
    facemask = cv2.imread(str(path.parent.parent / "facemask" / path.name), cv2.IMREAD_UNCHANGED)
    near = cv2.dilate(facemask, np.ones((9, 9), np.uint8)) > 0
    dark = cv2.resize(astronaut(SIDE), facemask.shape[::-1]).mean(2) < 150
    rewrite(path, lambda a: np.where(near & dark & (a == 255), 254, a).astype(np.uint8))


TRAIN, VAL = "train", "validation/P3M-500-P"
FAULTS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "image without alpha": (f"{TRAIN}/mask", Path.unlink, "no_alpha"),
    "alpha without image": (f"{TRAIN}/blurred_image", Path.unlink, "no_image"),
    "no trimap": (f"{VAL}/trimap", Path.unlink, "no_trimap"),
    "no facemask": (f"{TRAIN}/facemask", Path.unlink, "no_facemask"),
    "other size": (f"{TRAIN}/mask", lambda p: rewrite(p, lambda a: a[:-2]), "size"),
    "facemask larger than the picture": (f"{TRAIN}/facemask", lambda p: rewrite(p, lambda a: np.pad(a, 4)), "size"),
    "black alpha": (f"{TRAIN}/mask", lambda p: rewrite(p, np.zeros_like), "alpha_empty"),
    "alpha stored as 0 to 1": (f"{VAL}/mask", lambda p: rewrite(p, lambda a: a // 255), "alpha_range"),
    "alpha in colour": (f"{VAL}/mask", lambda p: rewrite(p, lambda a: np.dstack([a, 255 - a, a])), "channels"),
    "trimap with another value": (
        f"{VAL}/trimap",
        lambda p: rewrite(p, lambda a: np.where(a == 128, 127, a)),
        "trimap_values",
    ),
    "trimap without unknown": (
        f"{VAL}/trimap",
        lambda p: rewrite(p, lambda a: np.where(a == 128, 0, a)),
        "trimap_no_unknown",
    ),
    "facemask of everything": (
        f"{TRAIN}/facemask",
        lambda p: rewrite(p, lambda a: np.full_like(a, 255)),
        "facemask_full",
    ),
    "truncated": (f"{TRAIN}/blurred_image", lambda p: p.write_bytes(p.read_bytes()[:200]), "unreadable"),
    "empty file": (f"{TRAIN}/mask", lambda p: p.write_bytes(b""), "unreadable"),
    "folder in place of a file": (f"{TRAIN}/mask", lambda p: (p.unlink(), p.mkdir()), "no_alpha"),
    "second file": (f"{TRAIN}/mask", lambda p: shutil.copy(p, p.with_suffix(".tif")), "two_files"),
    "name in capitals": (f"{TRAIN}/mask", lambda p: shutil.copy(p, p.with_name(p.name.upper())), "name_clash"),
    "EXIF": (f"{VAL}/blurred_image", with_exif, "metadata_left"),
    "one changed pixel": (
        f"{TRAIN}/blurred_image",
        lambda p: rewrite(p, lambda a: a ^ (np.arange(a.size).reshape(a.shape) == 0)),
        "changed_file",
    ),
}


def test_a_matte_that_shows_the_hidden_face_in_faint_levels_is_an_error(dataset: Path) -> None:
    """So it was published by earlier versions, and is made by other programs."""
    masks = [path for path in sorted(dataset.rglob("facemask/*")) if cv2.imread(str(path), 0).any()]
    mattes = [path.parent.parent / "mask" / path.name for path in masks]
    assert len(mattes) == 3 and codes(dataset, duplicates=False) == set()
    for path in mattes:
        in_two_levels(path)
    found = codes(dataset, duplicates=False)
    assert {file for file, code in found if code == "alpha_shows_face"} == {
        path.relative_to(dataset).as_posix() for path in mattes
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_found(dataset: Path, fault: str) -> None:
    folder, plant, code = FAULTS[fault]
    path = first(dataset, folder)
    plant(path)
    found = codes(dataset, duplicates=False)
    assert code in {c for _, c in found}
    assert all(path.stem.lower() in file.lower() for file, _ in found), found


def test_faults_are_found_in_datasets_of_others_too(dataset: Path) -> None:
    for name in ("dataset.json", LISTING):
        (dataset / name).unlink()
    assert codes(dataset) == set()
    (dataset / VAL / "trimap").rename(dataset / VAL / "elsewhere")
    assert codes(dataset, duplicates=False) == set()
    rewrite(first(dataset, f"{TRAIN}/mask"), np.zeros_like)
    assert {code for _, code in codes(dataset, duplicates=False)} == {"alpha_empty"}


def test_a_duplicate_across_sets_is_an_error(dataset: Path) -> None:
    source, target = first(dataset, f"{TRAIN}/blurred_image"), dataset / VAL
    for kind in ("mask", "facemask"):
        shutil.copy(source.parent.parent / kind / f"{source.stem}.png", target / kind / "twin.png")
    shutil.copy(dataset / TRAIN / "mask" / f"{source.stem}.png", target / "trimap" / "twin.png")
    flipped = cv2.flip(cv2.imread(str(source)), 1)
    cv2.imwrite(str(target / "blurred_image" / "twin.jpg"), flipped, [cv2.IMWRITE_JPEG_QUALITY, 70])
    assert "duplicate_across_sets" in {code for _, code in codes(dataset, workers=2)}
    assert "duplicate_across_sets" not in {code for _, code in codes(dataset, duplicates=False)}


def test_the_commands(run: Path, dataset: Path, tmp_path: Path) -> None:
    done = p3mdata_here(
        "build-split", run, tmp_path / "d", "--validation", "25%", "--free", "2", "--rename", "P3M-500-NP=NP", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sets"]["NP"] == 2 and (tmp_path / "d/validation/NP").is_dir()
    assert p3mdata_here("check", tmp_path / "d").returncode == p3mdata_here("verify", tmp_path / "d").returncode == 0
    first(dataset, f"{TRAIN}/mask").unlink()
    done = p3mdata_here("check", dataset, "--json")
    assert done.returncode == 4 and json.loads(done.stdout)["errors"] >= 1
    assert p3mdata_here("build-split", run, tmp_path / "d", "--validation", "many").returncode == 2
    assert p3mdata_here("check", tmp_path / "nothing").returncode == 2


def test_the_python_verbs(run: Path, tmp_path: Path) -> None:
    built = p3mdata_api.build_split(run, tmp_path / "d", validation=4, verify=False)
    assert built.sets["P3M-500-P"] == 4
    assert p3mdata_api.check_dataset(tmp_path / "d", duplicates=False).errors == 0
    assert p3mdata_api.export_release(tmp_path / "d", tmp_path / "e", "webdataset").splits["train"] == 11


def test_statistics_add_up(run: Path, built: Path, tmp_path: Path) -> None:
    of_run, of_dataset = stats_of(run), stats_of(built)
    assert of_dataset.sets == {"train": 8, "P3M-500-P": 4, "P3M-500-NP": 3}
    for stats, total in ((of_run, 15), (of_dataset, 15)):
        for trait in ("resolution", "faces", "face_size", "pose"):
            assert sum(sum(by_set.values()) for by_set in stats.tables[trait].values()) == total
    assert of_run.tables["pose"]["back"] == {"released": 12}
    mixed = {"train": 1}
    sizes = Stats("p3m10k", {"train": 4}, {"face_size": dict.fromkeys(("10 %+", "20 %+", "5 %+", "under 5 %"), mixed)})
    assert list(sizes.to_json()["tables"]["face_size"]) == ["under 5 %", "5 %+", "10 %+", "20 %+"]
    assert draw(of_dataset)[:4] == b"\x89PNG" and draw(of_dataset) == draw(of_dataset)
    done = p3mdata_here("stats", built, "--plot", tmp_path / "s.png")
    assert done.returncode == 0 and decode((tmp_path / "s.png").read_bytes()).size[0] > 200


def test_lone_files_are_not_written_into_what_is_released(run: Path, built: Path, tmp_path: Path) -> None:
    """A drawing of a clear face, say, by who works in the folder that is to be published."""
    exported = tmp_path / "release"
    p3mdata_api.export_release(built, exported, "webdataset")
    (tmp_path / "link").symlink_to(exported)
    kinds = {run / "images": "run", built: "dataset", built / "train": "dataset", exported: "export"}
    # Begun and not finished: whatever lies there is in what is made when they go on.
    for name, kind in ((BUILDING, "dataset"), (EXPORTING, "export")):
        (begun := tmp_path / kind).mkdir()
        write_json(begun / name, {})
        kinds[begun] = kind
    for folder, kind in {**kinds, tmp_path / "link" / "new": "export"}.items():
        with pytest.raises(SettingsError, match=f"lies in the {kind} "):
            refuse_in_release(folder / "steps.png")
    refuse_in_release(tmp_path / "steps.png")
    refuse_in_release(exported.with_name("release-notes") / "steps.png")
    before = sorted(built.rglob("*"))
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"never read")
    out = str(built / "x.png")
    for words in (
        ("explain", photo, "-o", out), ("anonymize", "image", photo, out), ("stats", run, "--plot", out),
        ("anonymize", "image", photo, tmp_path / "b.png", "--facemask", out), ("curate", tmp_path, built / "c"),
        ("duplicates", tmp_path, "-o", built / "x.html"),
    ):  # fmt: skip
        done = p3mdata_here(*words)
        assert done.returncode == EXIT_USAGE and "lies in the dataset" in done.stderr, words
    for draw_it in (p3mdata_api.explain_photo, p3mdata_api.anonymize_image):
        with pytest.raises(SettingsError, match="lies in the dataset"):
            draw_it(photo, out)
    assert sorted(built.rglob("*")) == before


def test_layouts_are_what_they_say() -> None:
    assert [P3M.training, P3M.validation, P3M.free] == ["train", "P3M-500-P", "P3M-500-NP"]
    assert P3M.folder("train", "image", "mosaic") == "train/mosaic_image"
    assert read_layout("rwp").free == "RWP-636"
    with pytest.raises(SettingsError, match="no layout"):
        read_layout("other")
    with pytest.raises(SettingsError, match="no set 'test'"):
        P3M.renamed({"test": "x"})


def test_a_layout_cannot_point_outside(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsets: {train: {path: ../up, folders: {image: i, alpha: a}}}\n")
    with pytest.raises(SettingsError, match="outside"):
        read_layout(str(path))


@pytest.mark.slow
def test_foregrounds(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pymatting")
    settings = SplitSettings(P3M, validation=4, free=3, verify=False, foregrounds=True)
    build_split(run, tmp_path / "d", settings, workers=2)
    opened = open_dataset(tmp_path / "d")
    assert opened.items("train")
    for item in opened.items("train").values():
        image, alpha, fg, bg = (
            decode((opened.root / item.files[kind][0]).read_bytes()).pixels.astype(float)
            for kind in ("image", "alpha", "foreground", "background")
        )
        share = alpha[:, :, None] / 255
        assert np.abs(fg * share + bg * (1 - share) - image).mean() < 6
        assert np.abs(fg - image)[alpha == 255].mean() < 3
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "d" / "train" / "fg").iterdir()}
    build_split(run, tmp_path / "d", settings, workers=1)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "d" / "train" / "fg").iterdir()}
    assert check_dataset(tmp_path / "d").errors == 0


def test_layout_records_survive_json() -> None:
    assert Layout(**json.loads(json.dumps(P3M.model_dump(mode="json")))) == P3M


def test_poses_are_told_when_asked_for(run: Path, tmp_path: Path, built: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    build_split(run, tmp_path / "d", SplitSettings(P3M, validation=4, free=3, verify=False, poses=True), workers=1)
    schema = json.loads((Path(__file__).parent.parent / "manifests/dataset.schema.json").read_text())
    rows = rows_of(tmp_path / "d")
    for row in rows:
        jsonschema.validate(row, schema)
    told = [pose for row in rows for pose in row["poses"]]
    # The astronaut and its smaller copy look alike, the mirrored one the other way.
    assert len(told) == 3 and all(pose["yaw"] % 15 == pose["pitch"] % 15 == pose["roll"] % 15 == 0 for pose in told)
    assert all(set(pose) == {"at", "yaw", "pitch", "roll"} and 0 < pose["at"][0] < 1 for pose in told)
    assert not any("poses" in row for row in rows_of(built))


def test_a_run_is_told_from_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(SettingsError, match=r"is a run\. Make a dataset of it first: 'p3mdata build-split"):
        open_dataset(tmp_path)
