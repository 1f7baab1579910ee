"""Valid files, ways to break them, and what must hold for whatever comes of it.

A target is a reader with files that it takes. `Target.check` is given the bytes of a broken one and returns quietly if
the reader kept its promise: a result of the promised form, or the promised error with one sentence. Anything else that
is raised is a finding. Used by `tests.test_fuzz` for a few cases and by `python -m tests.fuzz` for many.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from p3mdata.anonymize.inputs import Inputs, load
from p3mdata.base.jsonl import dumps
from p3mdata.base.parsing import read_yaml
from p3mdata.base.resources import manifests_dir, pipelines_dir
from p3mdata.cli.recipes import read_recipe
from p3mdata.config import Job, Settings, resolve
from p3mdata.dataset.about import ABOUT
from p3mdata.dataset.folder import LISTING, open_dataset
from p3mdata.dataset.layout import layouts, read_layout
from p3mdata.errors import BrokenInput, P3MError
from p3mdata.imaging import decode, decode_matte
from p3mdata.imaging.decode import HEIF
from p3mdata.imaging.jpeg import JpegBlocks, UnsupportedJpeg
from p3mdata.imaging.metadata import leftovers, needed_icc, walk, with_icc
from p3mdata.imaging.metadata.profile import private_parts
from p3mdata.records import Action, Decision, Face, ImageResult, Outcome, Proofs
from p3mdata.review import batch, removal
from p3mdata.run import decisions, identities
from p3mdata.run.layout import JOB, PLAN, SOURCES, TOMBSTONES
from p3mdata.run.plan import make_plan, read_plan
from p3mdata.run.rows import read_results
from tests.factories import encoded, texture

MAX_PIXELS = 1 << 18
# A key or value that no reader asked for.
_ODDITIES = (
    b"null", b"-1", b"0", b"1e999", b"NaN", b'""', b"[]", b"{}", b"true", b"18446744073709551616", b"9" * 5000,
    b'"\\ud800"', b"'", b"\xff\xfe", b"\0", b"[" * 3000, b'{"a":' * 3000, b"&a [*a]", b"!!python/object:os.system",
    b"2026-13-45", b"${x}", b"$", b"../../etc", b"\n", b",", b":", b"- ", b"\t", b'"images"', b"[[[]]]",
)  # fmt: skip
_INTEGERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(frozen=True)
class Target:
    """A reader under test; `text` says which ways of breaking suit its files. `check` may give why it refused one."""

    seeds: Callable[[], list[bytes]]
    check: Callable[[bytes], str | None]
    text: bool = False


# --- ways to break a file


def _spans(data: bytes) -> list[tuple[int, int]]:
    """Parts of an image file, as far as its walker knows them."""
    try:
        return [(part.offset, part.offset + part.length) for part in walk(data)]
    except ValueError:
        return []


def _with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have right checksums again, so that what is inside them is read."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        length = int.from_bytes(out[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[at + 4 : end]))
        at = end + 4
    return bytes(out)


def _place(draw: random.Random, data: bytes) -> int:
    """A position; headers at the beginning are as likely as all the rest."""
    return draw.randrange(min(len(data), draw.choice((64, 700, len(data)))) or 1)


def _binary(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """One change of an image file."""
    out, at = bytearray(data), _place(draw, data)
    kind = draw.randrange(9)
    if kind == 0:
        for _ in range(draw.randint(1, 8)):
            place = _place(draw, data)
            out[place : place + 1] = bytes([out[place] ^ 1 << draw.randrange(8)]) if out else b"\0"
    elif kind == 1:
        del out[at:]
    elif kind == 2:
        width, order = draw.choice((1, 2, 4)), draw.choice(("big", "little"))
        value = draw.choice(_INTEGERS) & (1 << 8 * width) - 1
        out[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]
    elif kind == 3:
        cut = _place(draw, other)
        out[at:] = other[cut:]
    elif kind == 4:
        del out[at : at + draw.randint(1, 64)]
    elif kind == 5:
        out[at:at] = out[at : at + draw.choice((1, 16, 600))] * draw.choice((1, 1, 40))
    elif kind == 6:
        out[at : at + 40] = bytes([draw.choice((0, 0xFF, draw.randrange(256)))]) * 40
    else:
        spans = _spans(data)
        if len(spans) > 2:
            pieces = [data[first:last] for first, last in spans]
            one, two = draw.randrange(len(pieces)), draw.randrange(len(pieces))
            if kind == 7:
                pieces[one], pieces[two] = pieces[two], pieces[one]
            elif draw.randrange(2):
                pieces.insert(one, pieces[two])
            else:
                del pieces[one]
            out = bytearray(b"".join(pieces))
    return bytes(out)


def _textual(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """One change of a file of JSON, JSON lines, YAML or CSV."""
    kind = draw.randrange(8)
    if kind < 3:
        # Between two of the marks that values lie between.
        marks = [at for at, byte in enumerate(data) if byte in b'":,[]{}\n'] or [0]
        first, last = sorted((draw.choice(marks), draw.choice(marks)))
        last = last if kind == 0 else min([at for at in marks if at > first], default=first)
        return data[: first + 1] + draw.choice(_ODDITIES) + data[last:]
    if kind == 3:
        lines = data.split(b"\n")
        one, two = draw.randrange(len(lines)), draw.randrange(len(lines))
        lines[one], lines[two] = lines[two], draw.choice((lines[one], b"", lines[two]))
        return b"\n".join(lines)
    return _binary(draw, data, other)


def broken(draw: random.Random, target: Target) -> bytes:
    """A seed of a target with some changes."""
    seeds = target.seeds()
    data = draw.choice(seeds)
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = (_textual if target.text else _binary)(draw, data, draw.choice(seeds))
    return data if target.text or draw.randrange(3) else _with_checksums(data)


# --- images


def _saved(array: Any, form: str, **options: Any) -> bytes:
    return encoded(array, form, **options)


@functools.cache
def image_seeds() -> list[bytes]:
    """Every format and many kinds of pixels, all small."""
    rgb, grey = texture(40, 56), texture(40, 56, channels=1)
    rgba = np.dstack([rgb, grey])
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "words"
    note = PngImagePlugin.PngInfo()
    note.add_text("note", "words", zip=True)
    palette = io.BytesIO()
    Image.fromarray(rgb).quantize(16).save(palette, "PNG", transparency=3)
    seeds = [
        *(_saved(rgb, "JPEG", subsampling=s, progressive=p) for s in (0, 2) for p in (False, True)),
        _saved(rgb, "JPEG", exif=exif, icc_profile=icc, comment=b"words"),
        _saved(rgb, "JPEG", restart_marker_rows=1),
        _saved(grey, "JPEG"),
        _saved(np.dstack([rgb, grey]).copy(), "TIFF"),
        *(_saved(x, "PNG") for x in (rgb, grey, rgba, np.dstack([grey, grey]), grey.astype(np.uint16) * 257)),
        _saved(rgb, "PNG", icc_profile=icc, exif=exif, pnginfo=note),
        palette.getvalue(),
        *(_saved(x, "WEBP", lossless=lossless) for x in (rgb, rgba) for lossless in (True, False)),
        _saved(rgb, "WEBP", icc_profile=icc, exif=exif),
        *(_saved(rgb, "TIFF", compression=c) for c in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        _saved(grey.astype(np.uint16) * 257, "TIFF"),
        *(_saved(x, form) for x in (rgb, grey) for form in ("BMP", "GIF", "PPM", "JPEG2000")),
        _saved(rgb, "AVIF"),
    ]
    cmyk = io.BytesIO()
    Image.fromarray(rgb).convert("CMYK").save(cmyk, "JPEG")
    seeds.append(cmyk.getvalue())
    if HEIF:
        seeds += [_saved(rgb, "HEIF"), _saved(rgba, "HEIF")]
    return seeds


def _one_sentence(sentence: str) -> None:
    assert sentence and "\n" not in sentence, repr(sentence)


def check_decode(data: bytes) -> None:
    """A picture within the limit, or BrokenInput."""
    try:
        picture = decode(data, MAX_PIXELS)
    except BrokenInput as error:
        _one_sentence(error.sentence)
        return
    height, width = picture.size
    assert 0 < height * width <= MAX_PIXELS
    assert picture.pixels.dtype in (np.uint8, np.uint16)
    assert picture.opacity is None or picture.opacity.shape == (height, width)
    assert picture.rgb8().shape == (height, width, 3)


def check_matte(data: bytes) -> None:
    """A matte of the photograph's size, or BrokenInput; as alpha, trimap and hand-drawn mask of `load`."""
    photo = image_seeds()[0]
    for kind in ("alpha", "trimap", "mask"):
        try:
            loaded = load(Inputs(photo, **{kind: data}), Settings(max_pixels=MAX_PIXELS))
        except BrokenInput as error:
            _one_sentence(error.sentence)
            continue
        plane = loaded.hand if kind == "mask" else getattr(loaded, kind)
        assert plane.shape == loaded.picture.size
    with contextlib.suppress(BrokenInput):
        decode_matte(data, loaded_photo(), "alpha", MAX_PIXELS)


@functools.cache
def loaded_photo() -> Any:
    """A photograph that is turned."""
    return decode(image_seeds()[4])


def check_jpeg(data: bytes) -> None:
    """Blocks that can be turned and written again, or UnsupportedJpeg."""
    try:
        blocks = JpegBlocks.read(data)
        turned = blocks.turned(6)
    except UnsupportedJpeg as error:
        _one_sentence(str(error))
        return
    assert (turned.height, turned.width) == (blocks.width, blocks.height)


def check_walk(data: bytes) -> None:
    """Parts inside the file, or ValueError; the same for putting a profile in."""
    try:
        parts = walk(data)
        leftovers(data)
    except ValueError as error:
        _one_sentence(str(error))
    else:
        assert all(part.offset >= 0 and part.offset + part.length <= len(data) for part in parts)
    with contextlib.suppress(ValueError):
        with_icc(data, b"profile" * 9)


def check_icc(data: bytes) -> None:
    """A clean profile, None or one sentence, whatever it is."""
    for channels in (1, 3, 4):
        with contextlib.suppress(BrokenInput):
            found = needed_icc(data, channels)
            assert found is None or private_parts(found) == []


def check_planes(data: bytes) -> None:
    """What training reads: an array, or BadFile."""
    from p3mnet.image_files import BadFile, read_colours, read_grey

    path = _folder() / "picture"
    path.write_bytes(data)
    for read, ndim in ((read_colours, 3), (read_grey, 2)):
        try:
            pixels = read(path)
        except BadFile as error:
            _one_sentence(str(error))
            continue
        assert pixels.ndim == ndim and pixels.dtype == np.uint8


# --- text


@functools.cache
def _kept_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _folder() -> Path:
    return Path(_kept_folder().name)


@functools.cache
def run_files() -> dict[str, bytes]:
    """The text files of a run of two photographs, as far as it comes without looking for faces."""
    root = Path(tempfile.mkdtemp(dir=_folder()))
    for number in range(2):
        path = root / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_saved(texture(24, 32, number), "PNG"))
    out = root / "run"
    _, samples = make_plan(Job(source=root / "photos", out=out))
    decisions.append(out, samples[0].id, Decision(Action.NO_FACE, None, False, True, "2026-01-01T00:00:00Z", "ann"))
    decisions.append(out, samples[1].id, Decision(Action.MASK, ("m.png", "0" * 64), True, False, "2026-01-01", None))
    face = Face((1.0, 2.0, 9.0, 12.0), 0.9, ("centerface",), (1.0,) * 10, None, "landmark model sees no face")
    proofs = Proofs(0, 0, 1.0, 0, True, (), 0, 0)
    rows = [
        ImageResult(samples[0].id, samples[0].source, Outcome.BROKEN, "cannot_decode", "cannot be decoded."),
        ImageResult(
            samples[1].id, samples[1].source, Outcome.ANONYMIZED, "redetected", "a face", 32, 24, "blur 0.2", "png", 1,
            0.25, 0, (face,), proofs, {"images": ("a.png", "0" * 64)}, "1" * 64, Decision(Action.NO_FACE, None),
        ),
    ]  # fmt: skip
    results = "".join(dumps(row.to_json()) + "\n" for row in rows).encode()
    tombstones = "".join(dumps({"id": f"p_{n}", "date": "2026-01-01", "version": n + 2}) + "\n" for n in range(2))
    named = {name: (out / name).read_bytes() for name in (PLAN, JOB, SOURCES, decisions.LOG)}
    return {**named, "results.jsonl": results, TOMBSTONES: tombstones.encode()}


def _file_target(name: str, read: Callable[[Path], object], also: Callable[[], dict[str, bytes]] = dict) -> Target:
    """A file of a run folder that is read by `read(folder)`, beside the other files, which are whole."""

    def check(data: bytes) -> str | None:
        folder = _folder() / "read"
        for other, content in {**also(), name: data}.items():
            path = folder / other
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return _reads(lambda: read(folder))

    return Target(lambda: [also()[name]], check, text=True)


def _reads(read: Callable[[], object]) -> str | None:
    """The reader comes to an end, or says in one sentence why not: that is what it gives."""
    try:
        found = read()
        if isinstance(found, Iterator):
            list(found)
    except P3MError as error:
        _one_sentence(str(error))
        return str(error)
    return None


def _text_target(seeds: Callable[[], list[bytes]], suffix: str, read: Callable[[Path], object]) -> Target:
    def check(data: bytes) -> str | None:
        path = _folder() / f"file{suffix}"
        path.write_bytes(data)
        return _reads(lambda: read(path))

    return Target(seeds, check, text=True)


def _recipe_seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted(pipelines_dir().glob("*.yaml"))]


def _recipe(path: Path) -> object:
    from p3mdata.cli.tools import _STAGES

    return read_recipe(path, {}, _STAGES)


def _layout_seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted((manifests_dir() / "layouts").glob("*.yaml"))]


def _config_seeds() -> list[bytes]:
    laughs = b"method: &a0 [x, x, x, x]\n" + b"".join(
        b"k%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30)
    )
    return [
        laughs,
        b"method: blur\nstrength: 0.3\nformat: png\nseed: 7\nmax_pixels: 1000\n",
        b"preset: p3m\nlimit: 3\n",
    ]


def _identity_seeds() -> list[bytes]:
    return [b'source,identity\na.jpg,ann\n"b, c.jpg",bob\n']


def _dataset_files() -> dict[str, bytes]:
    layout = next(iter(layouts())).model_dump(mode="json")
    about = {"layout": layout, "training": next(iter(layout["sets"])), "obfuscated": "blurred_image"}
    about |= {"tool": "p3mdata", "version": 1, "sets": {}}
    rows = "".join(dumps({"id": f"p_{n}", "set": about["training"], "files": {}}) + "\n" for n in range(2))
    return {ABOUT: json.dumps(about).encode(), LISTING: rows.encode()}


def _dataset(folder: Path) -> object:
    dataset = open_dataset(folder)
    return iter(dataset.rows())


def _versions(folder: Path) -> object:
    return removal.dataset_version(folder)


def _apply_seeds() -> list[bytes]:
    rows = [
        {"source": "0.png", "action": "no_face", "reviewer": "ann"},
        {"source": "1.png", "action": "mask", "mask": "1.png", "keep_transition": True, "confirmed": False},
    ]
    return ["".join(dumps(row) + "\n" for row in rows).encode()]


def _apply(path: Path) -> object:
    """Checks the lines, as `p3mdata review --apply` does before it does anything."""
    run = path.parent / "reviewed"
    if not run.exists():
        drawn = np.zeros((24, 32), np.uint8)
        drawn[4:12, 4:12] = 255
        run.mkdir()
        (run / "1.png").write_bytes(_saved(drawn, "PNG"))
        for name, content in run_files().items():
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(content)
    return batch._checked(*read_plan(run), path, run, None)


def _training_seeds() -> list[bytes]:
    from p3mnet.training.config import RECIPES

    return [path.read_bytes() + b"dataset: data\n" for path in sorted(RECIPES.glob("*.yaml"))]


def _training_config(path: Path) -> object:
    from p3mnet.training import read_config

    return read_config(path)


def _checkpoint_seeds() -> list[bytes]:
    return list(_checkpoints())


@functools.cache
def _checkpoints() -> tuple[bytes, ...]:
    """A checkpoint of one weight, and the same weight as safetensors: both lack weights, which shows at the end."""
    import torch

    sink = io.BytesIO()
    weight = torch.zeros(4, 3)
    config = {"name": "smoke_resnet34", "pool_kernel": 3}
    torch.save(
        {"format": "p3mnet-checkpoint", "version": 1, "config": config, "state_dict": {"a": weight}, "extra": {}}, sink
    )
    header = json.dumps({"a": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}}).encode()
    return sink.getvalue(), len(header).to_bytes(8, "little") + header + weight.numpy().tobytes()


def check_checkpoint(data: bytes) -> str | None:
    """Weights, or SetupError; nothing in the file is run."""
    from p3mnet.checkpoint import load_checkpoint
    from p3mnet.weights_files import state_dict_of

    said = []
    for suffix, read in ((".pt", load_checkpoint), (".safetensors", state_dict_of)):
        path = _folder() / f"weights{suffix}"
        path.write_bytes(data)
        said.append(_reads(lambda read=read, path=path: read(path)))  # type: ignore[misc]
    return said[0]


def profile_seeds() -> list[bytes]:
    """ICC profiles."""
    return [ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes() for kind in ("sRGB", "LAB", "XYZ")]


def _plan_target(name: str) -> Target:
    return _file_target(name, read_plan, run_files)


TARGETS: dict[str, Target] = {
    "decode": Target(image_seeds, check_decode),
    "matte": Target(lambda: image_seeds()[7:22], check_matte),
    "jpeg": Target(lambda: image_seeds()[:7], check_jpeg),
    "walk": Target(lambda: image_seeds()[:25], check_walk),
    "icc": Target(profile_seeds, check_icc),
    "training picture": Target(lambda: image_seeds()[:25], check_planes),
    "plan": _plan_target(PLAN),
    "job": _plan_target(JOB),
    "sources": _plan_target(SOURCES),
    "decisions": _plan_target(decisions.LOG),
    "results": _file_target("results.jsonl", read_results, run_files),
    "tombstones": _file_target(TOMBSTONES, _versions, run_files),
    "dataset": _file_target(ABOUT, _dataset, _dataset_files),
    "dataset listing": _file_target(LISTING, _dataset, _dataset_files),
    "recipe": _text_target(_recipe_seeds, ".yaml", _recipe),
    "layout": _text_target(_layout_seeds, ".yaml", lambda path: read_layout(str(path))),
    "config": _text_target(_config_seeds, ".yaml", lambda path: resolve({}, read_yaml(path), {})),
    "decisions to apply": _text_target(_apply_seeds, ".jsonl", _apply),
    "identities": _text_target(_identity_seeds, ".csv", identities.read_csv),
    "training config": _text_target(_training_seeds, ".yaml", _training_config),
    "checkpoint": Target(_checkpoint_seeds, check_checkpoint),
}
