"""Every part of the loss that a network is published with takes part, and log and result say so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from p3mdata.dataset.check import check_dataset  # noqa: E402
from p3mdata.dataset.folder import open_dataset  # noqa: E402
from p3mdata.errors import SettingsError  # noqa: E402
from p3mnet.data import DataConfig, TrainingSet  # noqa: E402
from p3mnet.losses import LossWeights, terms_of  # noqa: E402
from p3mnet.model import MATTING_TERMS, SEGMENTATION_TERMS  # noqa: E402
from p3mnet.registry import build  # noqa: E402
from p3mnet.training import Watch, make_config, train  # noqa: E402
from p3mnet.training import loop as loop_module  # noqa: E402
from tests.factories import encoded  # noqa: E402
from tests.test_data import HEIGHT, SMALL, WIDTH, blob, write_dataset  # noqa: E402
from tests.test_train import config, narrow_networks, rows, write_set  # noqa: E402

P3MNET = [*SEGMENTATION_TERMS, *MATTING_TERMS]


@pytest.fixture(autouse=True, scope="module")
def _narrow() -> Any:
    with narrow_networks():
        yield


def published(root: Path) -> Path:
    """As the authors publish it: colours in `fg_blurred` and `bg`, greys of three channels."""
    write_dataset(root, 4)
    (root / "train/fg").rename(root / "train/fg_blurred")
    for folder in ("mask", "facemask"):
        for path in (root / "train" / folder).iterdir():
            grey = blob(seed=int(path.stem[-1])) if folder == "mask" else np.full((HEIGHT, WIDTH), 255, np.uint8)
            path.write_bytes(encoded(np.repeat(grey[..., None], 3, 2), "PNG"))
    return root


def test_the_published_folders_are_a_layout_with_all_parts(tmp_path: Path) -> None:
    root = published(tmp_path / "P3M-10k")
    dataset = open_dataset(root)
    assert dataset.layout.name == "p3m10k_published"
    assert all(set(item.files) == {"image", "alpha", "facemask", "foreground", "background"}
               for item in dataset.items("train").values())  # fmt: skip
    pictures = TrainingSet(root, config=DataConfig(**SMALL))
    assert pictures.colours == "files" and {"foreground", "background"} <= pictures[0].keys()
    assert open_dataset(write_dataset(tmp_path / "own", 2)).layout.name == "p3m10k"


def test_colours_that_are_not_there_are_estimated_or_refused_by_name(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", 3, colours=False)
    pictures = TrainingSet(root, config=DataConfig(**SMALL))
    assert pictures.colours == "estimate" and {"foreground", "background"} <= pictures[0].keys()
    with pytest.raises(SettingsError, match=r"no foreground and background colours \(folders 'fg' and 'bg'"):
        TrainingSet(root, config=DataConfig(**SMALL, colours="files"))
    # One part alone is a mistake, not a dataset without colours.
    shutil.copytree(root / "train/blurred_image", root / "train/fg")
    with pytest.raises(SettingsError, match="p_0.jpg: has no background of its name"):
        TrainingSet(root, config=DataConfig(**{**SMALL, "max_bad": 0.5}))


def test_whole_pictures_are_estimated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymatting")
    root = write_dataset(tmp_path / "set", 2, colours=False)
    with pytest.raises(ValueError, match="data.cache"):
        DataConfig(colours="whole")
    chosen = DataConfig(**SMALL, colours="whole", cache=tmp_path / "cache")
    first = TrainingSet(root, config=chosen)[0]
    image, alpha = first["image"].float(), first["alpha"].float() / 255
    composed = alpha * first["foreground"].float() + (1 - alpha) * first["background"].float()
    assert (composed - image).abs().mean() < 4
    monkeypatch.setattr("p3mnet.image_files.multi_level_colours", lambda *given: pytest.fail("estimated again"))
    again = TrainingSet(root, config=chosen)[0]
    assert all(torch.equal(first[kind], again[kind]) for kind in ("image", "foreground", "background"))


@pytest.mark.parametrize(("name", "flags", "wanted"), [
    ("p3mnet_resnet34", {}, P3MNET),
    ("p3mnet_resnet34", {"dbfi": False}, ["ce_global", *MATTING_TERMS]),
    ("gfm_resnet34", {}, ["ce_global", *MATTING_TERMS]),
    ("modnet", {}, ["semantic", "detail", "fusion"]),
])  # fmt: skip
def test_terms_of_networks(name: str, flags: dict[str, bool], wanted: list[str]) -> None:
    from p3mnet.model import ModelConfig

    config = ModelConfig(name, pool_kernel=3, **flags) if name.startswith("p3m") else ModelConfig(name)
    with torch.device("meta"):
        network = build(config)
    assert terms_of(network, LossWeights(), "files") == (wanted, {})
    without, why = terms_of(network, LossWeights(laplacian=0), "none")
    assert without == [term for term in wanted if term not in ("composition", "laplacian")]
    assert set(why) == set(wanted) - set(without)


class Listening(Watch):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.slow
def test_log_and_result_say_which_terms_took_part(tmp_path: Path) -> None:
    write_set(tmp_path / "data", "train", 5)
    for colours, absent in (("auto", set()), ("none", {"composition"})):
        out, watch = tmp_path / colours, Listening()
        chosen = config(tmp_path / "data", epochs=1, data={"crop_sides": [64], "size": 64, "colours": colours})
        done = train(chosen, out, watch=watch)
        found = json.loads((out / "result.json").read_text())
        assert done.terms == found["terms"] == [term for term in P3MNET if term not in absent]
        assert set(found["left_out"]) == absent and found["colours"] == ("none" if absent else "estimate")
        assert set(done.terms) <= rows(out)[0].keys() and "composition" not in absent & rows(out)[0].keys()
        assert f"terms of the loss: {', '.join(done.terms)}" in watch.said
        assert ("left out of the loss: composition (data.colours is none)" in watch.said) == bool(absent)


def test_a_term_that_gets_lost_on_the_way_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "data", "train", 5)
    real = loop_module.to_device

    def losing(*given: Any) -> Any:
        moved = real(*given)
        del moved["foreground"]
        return moved

    monkeypatch.setattr(loop_module, "to_device", losing)
    with pytest.raises(RuntimeError, match="composition got lost"):
        train(config(tmp_path / "data", epochs=1), tmp_path / "out")


def test_check_names_what_it_does_not_know(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "set", 3)
    (root / "train/fg").rename(root / "train/fg_colours")
    (root / "train/mask/notes.npy").write_bytes(b"x")
    found = {(one.file, one.code): one for one in check_dataset(root, duplicates=False, workers=1).findings}
    assert ("train/fg_colours", "unknown_folder") in found and not found["train/fg_colours", "unknown_folder"].error
    assert ("train/mask/notes.npy", "unknown_file") in found
    assert ("train/fg", "missing_part") in found
    clean = check_dataset(write_dataset(tmp_path / "clean", 2), duplicates=False, workers=1).findings
    assert not {one.code for one in clean} & {"unknown_folder", "unknown_file", "missing_part"}


def test_labels_do_not_depend_on_pasting(tmp_path: Path) -> None:
    """Replaced pixels are cut out of trimaps whether or not faces are pasted."""
    from p3mdata.imaging.facemask import replaced
    from p3mdata.imaging.trimap import UNKNOWN
    from p3mnet.training.selection import open_pictures

    root = write_dataset(tmp_path / "set", 4)
    for path in (root / "train/facemask").iterdir():
        facemask = np.zeros((HEIGHT, WIDTH), np.uint8)
        facemask[: HEIGHT // 2] = 255
        path.write_bytes(encoded(facemask, "PNG"))
    settings = {"dataset": str(root), "data": SMALL}
    pasting = {"sources": str(tmp_path), "copy_paste": {"mode": "icp"}}
    plain, pasted = (open_pictures(make_config(settings | more))[0] for more in ({}, pasting))
    for index in range(len(plain)):
        one, other = plain[index], pasted[index]
        assert torch.equal(one["trimap"], other["trimap"])
        assert not ((one["trimap"] == UNKNOWN) & torch.from_numpy(replaced(one["facemask"].numpy()))).any()
    assert any(plain[index]["facemask"].any() for index in range(len(plain)))
    without = open_pictures(make_config(settings | {"data": SMALL | {"facemask": False}}))[0]
    assert any(not torch.equal(without[index]["trimap"], plain[index]["trimap"]) for index in range(len(plain)))


def test_modnet_wants_no_colours(tmp_path: Path) -> None:
    from p3mnet.training.selection import open_pictures

    write_set(tmp_path / "data", "train", 5)
    settings = {"dataset": str(tmp_path / "data"), "model": {"name": "modnet"}}
    assert open_pictures(make_config(settings))[0].colours == "none"


# In a process of its own, where nothing has loaded the library before.
_THREADS = """
import sys
import numpy as np
if sys.argv[1] == "before":
    import torch
    torch.set_num_threads(7)
    torch.get_num_threads()
from p3mdata.dataset.foregrounds import multi_level_colours
multi_level_colours(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
import torch
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(("torch_is_loaded", "threads"), [("before", 7), ("after", 1)])
def test_estimating_colours_changes_no_number_of_threads(torch_is_loaded: str, threads: int) -> None:
    """Else what a step of training comes to would depend on whether colours were in the cache."""
    pytest.importorskip("pymatting")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _THREADS, torch_is_loaded], env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == (f"{threads}\n", 0), done.stderr
