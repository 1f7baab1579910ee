"""Every face of a portrait is pasted over, each with a centre of its own; bystanders and false masks are not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from p3mdata.errors import SettingsError  # noqa: E402
from p3mnet.copy_paste import CopyPasteConfig, Sources, Turn, align, cut_and_turn, fcp, icp  # noqa: E402
from p3mnet.copy_paste.geometry import draw_turn, faces_of  # noqa: E402
from p3mnet.create import create_model  # noqa: E402
from p3mnet.data import seeded  # noqa: E402
from p3mnet.loader import to_device  # noqa: E402
from p3mnet.training import make_config, train  # noqa: E402
from tests.factories import texture  # noqa: E402
from tests.test_copy_paste import disc, pairs_folder  # noqa: E402
from tests.test_train import config, narrow_networks, write_set  # noqa: E402

SIDE = 128
ALWAYS = {"probability": 1.0}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources(pairs_folder(tmp_path_factory.mktemp("sources")))


def two_faces() -> Tensor:
    """A face at the left and one at the right, far apart: their common centroid lies in neither."""
    return disc(SIDE, SIDE, 40, 25, 14) | disc(SIDE, SIDE, 80, 100, 14)


def one_image(facemask: Tensor, alpha: Tensor | None = None) -> dict[str, Any]:
    image = torch.from_numpy(texture(SIDE, SIDE, 3)).permute(2, 0, 1)[None]
    matte = torch.full((1, 1, SIDE, SIDE), 255, dtype=torch.uint8) if alpha is None else alpha[None, None]
    mask = facemask[None, None].to(torch.uint8) * 255
    return {"image": image, "alpha": matte, "trimap": matte.clone(), "facemask": mask, "name": ["a"]}


def coverage(changed: Tensor, face: Tensor) -> float:
    return float((changed & face).sum() / face.sum())


def test_two_faces_are_two_targets(sources: Sources) -> None:
    batch = one_image(two_faces())
    pasted = icp(batch, sources, seeded(1), CopyPasteConfig(mode="icp", **ALWAYS))["image"]
    changed = (pasted != batch["image"]).any(1)[0]
    parts = faces_of(two_faces(), None)
    assert len(parts) == 2 and all(coverage(changed, part) > 0.5 for part in parts)
    assert not changed[~two_faces()].any()
    # The two of one centroid, as it was: nothing is pasted.
    face, shape = cut_and_turn(texture_of(), disc(96, 96, 48, 48, 20), Turn(1.0, 0.0))
    assert align(shape, two_faces()) is None


def texture_of() -> Tensor:
    return torch.from_numpy(texture(96, 96, 5)).permute(2, 0, 1)


@pytest.mark.parametrize("name", ["p3mnet_resnet34", "gfm_resnet34", "modnet"])
@pytest.mark.parametrize("layer", ["e0", "stage1"])
def test_two_faces_are_two_targets_in_features(name: str, layer: str, sources: Sources) -> None:
    torch.manual_seed(0)
    model = create_model(name, encoder_weights="random").eval()
    batch = to_device(one_image(two_faces()), "cpu")
    config = CopyPasteConfig(mode="fcp", layer=layer, scale=(1.0, 1.0), **ALWAYS)
    edit = fcp(model, batch, sources, seeded(1), config)
    assert [each.number for each in edit.pastes] == [0, 0] and len({each.turn for each in edit.pastes}) == 1
    seen: list[Tensor] = []
    stage = {"p3mnet_resnet34": "layer1", "gfm_resnet34": "layer1"}.get(name)
    watched = getattr(model.encoder, stage) if stage else model.encoder.features[3]
    with torch.no_grad():
        if layer == "e0":
            model(batch["image"], lambda e0: seen.append(e0) or seen.append(edit(e0)) or seen[-1])
        else:
            for each in (None, edit):
                hooks: list[Any] = []

                def watching(e0: Tensor, each: Any = each, hooks: list[Any] = hooks) -> Tensor:
                    e0 = each(e0) if each else e0
                    hooks.append(watched.register_forward_hook(lambda module, inputs, output: seen.append(output)))
                    return e0

                model(batch["image"], watching)
                hooks[0].remove()
    changed = (seen[0] != seen[1]).any(1)[0].float()[None, None]
    on_image = torch.nn.functional.interpolate(changed, (SIDE, SIDE), mode="nearest")[0, 0] > 0
    assert all(coverage(on_image, part) > 0.4 for part in faces_of(two_faces(), None))


def test_bystanders_and_specks_are_no_targets() -> None:
    person, bystander, speck = disc(SIDE, SIDE, 60, 40, 20), disc(SIDE, SIDE, 60, 100, 15), disc(SIDE, SIDE, 10, 10, 3)
    alpha = 255 * disc(SIDE, SIDE, 64, 40, 50).to(torch.uint8)
    alpha[:, 80:] = 0
    assert [part.tolist() for part in faces_of(person | bystander | speck, alpha)] == [person.tolist()]
    assert len(faces_of(person | bystander, None)) == 2
    assert faces_of(torch.zeros(SIDE, SIDE, dtype=torch.bool), None) == []


def test_icp_follows_the_matte(sources: Sources) -> None:
    alpha = torch.full((SIDE, SIDE), 255, dtype=torch.uint8)
    alpha[:, SIDE // 2 :] = 0
    batch = one_image(two_faces(), alpha)
    changed = (icp(batch, sources, seeded(1), CopyPasteConfig(mode="icp", **ALWAYS))["image"] != batch["image"]).any(1)
    assert changed[0][:, : SIDE // 2].any() and not changed[0][:, SIDE // 2 :].any()


def test_variants_of_the_authors() -> None:
    mask = torch.zeros(40, 30, dtype=torch.bool)
    mask[10:30, 5:15] = True
    values = torch.arange(40 * 30, dtype=torch.float32).reshape(1, 40, 30)
    plain, _ = cut_and_turn(values, mask, Turn(1.0, 0.0))
    mirrored, _ = cut_and_turn(values, mask, Turn(1.0, 0.0, flip=True))
    assert torch.equal(mirrored, plain.flip(-1)) and plain.shape == (1, 20, 10)
    assert cut_and_turn(values, mask, Turn(2.0, 0.0, 0.5))[1].shape == (40, 5)
    assert cut_and_turn(values, mask, Turn(1.0, 0.0), (33, 44))[1].shape == (33, 44)
    drawn = [draw_turn(CopyPasteConfig(mode="icp", axes="apart", flip=0.5), seeded(i))[1] for i in range(40)]
    assert all(0.8 <= turn.scale <= 1.2 and turn.scale_x is not None for turn in drawn)
    assert all(turn.scale != turn.scale_x for turn in drawn) and {turn.flip for turn in drawn} == {True, False}
    # What the variants draw does not change what the recipe draws.
    assert draw_turn(CopyPasteConfig(mode="icp"), seeded(3))[1].angle == drawn[3].angle


def test_fill_covers_the_target(sources: Sources) -> None:
    face = disc(SIDE, SIDE, 64, 64, 40)
    batch = one_image(face)
    config = {"mode": "icp", "scale": (1.0, 1.0), "rotation": 0.0, **ALWAYS}
    covered = []
    for fit in ("framed", "fill"):
        pasted = icp(batch, sources, seeded(1), CopyPasteConfig(**config, fit=fit))["image"]
        covered.append(coverage((pasted != batch["image"]).any(1)[0], face))
    assert covered[1] > 0.9 > covered[0]


def test_settings_that_are_not_given_follow_from_others() -> None:
    """A face as large as its target is not made half as large, and a chosen source fits one face."""
    kinds = {mode: CopyPasteConfig(mode=mode, fit="fill").scale for mode in ("icp", "fcp")}
    assert kinds == dict.fromkeys(kinds, (0.8, 1.2)) and CopyPasteConfig(mode="fcp").scale == (0.3, 0.7)
    assert CopyPasteConfig(mode="fcp", fit="fill", scale=(0.5, 0.6)).scale == (0.5, 0.6)
    assert CopyPasteConfig(mode="fcp").sources == "one" and CopyPasteConfig(mode="fcp", match="pose").sources == "each"
    assert CopyPasteConfig(mode="fcp", match="pose", sources="one").sources == "one"
    assert CopyPasteConfig(mode="fcp", source_groups="a.csv", target_groups="b.csv").sources == "each"
    chosen = make_config({"dataset": "x", "sources": "y", "copy_paste": {"mode": "fcp"}, "epochs": 40})
    assert chosen.copy_paste.start_epoch == 13
    assert make_config({"dataset": "x", "sources": "y", "copy_paste": {"mode": "fcp"}}).copy_paste.start_epoch == 50
    own = {"dataset": "x", "sources": "y", "copy_paste": {"mode": "icp", "start_epoch": 3}}
    assert make_config({**own, "epochs": 4}).copy_paste.start_epoch == 3


@pytest.mark.parametrize(("changes", "said"), [
    ({"epochs": 3, "copy_paste": {"mode": "icp", "start_epoch": 3}}, "3 is not within 3 epochs: nothing would"),
    ({"epochs": 9, "steps": 4, "copy_paste": {"mode": "fcp"}}, "4 steps are 2 epochs, and fcp begins after 3"),
    ({"epochs": 1, "copy_paste": {"mode": "icp"}, "facemasks": False}, "has no facemasks, so that .* paste nothing"),
    ({"epochs": 1, "copy_paste": {"mode": "fcp"}, "data": {"facemask": False}}, r"data\.facemask is false"),
])  # fmt: skip
def test_a_run_that_would_paste_nothing_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_set(tmp_path / "data", "train", 5)
    faces = pairs_folder(tmp_path / "faces")
    if not changes.pop("facemasks", True):
        shutil.rmtree(tmp_path / "data/train/facemasks")
    with narrow_networks(), pytest.raises(SettingsError, match=said):
        train(config(tmp_path / "data", sources=str(faces), **changes), tmp_path / "out")


def test_the_first_face_is_pasted_as_before(tmp_path: Path) -> None:
    """A picture of one face draws its coin, its turn and its source in this order."""
    sources = Sources(pairs_folder(tmp_path))
    batch = one_image(disc(SIDE, SIDE, 64, 64, 20))
    generator = seeded(9)
    wanted, turn = draw_turn(CopyPasteConfig(mode="icp", **ALWAYS), generator)
    source = sources.draw(generator, SIDE)
    face, shape = cut_and_turn(source.image, source.mask, turn)
    overlap = align(shape, disc(SIDE, SIDE, 64, 64, 20))
    assert wanted and overlap is not None
    pasted = icp(batch, sources, seeded(9), CopyPasteConfig(mode="icp", **ALWAYS))["image"][0]
    here = (slice(None), *overlap.target)
    expected = face[(slice(None), *overlap.face)].round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(pasted[here][:, overlap.mask], expected[:, overlap.mask])


def test_a_source_is_seen_like_its_target(sources: Sources) -> None:
    """MODNet turns colours into -1..1 before its encoder: a face pasted onto itself changes nothing."""
    from p3mnet.model import normalise

    torch.manual_seed(0)
    model = create_model("modnet", encoder_weights="random").eval()
    source = sources.draw(seeded(0), SIDE)
    batch = to_device(one_image(source.mask), "cpu") | {"image": normalise(source.image[None])}
    config = CopyPasteConfig(mode="fcp", scale=(1.0, 1.0), **ALWAYS)

    class Only:
        def draw(self, generator: Any, size: int, wanted: Any = None) -> Any:
            return source

    seen: list[Tensor] = []
    with torch.no_grad():
        edit = fcp(model, batch, Only(), seeded(1), config)  # type: ignore[arg-type]
        assert edit.pastes
        model(batch["image"], lambda e0: seen.append(e0) or seen.append(edit(e0)) or seen[-1])
    torch.testing.assert_close(seen[0], seen[1])
