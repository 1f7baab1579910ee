"""Training pictures: the same samples however they are loaded, exact crops and trimaps, bad files, the raw cache."""

from __future__ import annotations

import multiprocessing
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from p3mdata.errors import SettingsError, SetupError  # noqa: E402
from p3mdata.imaging.trimap import trimap_of  # noqa: E402
from p3mnet import colours as gpu_colours  # noqa: E402
from p3mnet import crops, data  # noqa: E402
from p3mnet import image_files as planes  # noqa: E402
from p3mnet.crops import transition_pixel, trimap_of_window  # noqa: E402
from p3mnet.data import DataConfig, TrainingSet, ValidationSet, seeded  # noqa: E402
from p3mnet.image_files import BadFile, RawCache, read_grey  # noqa: E402
from p3mnet.loader import collate, make_loader, to_device  # noqa: E402
from p3mnet.model import IMAGENET_MEAN, IMAGENET_STD, normalise  # noqa: E402
from tests.factories import encoded, texture  # noqa: E402
from tests.threads import one_thread  # noqa: E402, F401

HEIGHT, WIDTH, SIZE = 120, 150, 48
SMALL: dict[str, Any] = {"crop_sides": (48, 64, 96), "size": SIZE, "trimap_kernel": (3, 7), "max_bad": 1.0}
FOLDERS = {"blurred_image": "jpg", "mask": "png", "facemask": "png", "fg": "png", "bg": "png"}
TENSORS = ("image", "alpha", "trimap", "facemask", "foreground", "background")


def blob(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> NDArray[np.uint8]:
    """A matte of an ellipse with a soft edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centre = height * rng.uniform(0.4, 0.6), width * rng.uniform(0.4, 0.6)
    away = np.hypot((y - centre[0]) / (0.3 * height), (x - centre[1]) / (0.25 * width))
    return np.clip(255 * (1.1 - away) / 0.2, 0, 255).astype(np.uint8)


def write_dataset(root: Path, number: int = 9, colours: bool = True) -> Path:
    for i in range(number):
        alpha = blob(seed=i)
        face = np.where(blob(seed=i) == 255, 255, 0).astype(np.uint8)
        pictures = [
            texture(HEIGHT, WIDTH, i),
            alpha,
            face,
            texture(HEIGHT, WIDTH, 50 + i),
            texture(HEIGHT, WIDTH, 80 + i),
        ]
        for (folder, suffix), picture in zip(FOLDERS.items(), pictures, strict=True):
            if folder in ("fg", "bg") and not colours:
                continue
            path = root / "train" / folder / f"p_{i}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture, "JPEG" if suffix == "jpg" else "PNG"))
    for folder, suffix in (("blurred_image", "jpg"), ("mask", "png")):
        (root / "validation/P3M-500-P" / folder).mkdir(parents=True)
        for i in range(2):
            shutil.copy(root / f"train/{folder}/p_{i}.{suffix}", root / "validation/P3M-500-P" / folder)
    return root


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture
def changeable(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "set"))


def small_set(root: Path, **settings: Any) -> TrainingSet:
    return TrainingSet(root, config=DataConfig(**{**SMALL, **settings}))


def same(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> bool:
    return [batch["name"] for batch in first] == [batch["name"] for batch in second] and all(
        a.keys() == b.keys() and all(torch.equal(a[kind], b[kind]) for kind in TENSORS if kind in a)
        for a, b in zip(first, second, strict=True)
    )


def joined(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Ranks' batches of a step as one."""
    whole = {kind: torch.cat([batch[kind] for batch in batches]) for kind in TENSORS}
    return {**whole, "name": [name for batch in batches for name in batch["name"]]}


def test_a_batch(dataset: Path) -> None:
    pictures = small_set(dataset)
    loader = make_loader(pictures, 4, 0, seed=3, epoch=0)
    batches = list(loader)
    assert len(loader) == len(batches) == 2 and loader.bad == []
    names = [name for batch in batches for name in batch["name"]]
    assert len(set(names)) == 8 and set(names) < set(pictures.names)
    for batch in batches:
        assert set(batch) == {*TENSORS, "name"}
        for kind in TENSORS:
            channels = 3 if kind in ("image", "foreground", "background") else 1
            assert batch[kind].shape == (4, channels, SIZE, SIZE) and batch[kind].dtype == torch.uint8
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert set(batch["trimap"].unique().tolist()) <= {0, 128, 255}
        assert set(batch["facemask"].unique().tolist()) <= {0, 255}


def test_samples_do_not_depend_on_workers_ranks_or_resumption(dataset: Path) -> None:
    pictures = small_set(dataset)
    state = torch.get_rng_state()
    whole = list(make_loader(pictures, 4, 0, seed=5, epoch=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(whole, list(make_loader(pictures, 4, 0, seed=5, epoch=2)))
    assert same(whole, list(make_loader(pictures, 4, 2, seed=5, epoch=2)))
    assert same(whole[1:], list(make_loader(pictures, 4, 0, seed=5, epoch=2, start_batch=1)))
    ranks = [list(make_loader(pictures, 2, 0, seed=5, epoch=2, rank=rank, world=2)) for rank in (0, 1)]
    assert same(whole, [joined(step) for step in zip(*ranks, strict=True)])
    assert same(ranks[1][1:], list(make_loader(pictures, 2, 0, 5, 2, rank=1, world=2, start_batch=1)))
    assert list(make_loader(pictures, 4, 0, seed=5, epoch=2, start_batch=2)) == []


def test_workers_begin_while_opencv_has_threads(dataset: Path) -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        cv2.warpAffine(texture(1000, 1000), np.eye(2, 3), (1000, 1000))
        # A picture that is large enough for several threads in the worker too.
        pictures = small_set(dataset, crop_sides=(120,), size=800)
        assert len(list(make_loader(pictures, 3, 1, 0, 0))) == 3
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(threads)


def test_other_seeds_and_epochs_are_other_samples(dataset: Path) -> None:
    pictures = small_set(dataset)
    first, *others = ([*make_loader(pictures, 4, 0, seed, epoch)] for seed, epoch in ((5, 2), (5, 3), (6, 2)))
    for other in others:
        assert not same(first, other)


def test_skipped_batches_are_not_loaded(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, read = small_set(dataset), []
    monkeypatch.setattr(pictures, "_read", lambda kind, path: read.append(path) or planes.read_plane(kind, path))
    list(make_loader(pictures, 4, 0, seed=0, epoch=0, start_batch=1))
    assert len(read) == 4 * len(FOLDERS)


def test_flip_flips_everything_alike(dataset: Path) -> None:
    plain, flipped = (small_set(dataset, flip=flip) for flip in (0.0, 1.0))
    for index in range(len(plain)):
        for kind in TENSORS:
            assert torch.equal(plain[index][kind].flip(-1), flipped[index][kind]), kind


def test_planes_of_a_crop_belong_together(changeable: Path) -> None:
    """With one picture as all planes, all planes of a crop are equal."""
    alpha = blob()
    for folder in ("blurred_image", "mask", "fg", "bg"):
        for path in (changeable / "train" / folder).iterdir():
            path.unlink()
        (changeable / "train" / folder / "one.png").write_bytes(encoded(alpha, "PNG"))
    pictures = small_set(changeable, colours="files")
    for index in range(8):
        sample = pictures.sample(0, seeded(index))
        for kind in ("image", "foreground", "background"):
            assert torch.equal(sample[kind], sample["alpha"].expand(3, -1, -1))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 100),
    kernel=st.integers(1, 30),
    top=st.integers(0, HEIGHT - 20),
    left=st.integers(0, WIDTH - 20),
    side=st.integers(20, 100),
)
def test_trimap_of_a_window_is_that_of_the_picture(seed: int, kernel: int, top: int, left: int, side: int) -> None:
    alpha = blob(seed=seed)
    window = slice(top, min(top + side, HEIGHT)), slice(left, min(left + side, WIDTH))
    np.testing.assert_array_equal(trimap_of_window(alpha, kernel, window), trimap_of(alpha, kernel)[window])


@pytest.mark.parametrize("probes", [0, 64])
def test_transition_pixels_are_found_evenly(probes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "_PROBES", probes)
    for kernel in (4, 7):
        alpha = blob(40, 40)
        alpha[:, :20] = 255  # also at the border
        area = trimap_of(alpha, kernel) == 128
        found = np.zeros(area.shape, int)
        for number in range(600):
            place = transition_pixel(alpha, kernel, seeded(number))
            assert place is not None
            found[place] += 1
        assert not found[~area].any()
        halves = found[:20].sum() / 600, area[:20].sum() / area.sum()
        assert halves[0] == pytest.approx(halves[1], abs=0.08)
    assert transition_pixel(np.full((30, 30), 255, np.uint8), 5, seeded(0)) is None


def test_centred_crops_show_the_transition(changeable: Path) -> None:
    # A person so small that crops anywhere mostly miss.
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(alpha, (130, 20), 3, 255, -1)
    for path in (changeable / "train/mask").iterdir():
        path.write_bytes(encoded(alpha, "PNG"))
    centred = small_set(changeable, transition_centre=1.0, crop_sides=(48,))
    anywhere = small_set(changeable, transition_centre=0.0, crop_sides=(48,))
    hits = [
        sum(bool((pictures.sample(i % 9, seeded(i))["trimap"] == 128).any()) for i in range(30))
        for pictures in (centred, anywhere)
    ]
    assert hits[0] == 30 and hits[1] < 20


def test_without_transition_crops_lie_anywhere(changeable: Path) -> None:
    for path in (changeable / "train/mask").iterdir():
        path.write_bytes(encoded(np.full((HEIGHT, WIDTH), 255, np.uint8), "PNG"))
    sample = small_set(changeable, transition_centre=1.0)[0]
    assert (sample["trimap"] == 255).all()


@pytest.mark.parametrize("sides", [(64, 400), (400,)])
def test_pictures_smaller_than_a_crop(dataset: Path, sides: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A side that fits is taken, else the largest square."""
    taken = []
    monkeypatch.setattr(
        data, "fitted", lambda plane, *rest, real=crops.fitted: taken.append(plane.shape) or real(plane, *rest)
    )
    pictures = small_set(dataset, crop_sides=sides)
    for index in range(9):
        assert pictures[index]["image"].shape == (3, SIZE, SIZE)
    assert {shape[:2] for shape in taken} == {(64, 64) if 64 in sides else (HEIGHT, HEIGHT)}


def test_trimaps_are_resized_by_nearest_neighbour(dataset: Path) -> None:
    pictures = small_set(dataset, crop_sides=(120,), flip=0, transition_centre=0, size=80)
    for index in range(4):
        sample = pictures[index]
        soft = (sample["alpha"] > 0) & (sample["alpha"] < 255) & (sample["facemask"] <= 127)
        assert set(sample["trimap"].unique().tolist()) == {0, 128, 255}
        assert (sample["trimap"][soft] == 128).all()


def test_colours_and_facemasks_can_be_left_out(dataset: Path) -> None:
    pictures = small_set(dataset, colours="none", facemask=False)
    assert set(pictures.files[0]) == {"image", "alpha"}
    sample = pictures[0]
    assert not {"foreground", "background"} & set(sample) and not sample["facemask"].any()


def test_estimated_colours_compose_to_the_image(tmp_path: Path) -> None:
    """Exactly where one of both alone is seen, and nearly where they mix."""
    pictures = TrainingSet(
        write_dataset(tmp_path / "set", 2, colours=False), config=DataConfig(**SMALL, colours="estimate")
    )
    sample = pictures[0]
    image, foreground, background = (sample[kind].float() for kind in ("image", "foreground", "background"))
    alpha = sample["alpha"].float() / 255
    assert (foreground - image)[alpha.expand(3, -1, -1) == 1].abs().max() <= 1
    assert (background - image)[alpha.expand(3, -1, -1) == 0].abs().max() <= 1
    assert (alpha * foreground + (1 - alpha) * background - image).abs().mean() < 2
    # A GPU estimates the same, from samples that leave it to that.
    pictures.late = True
    late = pictures[0]
    assert late["late"] and not {"foreground", "background"} & set(late)
    batch = collate([{**late, "bad": []}] * 2)
    assert isinstance(batch, dict)
    moved = to_device(batch, "cpu")
    assert "late" not in moved and batch["late"] == [True, True]
    for kind, wanted in (("foreground", foreground), ("background", background)):
        found = moved[kind] * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
        assert (255 * found - wanted).abs().max() <= 1.01, kind
        assert moved[kind].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("height", "width"), [(1, 7), (33, 32), (120, 200)])
def test_colours_of_a_gpu_are_those_of_a_loader(height: int, width: int) -> None:
    """Also where windows reach beyond a crop more than once; both round to levels of 8 bits."""
    draw = np.random.default_rng(height)
    image = cv2.blur(draw.integers(0, 256, (height, width, 3), np.uint8), (3, 3))
    alpha = cv2.blur(draw.choice([0, 255], (height, width)).astype(np.uint8), (9, 9))
    alpha[:, : width // 4], alpha[:, -width // 4 :] = 0, 255
    want = crops.estimate_colours(image, alpha)
    planes = torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(alpha)[None]
    found = gpu_colours.estimate_colours(*(torch.stack([torch.zeros_like(plane), plane] * 5) for plane in planes))
    for wanted, made in zip(want, found, strict=True):
        difference = np.abs(wanted.astype(int) - made[9].permute(1, 2, 0).numpy())
        assert difference.max() <= 1 and difference.mean() < 0.001
        assert not made[8].any() and torch.equal(made[1], made[9])


def spoil(root: Path, kind: str) -> str:
    """Spoil picture 3; the name of the file that is to be told."""
    image, alpha = root / "train/blurred_image/p_3.jpg", root / "train/mask/p_3.png"
    if kind == "missing alpha":
        alpha.unlink()
        return image.name
    if kind == "missing image":
        image.unlink()
        return alpha.name
    if kind == "missing colours":
        (root / "train/fg/p_3.png").unlink()
        return image.name
    if kind == "truncated image":
        image.write_bytes(image.read_bytes()[:-200])
        return image.name
    contents = {
        "empty file": b"",
        "no image": b"hello",
        "other size": encoded(blob(HEIGHT, WIDTH - 1), "PNG"),
        "three channels": encoded(texture(HEIGHT, WIDTH), "PNG"),
        "all empty": encoded(np.zeros((HEIGHT, WIDTH), np.uint8), "PNG"),
        "damaged": alpha.read_bytes()[:-60] + bytes(60),
    }
    alpha.write_bytes(contents[kind])
    return alpha.name


BAD = ("missing alpha", "missing image", "missing colours", "truncated image", "empty file", "no image", "other size")
BAD += ("three channels", "all empty", "damaged")


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_named_and_replaced(changeable: Path, tmp_path: Path, kind: str, cached: bool) -> None:
    settings = {"cache": tmp_path / "cache"} if cached else {}
    good = list(make_loader(small_set(changeable), 8, 0, seed=1, epoch=0))
    name = spoil(changeable, kind)
    pictures = small_set(changeable, **settings)
    missing = kind.startswith("missing")
    assert [name in sentence for sentence in pictures.bad] == [True] * missing
    loader = make_loader(pictures, 8, 0, seed=1, epoch=0)
    batches = list(loader)
    (sentence,) = loader.bad
    assert name in sentence and sentence.endswith(".") and "\n" not in sentence
    assert batches[0]["image"].shape == (8, 3, SIZE, SIZE)
    assert "p_3" not in batches[0]["name"]
    assert same(batches, list(make_loader(small_set(changeable, **settings), 8, 0, seed=1, epoch=0)))
    if not missing and "p_3" in good[0]["name"]:
        # All the others are what they were.
        kept = [i for i, name in enumerate(good[0]["name"]) if name != "p_3"]
        assert all(torch.equal(good[0][kind][kept], batches[0][kind][kept]) for kind in TENSORS)
    strict = {**settings, "max_bad": 0}
    with pytest.raises(SetupError, match=name):
        list(make_loader(small_set(changeable, **strict), 8, 0, seed=1, epoch=0))


def test_bad_files_in_workers(changeable: Path) -> None:
    name = spoil(changeable, "truncated image")
    alone, workers = (make_loader(small_set(changeable), 4, number, 0, 1) for number in (0, 2))
    assert same(list(alone), list(workers))
    assert alone.bad == workers.bad and name in alone.bad[0]
    with pytest.raises(SetupError, match=r"^Bad files: 1 in .*max_bad = 0 [^\n]*$") as caught:
        list(make_loader(small_set(changeable, max_bad=0), 4, 2, 0, 1))
    assert "Traceback" not in str(caught.value)


def test_when_nothing_is_good(changeable: Path) -> None:
    for path in (changeable / "train/mask").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SetupError, match="in a row"):
        list(make_loader(small_set(changeable), 4, 0, 0, 0))
    with pytest.raises(BadFile, match=r"p_0\.png: is empty"):
        small_set(changeable)[0]


def test_a_cache_gives_the_same_samples(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = list(make_loader(small_set(dataset), 3, 0, 0, 0))
    cached = small_set(dataset, cache=tmp_path / "cache")
    assert same(plain, list(make_loader(cached, 3, 2, 0, 0)))
    copies = sorted((tmp_path / "cache").glob("*.raw"))
    assert len(copies) == 9 * len(FOLDERS)
    assert {stat.S_IMODE(copy.stat().st_mode) for copy in copies} == {0o644}
    monkeypatch.setattr(planes, "read_plane", lambda *args: pytest.fail("decoded again"))
    assert same(plain, list(make_loader(cached, 3, 0, 0, 0)))


def test_raw_copies_are_as_private_as_their_files(dataset: Path, tmp_path: Path) -> None:
    path = next((dataset / "train" / "blurred_image").iterdir())
    path.chmod(0o400)
    try:
        RawCache(tmp_path / "cache").read("image", path)
    finally:
        path.chmod(0o644)
    (copy,) = (tmp_path / "cache").glob("*.raw")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_reduced_pictures_are_read_once(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = small_set(dataset, longest=40, crop_sides=(40,))
    first = [pictures.sample(0, seeded(1)) for _ in range(2)]
    monkeypatch.setattr(data, "_MOST_KEPT", 0)
    unkept = small_set(dataset, longest=40, crop_sides=(40,))
    assert same([first[0]], [unkept.sample(0, seeded(1))]) and same([first[0]], [first[1]])
    assert max(pictures._picture(0)["image"].shape[:2]) == 40
    assert set(np.unique(pictures._picture(0)["facemask"])) <= {0, 255}
    monkeypatch.setattr(data, "_planes", None)
    assert same([first[0]], [pictures.sample(0, seeded(1))])
    with pytest.raises(TypeError):
        unkept.sample(0, seeded(1))


def test_git_passes_over_a_cache_whose_maker_was_killed_and_over_no_other_folder(dataset: Path, tmp_path: Path) -> None:
    picture = next((dataset / "train").rglob("*.png"))
    for name, files in {"killed": [], "torn": [".gitignore.12345.tmp"], "mine": ["notes.txt"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
        RawCache(tmp_path / name).read("image", picture)
        assert (tmp_path / name / ".gitignore").exists() == (name != "mine")


def test_a_cache_follows_its_files(changeable: Path, tmp_path: Path) -> None:
    pictures = small_set(changeable, cache=tmp_path / "cache")
    before = pictures[0]
    file = changeable / "train/blurred_image/p_0.jpg"
    file.write_bytes(encoded(255 - texture(HEIGHT, WIDTH), "JPEG"))
    after = pictures[0]
    assert not torch.equal(before["image"], after["image"])
    assert torch.equal(after["image"], small_set(changeable)[0]["image"])
    assert len(list((tmp_path / "cache").glob("*.raw"))) == len(FOLDERS)
    for copy in (tmp_path / "cache").glob("*.raw"):
        copy.write_bytes(copy.read_bytes()[:-1])
    assert same([collate([after])], [collate([pictures[0]])])


def test_a_cache_that_cannot_be_written(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for workers in (0, 1):
        with pytest.raises(SetupError, match=r"^[^\n]*cache cannot be written[^\n]*$"):
            list(make_loader(small_set(dataset, cache=tmp_path / "file"), 3, workers, 0, 0))
        assert not multiprocessing.active_children()


def test_workers_end_with_an_unfinished_epoch(dataset: Path) -> None:
    batches = iter(make_loader(small_set(dataset), 3, 2, 0, 0))
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert not multiprocessing.active_children()


def test_to_device(dataset: Path) -> None:
    batch = next(iter(make_loader(small_set(dataset), 4, 0, 0, 0)))
    moved = to_device(batch, "cpu")
    assert torch.equal(moved["image"], normalise(batch["image"])) and moved["foreground"].dtype == torch.float32
    assert torch.equal(moved["alpha"], batch["alpha"].float() / 255)
    assert torch.equal(moved["trimap"], torch.bucketize(batch["trimap"].int(), torch.tensor([1, 129]), right=True))
    assert moved["trimap"].dtype == torch.int64 and moved["facemask"].dtype == torch.bool
    assert torch.equal(moved["facemask"], batch["facemask"] == 255) and moved["name"] == batch["name"]


def test_validation_pictures_are_whole(dataset: Path, changeable: Path) -> None:
    pictures = ValidationSet(dataset)
    assert len(pictures) == 2
    for i in range(2):
        picture = pictures[i]
        assert picture["image"].shape == (3, HEIGHT, WIDTH) and picture["name"] == f"p_{i}"
        assert np.array_equal(picture["alpha"][0], blob(seed=i))
        assert np.array_equal(picture["trimap"][0], trimap_of(blob(seed=i)))
    folder = changeable / "validation/P3M-500-P"
    own = np.full((HEIGHT, WIDTH), 128, np.uint8)
    (folder / "trimap").mkdir()
    (folder / "trimap/p_1.png").write_bytes(encoded(own, "PNG"))
    assert np.array_equal(ValidationSet(changeable)[1]["trimap"][0], own)
    (folder / "mask/p_1.png").write_bytes(encoded(blob(50, 50), "PNG"))
    with pytest.raises(BadFile, match=r"p_1\.jpg"):
        ValidationSet(changeable)[1]
    (folder / "mask/p_1.png").unlink()
    with pytest.raises(BadFile, match=r"p_1\.jpg: has no alpha"):
        ValidationSet(changeable)


def test_greys_as_they_come(tmp_path: Path) -> None:
    alpha = blob()
    file = tmp_path / "matte.png"
    for picture in (alpha, np.repeat(alpha[..., None], 3, 2), alpha.astype(np.uint16) * 257):
        cv2.imwrite(str(file), picture)
        assert np.array_equal(read_grey(file), alpha)
    cv2.imwrite(str(file), np.dstack([alpha] * 4))
    with pytest.raises(BadFile, match=r"matte\.png: .*transparency"):
        read_grey(file)
    with pytest.raises(BadFile, match="cannot be read"):
        read_grey(tmp_path / "nothing.png")


def test_sets_that_are_not_there(dataset: Path, changeable: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no training set 'test'"):
        TrainingSet(dataset, "test")
    with pytest.raises(SettingsError, match="is no folder"):
        TrainingSet(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="no training pictures"):
        TrainingSet(dataset, "P3M-500-NP")
    with pytest.raises(SettingsError, match="A batch of 12 pictures is more than the 9"):
        make_loader(small_set(dataset), 6, 0, 0, 0, world=2)
    for path in (changeable / "train/mask").iterdir():
        path.unlink()
    with pytest.raises(SettingsError, match=r"none of its \d+ training pictures has what it needs\. .*: has no alpha"):
        small_set(changeable)
    (changeable / "building.json").write_text("{}")
    with pytest.raises(SettingsError, match="not whole"):
        small_set(changeable)


@pytest.mark.parametrize(
    "wrong", [{"flip": 1.5}, {"crop_sides": ()}, {"crop_sides": (0,)}, {"trimap_kernel": (9, 3)}, {"crops": 3}]
)
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        DataConfig(**wrong)
