"""Metrics: the reference's exact values, what must hold for any matte, and the table of a dataset."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from p3mdata.errors import SettingsError
from p3mnet import metrics
from p3mnet.cli import main
from p3mnet.evaluate import COLUMNS, evaluate, means_of
from p3mnet.metrics import NAMES, evaluate_pair
from tests.factories import encoded, shared

GOLDEN = json.loads((Path(__file__).parent / "golden/metrics.json").read_text())["items"]
# Prediction and truth of the cases that are one value everywhere.
CONSTANT = {"all_zero_vs_zero": (0, 0), "all255": (255, 255), "zero_vs_255": (0, 255), "constant_128": (100, 128)}


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def person(seed: int, height: int = 270, width: int = 360) -> np.ndarray:
    """Truth of a synthetic case, in integers only: body, head, an island, strands of hair."""
    rng = np.random.default_rng(1000 + seed)
    rows, columns = np.ogrid[:height, :width]

    def blob(y: int, x: int, tall: int, wide: int, soft: int) -> np.ndarray:
        apart = ((rows - y) * 1000 // tall) ** 2 + ((columns - x) * 1000 // wide) ** 2
        return np.clip((10**6 - apart) * 255 // (soft * 1000) + 128, 0, 255)

    soft = [int(rng.integers(150, 400)) for _ in range(2)]
    body = blob(height * 6 // 10, width // 2, height * 35 // 100, width // 4, soft[0])
    head = blob(height // 4, width // 2, height // 6, width // 9, soft[1])
    alpha = np.maximum.reduce([body, head, blob(height // 5, width * 9 // 10, height // 14, width // 18, 200)])
    for _ in range(60):
        x, y, length, value, slope = (
            int(rng.integers(*limits))
            for limits in ((width // 3, 2 * width // 3), (height // 20, height // 4), (10, 40), (60, 256), (-1, 2))
        )
        for step in range(length):
            at = y + step, x + slope * (step // 2)
            if at[0] < height and 0 <= at[1] < width:
                alpha[at] = max(alpha[at], value)
    return alpha.astype(np.uint8)


def spoilt(alpha: np.ndarray, seed: int) -> np.ndarray:
    """Prediction of a case: the soft band shifted and noisy, a hole in the foreground, a blob in the background."""
    rng = np.random.default_rng(seed)
    wide = alpha.astype(np.int32)
    noisy = (wide + np.roll(wide, (2, -3), (0, 1))) // 2 + rng.integers(-20, 21, alpha.shape)
    pred = np.where((alpha > 0) & (alpha < 255), noisy, wide)
    rows, columns = np.ogrid[: alpha.shape[0], : alpha.shape[1]]
    for value, area in ((40, alpha == 255), (210, alpha == 0)):
        if len(where := np.flatnonzero(area)):
            y, x = divmod(int(where[int(rng.integers(len(where)))]), alpha.shape[1])
            radius = int(rng.integers(10, 31))
            pred[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = value
    return np.clip(pred, 0, 255).astype(np.uint8)


def case(item: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth, proved to be the ones that the golden values belong to."""
    if item["kind"] == "edge":
        pred, alpha = (np.full(item["shape"], value, np.uint8) for value in CONSTANT[item["name"]])
    elif item["kind"] == "synthetic":
        alpha = person(item["seed"])
        pred = spoilt(alpha, item["seed"])
    else:
        alpha = cv2.imread(str(shared() / "mattes/alpha_vitae" / item["name"]), cv2.IMREAD_UNCHANGED)
        pred = spoilt(alpha, item["seed"])
    assert (digest(pred), digest(alpha)) == (item["pred_sha"], item["gt_sha"])
    return pred, alpha


def flat(value: float, shape: tuple[int, int] = (20, 30), dtype: Any = np.uint8) -> np.ndarray:
    return np.full(shape, value, dtype)


def close(found: dict[str, float | None], expected: dict[str, float | None], rel: float = 1e-6) -> None:
    """Equal within a relative tolerance; where 0 is expected, 0."""
    for name in NAMES:
        assert found[name] == (None if expected[name] is None else pytest.approx(expected[name], rel=rel, abs=0)), name


@pytest.mark.parametrize("item", GOLDEN, ids=lambda item: item["name"])
def test_values_are_those_of_the_reference(item: dict[str, Any]) -> None:
    pred, alpha = case(item)
    found = evaluate_pair(pred, alpha)
    close(found, item)
    trimap = metrics._areas(metrics._pair(pred, alpha), None)
    assert digest(trimap) == item["trimap_sha"]
    assert evaluate_pair(pred, alpha, trimap) == found


@pytest.mark.parametrize("name", NAMES)
def test_each_function_gives_its_part_of_the_whole(name: str) -> None:
    pred, alpha = case(GOLDEN[6])
    assert getattr(metrics, name.lower())(pred, alpha) == evaluate_pair(pred, alpha)[name]


@pytest.mark.parametrize("seed", range(3))
def test_gradients_and_components_without_shortcuts(seed: int) -> None:
    """Against the definitions with scipy, where tiles, borders and components of all sizes and equal sizes occur."""
    rng = np.random.default_rng(seed)
    pred, alpha = rng.random((2, 300, 270 + seed), dtype=np.float32)
    for region in ((0, 0), (250, 200), (1, 1))[: seed + 1]:
        pred[region[0] :, region[1] :][:40] = alpha[region[0] :, region[1] :][:40]
    lengths = [np.hypot(*(ndimage.gaussian_filter(m, 1.4, order=o) for o in ((1, 0), (0, 1)))) for m in (pred, alpha)]
    assert metrics.grad(pred, alpha) == pytest.approx(((lengths[0] - lengths[1]) ** 2).sum() / 10, rel=1e-5)
    level = np.full(alpha.shape, -1, np.float32)
    for step in range(1, 11):
        labels, count = ndimage.label(np.minimum(pred, alpha) >= np.float32(step / 10))
        if count:
            level[(level < 0) & (labels != 1 + np.bincount(labels.ravel())[1:].argmax())] = (step - 1) / 10
    level[level < 0] = 1
    over = [(matte - level) * (matte - level >= np.float32(0.15)) for matte in (pred, alpha)]
    assert metrics.conn(pred, alpha) == pytest.approx(np.abs(over[0] - over[1]).sum(dtype=float) / 1000, rel=1e-6)


MATTES = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda shape: st.tuples(*(arrays(np.uint8, shape, elements=st.sampled_from([0, 30, 128, 254, 255])),) * 2)
)


@settings(max_examples=60, deadline=None)
@given(MATTES)
def test_what_holds_for_all_mattes(pair: tuple[np.ndarray, np.ndarray]) -> None:
    pred, alpha = pair
    found = evaluate_pair(pred, alpha)
    for name, value in found.items():
        assert value is None if name in ("MSE_T", "MAD_T") and found["MAD_T"] is None else 0 <= value < np.inf
    parts = [found[name] for name in ("SAD_T", "SAD_FG", "SAD_BG")]
    assert found["SAD"] == pytest.approx(sum(parts), rel=1e-7)
    perfect = evaluate_pair(alpha, alpha)
    assert set(perfect.values()) <= {0.0, None}
    wide = evaluate_pair(pred.astype(np.float64) / 255, alpha.astype(np.float32) / np.float32(255))
    assert wide == found
    assert evaluate_pair(pred.astype(np.uint16) * 257, alpha) == found
    # Without CONN: of two largest components it takes the first from the top.
    for flip in (np.flipud, np.fliplr):
        turned = evaluate_pair(flip(pred), flip(alpha))
        close(turned | {"CONN": 0.0}, found | {"CONN": 0.0}, rel=1e-5)
    corrected = evaluate_pair(pred, alpha, corrected=True)
    close(corrected | {"CONN": 0.0}, found | {"CONN": 0.0})


def test_connectedness_does_not_depend_on_the_side() -> None:
    pred, alpha = case(GOLDEN[6])
    values = [metrics.conn(turn(pred), turn(alpha)) for turn in (np.copy, np.flipud, np.fliplr, np.transpose)]
    assert values == pytest.approx([values[0]] * 4, rel=1e-9)


def test_columns_first_arrays_are_the_same_mattes() -> None:
    pred, alpha = case(GOLDEN[7])
    trimap = metrics._areas(metrics._pair(pred, alpha), None)
    columns = [np.asfortranarray(array) for array in (pred, alpha, trimap)]
    assert evaluate_pair(*columns) == evaluate_pair(pred, alpha, trimap)
    assert metrics.sad_inside(pred, alpha, columns[2] == 128) == metrics.sad_t(pred, alpha)


def test_values_do_not_depend_on_which_library_adds() -> None:
    """Without Intel's library, as on ARM, OpenCV squares in single precision: 4e-8 off."""
    pred, alpha = case(GOLDEN[6])
    expected, used = evaluate_pair(pred, alpha), cv2.ipp.useIPP()
    try:
        cv2.ipp.setUseIPP(not used)
        found = evaluate_pair(pred, alpha)
    finally:
        cv2.ipp.setUseIPP(used)
    close(found, expected, rel=1e-12)
    wide = [array.astype(np.float32) / np.float32(255) for array in (pred, alpha)]
    assert found["MSE"] == pytest.approx(np.square(np.subtract(*wide, dtype=float)).mean(), rel=1e-12)


def test_corrected_values_have_a_name() -> None:
    pred, alpha = flat(0), flat(255)
    assert metrics.conn(pred, alpha) == 0
    assert metrics.conn(pred, alpha, corrected=True) == pytest.approx(0.6)
    # Both are connected up to 0.3; above that the truth has 0.2 more, the prediction less than what counts.
    assert metrics.conn(flat(100), flat(128), corrected=True) == pytest.approx(600 * (128 / 255 - 0.3) / 1000)
    # A trimap that calls the soft half of the truth foreground.
    alpha, trimap = flat(255), flat(255)
    alpha[:, :15], trimap[:, :5] = 155, 128
    assert metrics.sad_t(alpha, alpha, trimap) == pytest.approx(20 * 10 * 100 / 255 / 1000)
    assert metrics.mad_t(alpha, alpha, trimap) == pytest.approx(2 * 100 / 255)
    assert metrics.mse_t(alpha, alpha, trimap) == pytest.approx(2 * (100 / 255) ** 2)
    assert metrics.sad_t(alpha, alpha, trimap, corrected=True) == metrics.mse_t(alpha, alpha, trimap, True) == 0


@pytest.mark.parametrize("value", [0, 255])
def test_trimap_without_transition(value: int) -> None:
    found = evaluate_pair(flat(100), flat(value), flat(value))
    assert (found["SAD_T"], found["MSE_T"], found["MAD_T"]) == (0, None, None)
    assert found["SAD"] == pytest.approx(600 * abs(value - 100) / 255 / 1000)
    assert found["GRAD"] == 0


@pytest.mark.parametrize(
    ("pred", "alpha", "trimap", "error", "words"),
    [
        (flat(0, (20, 31)), flat(0), None, ValueError, "pred is 31x20 but alpha is 30x20"),
        (flat(0), flat(0), flat(0, (3, 4)), ValueError, "trimap is 4x3 but alpha is 30x20"),
        (np.zeros((20, 30, 3), np.uint8), flat(0), None, ValueError, r"pred has shape \(20, 30, 3\)"),
        (flat(0), np.zeros((0, 5), np.uint8), None, ValueError, r"alpha has shape \(0, 5\)"),
        (flat(0), flat(0), np.zeros(600, np.uint8), ValueError, r"trimap has shape \(600,\)"),
        (flat(0, dtype=np.int32), flat(0), None, TypeError, "pred has type int32"),
        (flat(0), flat(0, dtype=bool), None, TypeError, "alpha has type bool"),
        (flat(0), flat(0), flat(0, dtype=np.int64), TypeError, "trimap has type int64"),
        (flat(0), flat(0), flat(127), ValueError, "trimap has values other than 0, 128 and 255"),
        (flat(255.0, dtype=float), flat(0), None, ValueError, r"pred has values .* floats must be in \[0, 1\]"),
        (flat(0), flat(np.nan, dtype=np.float32), None, ValueError, "alpha has values from nan"),
    ],
)
def test_what_is_no_matte_is_refused_by_name(
    pred: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        evaluate_pair(pred, alpha, trimap)


def test_intervals() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(5, 2, (400, 3))
    table[:398, 1], table[:, 2] = np.nan, np.nan
    whole, few, none = means_of(table)
    assert whole and few and none is None
    assert whole.value == pytest.approx(table[:, 0].mean()) and whole.n == 400
    # 1.96 standard errors to each side.
    assert whole.high - whole.low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)
    assert few.n == 2 and few.low == table[398:, 1].min() and few.high == table[398:, 1].max()
    assert means_of(np.full((7, 1), 0.1))[0] == means_of(np.full((7, 1), 0.1), seed=1)[0]


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(array, "PNG"))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A validation set with trimaps and facemasks and a free set, in the layout of P3M-10k; predictions in `pred`."""
    private, free = (tmp_path / "data/validation" / name for name in ("P3M-500-P", "P3M-500-NP"))
    for number in range(5):
        alpha = person(number, 90, 120) if number < 4 else flat(255, (90, 120))
        face = np.zeros_like(alpha)
        face[10:40, 40:80] = 255
        write(private / f"mask/p{number}.png", alpha)
        write(private / f"trimap/p{number}.png", metrics._areas(metrics._pair(alpha, alpha), None))
        write(private / f"facemask/p{number}.png", face)
        write(private / f"blurred_image/p{number}.jpg", alpha)
        write(tmp_path / f"pred/p{number}.png", spoilt(alpha, number))
    write(free / "mask/n0.png", person(9, 90, 120))
    write(free / "original_image/n0.png", person(9, 90, 120))
    return tmp_path / "data"


def test_table_of_a_dataset(dataset: Path, tmp_path: Path) -> None:
    pred, table = tmp_path / "pred", tmp_path / "out/metrics.csv"
    found = evaluate(pred, dataset, table, workers=1)
    (only,) = found.sets
    assert (only.name, only.evaluated, only.without_transition, found.unused) == ("P3M-500-P", 5, 1, 0)
    assert found.complete
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["image"] for row in rows] == [f"p{number}" for number in range(5)]
    alpha = person(2, 90, 120)
    expected = evaluate_pair(spoilt(alpha, 2), alpha)
    close({name: float(rows[2][name]) for name in NAMES}, expected)
    inside = metrics.sad(spoilt(alpha, 2)[10:40, 40:80], alpha[10:40, 40:80])
    assert float(rows[2]["SAD_FACE"]) == pytest.approx(inside)
    assert rows[4]["MAD_T"] == "" and rows[4]["SAD"] != ""
    for name in COLUMNS:
        mean = only.means[name]
        counted = rows[:4] if name.endswith("_T") else rows
        assert mean.n == len(counted)
        assert mean.value == pytest.approx(np.mean([float(row[name]) for row in counted]))
        assert mean.low <= mean.value <= mean.high
    assert means_of(np.zeros((3, 1)))[0].high == 0


def test_a_carriage_return_in_a_name_ends_no_row(dataset: Path, tmp_path: Path) -> None:
    for path in (*dataset.rglob("p2.*"), *(tmp_path / "pred").glob("p2.*")):
        path.rename(path.with_name(f"p\r2{path.suffix}"))
    evaluate(tmp_path / "pred", dataset, tmp_path / "metrics.csv", workers=1)
    with (tmp_path / "metrics.csv").open(newline="") as rows:
        assert [row["image"] for row in csv.DictReader(rows)] == ["p\r2", "p0", "p1", "p3", "p4"]


def test_what_cannot_be_evaluated_is_named(dataset: Path, tmp_path: Path) -> None:
    pred, table = tmp_path / "pred", tmp_path / "metrics.csv"
    (pred / "p0.png").unlink()
    write(pred / "p1.png", flat(0))
    (pred / "p2.png").write_bytes((pred / "p2.png").read_bytes()[:200])
    write(pred / "p3.jpg", flat(0))
    write(pred / "someone.png", flat(0))
    (dataset / "validation/P3M-500-P/trimap/p4.png").write_bytes(encoded(flat(7, (90, 120)), "PNG"))
    write(pred / "n0.png", np.dstack([flat(90, (90, 120)), flat(8, (90, 120)), flat(7, (90, 120))]))
    found = evaluate(pred, dataset, table, workers=1)
    problems = {stem: problem for one in found.sets for stem, problem in one.problems.items()}
    for stem, words in {
        "p0": "has no prediction",
        "p1": "is 120x90 but its prediction is 30x20",
        "p2": "has a prediction that cannot be decoded",
        "p3": "has several predictions (p3.jpg, p3.png)",
        "p4": "cannot be evaluated: trimap has values other than 0, 128 and 255",
        "n0": "has a prediction in colour",
    }.items():
        assert problems.pop(stem).startswith(words)
    assert not problems and not found.complete and found.unused == 1
    assert [one.evaluated for one in found.sets] == [0, 0] and found.sets[0].means == {}
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [bool(row["problem"]) for row in rows] == [True] * 6


def test_number_of_workers_changes_no_byte(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "pred/p1.png").unlink()
    steps: list[int] = []
    tables, results = [], []
    for workers in (1, 2):
        path = tmp_path / f"{workers}.csv"
        found = evaluate(tmp_path / "pred", dataset, path, None, workers, lambda total: lambda: steps.append(total))
        results.append(found)
        tables.append(path.read_bytes())
    assert tables[0] == tables[1] and results[0] == results[1]
    assert steps == [5] * 10


def test_predictions_in_folders_of_their_sets(dataset: Path, tmp_path: Path) -> None:
    pred = tmp_path / "pred"
    write(pred / "P3M-500-NP/n0.png", person(9, 90, 120))
    found = evaluate(pred, dataset, workers=1)
    assert {one.name: one.evaluated for one in found.sets} == {"P3M-500-P": 5, "P3M-500-NP": 1}
    # No trimaps there: they are made of the truth.
    assert found.sets[1].means["SAD_T"].value == 0 and "SAD_FACE" not in found.sets[1].means
    only = evaluate(pred, dataset, sets=["P3M-500-NP"], workers=1)
    assert [one.name for one in only.sets] == ["P3M-500-NP"] and only.unused == 5
    write(dataset / "validation/P3M-500-NP/mask/p0.png", person(0, 90, 120))
    (pred / "P3M-500-NP/n0.png").unlink()
    (pred / "P3M-500-NP").rmdir()
    with pytest.raises(SettingsError, match="belongs to images of two sets"):
        evaluate(pred, dataset, workers=1)


def test_wrong_calls_are_told_in_a_sentence(dataset: Path, tmp_path: Path) -> None:
    pred = tmp_path / "pred"
    for call, words in (
        ((tmp_path / "none", dataset), "is no folder"),
        ((pred, tmp_path / "none"), "is no folder"),
        ((pred, dataset, tmp_path), "is a folder"),
        ((pred, dataset, None, ["train"]), "has no set 'train'. Sets: P3M-500-P, P3M-500-NP"),
        ((dataset, dataset), "has no prediction with the name of an image"),
        ((pred, dataset, pred / "p0.png" / "x.csv"), "cannot be written"),
    ):
        with pytest.raises(SettingsError, match=words):
            evaluate(*call, workers=1)


def test_command_line(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*args: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(["evaluate", *map(str, args), "--workers", "1"])
        return end.value.code or 0, capsys.readouterr().out

    table, pred = tmp_path / "m.csv", tmp_path / "pred"
    code, text = run(pred, dataset, "--out", table)
    assert code == 0 and "P3M-500-P: 5 images, 1 of them without a transition pixel" in text
    assert table.read_text().count("\n") == 6
    (pred / "p0.png").unlink()
    code, text = run(pred, dataset, "--json", "--set", "P3M-500-P", "--corrected")
    found = json.loads(text)["sets"]["P3M-500-P"]
    assert code == 3 and found["problems"] == {"p0": "has no prediction"} and found["evaluated"] == 4
    assert run(pred, dataset, "--set", "nothing")[0] == 2
    assert run(pred)[0] == 2
