"""Exports: each goes back in with its ecosystem's own loader, tells nothing about sources, and keeps its bytes."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from p3mdata.base.files import sha256
from p3mdata.base.jsonl import dumps, read_rows, write_json, write_rows
from p3mdata.config import Execution, Job, Settings
from p3mdata.dataset.build import SplitSettings, build_split
from p3mdata.dataset.folder import open_dataset
from p3mdata.dataset.layout import read_layout
from p3mdata.dataset.places import EXPORTING
from p3mdata.errors import RunFolderError, SettingsError, SetupError
from p3mdata.export import Form, export
from p3mdata.export.card import card
from p3mdata.export.card_text import describe
from p3mdata.export.entries import shards
from p3mdata.export.release import Release, split_names
from p3mdata.export.target import Target
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging import decode
from p3mdata.records import Action
from p3mdata.review.removal import remove_images
from p3mdata.review.session import reviewing
from p3mdata.run.job import anonymize_job
from p3mdata.run.layout import AUDIT, LEDGER, MANIFEST, SAMPLE
from p3mdata.run.sampling import LookedAt
from tests.audits import some_audit
from tests.factories import FACELESS, astronaut, encoded, matte, texture

SIDE = 160
SECRETS = ("zürich_anna__1", "o'hara-portrait", *(f"private-name-{i}" for i in range(6)))
# Of libraries that mlcroissant uses.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated", "ignore:The inplace keyword")
FORMS = [form.value for form in Form]
SPLITS = {"train": "train", "p3m_500_p": "P3M-500-P", "p3m_500_np": "P3M-500-NP"}


def soft(height: int, width: int) -> np.ndarray:
    """A matte of a disc with soft edges."""
    y, x = np.mgrid[:height, :width]
    return np.clip((height * 0.3 - np.hypot(y - height / 2, x - width / 2)) * 20 + 128, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> Path:
    """A run of two portraits, one of them JPEG, and six pictures without a face, one with a matte of 16 bit."""
    folder = tmp_path_factory.mktemp("hidden-sources")
    source, alphas = folder / "src", folder / "alphas"
    source.mkdir()
    alphas.mkdir()
    for i, name in enumerate(SECRETS):
        side = SIDE + (8 * i if i < 2 else i - 2)
        photo = astronaut(side) if i < 2 else texture(SIDE, side, seed=FACELESS[i - 2])
        alpha = matte(side) if i < 2 else soft(SIDE, side)
        suffix, kind = (".jpg", "JPEG") if i == 1 else (".png", "PNG")
        (source / f"{name}{suffix}").write_bytes(encoded(photo, kind))
        deep = alpha.astype(np.uint16) * 257 if i == 3 else alpha
        (alphas / f"{name}.png").write_bytes(encoded(deep, "PNG"))
    (source / "broken-secret.png").write_bytes(b"no picture")
    settings, execution = Settings(trust_no_face=True), Execution(workers=1)
    job = Job(source=source, out=folder / "run", alphas=alphas, settings=settings, execution=execution)
    assert anonymize_job(job).released == 8
    return folder / "run"


def build(run: Path, out: Path) -> Path:
    """A dataset of the run; which of its pictures are alike is not what is tested here."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("p3mdata.dataset.candidates.group_ids", lambda paths, workers, progress: range(len(paths)))
        build_split(run, out, SplitSettings(read_layout("p3m10k"), validation=2, free=2, verify=False), 1)
    return out


@pytest.fixture(scope="module")
def dataset(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(run, tmp_path_factory.mktemp("dataset") / "data")


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy of the run to damage."""
    shutil.copytree(run.parent, tmp_path / "copy")
    job = tmp_path / "copy" / "run" / "private" / "job.json"
    job.write_text(job.read_text().replace(str(run.parent), str(tmp_path / "copy")))
    # What was built from the original is not the copy's.
    (tmp_path / "copy" / "run" / "private" / "derived.jsonl").unlink(missing_ok=True)
    return tmp_path / "copy" / "run"


@pytest.fixture(scope="module")
def exports(dataset: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The dataset in each form."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("exports")
    return {to: export(dataset, folder / to, to, licence="cc-by-4.0", run=run).out for to in FORMS}


def contents(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256(p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def pixels(picture: Path | bytes | Image.Image) -> np.ndarray:
    """Pixels as they are stored."""
    if not isinstance(picture, Image.Image):
        picture = Image.open(io.BytesIO(picture if isinstance(picture, bytes) else picture.read_bytes()))
    return np.asarray(picture)


def same(picture: Any, file: Path) -> bool:
    return np.array_equal(pixels(picture), pixels(file))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its loader leaves files open
def test_webdataset_loads(exports: dict[str, Path], dataset: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    out = exports["webdataset"]
    index = json.loads((out / "index.json").read_text())
    for split in Release.open(dataset).splits:
        (shard,) = index["splits"][split.name]
        assert shard["sha256"] == sha256((out / shard["file"]).read_bytes())
        path = str(out / shard["file"])
        stored = list(webdataset.WebDataset(path, shardshuffle=False))
        decoded = list(webdataset.WebDataset(path, shardshuffle=False).decode("pil"))
        tuples = list(webdataset.WebDataset(path, shardshuffle=False).to_tuple("jpg;png", "alpha.png", "json"))
        assert [s["__key__"] for s in stored] == [e.id for e in split.entries] and len(tuples) == len(stored)
        for raw, sample, entry in zip(stored, decoded, split.entries, strict=True):
            for kind, file in entry.files.items():
                # Two of the pictures are JPEG files: one ending for all, so that no loader loses the others.
                key = "jpg" if kind == "image" else entry.name(kind).partition(".")[2]
                assert raw[key] == file.read()
            image = entry.files["image"]
            assert same(sample["jpg"], image.path)
            if pixels(entry.files["alpha"].path).dtype == np.uint8:
                assert np.array_equal(pixels(sample["alpha.png"])[:, :, 0], pixels(entry.files["alpha"].path))
            assert sample["json"]["id"] == entry.id and sample["json"]["proofs"]["exact"] is True


def test_shards_tell_nothing_about_the_machine(exports: dict[str, Path]) -> None:
    shards = sorted(exports["webdataset"].glob("*.tar"))
    assert len(shards) >= 2
    for path in shards:
        with tarfile.open(path) as tar:
            names = [member.name for member in tar]
            about = {(m.uid, m.gid, m.mtime, m.mode, m.uname, m.gname, m.type) for m in tar}
        assert about == {(0, 0, 0, 0o644, "", "", tarfile.REGTYPE)}
        assert [name.split(".")[0] for name in names] == sorted(name.split(".")[0] for name in names)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """`datasets.load_dataset` without network and with a cache of its own."""
    home = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
            monkeypatch.setenv(name, "1")
        monkeypatch.setenv("HF_HOME", str(home))
        datasets = pytest.importorskip("datasets")
        yield lambda folder, *args: datasets.load_dataset(str(folder), *args, cache_dir=str(home / "cache"))


@pytest.mark.parametrize("to", ["webdataset", "huggingface", "huggingface-parquet", "croissant"])
def test_the_card_says_how_to_read_mattes_of_any_depth(
    exports: dict[str, Path], dataset: Path, hub: Any, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of the card as it stands, run on every set: mattes of 8 and of 16 bits in 0 to 1."""
    pytest.importorskip("webdataset" if to == "webdataset" else "mlcroissant" if to == "croissant" else "datasets")
    monkeypatch.chdir(exports[to])
    card = (exports[to] / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("PATH OR NAME OF THIS DATASET", str(exports[to]))
    assert code.count("# 0 to 1;") == 1
    # Without a network.
    code = code.replace("from datasets import load_dataset\n", "")
    named = next(split for split in Release.open(dataset).splits if split.name in code)
    depths = set()
    for split in Release.open(dataset).splits:
        found: list[Any] = []
        exec(
            code.replace(named.name, split.name).replace("# 0 to 1;", "; found.append(alpha) #"),
            {"found": found, "load_dataset": hub},
        )
        assert len(found) == len(split.entries)
        for alpha, entry in zip(found, split.entries, strict=True):
            stored = decode(entry.files["alpha"].read()).pixels
            depths.add(stored.dtype.itemsize)
            assert np.allclose(alpha, stored / np.iinfo(stored.dtype).max, atol=1e-6)
    assert depths == {1, 2}


@pytest.mark.parametrize("to", ["huggingface", "huggingface-parquet", "croissant"])
def test_hugging_face_loads(exports: dict[str, Path], dataset: Path, hub: Any, to: str) -> None:
    loaded = hub(exports[to])
    assert set(loaded) == set(SPLITS)
    for split in Release.open(dataset).splits:
        rows = list(loaded[split.name])
        assert [row["id"] for row in rows] == [entry.id for entry in split.entries]
        for row, entry in zip(rows, split.entries, strict=True):
            for kind in ("image", "alpha") if to == "huggingface" else split.kinds:
                assert same(row[kind], entry.files[kind].path), kind
            scalars = entry.scalars()
            assert {name: row[name] for name in scalars} == scalars
    if to != "huggingface":
        # One table for all: what a set has not is null.
        assert loaded["train"][0]["trimap"] is None and loaded["p3m_500_np"][0]["facemask"] is None


def test_a_split_with_more_pictures_has_a_configuration_of_its_own(
    exports: dict[str, Path], dataset: Path, hub: Any
) -> None:
    for split in Release.open(dataset).splits:
        loaded = hub(exports["huggingface"], split.name)
        assert set(loaded) == {split.name}
        for row, entry in zip(loaded[split.name], split.entries, strict=True):
            assert {kind for kind in ("alpha", "trimap", "facemask") if kind in row} == set(entry.files) - {"image"}
            assert all(same(row[kind], file.path) for kind, file in entry.files.items())


@pytest.mark.parametrize("to", ["huggingface", "huggingface-parquet"])
def test_a_run_is_one_split_with_all_pictures(run: Path, hub: Any, tmp_path: Path, to: str) -> None:
    done = export(run, tmp_path / "out", to)
    assert done.splits == {"train": 8} and not done.licensed
    (split,) = Release.open(run).splits
    for row, entry in zip(hub(done.out)["train"], split.entries, strict=True):
        assert all(same(row[kind], file.path) for kind, file in entry.files.items()) and "facemask" in row


def test_croissant_is_valid_and_loads(exports: dict[str, Path], dataset: Path, run: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    out = exports["croissant"]
    loaded = croissant.Dataset(str(out / "croissant.json"))
    issues = loaded.metadata.ctx.issues
    assert not issues.errors
    # What only a publisher can state.
    assert {re.findall('/(\\w+)"', warning)[0] for warning in issues.warnings} == {"citeAs", "datePublished"}
    document = json.loads((out / "croissant.json").read_text())
    assert document["conformsTo"] == [
        "http://mlcommons.org/croissant/1.1",
        "http://mlcommons.org/croissant/RAI/1.0",
    ]
    for part in document["distribution"]:
        if part["@type"] == "cr:FileObject":
            data = (out / part["contentUrl"]).read_bytes()
            assert part["sha256"] == sha256(data) and part["contentSize"] == f"{len(data)} B"
    for split in Release.open(dataset).splits:
        records = list(loaded.records(split.name))
        assert [record[f"{split.name}/id"].decode() for record in records] == [entry.id for entry in split.entries]
        for record, entry in zip(records, split.entries, strict=True):
            assert all(same(record[f"{split.name}/{kind}"], file.path) for kind, file in entry.files.items())
            assert record[f"{split.name}/width"] == entry.row.width
            assert record[f"{split.name}/masked_share"] == pytest.approx(entry.row.masked_share)


def test_the_responsible_ai_fields_hold_the_figures_of_the_run(exports: dict[str, Path], run: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    metadata = croissant.Dataset(str(exports["croissant"] / "croissant.json")).metadata
    assert "9 source files; not released: 1" in metadata.data_collection_missing_data
    assert "standard deviation of 25%" in metadata.data_preprocessing_protocol[0]
    assert any("8 images: every pixel outside" in text for text in metadata.data_preprocessing_protocol)
    assert any("pose: back 75.0%, frontal 25.0%" in text for text in metadata.data_biases)
    for field in (
        "data_collection", "data_collection_raw_data", "data_annotation_protocol", "machine_annotation_tools",
        "personal_sensitive_information", "data_limitations", "data_use_cases", "data_social_impact",
        "data_release_maintenance_plan",
    ):  # fmt: skip
        assert getattr(metadata, field), field


def test_p3m10k_is_the_dataset_without_our_files(exports: dict[str, Path], dataset: Path) -> None:
    ours = {"dataset.json", MANIFEST}
    about = {"README.md", "release-record.md", "release-record.json"}
    assert {p: d for p, d in contents(exports["p3m10k"]).items() if p not in about} == {
        path: digest for path, digest in contents(dataset).items() if path not in ours
    }
    loaded = open_dataset(exports["p3m10k"])
    assert loaded.layout.name == "p3m10k" and set(loaded.sets()) == set(SPLITS.values())
    assert {len(loaded.items(name)) for name in ("P3M-500-P", "P3M-500-NP")} == {2}


def test_a_run_has_no_folders_of_p3m10k(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="build-split"):
        export(run, tmp_path / "out", "p3m10k")
    assert not (tmp_path / "out").exists()


def texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of all files, and of the pictures and words inside Parquet files."""
    from pyarrow import parquet

    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)), path.read_bytes() if path.is_file() else b""
        if path.suffix == ".parquet":
            table = parquet.read_table(path)
            yield path.name, repr(table.schema).encode() + repr(table.schema.metadata).encode()
            for row in table.to_pylist():
                for value in row.values():
                    inner = value if isinstance(value, dict) else {"bytes": repr(value).encode(), "path": ""}
                    yield inner["path"], inner["bytes"]


@pytest.mark.parametrize("to", FORMS)
def test_nothing_of_the_sources_is_in_an_export(exports: dict[str, Path], run: Path, dataset: Path, to: str) -> None:
    rows = list(read_rows(run / LEDGER))
    private = list(read_rows(run / "private" / "sources.jsonl"))
    words = [
        *SECRETS,
        "broken-secret",
        "hidden-sources",
        str(run),
        str(dataset),
        tempfile.gettempdir() + "/",
        '"source":"',
    ]
    words += [row["sha256"] for row in private] + [row["alpha"][1] for row in private if "alpha" in row]
    words += [row["inputs"] for row in rows] + ['"landmarks"', '"box"']
    host = os.uname().nodename.encode()
    meshes = [face["landmarks"] for row in rows for face in row.get("faces", ()) if face["landmarks"]]
    assert meshes
    words += [dumps(mesh)[1:40] for mesh in meshes]
    sought = [word.encode() for word in words if word]
    for name, content in texts(exports[to]):
        assert not [word for word in sought if word in content or word in name.encode()], name
        # As a word of its own: two letters are in any compressed picture by chance, and in words of other meaning.
        readable = content.isascii() or len(host) > 5
        assert not (readable and re.search(rb"(?<![\w-])" + re.escape(host) + rb"(?![\w-])", content)), name


@pytest.mark.parametrize("to", FORMS)
def test_the_same_bytes_again_and_after_an_interruption(
    exports: dict[str, Path], dataset: Path, run: Path, tmp_path: Path, to: str
) -> None:
    wanted = contents(exports[to])
    done = 0

    def stop(total: int) -> Callable[[], None]:
        def step() -> None:
            nonlocal done
            done += 1
            if done == total // 2 + 1:
                raise KeyboardInterrupt

        return step

    wishes: dict[str, Any] = {"licence": "cc-by-4.0", "run": run}
    with pytest.raises(KeyboardInterrupt):
        export(dataset, tmp_path / "out", to, progress=stop, **wishes)
    assert (tmp_path / "out" / EXPORTING).is_file() and not (tmp_path / "out" / "README.md").exists()
    (tmp_path / "out" / ".train-00000.tar.77.tmp").write_bytes(b"torn")
    for _ in range(2):
        export(dataset, tmp_path / "out", to, **wishes)
        assert contents(tmp_path / "out") == wanted


@pytest.mark.parametrize("to", FORMS)
def test_a_full_disk_leaves_a_marked_half_that_the_same_call_completes(
    exports: dict[str, Path], dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    out, synced = tmp_path / "out", os.fsync
    left = 3

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(descriptor)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        with pytest.raises(RunFolderError, match="No space left on device.*run the same command again"):
            export(dataset, out, to, licence="cc-by-4.0", run=run)
    assert (out / EXPORTING).is_file() and not list(out.rglob("*.tmp"))
    export(dataset, out, to, licence="cc-by-4.0", run=run)
    assert contents(out) == contents(exports[to])


def test_another_file_system(exports: dict[str, Path], dataset: Path, run: Path, tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other file system to write to")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        out = export(dataset, Path(folder), "huggingface", licence="cc-by-4.0", run=run).out
        assert contents(out) == contents(exports["huggingface"])


@pytest.mark.parametrize("to", [form for form in FORMS if form != "p3m10k"])
def test_a_changed_released_file_is_refused(own_run: Path, tmp_path: Path, to: str) -> None:
    row = next(iter(read_rows(own_run / MANIFEST)))
    path = own_run / row["alpha"]["path"]
    cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    with pytest.raises(RunFolderError, match=f"{path.name}: is not the file that was released"):
        export(own_run, tmp_path / "out", to)
    path.unlink()
    with pytest.raises(RunFolderError, match=f"{path.name}: cannot be read"):
        export(own_run, tmp_path / "out", to)
    assert (tmp_path / "out" / EXPORTING).is_file() or not (tmp_path / "out").exists()


def test_foreign_folders_are_refused(run: Path, dataset: Path, exports: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my own")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for out, words in (
        (tmp_path / "mine", "not empty"),
        (tmp_path / "file", "is a file"),
        (dataset, "inside each other"),
        (run / "export", "inside each other"),
        (run.parent, "inside each other"),
        (exports["huggingface"], "holds a huggingface export"),
    ):
        with pytest.raises((RunFolderError, SettingsError), match=words):
            export(run if out != dataset else dataset, out, "webdataset")
    assert contents(tmp_path / "mine") == {"README.md": sha256(b"my own")}
    # A shard, its index, the card, and the record twice.
    assert export(run, tmp_path / "empty", "webdataset").files == 5


def test_files_of_others_in_an_export_stay(run: Path, tmp_path: Path) -> None:
    out = export(run, tmp_path / "out", "webdataset", most_images=2).out
    kept = ["LICENSE", ".git/config", "docs/README.md", "docs/index.json"]
    for name in kept:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    assert len(list(out.glob("*.tar"))) == 4
    export(run, out, "webdataset", most_images=5)
    assert len(list(out.glob("*.tar"))) == 2
    assert all((out / name).read_text() == "mine" for name in kept)


def test_shards_are_cut_by_number_and_size(run: Path, tmp_path: Path) -> None:
    (split,) = Release.open(run).splits
    sizes = [entry.size() for entry in split.entries]
    assert [len(cut) for cut in shards(split.entries, 3, 1 << 40)] == [3, 3, 2]
    assert [len(cut) for cut in shards(split.entries, 100, 1)] == [1] * 8
    for cut in shards(split.entries, 100, 2 * max(sizes)):
        assert sum(entry.size() for entry in cut) <= 2 * max(sizes)
    out = export(run, tmp_path / "parquet", "huggingface-parquet", most_images=3).out
    names = [f"train-{i:05d}-of-00003.parquet" for i in range(3)]
    assert sorted(path.name for path in (out / "data").iterdir()) == names
    with pytest.raises(SettingsError, match="room for one image"):
        export(run, tmp_path / "none", "webdataset", most_images=0)


def test_names_of_splits() -> None:
    assert split_names(["train", "P3M-500-P", "P3M-500-NP"]) == ["train", "p3m_500_p", "p3m_500_np"]
    assert split_names(["Prüfung", "验证", "all", "A-1", "a 1", "a_1_5"]) == [
        "prufung", "split_2", "split_3", "a_1", "a_1_5", "a_1_5_6",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("licence", "header"),
    [
        (None, {"license": "other", "license_name": "unset"}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("P3M agreement", {"license": "other", "license_name": "p3m-agreement"}),
        (
            "https://example.org/l",
            {"license": "other", "license_name": "custom", "license_link": "https://example.org/l"},
        ),
    ],
)
def test_the_licence_is_the_publishers(run: Path, licence: str | None, header: dict[str, str]) -> None:
    release = Release.open(run)
    text = card(release, describe(release, licence, "Größe: 1\n# x", None), "", ())
    _, top, body = text.split("---\n", 2)
    read = yaml.safe_load(top)
    assert {key: value for key, value in read.items() if key.startswith("license")} == header
    assert body.lstrip().startswith("> **The licence of this dataset is not set.**") == (licence is None)
    assert read["pretty_name"] == "Größe: 1 # x" and "\n# x" not in body
    with pytest.raises(SettingsError, match="--license is empty"):
        describe(release, " \n", None, None)


def test_the_card_holds_the_figures(exports: dict[str, Path], dataset: Path, tmp_path: Path) -> None:
    text = (exports["p3m10k"] / "README.md").read_text()
    for words in (
        "Gaussian blur with a standard deviation of 25%",
        "| `no_face_confirmed` | nothing to hide, by a person's word or a rule | 6 |",
        "| `broken` | held back: the file cannot be used | 1 |",
        "| p3m_500_np | P3M-500-NP | 2 | 0 | as photographed, nothing private | image, alpha, trimap |",
        "8 images: every pixel outside the facemask and in the transition area equals the source",
        "How many faces were missed was not measured",
        "This is version 1;",
        "released without a person's look",
    ):
        assert words in text, words
    for title in ("Collection", "Anonymization", "Proofs", "Recall", "Audit", "Known limits", "Licence"):
        assert f"\n## {title}\n" in text
    # A dataset that does not know its run's counts makes none up.
    shutil.copytree(dataset, tmp_path / "data")
    about = json.loads((dataset / "dataset.json").read_text())
    known = {key: value for key, value in about.items() if key not in ("outcomes", "reasons")}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(known))
    plain = Release.open(tmp_path / "data")
    alone = card(plain, describe(plain, None, None, None), "", ())
    assert "How many source files were held back is not stated" in alone and "`broken`" not in alone


def test_the_words_of_the_publisher(run: Path, tmp_path: Path) -> None:
    (tmp_path / "about.md").write_text("Taken in our studio; everybody signed.\n", encoding="utf-8")
    out = export(run, tmp_path / "out", "webdataset", about=tmp_path / "about.md", name="Studio").out
    text = (out / "README.md").read_text()
    assert "# Studio\n" in text and "## Collection\n\nTaken in our studio" in text
    with pytest.raises(SettingsError, match="cannot be read"):
        export(run, tmp_path / "other", "webdataset", about=tmp_path / "missing.md")


def test_figures_of_audit_and_sample(own_run: Path) -> None:
    write_json(own_run / AUDIT, some_audit(sha256((own_run / MANIFEST).read_bytes())).to_json())
    ids = [row["id"] for row in read_rows(own_run / MANIFEST)]
    write_rows(own_run / SAMPLE, ({"id": name} for name in ids))
    release = Release.open(own_run)
    text = card(release, describe(release, None, None, None), "", ())
    assert "40 released photographs of 20 people" in text and "25.0% (10 to 40)" in text
    # Nobody has looked yet.
    assert "was not measured: nobody has looked" in text
    with reviewing(own_run) as session:
        faces = {row["id"]: row["faces"] for row in read_rows(own_run / MANIFEST)}
        for name in ids[:2]:
            session.decide(name, Action.ACCEPT if faces[name] else Action.NO_FACE)
    release = Release.open(own_run)
    assert release.facts().sample == LookedAt(images=8, looked_at=2, misses=0)
    text = card(release, describe(release, None, None, None), "", ())
    assert "looked at 2 of 8 released images" in text and "at most 77.6%" in text
    # The audit was of other files.
    assert release.facts().audit is None and "was not measured for this version" in text


@pytest.mark.parametrize("to", FORMS)
def test_a_take_down_reaches_exports(own_run: Path, tmp_path: Path, to: str) -> None:
    data = build(own_run, tmp_path / "data")
    out = export(data, tmp_path / "out", to, run=own_run).out
    source = next(row["source"] for row in read_rows(own_run / LEDGER) if row["source"].startswith("private-name-1"))
    identity = next(row["id"] for row in read_rows(own_run / LEDGER) if row["source"] == source)
    assert any(identity.encode() in path.read_bytes() or identity in path.name for path in out.rglob("*.*"))
    assert remove_images(own_run, [source]).rebuild == (str(out),)
    done = export(data, out, to, run=own_run)
    assert done.version == 2 and sum(done.splits.values()) == 7
    assert not [p for p in out.rglob("*.*") if identity in p.name or identity.encode() in p.read_bytes()]


def test_what_is_not_finished_is_refused(own_run: Path, tmp_path: Path) -> None:
    data = build(own_run, tmp_path / "data")
    (data / "building.json").write_text("{}")
    with pytest.raises(RunFolderError, match="half built"):
        export(data, tmp_path / "out", "webdataset")
    (data / "building.json").unlink()
    (data / MANIFEST).write_text('{"set": "train"}\n')
    with pytest.raises(RunFolderError, match="damaged"):
        export(data, tmp_path / "out", "webdataset")
    (data / MANIFEST).write_text("")
    with pytest.raises(SettingsError, match="all sets are empty"):
        export(data, tmp_path / "out", "webdataset")
    (own_run / LEDGER).unlink()
    with pytest.raises(RunFolderError, match="not finished"):
        export(own_run, tmp_path / "out", "webdataset")
    with pytest.raises(SettingsError, match="neither a run nor a dataset"):
        export(tmp_path, tmp_path / "out", "webdataset")
    with pytest.raises(SettingsError, match="Use one of p3m10k"):
        export(own_run, tmp_path / "out", "zip")
    assert not (tmp_path / "out").exists()


def test_a_manifest_cannot_point_outside(own_run: Path, tmp_path: Path) -> None:
    data = build(own_run, tmp_path / "data")
    rows = list(read_rows(data / MANIFEST))
    for change in ({"image": {**rows[0]["image"], "path": "../../secret.png"}}, {"id": "../x"}):
        write_rows(data / MANIFEST, [{**rows[0], **change}, *rows[1:]])
        with pytest.raises(RunFolderError, match="damaged"):
            Release.open(data)


def test_a_set_that_became_empty_is_left_out(own_run: Path, tmp_path: Path) -> None:
    data = build(own_run, tmp_path / "data")
    rows = [row for row in read_rows(data / MANIFEST) if row["set"] != "P3M-500-P"]
    write_rows(data / MANIFEST, rows)
    done = export(data, tmp_path / "out", "webdataset")
    assert set(done.splits) == {"train", "p3m_500_np"}
    assert "| p3m_500_p | P3M-500-P | 0 | 0 |" in (done.out / "README.md").read_text()


def test_the_run_must_be_the_datasets(dataset: Path, own_run: Path) -> None:
    assert Release.open(dataset, own_run).facts().outcomes is not None
    with pytest.raises(SettingsError, match="is for datasets"):
        Release.open(own_run, dataset)
    with reviewing(own_run) as session:
        session.decide(next(iter(read_rows(own_run / MANIFEST)))["id"], Action.EXCLUDE)
    with pytest.raises(SettingsError, match="did not release image"):
        Release.open(dataset, own_run)


def test_pyarrow_is_asked_for_only_where_it_is_needed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = "import sys, p3mdata.export; sys.exit('pyarrow' in sys.modules or 'datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=Path(__file__).parents[1], check=False).returncode == 0
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for to in ("huggingface-parquet", "croissant"):
        with pytest.raises(SetupError, match="needs? pyarrow: run pip install"):
            export(run, tmp_path / "out", to)
    assert not (tmp_path / "out").exists()
    assert export(run, tmp_path / "out", "huggingface").files > 8


def test_a_marker_of_another_tool_is_foreign(run: Path, tmp_path: Path) -> None:
    for content in ("{}", "[]", "not json", '{"tool": "other", "to": "webdataset"}'):
        (tmp_path / EXPORTING).write_text(content)
        with (
            pytest.raises(RunFolderError, match="no export of p3mdata"),
            Target.begin(tmp_path, "webdataset", run),
        ):
            pytest.fail("was begun")
