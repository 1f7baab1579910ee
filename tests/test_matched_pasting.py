"""Matched copy-and-paste: sources that are turned and lit like their targets, from coarse steps in the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from p3mdata.celebamask.traits import TRAITS, tone_of  # noqa: E402
from p3mdata.errors import SettingsError  # noqa: E402
from p3mdata.faces.pose import _RIGID, coarse, head_pose  # noqa: E402
from p3mnet.copy_paste import ICP, CopyPasteConfig, Sources, fcp  # noqa: E402
from p3mnet.copy_paste.groups import MOST_VALUES, groups_of, read_groups  # noqa: E402
from p3mnet.copy_paste.look import look  # noqa: E402
from p3mnet.copy_paste.match import Matcher, Traits, pose_at, wanted_of  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.data import DataConfig, TrainingSet, labelled, seeded  # noqa: E402
from p3mnet.loader import collate, make_loader, to_device  # noqa: E402
from p3mnet.training import train  # noqa: E402
from tests.factories import synthetic_portrait  # noqa: E402
from tests.test_copy_paste import pairs_folder  # noqa: E402
from tests.test_train import config, narrow_networks, rows, write_set  # noqa: E402

POSES = [(-30.0, 0.0, 0.0), (0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (0.0, 30.0, 15.0)]


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Any:
    with narrow_networks():
        yield


def faces_with_traits(root: Path) -> Path:
    out = pairs_folder(root)
    traits = [
        {"facemask": f"facemask/{i}.png", "pose": pose, "tone": [20 * i + 10, 0, 0, 0]} for i, pose in enumerate(POSES)
    ]
    (out / TRAITS).write_text("".join(json.dumps(row) + "\n" for row in traits))
    return out


def dataset_with_poses(root: Path, number: int = 6) -> Path:
    """Portraits whose manifest says that every face looks to the right of the picture."""
    write_set(root, "train", number)
    layout = {"name": "plain", "sets": {"train": {"path": "train", "folders": {
        "image": "images", "alpha": "alphas", "facemask": "facemasks"}}}}  # fmt: skip
    about = {
        "layout": layout,
        "training": "train",
        "obfuscated": "blurred",
        "tool": "p3mdata",
        "version": 1,
        "sets": {},
    }
    (root / "dataset.json").write_text(json.dumps(about))
    manifest = []
    for i in range(number):
        y, x = np.nonzero(synthetic_portrait(128, i)[2])
        poses = [{"at": [x.mean() / 128, y.mean() / 128], "yaw": 30, "pitch": 0, "roll": 15}]
        manifest.append({"id": f"p{i}", "group": i, "poses": poses})
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in manifest))
    return root


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (25.0, 5.0, -10.0), (-40.0, -15.0, 20.0)])
def test_poses_are_those_of_the_drawn_head(angles: tuple[float, float, float]) -> None:
    yaw, pitch, roll = np.radians(angles)
    turn = (
        np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        @ np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        @ np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    )
    mesh = np.zeros((478, 2))
    solid = np.array(list(_RIGID.values())) * (1, -1, -1) @ turn.T
    # Far away, so that size does not depend on depth.
    mesh[list(_RIGID)] = solid[:, :2] * 10 + (300, 200)
    mesh[234], mesh[454] = (225, 200), (375, 200)
    assert head_pose(mesh) == pytest.approx(angles, abs=4)
    assert [coarse(angle) for angle in (7.4, 7.6, -22, 200)] == [0, 15, -15, 90]


def test_tone_survives_blur() -> None:
    rgb = np.full((60, 60, 3), (180, 120, 90), np.uint8)
    rgb[:, 30:] = (210, 150, 120)
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    clear, blurred = tone_of(rgb, mask), tone_of(cv2.GaussianBlur(rgb, (0, 0), 5), mask)
    assert clear[3] > 5 and clear[:3] == pytest.approx(blurred[:3], abs=1)
    assert tone_of(rgb[:, ::-1].copy(), mask)[3] == pytest.approx(-clear[3], abs=0.5)


def test_the_nearest_are_drawn_among() -> None:
    rng = np.random.default_rng(0)
    traits = [Traits(tuple(rng.uniform(-60, 60, 3)), (50.0, 0.0, 0.0, 0.0)) for _ in range(200)]  # type: ignore[arg-type]
    matcher, wanted = Matcher([*traits, Traits()]), Traits(pose=(20.0, 0.0, 0.0))
    distances = matcher.distances(wanted)
    drawn = {matcher.draw(wanted, seeded(i)) for i in range(60)}
    assert drawn == set(np.argsort(distances)[:4].tolist()) and np.isinf(distances[-1])
    assert Traits((10.0, 5.0, -3.0), (1.0, 2.0, 3.0, 4.0)).mirrored() == Traits(
        (-10.0, 5.0, 3.0), (1.0, 2.0, 3.0, -4.0)
    )
    assert wanted_of("none", torch.zeros(3, 4, 4), torch.ones(4, 4), [0, 0, 0]) is None
    assert wanted_of("pose", torch.zeros(3, 4, 4), torch.ones(4, 4), None) is None


def test_faces_keep_their_numbers_and_poses() -> None:
    facemask = np.zeros((100, 200), np.uint8)
    facemask[20:50, 20:50], facemask[30:60, 140:170], facemask[80:90, 90:100] = 255, 255, 255
    facemask[0:5, 0:5] = 64
    poses = [
        {"at": [0.77, 0.45], "yaw": 30, "pitch": 0, "roll": 0},
        {"at": [0.17, 0.35], "yaw": -15, "pitch": 0, "roll": 0},
    ]
    out, told = labelled(facemask, poses)
    assert np.array_equal(out > 127, facemask > 127) and out[2, 2] == 64
    found = {name: pose_at(torch.from_numpy(part), torch.from_numpy(out), told) for name, part in (
        ("left", np.pad(np.ones((30, 30), bool), ((20, 50), (20, 150)))),
        ("right", np.pad(np.ones((30, 30), bool), ((30, 40), (140, 30)))),
        ("unknown", np.pad(np.ones((10, 10), bool), ((80, 10), (90, 100)))),
    )}  # fmt: skip
    assert found == {"left": [-15, 0, 0], "right": [30, 0, 0], "unknown": None}


def test_samples_mirror_their_poses(tmp_path: Path) -> None:
    root = dataset_with_poses(tmp_path / "data")
    for flip, yaw in ((0.0, 30), (1.0, -30)):
        chosen = DataConfig(crop_sides=(128,), size=64, flip=flip, colours="none")
        pictures = TrainingSet(root, config=chosen)
        assert "poses" not in pictures[0]
        pictures.know_poses(root)
        assert pictures[0]["poses"] == [[yaw, 0, 15 * np.sign(yaw)]]
    with pytest.raises(SettingsError, match="build-split --poses"):
        write_set(tmp_path / "plain", "train", 2)
        TrainingSet(tmp_path / "plain").know_poses(tmp_path / "plain")


def test_icp_and_fcp_ask_for_the_pose_of_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = dataset_with_poses(tmp_path / "data")
    pictures = TrainingSet(root, config=DataConfig(crop_sides=(128,), size=64, flip=0.0, colours="none"))
    pictures.know_poses(root)
    sources = Sources(faces_with_traits(tmp_path))
    asked: list[Traits | None] = []
    real = Sources.draw

    def draw(self: Sources, generator: Any, size: int, wanted: Traits | None = None) -> Any:
        asked.append(wanted)
        return real(self, generator, size, wanted)

    monkeypatch.setattr(Sources, "draw", draw)
    settings = {"probability": 1.0, "match": "pose+tone"}
    ICP(sources, CopyPasteConfig(mode="icp", **settings))(pictures[0], seeded(0))
    batch = collate([pictures[0], pictures[1]])
    assert isinstance(batch, dict)
    model = create_model("narrow", encoder_weights="random").eval()
    fcp(model, to_device(batch, "cpu"), sources, seeded(0), CopyPasteConfig(mode="fcp", sources="each", **settings))
    assert len(asked) == 3 and all(each is not None and each.pose == (30.0, 0.0, 15.0) for each in asked)
    # Both look at the same obfuscated face.
    assert asked[0].tone == pytest.approx(asked[1].tone, abs=0.2)  # type: ignore[union-attr]
    monkeypatch.setattr("p3mnet.copy_paste.match._LEAST", 1)
    names = {sources.draw(seeded(i), 64, Traits(pose=(30.0, 0.0, 0.0))).name for i in range(8)}
    assert names == {"2.jpg"}


@pytest.mark.parametrize("mode", ["icp", "fcp"])
def test_a_training_with_matched_sources_ends_with_all_terms(mode: str, tmp_path: Path) -> None:
    root = dataset_with_poses(tmp_path / "data")
    faces = faces_with_traits(tmp_path)
    pasted = {"mode": mode, "match": "pose+tone", "start_epoch": 0, "probability": 1.0}
    chosen = config(root, epochs=1, copy_paste=pasted, sources=str(faces))
    done = train(chosen, tmp_path / "run")
    assert "composition" in done.terms and set(done.terms) <= rows(tmp_path / "run")[0].keys()
    (faces / TRAITS).unlink()
    with pytest.raises(SettingsError, match="face-traits"):
        train(chosen, tmp_path / "other")


def test_workers_choose_as_one_process_does(tmp_path: Path) -> None:
    root = dataset_with_poses(tmp_path / "data")
    pictures = TrainingSet(root, config=DataConfig(crop_sides=(128,), size=64, colours="none"))
    pictures.know_poses(root)
    edit = ICP(Sources(faces_with_traits(tmp_path)), CopyPasteConfig(mode="icp", probability=1.0, match="pose"))
    first, second = (
        [batch["image"] for batch in make_loader(pictures, 3, workers, 0, 0, edit=edit)] for workers in (0, 1)
    )
    assert first and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_groups_choose_among_sources_alone_and_with_poses(tmp_path: Path) -> None:
    old, young = (("age", "old"),), (("age", "young"),)
    matcher = Matcher([Traits((30.0 * i, 0.0, 0.0), None, old if i % 2 else young) for i in range(40)])
    drawn = {matcher.draw(Traits(group=old), seeded(i)) for i in range(400)}
    # Any of the group, and each of them.
    assert drawn == set(range(1, 40, 2))
    assert {matcher.draw(Traits((0.0, 0.0, 0.0), None, old), seeded(i)) for i in range(60)} == {1, 3, 5, 7}
    # Where no source agrees all are as good; of two groups the one that is met counts.
    assert len({matcher.draw(Traits(group=(("age", "baby"),)), seeded(i)) for i in range(400)}) == 40
    both = Traits(group=(("age", "old"), ("gender", "f")))
    assert np.array_equal(matcher.agreeing(both), matcher.agreeing(Traits(group=old)))
    assert both.mirrored().group == both.group


def test_a_file_of_groups_is_read_by_any_name(tmp_path: Path) -> None:
    path = written(tmp_path / "groups.csv", "picture,age,gender", "facemask/0.png,old,f", "1.jpg,young,", "2,,m", "")
    names = [(f"facemask/{i}.png", f"{i}.jpg") for i in range(4)]
    assert groups_of(path, names) == [(("age", "old"), ("gender", "f")), (("age", "young"),), (("gender", "m"),), ()]
    with pytest.raises(SettingsError, match="knows no picture"):
        groups_of(path, [("other",)])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "first line"),
        (("a,old",), "first line"),
        (("picture,age", "a"), "line 2"),
        (("picture,age", "a,old", "a,young"), "line 3 says otherwise"),
        (("picture,age", *(f"p{i},{i}" for i in range(MOST_VALUES + 1))), "coarse"),
    ],
)
def test_a_file_of_groups_that_cannot_be_used_is_named(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    path = written(tmp_path / "groups.csv", *lines)
    with pytest.raises(SettingsError, match=said) as caught:
        read_groups(path)
    assert str(path) in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_groups(tmp_path / "none.csv")


@pytest.mark.parametrize("mode", ["icp", "fcp"])
def test_a_training_pastes_sources_of_the_targets_groups(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset_with_poses(tmp_path / "data")
    faces = faces_with_traits(tmp_path)
    (faces / TRAITS).unlink()
    sources = written(tmp_path / "sources.csv", "picture,age", "0,old", "1,young", "2,old", "3,young")
    targets = written(tmp_path / "targets.csv", "picture,age", *(f"p{i},old" for i in range(6)))
    drawn: list[str] = []
    real = Sources.draw

    def draw(self: Sources, *args: Any) -> Any:
        source = real(self, *args)
        drawn.append(source.name)
        return source

    monkeypatch.setattr(Sources, "draw", draw)
    pasted = {"mode": mode, "start_epoch": 0, "probability": 1.0, "sources": "each"}
    pasted |= {"source_groups": str(sources), "target_groups": str(targets)}
    train(config(root, epochs=2, copy_paste=pasted, sources=str(faces), workers=0), tmp_path / "run")
    assert set(drawn) == {"0.jpg", "2.jpg"}
    with pytest.raises(ValueError, match="go together"):
        CopyPasteConfig(mode=mode, source_groups=sources)  # type: ignore[arg-type]


def test_the_look_tells_how_many_agree(tmp_path: Path) -> None:
    root = dataset_with_poses(tmp_path / "data")
    pictures = TrainingSet(root, config=DataConfig(crop_sides=(128,), size=64, colours="none"))
    pictures.people = {f"p{i}": (("age", "old"),) for i in range(6)}
    groups = written(tmp_path / "groups.csv", "picture,age", "0,old", "1,young", "2,young", "3,young")
    sources = Sources(faces_with_traits(tmp_path), groups=groups)
    found = look(pictures, sources, CopyPasteConfig(mode="icp"), 12, 1).to_json()
    assert found["group_agreement"] == 1.0 and found["group_agreement_of_random"] == 0.25
