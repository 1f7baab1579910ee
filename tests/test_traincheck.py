"""train-check: what runs, what it costs, what is judged, that no original leaves its folder, and every way to stop."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import p3mdata
from p3mdata.audit.costs import read_costs
from p3mdata.base.files import sha256
from p3mdata.base.ids import sample_id
from p3mdata.cli import main
from p3mdata.config import Method
from p3mdata.dataset.about import About
from p3mdata.dataset.folder import open_dataset
from p3mdata.errors import EXIT_PROOF_FAILED, EXIT_USAGE, Interrupted, RunFolderError, SettingsError
from p3mnet.traincheck.budget import Spending
from p3mnet.traincheck.config import Scale, TrainCheckSettings, recipe
from tests.factories import MARK, encoded, marked_portrait, obfuscated_dataset, synthetic_portrait, texture, write_png
from tests.runs import p3mdata as command

torch = pytest.importorskip("torch")

from p3mnet.devices import GpuLost, gpu_guarded  # noqa: E402
from p3mnet.image_files import BadFile  # noqa: E402
from p3mnet.metrics import NAMES  # noqa: E402
from p3mnet.originals import Images, find_originals, rendered  # noqa: E402
from p3mnet.traincheck import driver  # noqa: E402
from p3mnet.traincheck import experiments as running  # noqa: E402
from p3mnet.traincheck.checks import try_steps  # noqa: E402
from p3mnet.training import Watch, train  # noqa: E402
from tests.threads import one_thread  # noqa: E402, F401

SIDE = 96
ORIGINALS = Path("orig")
# Small and the same everywhere; two seeds, so that there are intervals.
SETTINGS: dict[str, Any] = {"epochs": 2, "seeds": 2, "device": "cpu", "workers": 1}


def loaded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `data` and `orig`; not to be changed."""
    folder = tmp_path_factory.mktemp("world")
    obfuscated_dataset(folder)
    return folder


@pytest.fixture(scope="module")
def whole(world: Path) -> Path:
    """A finished train-check under all protocols."""
    found = p3mdata.train_check(world / "data", world / "whole", originals=world / ORIGINALS, **SETTINGS)
    assert found.out == world / "whole"
    return world / "whole"


@pytest.fixture
def copy(world: Path, tmp_path: Path) -> Path:
    """The same folder, to change."""
    for name in ("data", "orig"):
        shutil.copytree(world / name, tmp_path / name)
    return tmp_path


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def rules(out: Path) -> dict[str, tuple[str, str]]:
    return {row["name"]: (row["state"], row["sentence"]) for row in report(out)["rules"]}


def scores(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted((out / "scores").rglob("*.csv"))}


# Originals


def test_originals_are_found_by_name_path_or_content(copy: Path) -> None:
    dataset = open_dataset(copy / "data")
    originals = copy / "orig"
    found = find_originals(originals, dataset, ["train", "validation"], 2)
    assert found["person0"] == originals / "person0.png" and len(found) == 9
    # Published under ids, as by 'anonymize': the photograph's own content says which.
    data = (originals / "person0.png").read_bytes()
    identity = sample_id(sha256(data), "", 0, None)
    for kind in ("images", "alphas", "facemasks"):
        (copy / f"data/train/{kind}/person0.png").rename(copy / f"data/train/{kind}/{identity}.png")
    assert find_originals(originals, open_dataset(copy / "data"), ["train"], 1)[identity] == originals / "person0.png"
    # Where a secret made the ids only who has it can tell.
    keyed = open_dataset(copy / "data")
    keyed = dataclasses.replace(keyed, about=About(keyed.layout, "", "", 1, {}, keyed=True))
    with pytest.raises(SettingsError, match="--secret-file RUN/private/secret"):
        find_originals(originals, keyed, ["train"], 1)
    secret = 32 * "5e"
    for kind in ("images", "alphas", "facemasks"):
        name = f"{sample_id(sha256(data), '', 0, secret)}.png"
        (copy / f"data/train/{kind}/{identity}.png").rename(copy / f"data/train/{kind}/{name}")
    found = find_originals(originals, keyed, ["train"], 1, secret=secret)
    assert found[Path(name).stem] == originals / "person0.png"


def test_originals_that_do_not_fit_are_named(copy: Path) -> None:
    dataset, originals = open_dataset(copy / "data"), copy / "orig"
    (originals / "person1.png").unlink()
    (originals / "person2.png").unlink()
    with pytest.raises(SettingsError, match=r"no photograph of 2 of 6 pictures: person1, person2\."):
        find_originals(originals, dataset, ["train"], 1)
    write_png(originals / "person1.png", texture(SIDE, SIDE + 1))
    write_png(originals / "person2.png", texture(SIDE, SIDE, seed=5))
    with pytest.raises(SettingsError, match=r"person1 \(97x96 instead of 96x96\), person2 \(another picture\)"):
        find_originals(originals, dataset, ["train"], 1)
    (originals / "person1.png").write_bytes(b"no picture")
    with pytest.raises(SettingsError, match=r"person1 \(it cannot be read\)"):
        find_originals(originals, dataset, ["train"], 1)
    with pytest.raises(SettingsError, match="is no folder"):
        find_originals(copy / "nowhere", dataset, ["train"], 1)


def test_rendering_changes_the_facemask_and_nothing_else() -> None:
    rgb, _, mask = marked_portrait(SIDE, 3)
    for method in Method:
        made = rendered(rgb, mask, method)
        assert (made[mask == 0] == rgb[mask == 0]).all()
    assert not rendered(rgb, mask, Method.ZERO)[mask > 0].any()
    noise = np.random.default_rng(0).integers(0, 256, rgb.shape, np.uint8)
    noisy = np.where((mask > 0)[:, :, None], noise, rgb)
    assert rendered(noisy, mask, Method.BLUR)[mask > 0].std() < 0.5 * noisy[mask > 0].std()


def test_an_original_that_vanishes_is_not_named() -> None:
    with pytest.raises(BadFile) as caught:
        Images({"id1": Path("/nowhere/obama.jpg")}, {})("id1")
    assert "id1" in str(caught.value) and "obama" not in str(caught.value)


# The whole


def test_a_whole_train_check(whole: Path) -> None:
    found = report(whole)
    assert [(row["protocol"], row["test"]) for row in found["table_4"]] == [
        ("B:B", "P"), ("B:N", "P-normal"), ("B:N", "NP"), ("N:N", "P-normal"), ("N:N", "NP"), ("N:B", "P")
    ]  # fmt: skip
    for row in found["table_4"]:
        assert set(NAMES) <= set(row["metrics"])
        assert ("SAD_FACE" in row["metrics"]) == (row["test"] != "NP")
        assert row["metrics"]["SAD"]["seeds"] == 2 and row["metrics"]["SAD"]["sd"] is not None
    steps = {row["steps"] for row in found["trainings"]}
    assert (
        found["budget"]["seconds"].keys() == {"before", "training", "testing"}
        and found["budget"]["seconds"]["before"] > 0
    )
    assert len(found["trainings"]) == 4 and len(steps) == 1 and all(row["done"] for row in found["trainings"])
    cost = {row["test"]: row["metrics"]["SAD"] for row in found["costs"]}
    assert set(cost) == {"P-normal", "NP"} and cost["P-normal"]["pictures"] == 3
    by_cell = {(row["protocol"], row["test"]): row["metrics"]["SAD"]["value"] for row in found["table_4"]}
    difference = by_cell["B:N", "P-normal"] - by_cell["N:N", "P-normal"]
    assert cost["P-normal"]["value"] == pytest.approx(difference)
    assert {name: state for name, (state, _) in rules(whole).items() if name not in ("learning", "cost")} == {
        "dataset": "pass", "facemasks": "pass", "classes": "pass", "step": "pass"
    }  # fmt: skip


def test_a_smoke_check_says_so_everywhere_and_never_passes(whole: Path) -> None:
    found = report(whole)
    assert found["kind"] == "smoke check, not a benchmark" and found["verdict"] == "inconclusive"
    page = (whole / "report.html").read_text()
    assert page.count("smoke check, not a benchmark") >= 2 and "Smoke check, not a benchmark." in page
    assert recipe(TrainCheckSettings(), Scale.SMOKE).model["name"] == "smoke_resnet34"


def shown(page: Path) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', page.read_text())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data in found]


def test_no_original_leaves_its_folder(whole: Path, world: Path) -> None:
    # As they were written: a file here is made of its number alone.
    assert len(list((world / ORIGINALS).iterdir())) == 9
    for number in range(9):
        assert np.array_equal(loaded(world / ORIGINALS / f"person{number}.png"), marked_portrait(SIDE, number)[0])
    pictures = shown(whole / "report.html")
    # Three pictures with truth, and prediction and error of three protocols.
    assert len(pictures) == 3 * 10
    marked = [np.abs(image.astype(int) - MARK).max(axis=2) < 60 for image in pictures]
    assert not any(where.any() for where in marked)
    for path in whole.rglob("*"):
        if path.suffix in (".png", ".jpg"):
            with Image.open(path) as image:
                assert image.mode == "L", path
        elif path.suffix in (".json", ".html", ".yaml", ".csv"):
            assert str(world / ORIGINALS) not in path.read_text()
    assert not list(whole.rglob("samples"))


def test_the_page_shows_what_would_have_been_seen(world: Path, tmp_path: Path) -> None:
    # The check above can fail: the photographs themselves have the mark.
    photo = loaded(world / ORIGINALS / "person7.png")
    assert (np.abs(photo.astype(int) - MARK).max(axis=2) < 60).any()


def test_the_page_is_self_contained(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page) and "<script" not in page
    assert page.count("<svg") >= 3 and "$" not in re.sub(r"base64,[^\"]*", "", page)


def test_a_finished_train_check_is_told_again_without_work(whole: Path, world: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.p[tn]*")}
    again = p3mdata.train_check(world / "data", whole, originals=world / ORIGINALS, **SETTINGS)
    assert again.report["table_4"] == report(whole)["table_4"]
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*.p[tn]*")}


def test_other_settings_or_another_dataset_are_refused(whole: Path, world: Path, copy: Path) -> None:
    with pytest.raises(RunFolderError, match=r"other settings \(epochs, tolerance\)"):
        p3mdata.train_check(
            world / "data", whole, originals=world / ORIGINALS, **SETTINGS | {"epochs": 3, "tolerance": 0.2}
        )
    shutil.copytree(whole, copy / "whole")
    (copy / "data/train/images/person0.png").write_bytes(encoded(texture(SIDE, SIDE), "PNG"))
    with pytest.raises(RunFolderError, match="another dataset"):
        p3mdata.train_check(copy / "data", copy / "whole", originals=copy / "orig", **SETTINGS)


def test_damaged_files_of_a_train_check_are_named(whole: Path, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "whole"
    shutil.copytree(whole, out)
    for name, old, new, said in (
        (
            "plan.json",
            '"steps": ',
            '"steps": "many", "x": ',
            r"plan\.json: is damaged \('schedule.steps' cannot be 'many'",
        ),
        ("plan.json", '"seconds"', '"second"', r"plan\.json: is damaged \(KeyError: 'seconds'\)"),
        ("runs/N-0/result.json", '"device"', '"device_"', r"N-0/result\.json: is damaged \('device' cannot be"),
    ):
        text = (out / name).read_text()
        assert old in text
        (out / name).write_text(text.replace(old, new, 1))
        with pytest.raises(RunFolderError, match=said):
            p3mdata.train_check(world / "data", out, originals=world / ORIGINALS, **SETTINGS)
        (out / name).write_text(text)
    found = p3mdata.train_check(world / "data", out, originals=world / ORIGINALS, **SETTINGS)
    assert found.report == report(whole)


class Stopper(Watch):
    """Presses Ctrl-C in the second training's second step."""

    begun = 0

    def begin(self, images: int, done: int) -> None:
        Stopper.begun += 1

    def step(self, epoch: int, images: int, parts: Mapping[str, float]) -> None:
        if Stopper.begun == 2:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_ctrl_c_leaves_a_report_and_the_same_call_comes_to_the_same_figures(
    whole: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(Stopper, "begun", 0)
    with monkeypatch.context() as patch:
        patch.setattr(driver, "Watch", Stopper)
        with pytest.raises(Interrupted):
            p3mdata.train_check(world / "data", out, originals=world / ORIGINALS, **SETTINGS)
    partial = report(out)
    assert not partial["complete"] and partial["verdict"] == "inconclusive"
    assert [row["done"] for row in partial["trainings"]] == [True, False, False, False]
    assert {row["protocol"] for row in partial["table_4"] if row["metrics"]} == {"B:B", "B:N"}
    page = (out / "report.html").read_text()
    assert "Partial." in page and "the same command goes on" in page and len(shown(out / "report.html"))
    assert (out / "runs/N-0/log.csv").read_text().count("\n") == 2
    found = p3mdata.train_check(world / "data", out, originals=world / ORIGINALS, **SETTINGS)
    assert found.report["complete"] and found.report["table_4"] == report(whole)["table_4"]
    assert scores(out) == scores(whole) and len(scores(out)) == 12


@pytest.mark.slow
def test_a_gpu_that_disappears(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def failing(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore lines")
        return train(*args, **options)

    small = SETTINGS | {"epochs": 1, "protocols": ("B:B",)}
    with monkeypatch.context() as patch:
        patch.setattr(running, "train", failing)
        with pytest.raises(GpuLost, match="The GPU failed .*illegal memory access.*same command again"):
            p3mdata.train_check(world / "data", tmp_path / "out", **small)
    assert [row["done"] for row in report(tmp_path / "out")["trainings"]] == [True, False]
    assert rules(tmp_path / "out")["complete"][0] == "inconclusive"
    assert p3mdata.train_check(world / "data", tmp_path / "out", **small).report["complete"]


@pytest.mark.slow
def test_a_slow_machine_ends_after_two_seeds(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A plan of a fiftieth of what a step and a test take.
    monkeypatch.setattr(driver, "spend", lambda *rest: Spending(1, {"validation": 1}, 0.01, 0.01))
    settings = SETTINGS | {"budget": 0.02, "epochs": None, "seeds": 3, "protocols": ("B:B",)}
    first = p3mdata.train_check(world / "data", tmp_path / "out", **settings)
    assert [row["done"] for row in first.report["trainings"]] == [True, True, False]
    assert "2 of 3 seeds" in " ".join(first.report["notes"]) and first.report["complete"]
    assert first.report["table_4"][0]["metrics"]["SAD"]["seeds"] == 2
    assert p3mdata.train_check(world / "data", tmp_path / "out", **settings).report == first.report


@pytest.mark.slow
def test_memory_that_is_short_takes_steps_in_parts(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(root: Path, how: Any, batch: int, *rest: Any) -> Any:
        if batch > 2:
            raise torch.OutOfMemoryError("out of memory")
        return try_steps(root, how, batch, *rest)

    small = SETTINGS | {"epochs": 1, "protocols": ("B:B",), "seeds": 1}
    monkeypatch.setattr(driver, "try_steps", short)
    found = p3mdata.train_check(world / "data", tmp_path / "out", **small)
    assert (found.report["budget"]["batch"], found.report["trainings"][0]["steps"]) == (4, 1)
    settings = (tmp_path / "out/runs/B-0/config.yaml").read_text()
    assert "\nbatch: 2\n" in settings and "\naccumulation: 2\n" in settings
    monkeypatch.setattr(driver, "try_steps", lambda root, how, batch, *rest: short(root, how, 9))
    with pytest.raises(SettingsError, match="single crop"):
        p3mdata.train_check(world / "data", tmp_path / "other", **small)


def test_a_bug_is_not_taken_for_a_lost_gpu() -> None:
    with pytest.raises(RuntimeError, match="shapes"), gpu_guarded("."):
        raise RuntimeError("shapes do not fit")


# Checks that end it before anything is trained


def failed(copy: Path, name: str, *words: str) -> None:
    found = p3mdata.train_check(copy / "data", copy / "out", **SETTINGS)
    assert found.exit_code == EXIT_PROOF_FAILED and found.report["verdict"] == "fail"
    state, sentence = rules(copy / "out")[name]
    assert state == "fail" and all(word in sentence for word in words), sentence
    assert not (copy / "out/runs").exists() and (copy / "out/report.html").is_file()
    assert "nothing was trained" in (copy / "out/report.html").read_text()


def test_a_facemask_over_the_transition_fails(copy: Path) -> None:
    path = copy / "data/train/facemasks/person2.png"
    mask, alpha = (loaded(copy / f"data/train/{kind}/person2.png") for kind in ("facemasks", "alphas"))
    row, column = np.argwhere((alpha > 0) & (alpha < 255))[0]
    mask[row, column] = 255
    write_png(path, mask)
    failed(copy, "facemasks", "1 of ", "transition pixels", "person2")


def test_a_class_that_no_trimap_has_fails(copy: Path) -> None:
    for path in (copy / "data/train/alphas").iterdir():
        alpha = loaded(path)
        # Soft everywhere: no pixel is surely foreground.
        write_png(path, np.where(alpha > 0, 200, 0).astype(np.uint8))
    for path in (copy / "data/train/facemasks").iterdir():
        write_png(path, np.zeros((SIDE, SIDE), np.uint8))
    failed(copy, "classes", "foreground")


def test_a_corrupt_image_fails_and_is_named(copy: Path) -> None:
    (copy / "data/train/images/person4.png").write_bytes(b"\x89PNG broken")
    failed(copy, "dataset", "train/images/person4.png")
    # Repaired, the same call goes on.
    write_png(copy / "data/train/images/person4.png", marked_portrait(SIDE, 4)[0])
    assert p3mdata.train_check(
        copy / "data", copy / "out", **SETTINGS | {"epochs": 1, "protocols": ("B:B",), "seeds": 1}
    ).report["complete"]


def test_few_pictures(tmp_path: Path) -> None:
    obfuscated_dataset(tmp_path, train=2, private=1, free=0)
    found = p3mdata.train_check(tmp_path / "data", tmp_path / "out", epochs=1, seeds=1, device="cpu", workers=1)
    assert found.report["complete"] and found.report["budget"]["batch"] == 1
    assert "--originals, or a validation set" in " ".join(found.report["notes"])
    for path in (tmp_path / "data/train").rglob("person1.png"):
        path.unlink()
    with pytest.raises(SettingsError, match="The training set has 1 picture: too few"):
        p3mdata.train_check(tmp_path / "data", tmp_path / "other", epochs=1, seeds=1, device="cpu", workers=1)


def test_folders_that_cannot_be(world: Path, tmp_path: Path) -> None:
    data = world / "data"
    for out, originals in ((data / "check", None), (world, None), (world / "orig/x", world / "orig"), (world, world)):
        with pytest.raises(SettingsError, match="must not lie inside each other"):
            p3mdata.train_check(data, out, originals=originals, **SETTINGS)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RunFolderError, match="holds no train-check"):
        p3mdata.train_check(data, tmp_path, **SETTINGS)
    with pytest.raises(RunFolderError, match="is a file"):
        p3mdata.train_check(data, tmp_path / "mine.txt", **SETTINGS)


@pytest.mark.slow
def test_methods_are_compared_and_pasting_is_for_obfuscated_training(world: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    for number in range(2):
        rgb, _, mask = synthetic_portrait(64, number)
        write_png(faces / f"image/{number}.png", rgb)
        write_png(faces / f"facemask/{number}.png", mask)
    settings = SETTINGS | {"epochs": 1, "seeds": 1, "most_tested": 1, "methods": (Method.BLUR, Method.ZERO)}
    settings["each_method"] = True
    found = p3mdata.train_check(
        world / "data", tmp_path / "out", originals=world / ORIGINALS, faces=faces, copy_paste="icp", **settings
    )
    cells = {(row["trained"], row["test"]): row["metrics"] for row in found.report["table_8"]}
    assert {("blur", "P-blur"), ("zero", "P-zero"), ("blur", "P-normal"), ("none", "P-normal")} <= set(cells)
    assert all("SAD" in metrics for metrics in cells.values())
    # What advice takes of it: a cost for each obfuscation, by what was done to faces.
    assert found.report["scale"] == "smoke" and found.report["domains"]["N"] == "none"
    known = {
        row["domain"]: row["metrics"]["SAD"]["value"] for row in found.report["costs"] if row["test"] == "P-normal"
    }
    costs = read_costs([tmp_path / "out"])
    assert costs["zero 1"].value == known["zero"] and not costs["zero 1"].benchmark and costs["zero 1"].low is None
    modes = {
        path.parent.name: re.findall(r"mode: (\w+)", path.read_text())[0]
        for path in (tmp_path / "out/runs").glob("*/config.yaml")
    }
    assert modes["B-0"] == "icp" and modes["N-0"] == "none"
    assert "Obfuscations compared" in found.page.read_text()


# Command line and drawings


@pytest.mark.slow
def test_the_command(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(world / "data", tmp_path / "data")
    settings = ("--epochs", "1", "--seeds", "1", "--protocols", "B:B", "--device", "cpu", "--workers", "1")
    done = command("train-check", "data", *settings, cwd=tmp_path, timeout=300)
    assert done.returncode == 3, done.stderr
    assert "smoke check, not a benchmark" in done.stdout and "SAD_FACE" in done.stdout
    assert (tmp_path / "data-train-check/report.html").is_file()
    for wrong, words in (
        (("--budget", "0.01s"), "too short for one step"), (("--methods", "paint"), "must be of blur,mosaic,zero")
    ):  # fmt: skip
        with pytest.raises(SystemExit) as caught:
            main(["train-check", str(world / "data"), "--out", str(tmp_path / "out"), *wrong])
        assert caught.value.code == EXIT_USAGE and words in capsys.readouterr().err


def test_without_torch_one_sentence() -> None:
    code = "import sys; sys.modules['torch'] = None; from p3mdata.cli import main; main(['train-check', 'nowhere'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USAGE
    assert done.stderr.strip() == "Error: train-check needs torch: run pip install 'p3mdata[train]'."
