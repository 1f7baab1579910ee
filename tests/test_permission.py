"""Pictures that are shown with their faces: by a named person's permission only, unchanged but for metadata, and in no
training set."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from p3mdata.base.files import sha256
from p3mdata.base.jsonl import dumps, read_rows, write_rows
from p3mdata.base.resources import manifests_dir
from p3mdata.config import Execution, Job, Settings
from p3mdata.dataset.build import SplitSettings, build_split
from p3mdata.dataset.check import check_dataset
from p3mdata.dataset.folder import LISTING as DATASET_LISTING
from p3mdata.dataset.layout import read_layout
from p3mdata.dataset.split import Candidate, Sets, assign
from p3mdata.errors import RunFolderError, SettingsError
from p3mdata.export import export
from p3mdata.export.release import Release
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging import decode
from p3mdata.imaging.jpeg import JpegBlocks
from p3mdata.imaging.metadata import leftovers
from p3mdata.records import Action, Decision, Doubt, Outcome
from p3mdata.review.batch import apply_file
from p3mdata.review.removal import remove_images
from p3mdata.review.session import Refused, reviewing
from p3mdata.run.job import anonymize_job, verify_run
from p3mdata.run.layout import LEDGER, LOG, MANIFEST, REPORT
from p3mdata.run.sampling import sample_run
from tests.factories import astronaut, cut_out, encoded, matte, texture
from tests.runs import p3mdata_here

SIDE, USUAL = 192, 232
BASIS, WHO = "consent of 2026-01-31, letter 17", "Ada Curator"
# What each source is shown as: the ending of its file, and how it was encoded.
SHOWN = {
    "star.jpg": ("jpg", "jpeg exact"),
    "turned.jpg": ("jpg", "jpeg turned losslessly"),
    "odd.jpg": ("png", "png 8 bit (nothing of the picture is to change)"),
    "star.png": ("png", "png 8 bit"),
    "deep.png": ("png", "png 16 bit"),
}


def tagged(orientation: int) -> Image.Exif:
    """EXIF with a place and a maker; the orientation as told."""
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "a camera"
    tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.0)})
    return tags


def framed(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A portrait before a background of its own, so that no other picture is its near-duplicate, and its matte."""
    picture, alpha = texture(2 * SIDE, 2 * SIDE, seed), np.zeros((2 * SIDE, 2 * SIDE), np.uint8)
    share = matte(SIDE)[:, :, None] / 255
    place = slice(SIDE, 2 * SIDE), slice(40 * seed + 30, 40 * seed + 30 + SIDE)
    picture[place] = np.rint(astronaut(SIDE) * share + picture[place] * (1 - share))
    alpha[place] = matte(SIDE)
    return picture, alpha


def stored(array: np.ndarray) -> np.ndarray:
    """An upright picture as a camera stores it under orientation 6."""
    return np.ascontiguousarray(np.rot90(array))


def jpeg(array: np.ndarray, orientation: int, **options: Any) -> bytes:
    return encoded(array, "JPEG", exif=tagged(orientation), comment=b"taken at home", quality=92, **options)


@pytest.fixture(scope="module")
def anonymized(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> Path:
    """A run, beside its photographs and mattes, of everything that is to be shown and two pictures that are not."""
    folder = tmp_path_factory.mktemp("permission")
    source, alphas = folder / "src", folder / "alphas"
    source.mkdir()
    alphas.mkdir()
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Jane")
    sink = io.BytesIO()
    Image.fromarray(framed(1)[0]).save(sink, "PNG", pnginfo=text, exif=tagged(1))
    deep = cv2.imencode(".png", framed(2)[0][:, :, ::-1].astype(np.uint16) * 257 + 3)[1].tobytes()
    two = np.concatenate([astronaut(SIDE), astronaut(SIDE)[:, ::-1]], axis=1)
    pair = np.concatenate([matte(SIDE), matte(SIDE)[:, ::-1]], axis=1)
    files = {
        "star.jpg": (jpeg(framed(0)[0], 1, progressive=True), framed(0)[1]),
        "turned.jpg": (jpeg(stored(cut_out(SIDE + 32)), 6, subsampling=2), matte(SIDE + 32)),
        "odd.jpg": (jpeg(stored(cut_out(SIDE + 3)), 6, subsampling=2), matte(SIDE + 3)),
        "star.png": (sink.getvalue(), framed(1)[1]),
        "deep.png": (deep, framed(2)[1]),
        "two.png": (encoded(np.ascontiguousarray(two), "PNG"), pair),
        "usual.png": (encoded(astronaut(USUAL), "PNG"), matte(USUAL)),
        "back.png": (encoded(texture(SIDE, SIDE), "PNG"), matte(SIDE)),
    }
    for name, (data, alpha) in files.items():
        (source / name).write_bytes(data)
        stem = name if name.startswith("star") else Path(name).stem
        (alphas / f"{stem}.png").write_bytes(encoded(np.ascontiguousarray(alpha), "PNG"))
    job = Job(
        source=source, out=folder / "run", alphas=alphas, settings=Settings(trust_no_face=True),
        execution=Execution(workers=1),
    )  # fmt: skip
    summary = anonymize_job(job)
    assert summary.outcomes["anonymized"] == 7 and summary.outcomes["no_face_confirmed"] == 1, list(summary.held_back)
    return folder


@pytest.fixture(scope="module")
def permitted(anonymized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with permissions for everything of SHOWN, and for the picture of two."""
    folder = tmp_path_factory.mktemp("permitted") / "run"
    copied = _copy(anonymized, folder)
    summary = _permit(copied, *SHOWN, "two.png")
    assert summary.outcomes["shown_by_permission"] == len(SHOWN)
    return copied


def _copy(folder: Path, place: Path) -> Path:
    shutil.copytree(folder, place)
    job = place / "run" / "private" / "job.json"
    job.write_text(job.read_text().replace(str(folder), str(place)))
    return place


@pytest.fixture
def own(permitted: Path, tmp_path: Path) -> Path:
    """One that a test may change."""
    return _copy(permitted, tmp_path / "own")


def _decisions(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "decisions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _permit(folder: Path, *names: str, **more: Any) -> Any:
    rows = [{"source": name, "action": "show", "basis": BASIS, **more} for name in names]
    return apply_file(folder / "run", _decisions(folder, *rows), reviewer=WHO, workers=1)


def ledger(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["source"]: row for row in read_rows(folder / "run" / LEDGER)}


def released(folder: Path, source: str) -> bytes:
    return (folder / "run" / "images" / ledger(folder)[source]["files"]["images"][0]).read_bytes()


# The released file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SHOWN)
def test_nothing_but_metadata_is_gone(permitted: Path, source: str) -> None:
    row, before = ledger(permitted)[source], (permitted / "src" / source).read_bytes()
    after = released(permitted, source)
    ending, how = SHOWN[source]
    assert row["outcome"] == "shown_by_permission" and row["encoding"] == how
    assert row["files"]["images"][0].endswith(f".{ending}")
    one, other = decode(before), decode(after)
    if source == "turned.jpg":
        turned = JpegBlocks.read(before).turned(6)
        assert turned.differing(JpegBlocks.read(after)) == 0
        assert one.size == other.size
        assert int(np.abs(one.pixels.astype(int) - other.pixels).max()) <= 5
    else:
        assert one.pixels.dtype == other.pixels.dtype and np.array_equal(one.pixels, other.pixels)
    assert leftovers(after) == [] and other.orientation == 1
    for trace in (b"a camera", b"Jane", b"taken at home"):
        assert trace not in after
    facemask = decode((permitted / "run" / "facemasks" / row["files"]["facemasks"][0]).read_bytes()).pixels
    assert not facemask.any()


def test_the_jpeg_keeps_every_coefficient(permitted: Path) -> None:
    before = JpegBlocks.read((permitted / "src" / "star.jpg").read_bytes())
    after = JpegBlocks.read(released(permitted, "star.jpg"))
    assert before.differing(after) == 0
    # The comparison itself sees one coefficient, another size and another table.
    after._coefs = [plane.copy() for plane in after._coefs]
    after._coefs[1][0, 0, 3] += 1
    assert before.differing(after) == 1
    other = JpegBlocks.read(encoded(astronaut(SIDE), "JPEG", quality=50))
    assert before.differing(other) == sum(coefs.size for coefs in before._coefs)


def test_where_jpeg_blocks_cannot_be_edited_the_pixels_are_kept(
    anonymized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _copy(anonymized, tmp_path / "own")
    monkeypatch.setattr("p3mdata.anonymize.permission.exact_jpeg_is_possible", lambda: False)
    with reviewing(folder / "run", WHO) as session:
        row = session.decide(ledger(folder)["star.jpg"]["id"], Action.SHOW, basis=BASIS)
    assert row.outcome is Outcome.SHOWN_BY_PERMISSION and row.files["images"][0].endswith(".png")
    before = decode((folder / "src" / "star.jpg").read_bytes()).pixels
    assert np.array_equal(before, decode(released(folder, "star.jpg")).pixels)


# The permission ---------------------------------------------------------------------------------------------------


def test_the_ground_is_private_and_the_outcome_is_public(permitted: Path) -> None:
    run = permitted / "run"
    row = ledger(permitted)["star.jpg"]
    assert row["decision"]["basis"] == BASIS and row["decision"]["reviewer"] == WHO and row["decision"]["time"]
    for name in (MANIFEST, REPORT, "plan.json"):
        text = (run / name).read_text()
        assert BASIS not in text and WHO not in text and row["decision"]["time"] not in text
    (told,) = [told for told in read_rows(run / MANIFEST) if told["id"] == row["id"]]
    assert told["outcome"] == "shown_by_permission" and told["decision"]["action"] == "show"
    jsonschema.validate(told, json.loads((manifests_dir() / "record.schema.json").read_text()))
    report = (run / REPORT).read_text()
    assert "shown_by_permission" in report and f"Faces on the {len(SHOWN)} images shown by permission" in report


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"action": "show"}, "needs a 'basis'"),
        ({"action": "show", "basis": "  "}, "needs a 'basis'"),
        ({"action": "show", "basis": 7}, "needs a 'basis'"),
        ({"action": "show", "basis": BASIS}, "name of who decides"),
        ({"action": "no_face", "basis": BASIS, "reviewer": WHO}, "goes with the action 'show'"),
    ],
)
def test_a_permission_without_ground_or_person_is_none(anonymized: Path, row: dict[str, Any], said: str) -> None:
    before = (anonymized / "run" / MANIFEST).read_bytes()
    decisions = _decisions(anonymized, {"source": "star.jpg", **row})
    with pytest.raises(SettingsError, match=said):
        apply_file(anonymized / "run", decisions, workers=1)
    assert not (anonymized / "run" / LOG).exists() and (anonymized / "run" / MANIFEST).read_bytes() == before


def test_the_command_line_names_what_is_missing(anonymized: Path) -> None:
    decisions = _decisions(anonymized, {"source": "star.jpg", "action": "show"})
    done = p3mdata_here("review", anonymized / "run", "--apply", decisions)
    assert done.returncode == 2 and "star.jpg" in done.stderr and "legal ground" in done.stderr


def test_the_page_asks_for_a_ground_and_a_name(anonymized: Path, tmp_path: Path) -> None:
    folder = _copy(anonymized, tmp_path / "own")
    identity = ledger(folder)["star.png"]["id"]
    with reviewing(folder / "run") as session, pytest.raises(Refused, match="--reviewer"):
        session.decide(identity, Action.SHOW, basis=BASIS)
    with reviewing(folder / "run", WHO) as session:
        with pytest.raises(Refused, match="legal ground"):
            session.decide(identity, Action.SHOW)
        assert session.decide(identity, Action.SHOW, basis=BASIS).outcome is Outcome.SHOWN_BY_PERMISSION
        # Taken back it is obfuscated again.
        assert session.decide(identity, Action.REOPEN).outcome is Outcome.ANONYMIZED
    assert verify_run(folder / "run")[1] == []


def test_a_permission_does_not_cover_others_on_the_picture(permitted: Path, own: Path) -> None:
    row = ledger(permitted)["two.png"]
    assert row["outcome"] == "needs_review" and row["reason"] == "others_shown"
    assert not list((permitted / "run" / "images").glob(f"{row['id']}.*"))
    _permit(own, "two.png", confirmed=True)
    assert ledger(own)["two.png"]["outcome"] == "shown_by_permission"
    assert verify_run(own / "run")[1] == []


def test_a_drawn_mask_and_a_permission_exclude_each_other(anonymized: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    area = np.zeros((2 * SIDE,) * 2, np.uint8)
    area[200:320, 90:240] = 255
    (masks / "star.png.png").write_bytes(encoded(area, "PNG"))
    folder = _copy(anonymized, tmp_path / "own")
    job = Job(
        source=folder / "src", out=folder / "run", alphas=folder / "alphas", masks=masks,
        settings=Settings(trust_no_face=True), execution=Execution(workers=1),
    )  # fmt: skip
    anonymize_job(job)
    _permit(folder, "star.png")
    row = ledger(folder)["star.png"]
    assert (row["outcome"], row["reason"]) == ("needs_review", "mask_and_permission")


def test_only_a_whole_permission_settles_anything() -> None:
    whole = Decision(Action.SHOW, reviewer=WHO, time="2026-02-03T04:05:06Z", basis=BASIS)
    seen = Doubt("redetected", "a face is seen")
    assert whole.permits and whole.overrules(seen)
    for code in ("no_permission", "not_the_same", "metadata_left", "mask_and_permission", "matte_is_picture"):
        assert not Decision(**{**vars(whole), "confirmed": True}).overrules(Doubt(code, "a sentence"))
    for gap in ({"basis": None}, {"basis": ""}, {"reviewer": None}, {"time": ""}):
        part = Decision(**{**vars(whole), "confirmed": True, **gap})
        assert not part.permits and not part.overrules(seen)
    other = Decision(**{**vars(whole), "action": Action.ACCEPT})
    assert not other.permits and not other.overrules(seen)


def test_the_time_of_a_permission_comes_along(own: Path, anonymized: Path, tmp_path: Path) -> None:
    before = ledger(own)["star.png"]["decision"]
    folder = _copy(anonymized, tmp_path / "other")
    rows = [row for row in read_rows(own / "run" / LOG) if row["id"] == ledger(own)["star.png"]["id"]]
    decisions = _decisions(folder, *({**row, "time": "2026-02-03T04:05:06Z"} for row in rows))
    apply_file(folder / "run", decisions, workers=1)
    after = ledger(folder)["star.png"]["decision"]
    assert after["time"] == "2026-02-03T04:05:06Z" and (after["basis"], after["reviewer"]) == (BASIS, WHO)
    assert before["basis"] == BASIS


# Verify -----------------------------------------------------------------------------------------------------------


def _findings(folder: Path) -> set[tuple[str, str]]:
    sources = {row["id"]: source for source, row in ledger(folder).items()}
    return {(sources.get(found.id, found.id), found.code) for found in verify_run(folder / "run")[1]}


def _rewrite(folder: Path, source: str, **changes: Any) -> None:
    """Change an image's rows everywhere but in the log of decisions, as an insider could."""
    identity = ledger(folder)[source]["id"]
    run = folder / "run"
    for path in (run / LEDGER, *run.glob("shards/*/results.jsonl")):
        write_rows(path, [row | changes if row["id"] == identity else row for row in list(read_rows(path))])
    public = {key: value for key, value in changes.items() if key in ("outcome", "faces")}
    rows = [row | public if row["id"] == identity else row for row in read_rows(run / MANIFEST)]
    write_rows(run / MANIFEST, rows)


def test_what_is_shown_is_proved_from_the_files(permitted: Path) -> None:
    assert _findings(permitted) == set()


@pytest.mark.parametrize("source", ["star.jpg", "star.png", "turned.jpg"])
def test_a_shown_file_that_is_another_fails(own: Path, source: str) -> None:
    path = own / "run" / "images" / ledger(own)[source]["files"]["images"][0]
    pixels = decode(path.read_bytes()).pixels.copy()
    pixels[5:9, 5:9] ^= 64
    options = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
    data = encoded(pixels, "JPEG" if path.suffix == ".jpg" else "PNG", **options)
    old, new = sha256(path.read_bytes()), sha256(data)
    path.write_bytes(data)
    for listing in (own / "run" / MANIFEST, own / "run" / LEDGER, *(own / "run").glob("shards/*/results.jsonl")):
        # Without the promise of exact pixels as well.
        listing.write_text(listing.read_text().replace(old, new))
    if source == "turned.jpg":
        assert ledger(own)[source]["proofs"]["exact"] is False
    assert (source, "not_the_same") in _findings(own)


def test_metadata_in_a_shown_file_fails(own: Path) -> None:
    path = own / "run" / "images" / ledger(own)["star.jpg"]["files"]["images"][0]
    data = path.read_bytes()
    data = data[:2] + b"\xff\xfe\x00\x08a home" + data[2:]
    old, new = sha256(path.read_bytes()), sha256(data)
    path.write_bytes(data)
    for listing in (own / "run" / MANIFEST, own / "run" / LEDGER, *(own / "run").glob("shards/*/results.jsonl")):
        listing.write_text(listing.read_text().replace(old, new))
    assert ("star.jpg", "metadata_left") in _findings(own)


def test_a_manifest_edited_to_be_shown_fails(own: Path) -> None:
    identity = ledger(own)["usual.png"]["id"]
    path = own / "run" / MANIFEST
    text = [row | {"outcome": "shown_by_permission"} if row["id"] == identity else row for row in read_rows(path)]
    write_rows(path, text)
    assert ("", "manifest") in _findings(own)
    done = p3mdata_here("verify", own / "run")
    assert done.returncode == 4


def test_rows_edited_to_be_shown_without_a_private_record_fail(own: Path) -> None:
    """The clear picture in the place of the obfuscated one, with every row and hash of it; nothing in the log."""
    row = ledger(own)["usual.png"]
    clear = encoded(decode((own / "src" / "usual.png").read_bytes()).pixels, "PNG")
    mask = encoded(np.zeros((USUAL,) * 2, np.uint8), "PNG")
    for kind, data in (("images", clear), ("facemasks", mask)):
        path = own / "run" / kind / row["files"][kind][0]
        old, new = sha256(path.read_bytes()), sha256(data)
        path.write_bytes(data)
        for listing in (own / "run" / MANIFEST, own / "run" / LEDGER, *(own / "run").glob("shards/*/results.jsonl")):
            listing.write_text(listing.read_text().replace(old, new))
    decision = Decision(Action.SHOW, reviewer=WHO, time="2026-02-03T04:05:06Z", basis=BASIS).to_json()
    _rewrite(own, "usual.png", outcome="shown_by_permission", decision=decision)
    found = _findings(own)
    assert ("usual.png", "no_permission") in found and ("usual.png", "redetected") in found
    assert p3mdata_here("verify", own / "run").returncode == 4


def test_a_record_without_a_ground_is_no_permission(own: Path) -> None:
    log = own / "run" / LOG
    rows = [{**row, "basis": None} for row in read_rows(log)]
    write_rows(log, rows)
    # The rows no longer follow from the decisions: nothing goes on before the run is done again.
    with pytest.raises(RunFolderError, match="the run is not finished"):
        verify_run(own / "run")
    job = Job(
        source=own / "src", out=own / "run", alphas=own / "alphas", settings=Settings(trust_no_face=True),
        execution=Execution(workers=1),
    )  # fmt: skip
    summary = anonymize_job(job)
    assert summary.outcomes["shown_by_permission"] == 0
    assert {ledger(own)[name]["reason"] for name in SHOWN} == {"no_permission"}
    assert not [name for name in SHOWN if list((own / "run" / "images").glob(f"{ledger(own)[name]['id']}.*"))]


# Take-down, datasets, releases ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(permitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Of a copy: a run notes what is made of it, and its copies would take images out of this one.
    run = _copy(permitted, tmp_path_factory.mktemp("dataset") / "own") / "run"
    out = run.with_name("data")
    built = build_split(run, out, SplitSettings(read_layout("p3m10k"), validation=0, free=3, seed=1), workers=1)
    assert built.sets["P3M-500-NP"] == 3
    left = {source: why for source, why in built.refused}
    assert left and all("shown by permission" in why for why in left.values())
    return out


def _sets(data: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in read_rows(data / DATASET_LISTING):
        found.setdefault(row["set"], []).append(row["outcome"])
    return found


def test_shown_pictures_enter_the_free_set_and_no_other(own: Path, dataset: Path) -> None:
    sets = _sets(dataset)
    assert "shown_by_permission" in sets["P3M-500-NP"]
    assert set(sets["train"]) <= {"anonymized", "no_face_confirmed"}
    assert check_dataset(dataset, duplicates=False, workers=1).errors == 0
    # Without a free set they are named and left out.
    out = own / "plain"
    built = build_split(own / "run", out, SplitSettings(read_layout("p3m10k"), validation=0), workers=1)
    assert {source for source, _ in built.refused} == set(SHOWN)
    assert "shown_by_permission" not in {outcome for outcomes in _sets(out).values() for outcome in outcomes}


def test_nobody_trains_on_what_is_shown() -> None:
    candidates = [
        Candidate("a", 0, "a", (), free=True, shown=True),
        # A twin that is obfuscated: the group as a whole is not free.
        Candidate("b", 1, "b", (), free=True, shown=True),
        Candidate("c", 1, "c", ()),
        Candidate("d", 2, "d", (), free=True, shown=True),
        *(Candidate(str(i), 3 + i, str(i), ()) for i in range(8)),
    ]
    sets = Sets("train", "val", "free")
    for seed in range(5):
        chosen = assign(candidates, sets, 3, 1, seed)
        assert sum(chosen.get(name) == "free" for name in "ad") == 1 and "b" not in chosen
        assert {chosen.get(name) for name in "abd"} <= {"free", None} and chosen["c"] in ("train", "val")
    # One that was trained on under another outcome is no test picture.
    assert assign(candidates, sets, 0, 1, 0, {"a": "train"})["d"] == "free"
    with pytest.raises(SettingsError, match="there are 2"):
        assign(candidates, sets, 0, 3)


def test_check_finds_shown_pictures_among_those_to_train_on(dataset: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    rows = list(read_rows(data / DATASET_LISTING))
    place = next(i for i, row in enumerate(rows) if row["set"] == "train" and row["outcome"] == "anonymized")
    rows[place]["outcome"] = "shown_by_permission"
    write_rows(data / DATASET_LISTING, rows)
    codes = {finding.code for finding in check_dataset(data, duplicates=False, workers=1).findings if finding.error}
    assert {"shown_in_training", "no_permission"} <= codes
    with pytest.raises(RunFolderError, match="shown by permission"):
        Release.open(data)


def test_rows_of_the_dataset_are_of_its_schema(dataset: Path) -> None:
    schema = json.loads((manifests_dir() / "dataset.schema.json").read_text())
    rows = list(read_rows(dataset / DATASET_LISTING))
    assert rows
    for row in rows:
        jsonschema.validate(row, schema)
        assert BASIS not in dumps(row) and WHO not in dumps(row)


@pytest.mark.parametrize("of", ["run", "data"])
def test_the_card_counts_what_is_shown_and_keeps_it_apart(own: Path, dataset: Path, tmp_path: Path, of: str) -> None:
    source = own / "run" if of == "run" else dataset
    release = Release.open(source)
    shown = len(SHOWN) if of == "run" else _sets(dataset)["P3M-500-NP"].count("shown_by_permission")
    for split in release.splits:
        outcomes = {entry.row.outcome.value for entry in split.entries}
        assert not split.training or "shown_by_permission" not in outcomes
    export(source, tmp_path / "release", "huggingface", None)
    text = (tmp_path / "release" / "README.md").read_text()
    assert f"{shown} with faces shown by permission" in text
    assert f"{shown} images" in text and "Do not train on them" in text
    assert BASIS not in text and WHO not in text
    assert "Detectors found no bare face on any released image but those that are shown by permission" in text
    facts = release.facts()
    assert facts.shown_images == shown and facts.shown_faces == shown and facts.proofs.missed == 0
    assert f"{facts.faces} face" in text


def test_a_take_down_reaches_run_and_dataset(own: Path) -> None:
    data = own / "data"
    build_split(own / "run", data, SplitSettings(read_layout("p3m10k"), validation=0, free=4), workers=1)
    row = ledger(own)["star.png"]
    assert list(data.rglob(f"{row['id']}.*"))
    done = remove_images(own / "run", ["star.png"])
    assert done.ids == (row["id"],) and done.summary.outcomes["shown_by_permission"] == len(SHOWN) - 1
    assert not list((own / "run").rglob(f"{row['id']}.*")) and not list(data.rglob(f"{row['id']}.*"))
    assert _findings(own) == set() and check_dataset(data, duplicates=False, workers=1).errors == 0


def test_a_sample_for_missed_faces_leaves_them_out(own: Path) -> None:
    drawn = sample_run(own / "run", 100)
    shown = {row["id"] for row in ledger(own).values() if row["outcome"] == "shown_by_permission"}
    assert drawn and not shown & set(drawn)
