"""P3M-CP: what is pasted where, in images and in features, and what stays as it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pydantic import ValidationError  # noqa: E402
from torch import Tensor  # noqa: E402

from p3mdata.errors import RunFolderError, SettingsError, SetupError  # noqa: E402
from p3mnet.copy_paste import (  # noqa: E402
    ICP,
    CopyPasteConfig,
    Source,
    Sources,
    Turn,
    align,
    cut_and_turn,
    draw_icp,
    fcp,
    icp,
    paste_image,
)
from p3mnet.create import create_model  # noqa: E402
from p3mnet.data import DataConfig, TrainingSet, seeded  # noqa: E402
from p3mnet.loader import make_loader, to_device  # noqa: E402
from p3mnet.model import P3MNet, normalise  # noqa: E402
from tests.factories import encoded, texture  # noqa: E402
from tests.test_data import SMALL, write_dataset  # noqa: E402

SIDE = 64
ALWAYS = {"probability": 1.0}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> P3MNet:
    torch.manual_seed(0)
    return create_model("p3mnet_resnet34", encoder_weights="random")


def disc(height: int, width: int, row: float, column: float, radius: float) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def pairs_folder(root: Path, number: int = 4) -> Path:
    """What `p3mdata celebamask` writes: images of 96x96, facemasks of half their size."""
    rows = []
    for i in range(number):
        for path, picture in (
            (root / f"src/{i}.jpg", texture(96, 96, 200 + i)),
            (root / f"out/facemask/{i}.png", 255 * disc(48, 48, 24 + i, 24, 12 + i).numpy().astype(np.uint8)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(picture, path.suffix[1:].upper().replace("JPG", "JPEG")))
        rows.append({"image": f"{i}.jpg", "facemask": f"facemask/{i}.png"})
    (root / "out/pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "out/settings.json").write_text(
        json.dumps({"settings": {"source": str(root / "src"), "from": "annotations"}})
    )
    return root / "out"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources(pairs_folder(tmp_path_factory.mktemp("sources")))


def make_batch(number: int = 4) -> dict[str, Any]:
    """Uint8 pictures of which the last has no facemask."""
    image = torch.stack([torch.from_numpy(texture(SIDE, SIDE, i)) for i in range(number)]).permute(0, 3, 1, 2)
    face = torch.stack([disc(SIDE, SIDE, 20 + 5 * i, 30, 10)[None] for i in range(number)]).to(torch.uint8) * 255
    face[-1] = 0
    alpha = torch.full_like(face, 255)
    return {
        "image": image,
        "alpha": alpha,
        "trimap": alpha.clone(),
        "facemask": face,
        "name": list("abcdefgh"[:number]),
    }


# ICP


def test_icp_touches_only_the_overlap(sources: Sources) -> None:
    batch = make_batch(6)
    kept = copy.deepcopy(batch)
    config = CopyPasteConfig(mode="icp", **ALWAYS)
    pasted = icp(batch, sources, seeded(1), config)
    assert all(torch.equal(batch[key], kept[key]) for key in ("image", "alpha", "trimap", "facemask"))
    assert pasted["image"].dtype == torch.uint8 and pasted["image"].is_contiguous(memory_format=torch.channels_last)
    for key in ("alpha", "trimap", "facemask", "name"):
        assert pasted[key] is batch[key]
    changed = (pasted["image"] != batch["image"]).any(1, keepdim=True)
    assert not changed[batch["facemask"] == 0].any()
    assert changed[:-1].flatten(1).any(1).all() and not changed[-1].any()


def test_icp_depends_on_its_generator_alone(sources: Sources) -> None:
    batch, config = make_batch(), CopyPasteConfig(mode="icp", **ALWAYS)
    state = torch.get_rng_state()
    first, second, other = (icp(batch, sources, seeded(seed), config)["image"] for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("change", ["no probability", "no faces"])
def test_icp_changes_nothing(sources: Sources, change: str) -> None:
    batch = make_batch()
    if change == "no faces":
        batch["facemask"] = torch.zeros_like(batch["facemask"])
    config = CopyPasteConfig(mode="icp", probability=0.0 if change == "no probability" else 1.0)
    assert torch.equal(icp(batch, sources, seeded(0), config)["image"], batch["image"])


def test_each_image_has_its_own_coin_and_source(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch(2)
    batch["facemask"][:] = make_batch(2)["facemask"][:1]
    drawn: list[str] = []
    real = Sources.draw

    def draw(self: Sources, generator: torch.Generator, size: int, wanted: Any = None) -> Source:
        source = real(self, generator, size, wanted)
        drawn.append(source.name)
        return source

    monkeypatch.setattr(Sources, "draw", draw)
    pasted = 0
    for seed in range(40):
        image = icp(batch, sources, seeded(seed), CopyPasteConfig(mode="icp"))["image"]
        pasted += int((image != batch["image"]).flatten(1).any(1).sum())
    assert len(drawn) == pasted and 25 <= pasted <= 55
    assert set(drawn) == {f"{i}.jpg" for i in range(4)}


def test_pasted_pixels_are_the_sources(sources: Sources) -> None:
    """Without resizing and turning, the face is copied as it is, its centroid on the target's."""
    source = sources.draw(seeded(0), SIDE)
    image = torch.from_numpy(texture(SIDE, SIDE, 7)).permute(2, 0, 1)
    facemask = disc(SIDE, SIDE, 40, 22, 9)
    (merged,) = paste_image(source, [image], facemask, Turn(1.0, 0.0))
    centres = [torch.nonzero(mask).double().mean(0) for mask in (source.mask, facemask)]
    down, right = torch.round(centres[1] - centres[0]).long().tolist()
    expected = image.clone()
    for row, column in torch.nonzero(facemask).tolist():
        y, x = row - down, column - right
        if 0 <= y < source.mask.shape[0] and 0 <= x < source.mask.shape[1] and source.mask[y, x]:
            expected[:, row, column] = source.image[:, y, x]
    assert torch.equal(merged, expected) and not torch.equal(merged, image)


def test_foreground_colours_get_the_same_face(sources: Sources) -> None:
    batch = make_batch()
    batch["foreground"] = batch["image"].clone()
    pasted = icp(batch, sources, seeded(3), CopyPasteConfig(mode="icp", **ALWAYS))
    assert torch.equal(pasted["foreground"], pasted["image"]) and not torch.equal(pasted["image"], batch["image"])


@pytest.mark.parametrize("angle", [0.0, 30.0, -90.0, 180.0])
def test_turning_is_that_of_opencv(angle: float) -> None:
    mask = torch.ones(40, 56, dtype=torch.bool)
    values = torch.from_numpy(texture(40, 56, 3)).permute(2, 0, 1).float()
    turned, shape = cut_and_turn(values, mask, Turn(1.0, angle))
    height, width = turned.shape[1:]
    matrix = cv2.getRotationMatrix2D((55 / 2, 39 / 2), angle, 1.0)
    matrix[:, 2] += np.array([(width - 56) / 2, (height - 40) / 2])
    picture = values.permute(1, 2, 0).numpy()
    expected = cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    middle = cv2.erode(shape.numpy().astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert middle.sum() > 1500
    assert np.abs(turned.permute(1, 2, 0).numpy() - expected)[middle].max() < 6
    assert shape.sum() == pytest.approx(40 * 56, rel=0.03)


def test_faces_are_cut_out_and_resized() -> None:
    mask = disc(50, 60, 20, 30, 10)
    values = torch.zeros(1, 50, 60)
    values[0, 10:31, 20:41] = 9
    for scale in (0.3, 1.0, 1.7):
        face, shape = cut_and_turn(values, mask, Turn(scale, 0.0))
        assert shape.shape == face.shape[1:] == (round(21 * scale), round(21 * scale))
        assert (face - 9).abs().max() < 1e-5 and shape.sum() == pytest.approx(int(mask.sum()) * scale**2, rel=0.2)


def test_masks_that_do_not_meet() -> None:
    ring = disc(41, 41, 20, 20, 20) & ~disc(41, 41, 20, 20, 10)
    assert align(disc(9, 9, 4, 4, 4), ring) is None
    assert align(torch.zeros(5, 5, dtype=torch.bool), ring) is None
    far = torch.zeros(41, 41, dtype=torch.bool)
    far[0, 0] = True
    overlap = align(torch.ones(9, 9, dtype=torch.bool), far)
    assert overlap is not None and overlap.target == (slice(0, 5), slice(0, 5)) and int(overlap.mask.sum()) == 1


def test_workers_paste_as_one_process_does(tmp_path: Path, sources: Sources) -> None:
    pictures = TrainingSet(write_dataset(tmp_path / "set", 6), config=DataConfig(**SMALL))
    edit = ICP(sources, CopyPasteConfig(mode="icp", **ALWAYS))
    plain, alone, workers = (
        list(make_loader(pictures, 3, number, 1, 1, edit=each)) for number, each in ((0, None), (0, edit), (2, edit))
    )
    for before, after, other in zip(plain, alone, workers, strict=True):
        assert torch.equal(after["image"], other["image"]) and not torch.equal(before["image"], after["image"])
        assert torch.equal(before["alpha"], after["alpha"]) and torch.equal(before["background"], after["background"])
        changed = (before["image"] != after["image"]).any(1, keepdim=True)
        assert not changed[before["facemask"] == 0].any()


def test_bad_sources_are_told_and_do_not_count(tmp_path: Path) -> None:
    pictures = TrainingSet(write_dataset(tmp_path / "set", 6), config=DataConfig(**{**SMALL, "max_bad": 0}))
    out = pairs_folder(tmp_path)
    (tmp_path / "src/0.jpg").write_bytes(b"no")
    for workers in (0, 2):
        loader = make_loader(pictures, 3, workers, 0, 0, edit=ICP(Sources(out), CopyPasteConfig(mode="icp", **ALWAYS)))
        assert all(set(batch) >= {"image", "name"} and "noted" not in batch for batch in loader)
        assert len(loader.bad) == 1 and "0.jpg" in loader.bad[0]


def test_a_picture_to_look_at(sources: Sources) -> None:
    source = sources.draw(seeded(0), 96)
    target = make_batch()["image"][0]
    (merged,) = paste_image(source, [target], disc(SIDE, SIDE, 30, 30, 9), Turn(0.5, 0.0))
    picture = draw_icp(source.image, source.mask, target, merged)
    assert picture.shape == (SIDE, 4 * SIDE + 3 * 8, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture[:, 2 * SIDE + 16 : 3 * SIDE + 16], target.permute(1, 2, 0).numpy())
    assert np.array_equal(picture[:, 3 * SIDE + 24 :], merged.permute(1, 2, 0).numpy())
    arrays = [source.image.permute(1, 2, 0).numpy(), source.mask.numpy()]
    assert np.array_equal(draw_icp(*arrays, target, merged), picture)


# FCP


def captured(model: P3MNet, batch: dict[str, Any], edit: Any) -> tuple[Tensor, Tensor]:
    """E_0 before and after an edit, in a pass of the network."""
    seen: list[Tensor] = []

    def watch(e0: Tensor) -> Tensor:
        seen.append(e0)
        seen.append(edit(e0))
        return seen[-1]

    model(batch["image"], watch)
    return seen[0], seen[1]


@pytest.mark.parametrize("name", ["p3mnet_resnet34", "p3mnet_swin_t"])
def test_fcp_touches_only_the_overlap(name: str, sources: Sources) -> None:
    model = create_model(name, encoder_weights="random").eval()
    batch = to_device(make_batch(3), "cpu")
    with torch.no_grad():
        edit = fcp(model, batch, sources, seeded(1), CopyPasteConfig(mode="fcp", **ALWAYS))
        before, after = captured(model, batch, edit)
    changed = (before != after).any(1, keepdim=True)
    assert not changed[~batch["facemask"]].any()
    assert changed[:-1].flatten(1).any(1).all() and not changed[-1].any()


def test_pasted_features_are_those_of_the_source(model: P3MNet, sources: Sources) -> None:
    """At scale 1 they are copied as they are."""
    batch = to_device(make_batch(), "cpu")
    config = CopyPasteConfig(mode="fcp", scale=(1.0, 1.0), **ALWAYS)
    edit = fcp(model, batch, sources, seeded(1), config)
    (source,) = {id(each.source): each.source for each in edit.pastes}.values()
    assert [each.number for each in edit.pastes] == [0, 1, 2]
    with torch.no_grad():
        before = model.encoder.stem(batch["image"])
        after = edit(before)
    evaluated = copy.deepcopy(model).eval()
    with torch.no_grad():
        features = evaluated.encoder.stem(normalise(source.image)[None])[0]
    found = 0
    for index in (each.number for each in edit.pastes):
        changed = (before[index] != after[index]).any(0)
        down, right = (
            (torch.nonzero(batch["facemask"][index, 0]).double().mean(0) - torch.nonzero(source.mask).double().mean(0))
            .round()
            .long()
            .tolist()
        )
        for row, column in torch.nonzero(changed).tolist():
            torch.testing.assert_close(after[index, :, row, column], features[:, row - down, column - right])
            found += 1
    assert found > 300


@pytest.mark.parametrize("layer", ["e0", "stage1"])
def test_fcp_leaves_no_trace_of_the_source(model: P3MNet, sources: Sources, layer: str) -> None:
    """Statistics, modes and random numbers are those of a pass without paste; only what is pasted differs."""
    batch = to_device(make_batch(2), "cpu")
    plain, pasting = copy.deepcopy(model).train(), copy.deepcopy(model).train()
    pasting.encoder.layer2.eval()
    plain.encoder.layer2.eval()
    config = CopyPasteConfig(mode="fcp", layer=layer, **ALWAYS)
    edit = fcp(pasting, batch, sources, seeded(1), config)
    state = torch.get_rng_state()
    with torch.no_grad():
        first, second = (
            net.encoder.pyramid(each(net.encoder.stem(batch["image"])))
            for net, each in ((plain, lambda e0: e0), (pasting, edit))
        )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.e0, second.e0) is (layer == "stage1") and not torch.equal(first.e4, second.e4)
    before, after = dict(plain.encoder.named_buffers()), dict(pasting.encoder.named_buffers())
    # Statistics of later layers follow the merged features.
    assert torch.equal(before["bn1.running_mean"], after["bn1.running_mean"])
    assert torch.equal(before["bn1.running_var"], after["bn1.running_var"])
    assert all(torch.equal(before[name], after[name]) for name in before if name.endswith("num_batches_tracked"))
    assert [part.training for part in pasting.modules()] == [part.training for part in plain.modules()]
    assert not any(part._forward_hooks for part in pasting.modules())


def test_no_gradient_through_the_source(model: P3MNet, sources: Sources) -> None:
    batch = to_device(make_batch(), "cpu")
    weight = model.encoder.conv1.weight
    gradients = {}
    for detached in (True, False):
        config = CopyPasteConfig(mode="fcp", detached=detached, **ALWAYS)
        edit = fcp(model, batch, sources, seeded(1), config)
        e0 = model.eval().encoder.stem(batch["image"]).detach().requires_grad_()
        merged = edit(e0)
        changed = (merged != e0).any(1, keepdim=True)
        (own,) = torch.autograd.grad(merged.sum(), e0, retain_graph=True)
        # What was pasted over gets none, all else its own.
        assert torch.equal(own, (~changed).float().expand_as(own))
        (gradients[detached],) = torch.autograd.grad(merged.sum(), weight, allow_unused=True)
    assert gradients[True] is None
    assert gradients[False] is not None and gradients[False].any()
    model.train()


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["e0", "stage1"])
def test_gradients_under_autocast(model: P3MNet, sources: Sources, layer: str) -> None:
    """Weights that the source's pass casts first must not lose their gradient in the batch's pass."""
    batch = to_device(make_batch(2), "cpu")
    model.train().zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        edit = fcp(model, batch, sources, seeded(1), CopyPasteConfig(mode="fcp", layer=layer, **ALWAYS))
        features = model.encoder.pyramid(edit(model.encoder.stem(batch["image"])))
    assert features.e0.dtype == torch.bfloat16
    features.e4.float().square().mean().backward()
    for name, parameter in model.encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    model.zero_grad()


def test_batch_norm_of_the_source_can_be_let_loose(model: P3MNet, sources: Sources) -> None:
    batch, loose = to_device(make_batch(), "cpu"), copy.deepcopy(model).train()
    count = int(loose.encoder.bn1.num_batches_tracked)
    config = CopyPasteConfig(mode="fcp", frozen_norm=False, **ALWAYS)
    fcp(loose, batch, sources, seeded(1), config)(loose.encoder.stem(batch["image"]))
    assert int(loose.encoder.bn1.num_batches_tracked) == count + 2


@pytest.mark.parametrize("change", ["no probability", "no faces"])
def test_fcp_changes_nothing(model: P3MNet, sources: Sources, change: str) -> None:
    batch = to_device(make_batch(), "cpu")
    if change == "no faces":
        batch["facemask"] = torch.zeros_like(batch["facemask"])
    config = CopyPasteConfig(mode="fcp", probability=0.0 if change == "no probability" else 1.0)
    edit = fcp(model, batch, sources, seeded(0), config)
    e0 = torch.rand(4, 64, SIDE, SIDE)
    assert edit(e0) is e0


def test_one_source_per_batch_or_one_each(model: P3MNet, sources: Sources) -> None:
    batch = to_device(make_batch(8), "cpu")
    numbers = []
    for which in ("one", "each"):
        edit = fcp(model, batch, sources, seeded(4), CopyPasteConfig(mode="fcp", sources=which, **ALWAYS))
        assert len(edit.pastes) == 7
        assert len({each.turn for each in edit.pastes}) == 7
        numbers.append(len({id(each.source) for each in edit.pastes}))
        edit(torch.rand(8, 64, SIDE, SIDE))
    assert numbers == [1, 7]


@pytest.mark.parametrize("name", ["p3mnet_resnet34", "p3mnet_swin_t"])
def test_stage_1_is_pasted_at_its_own_stride(name: str, sources: Sources) -> None:
    torch.manual_seed(0)
    model = create_model(name, encoder_weights="random").eval()
    raw = make_batch(2)
    # Not a multiple of 32: the network pads.
    cut = {kind: raw[kind][..., :61, :50] for kind in ("image", "alpha", "facemask")}
    batch = to_device({**raw, **cut}, "cpu")
    stage = model.encoder.layer1 if name == "p3mnet_resnet34" else model.encoder.stages[0]
    config = CopyPasteConfig(mode="fcp", layer="stage1", scale=(1.0, 1.0), **ALWAYS)
    seen = []
    with torch.no_grad():
        edit = fcp(model, batch, sources, seeded(2), config)
        for each in (None, edit):
            hook = None

            def watching(e0: Tensor, each: Any = each) -> Tensor:
                # Behind the paste's own hook.
                nonlocal hook
                e0 = each(e0) if each else e0
                hook = stage.register_forward_hook(lambda module, inputs, output: seen.append(output))
                return e0

            model(batch["image"], watching)
            hook.remove()
    maps = [x.permute(0, 3, 1, 2) if name == "p3mnet_swin_t" else x for x in seen]
    assert maps[0].shape[-2:] == (16, 16)
    changed = (maps[0] != maps[1]).any(1)
    assert changed[0].any() and not changed[1].any()
    # All of it lies within the facemask, give or take the stride.
    near = torch.nn.functional.max_pool2d(batch["facemask"][0].float()[None], 5, 1, 2)[0, 0]
    for row, column in torch.nonzero(changed[0]).tolist():
        assert near[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].any()


# Sources and settings


def test_sources_as_they_lie(tmp_path: Path) -> None:
    out = pairs_folder(tmp_path)
    assert len(Sources(out)) == len(Sources(out, tmp_path / "src")) == 4
    assert len(Sources(out / "facemask", tmp_path / "src")) == 4
    (tmp_path / "both").mkdir()
    (tmp_path / "src").rename(tmp_path / "both/image")
    (out / "facemask").rename(tmp_path / "both/facemask")
    sources = Sources(tmp_path / "both")
    source = sources.draw(seeded(0), SIDE)
    assert source.image.shape[1:] == source.mask.shape and max(source.mask.shape) <= SIDE + 1
    assert source.mask.dtype == torch.bool and source.mask.any()
    for wrong in (tmp_path / "both/image", tmp_path):
        with pytest.raises(SettingsError, match="no pairs"):
            Sources(wrong)
    with pytest.raises(SettingsError, match="not a folder"):
        Sources(tmp_path / "nowhere")
    (out / "pairs.jsonl").write_text('{"image": "a.jpg"}\n')
    with pytest.raises(RunFolderError, match="damaged"):
        Sources(out)


def test_portraits_are_cut_to_the_face_in_the_framing_of_celeba(tmp_path: Path) -> None:
    """However small the face lies in its portrait, it is as large in the frame; the facemask covers 26 % of it."""
    for number, radius in enumerate((12, 40)):
        for folder, picture in (
            ("image", texture(300, 220, number)),
            ("facemask", 255 * disc(300, 220, 120, 110, radius).numpy().astype("u1")),
        ):
            (tmp_path / f"{number}" / folder).mkdir(parents=True)
            (tmp_path / f"{number}" / folder / "a.png").write_bytes(encoded(picture, "PNG"))
        source = Sources(tmp_path / f"{number}").draw(seeded(0), SIDE)
        assert source.image.shape[1:] == source.mask.shape and max(source.mask.shape) <= SIDE + 1
        assert float(source.mask.sum()) / SIDE**2 == pytest.approx(0.26, rel=0.06)
        centre = torch.nonzero(source.mask).double().mean(0) / SIDE
        assert centre.tolist() == pytest.approx([0.5 + 0.113, 0.5], abs=0.03)


def test_bad_sources_are_noted(tmp_path: Path) -> None:
    out = pairs_folder(tmp_path)
    (tmp_path / "src/0.jpg").write_bytes(b"no")
    (tmp_path / "src/1.jpg").unlink()
    (out / "facemask/2.png").write_bytes(encoded(np.zeros((48, 48), np.uint8), "PNG"))
    sources = Sources(out)
    assert {sources.draw(seeded(i), SIDE).name for i in range(20)} == {"3.jpg"}
    assert len(sources.bad) == 3 and all(f"{i}." in " ".join(sources.bad) for i in range(3))
    (out / "facemask/3.png").write_bytes(encoded(np.full((48, 30), 255, np.uint8), "PNG"))
    with pytest.raises(SetupError, match="in a row"):
        sources.draw(seeded(0), SIDE)
    assert "another shape" in sources.bad[-1]


def test_settings_follow_the_mode() -> None:
    icp_config, fcp_config = CopyPasteConfig(mode="icp"), CopyPasteConfig(mode="fcp")
    assert (icp_config.rotation, icp_config.scale, icp_config.start_epoch) == (30, (0.8, 1.2), 0)
    assert (fcp_config.rotation, fcp_config.scale, fcp_config.start_epoch) == (0, (0.3, 0.7), 50)
    assert icp_config.probability == fcp_config.probability == 0.5
    own = CopyPasteConfig(mode="fcp", start_epoch=3, rotation=5)
    assert own.rotation == 5 and [own.active(epoch) for epoch in (2, 3)] == [False, True]
    assert CopyPasteConfig(**own.model_dump()) == own
    assert not CopyPasteConfig().active(100) and not CopyPasteConfig(mode="icp", probability=0).active(1)
    for wrong in ({"mode": "both"}, {"scale": (0.5, 0.3)}, {"scale": (0, 1)}, {"probability": 2}, {"angle": 3}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            CopyPasteConfig(**wrong)
