"""`verify` on a finished run: passes what is as it was released, and names every way in which it is not."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from PIL import Image

from p3mdata.base.files import sha256
from p3mdata.base.jsonl import dumps, read_rows, write_rows
from p3mdata.config import Execution, Job
from p3mdata.errors import RunFolderError
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging import decode
from p3mdata.records import Sample
from p3mdata.run import receipts, verify
from p3mdata.run.job import anonymize_job, verify_run
from p3mdata.run.layout import LEDGER, MANIFEST, PLAN, PROVED, PROVED_HERE, SECRET
from p3mdata.run.plan import read_plan
from p3mdata.run.rows import finished_rows
from tests.factories import astronaut, encoded, matte
from tests.runs import p3mdata_here, portraits

SIDE = 192


class Run:
    """A finished run of a JPEG and a PNG with mattes, and the rows of it."""

    def __init__(self, folder: Path) -> None:
        self.out, self.source, self.alphas = folder / "out", folder / "src", folder / "alphas"
        # What the run itself noted as proved.
        self.receipts: dict[Path, bytes] = {}

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["source"]: row for row in read_rows(self.out / LEDGER)}

    def path(self, source: str, kind: str = "images") -> Path:
        return self.out / kind / self.rows[source]["files"][kind][0]

    def findings(self) -> set[tuple[str, str]]:
        """(source or '', code) of what is wrong; whoever goes by what was proved before finds the same."""
        sources = {row["id"]: source for source, row in self.rows.items()}
        trusting, proving = (verify_run(self.out, again=again)[1] for again in (False, True))
        assert trusting == proving
        return {(sources.get(finding.id, finding.id), finding.code) for finding in proving}

    def accept(self, source: str, kind: str, data: bytes) -> None:
        """Replace a released file and every hash of it, as an insider could; only the proofs are left to tell."""
        path = self.path(source, kind)
        old, new = sha256(path.read_bytes()), sha256(data)
        path.write_bytes(data)
        for listing in (self.out / MANIFEST, self.out / LEDGER, *self.out.glob("shards/*/results.jsonl")):
            listing.write_text(listing.read_text().replace(old, new))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> Run:
    run = Run(tmp_path_factory.mktemp("verify"))
    portraits(run.source, "a.jpg", "b.png", side=SIDE)
    (run.source / "text.jpg").write_bytes(b"no picture")
    run.alphas.mkdir()
    for index, name in enumerate(("a.png", "b.png")):
        (run.alphas / name).write_bytes(encoded(matte(SIDE + index), "PNG"))
    job = Job(source=run.source, out=run.out, alphas=run.alphas, execution=Execution(workers=1))
    assert anonymize_job(job).released == 2
    run.receipts = {path.relative_to(run.out): path.read_bytes() for path in run.out.glob(f"shards/*/{PROVED_HERE}")}
    assert sum(map(len, run.receipts.values())) == 16
    # Faults are planted in a run of which all was proved.
    assert verify_run(run.out) == (2, [])
    return run


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    """A copy to tamper with; its plan points to the copied sources."""
    shutil.copytree(finished.out.parent, tmp_path / "copy")
    run = Run(tmp_path / "copy")
    run.receipts = finished.receipts
    job = run.out / "private" / "job.json"
    job.write_text(job.read_text().replace(str(finished.out.parent), str(tmp_path / "copy")))
    return run


def png_of_too_many_pixels() -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + bytes(12)


def test_a_clean_run_passes(run: Run) -> None:
    assert verify_run(run.out) == (2, [])
    done = p3mdata_here("verify", run.out)
    assert (done.returncode, done.stdout) == (0, "2 released images: all proofs hold\n")


def changed_pixel(run: Run, where: np.ndarray) -> bytes:
    """The released PNG with one channel of one pixel of an area changed by one."""
    pixels = cv2.imread(str(run.path("b.png")), cv2.IMREAD_UNCHANGED)
    row, column = np.argwhere(where)[len(np.argwhere(where)) // 2]
    pixels[row, column, 1] ^= 1
    return cv2.imencode(".png", pixels)[1].tobytes()


def outside(run: Run) -> np.ndarray:
    return cv2.imread(str(run.path("b.png", "facemasks")), cv2.IMREAD_UNCHANGED) == 0


def in_transition(run: Run) -> np.ndarray:
    alpha = cv2.imread(str(run.path("b.png", "alphas")), cv2.IMREAD_UNCHANGED)
    return np.asarray((alpha > 0) & (alpha < 255))


@pytest.mark.parametrize("area", [outside, in_transition])
@pytest.mark.parametrize("insider", [False, True])
def test_one_changed_pixel(run: Run, area: Callable[[Run], np.ndarray], insider: bool) -> None:
    data = changed_pixel(run, area(run))
    expected = {("b.png", "changed_outside")}
    if insider:
        run.accept("b.png", "images", data)
    else:
        run.path("b.png").write_bytes(data)
        expected.add(("b.png", "changed_file"))
    assert run.findings() == expected


@pytest.mark.parametrize("source", ["a.jpg", "b.png"])
@pytest.mark.parametrize("insider", [False, True])
def test_a_clear_picture_in_the_place_of_the_released(run: Run, source: str, insider: bool) -> None:
    clear = (run.source / source).read_bytes()
    if insider:
        run.accept(source, "images", clear)
    else:
        run.path(source).write_bytes(clear)
    expected = {(source, "other_obfuscation"), (source, "not_obfuscated")}
    assert run.findings() == expected | (set() if insider else {(source, "changed_file")})


def test_a_weaker_blur_than_the_settings_ask_for(run: Run) -> None:
    clear = decode((run.source / "b.png").read_bytes()).pixels
    weak = np.where(outside(run)[:, :, None], clear, cv2.GaussianBlur(clear, (0, 0), 2))
    run.accept("b.png", "images", cv2.imencode(".png", weak[:, :, ::-1])[1].tobytes())
    assert ("b.png", "other_obfuscation") in run.findings()


def test_a_grey_copy_of_a_colour_picture(run: Run) -> None:
    grey = cv2.imread(str(run.path("b.png")), cv2.IMREAD_GRAYSCALE)
    run.accept("b.png", "images", cv2.imencode(".png", grey)[1].tobytes())
    assert {("b.png", "changed_outside"), ("b.png", "other_obfuscation")} <= run.findings()


def test_swapped_images(run: Run) -> None:
    a, b = run.path("a.jpg"), run.path("b.png")
    one, two = a.read_bytes(), b.read_bytes()
    a.write_bytes(two)
    b.write_bytes(one)
    assert {("a.jpg", "changed_file"), ("b.png", "changed_file")} <= run.findings()
    assert p3mdata_here("verify", run.out, "--json").returncode == 4


@pytest.mark.parametrize("source", ["a.jpg", "b.png"])
def test_an_added_exif_block(run: Run, source: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    path = run.path(source)
    if source == "b.png":
        with Image.open(path) as image:
            sink = io.BytesIO()
            image.save(sink, "PNG", exif=exif)
        data = sink.getvalue()
    else:
        block = b"Exif\x00\x00" + exif.tobytes().removeprefix(b"Exif\x00\x00")
        clean = path.read_bytes()
        data = clean[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + clean[2:]
    run.accept(source, "images", data)
    assert run.findings() == {(source, "metadata_left")}


@pytest.mark.parametrize("source", ["a.jpg", "b.png"])
def test_appended_bytes(run: Run, source: str) -> None:
    run.accept(source, "images", run.path(source).read_bytes() + b"something hidden")
    assert run.findings() == {(source, "metadata_left")}


def test_a_deleted_facemask(run: Run) -> None:
    run.path("a.jpg", "facemasks").unlink()
    assert run.findings() == {("a.jpg", "missing_file")}


@pytest.mark.parametrize("insider", [False, True])
def test_an_edited_facemask(run: Run, insider: bool) -> None:
    path = run.path("a.jpg", "facemasks")
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    array[:8, :8] = 255
    data = cv2.imencode(".png", array)[1].tobytes()
    if insider:
        run.accept("a.jpg", "facemasks", data)
    else:
        path.write_bytes(data)
    assert run.findings() == {("a.jpg", "other_facemask")} | (set() if insider else {("a.jpg", "changed_file")})


def test_a_size_that_is_another_everywhere(run: Run) -> None:
    for listing in (run.out / MANIFEST, run.out / LEDGER, *run.out.glob("shards/*/results.jsonl")):
        text = listing.read_text()
        assert f'"height":{SIDE},' in text
        listing.write_text(text.replace(f'"height":{SIDE},', f'"height":{SIDE + 1},'))
    assert run.findings() == {("a.jpg", "other_size")}


@pytest.mark.parametrize("data", [b"", png_of_too_many_pixels()])
@pytest.mark.parametrize(("kind", "code"), [("facemasks", "bad_facemask"), ("alphas", "changed_alpha")])
def test_files_that_no_library_opens_are_named(run: Run, kind: str, code: str, data: bytes) -> None:
    """A process that was killed, or a full disk, leaves empty ones."""
    run.path("a.jpg", kind).write_bytes(data)
    assert run.findings() == {("a.jpg", "changed_file"), ("a.jpg", code)}


def test_a_facemask_of_another_size(run: Run) -> None:
    array = cv2.imread(str(run.path("a.jpg", "facemasks")), cv2.IMREAD_UNCHANGED)
    run.accept("a.jpg", "facemasks", cv2.imencode(".png", array[:-1])[1].tobytes())
    assert run.findings() == {("a.jpg", "bad_facemask")}


@pytest.mark.parametrize("insider", [False, True])
def test_a_changed_alpha(run: Run, insider: bool) -> None:
    path = run.path("b.png", "alphas")
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    array[0, 0] ^= 1
    data = cv2.imencode(".png", array)[1].tobytes()
    if insider:
        run.accept("b.png", "alphas", data)
    else:
        path.write_bytes(data)
    assert run.findings() == {("b.png", "changed_alpha")} | (set() if insider else {("b.png", "changed_file")})


def test_a_matte_of_an_earlier_run_that_shows_the_face(tmp_path: Path, kept_models: FaceFinder) -> None:
    """Versions that did not look for faint levels released it; source and alpha are equal, and all hashes hold."""
    alpha, grey = matte(SIDE), astronaut(SIDE).mean(2)
    face = np.zeros(alpha.shape, bool)
    face[int(0.1 * SIDE) : int(0.41 * SIDE), int(0.33 * SIDE) : int(0.59 * SIDE)] = True
    shown = np.where(face & (alpha == 255), 252 + grey // 64, alpha).astype(np.uint8)
    run = Run(tmp_path)
    portraits(run.source, "a.png", side=SIDE)
    run.alphas.mkdir()
    (run.alphas / "a.png").write_bytes(encoded(shown, "PNG"))
    job = Job(source=run.source, out=run.out, alphas=run.alphas, execution=Execution(workers=1))
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr("p3mdata.anonymize.doubts.shows_face", lambda alpha, box: False)
        earlier.setattr(receipts, "_program", lambda: ["p3mdata 0.0.1"])
        assert anonymize_job(job).released == 1
    assert run.findings() == {("a.png", "matte_is_picture")}


@pytest.mark.parametrize("kind", ["images", "facemasks", "alphas"])
@pytest.mark.parametrize("name", ["extra.jpg", ".hidden.jpg", "folder/extra.jpg"])
def test_an_extra_file(run: Run, kind: str, name: str) -> None:
    (run.out / kind / name).parent.mkdir(exist_ok=True)
    (run.out / kind / name).write_bytes((run.source / "a.jpg").read_bytes())
    assert {code for _, code in run.findings()} == {"stray_file"}


def edit(run: Run, listing: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    rows = list(read_rows(run.out / listing))
    change(rows)
    write_rows(run.out / listing, rows)


@pytest.mark.parametrize("listing", [MANIFEST, LEDGER])
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.pop(),
        lambda rows: rows.reverse(),
        lambda rows: rows.append(rows[0]),
        lambda rows: rows[0].update(outcome="no_face_confirmed"),
        lambda rows: rows[0].update(masked_share=0.5),
        lambda rows: rows[0].update(licence="mine"),
    ],
)
def test_edited_rows(run: Run, listing: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    edit(run, listing, change)
    findings = verify_run(run.out)[1]
    assert {finding.code for finding in findings} == {"manifest" if listing == MANIFEST else "ledger"}


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"null\n"])
def test_a_damaged_manifest(run: Run, damage: bytes) -> None:
    (run.out / MANIFEST).write_bytes(damage)
    assert {finding.code for finding in verify_run(run.out)[1]} == {"manifest"}
    (run.out / MANIFEST).unlink()
    assert {finding.code for finding in verify_run(run.out)[1]} == {"manifest"}


def test_rows_of_a_run_from_before_there_were_secrets_are_named_as_such(run: Run) -> None:
    plan, samples = read_plan(run.out)
    rows = list(finished_rows(plan, samples))
    (run.out / MANIFEST).write_bytes(b"")
    (found,) = verify.check_files(plan, rows)
    assert found.sentence == f"{MANIFEST} is not the list of what was released"
    planned = json.loads((run.out / PLAN).read_text())
    del planned["ids"]
    (run.out / PLAN).write_text(json.dumps(planned))
    (found,) = verify.check_files(plan, rows)
    assert found.sentence.endswith("released; it was made before 0.4: prove it with the version that made it")


def test_a_source_that_changed_or_went_away(run: Run) -> None:
    (run.source / "a.jpg").write_bytes((run.source / "b.png").read_bytes())
    (run.alphas / "b.png").unlink()
    assert run.findings() == {("a.jpg", "changed"), ("b.png", "cannot_read")}


def test_the_command_names_image_and_proof(run: Run) -> None:
    run.path("b.png").write_bytes(changed_pixel(run, outside(run)))
    done = p3mdata_here("verify", run.out, "--json")
    assert done.returncode == 4
    report = json.loads(done.stdout)
    assert {(row["id"], row["code"]) for row in report["findings"]} == {
        (run.rows["b.png"]["id"], "changed_file"),
        (run.rows["b.png"]["id"], "changed_outside"),
    }


def test_a_run_that_is_not_finished_is_not_proved(run: Run) -> None:
    with pytest.raises(RunFolderError, match="is not a run folder"):
        verify_run(run.source)
    (run.out / "shards" / "00000" / "DONE").unlink()
    with pytest.raises(RunFolderError, match="not finished"):
        verify_run(run.out)


def test_a_mask_that_was_added_but_not_yet_applied_is_not_finished(run: Run) -> None:
    sources = run.out / "private" / "sources.jsonl"
    rows = list(read_rows(sources))
    rows[0]["mask"] = ["a.png", "0" * 64]
    sources.write_text("".join(dumps(row) + "\n" for row in rows))
    with pytest.raises(RunFolderError, match="not finished"):
        verify_run(run.out)


def test_released_png_differs_from_its_source_inside_the_mask_only(finished: Run) -> None:
    before = decode((finished.source / "b.png").read_bytes()).pixels
    after = decode(finished.path("b.png").read_bytes()).pixels
    changed = (before != after).any(axis=2)
    assert changed.any()
    assert not changed[outside(finished)].any()


@pytest.fixture
def proved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources of the images that are proved from here on."""
    found: list[str] = []
    check = verify.check_image

    def noted(plan: Any, sample: Sample, *rest: Any) -> Any:
        found.append(sample.source)
        return check(plan, sample, *rest)

    monkeypatch.setattr(verify, "check_image", noted)
    return found


def test_what_was_proved_is_not_proved_again_for_a_dataset(run: Run, proved: list[str]) -> None:
    """No models are loaded either; `verify` itself always proves."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("p3mdata.faces.models", "p3mdata.run.look"):
            patch.setattr(f"{module}.FaceFinder", lambda: pytest.fail("models are loaded"))
        assert verify_run(run.out, again=False) == (2, []) and not proved
    assert verify_run(run.out) == (2, []) and sorted(proved) == ["a.jpg", "b.png"]


@pytest.mark.parametrize("damage", [b"", bytes(16), b"torn", None])
def test_receipts_that_are_lost_or_damaged_only_cost_time(run: Run, proved: list[str], damage: bytes | None) -> None:
    path = run.out / PROVED
    kept = path.read_bytes()
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert verify_run(run.out, again=False) == (2, []) and sorted(proved) == ["a.jpg", "b.png"]
    assert path.read_bytes() == kept


def test_receipts_count_for_one_program_its_settings_and_the_runs_secret(
    run: Run, proved: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(receipts, "__version__", "0.0.1")
        receipts._program.cache_clear()
        verify_run(run.out, again=False)
    receipts._program.cache_clear()
    assert sorted(proved) == ["a.jpg", "b.png"]

    def held(**settings: Any) -> int:
        plan, samples = read_plan(run.out)
        asked = plan.job.model_copy(update={"settings": plan.job.settings.model_copy(update=settings)})
        found = receipts.Receipts(replace(plan, job=asked))
        return sum(found.holds(found.of(*each)) for each in zip(samples, finished_rows(plan, samples), strict=True))

    assert held() == 0
    verify_run(run.out)
    assert held() == 2 and held(quality=31) == 0
    assert len((run.out / PROVED).read_bytes()) == 16
    (run.out / SECRET).write_text("0" * 64 + "\n")
    assert held() == 0


def as_just_made(run: Run) -> None:
    """Leave the receipts that the run itself kept, and no others."""
    (run.out / PROVED).unlink()
    for path, content in run.receipts.items():
        (run.out / path).write_bytes(content)


def test_what_a_run_proved_as_it_made_it_is_not_proved_again_for_a_dataset(
    run: Run, proved: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_just_made(run)
    assert verify_run(run.out, again=False) == (2, []) and not proved
    assert len((run.out / PROVED).read_bytes()) == 16
    assert not list(run.out.glob(f"shards/*/{PROVED_HERE}"))
    as_just_made(run)
    # Of a full disk too: what failed must not go by what was told before.
    monkeypatch.setattr(receipts, "write_atomic", Mock(side_effect=OSError))
    assert verify_run(run.out) == (2, []) and sorted(proved) == ["a.jpg", "b.png"]
    assert not list(run.out.glob(f"shards/*/{PROVED_HERE}"))


@pytest.mark.parametrize("kind", ["images", "facemasks", "alphas", "source"])
def test_what_was_changed_since_it_was_made_is_proved(run: Run, proved: list[str], kind: str) -> None:
    as_just_made(run)
    path = run.source / "a.jpg" if kind == "source" else run.path("a.jpg", kind)
    path.write_bytes(path.read_bytes() + b" ")
    assert {finding.code for finding in verify_run(run.out, again=False)[1]} & {"changed_file", "changed"}
    assert proved == ["a.jpg"]


def test_an_alpha_that_is_not_the_sources_is_proved_though_its_hash_is_told_right(run: Run, proved: list[str]) -> None:
    as_just_made(run)
    alpha = cv2.imread(str(run.path("a.jpg", "alphas")), cv2.IMREAD_UNCHANGED)
    alpha[0, 0] ^= 1
    run.accept("a.jpg", "alphas", cv2.imencode(".png", alpha)[1].tobytes())
    plan, samples = read_plan(run.out)
    pairs = list(zip(samples, finished_rows(plan, samples), strict=True))
    receipts.keep_of_run(run.out / next(iter(run.receipts)).parent, plan.job, pairs)
    kept = receipts.Receipts(plan)
    assert all(kept.holds_of_run(kept.of(*pair)) == pair[1].outcome.released for pair in pairs)
    found = verify_run(run.out, again=False)[1]
    assert [finding.code for finding in found] == ["changed_alpha"] and proved == ["a.jpg"]


def test_an_image_that_fails_gets_no_receipt(run: Run) -> None:
    run.accept("b.png", "images", changed_pixel(run, outside(run)))
    assert ("b.png", "changed_outside") in run.findings()
    assert len((run.out / PROVED).read_bytes()) == 8
