"""Networks of others as ONNX files, so that any of them can take part: `OnnxFile(path, OnnxOptions(norm="half"))`.

| inputs | what they get |
|---|---|
| one with 3 channels | the picture (trimap-free) |
| one with 4 | picture and trimap |
| one with 6 | picture and trimap as three planes: background, unknown, foreground |
| two, with 3 and with 1 or 3 | the picture; the trimap in one or three planes |
| a third, with 6 | how near known places are (FBA's, see `p3mnet.distances`) |

Inputs are [N, C, H, W] in float32 or float16, a trimap apart also in int64 of 0, 1, 2, as `p3mnet export-onnx` has it.
Where H and W are open, the picture is padded at the bottom and at the right to multiples of `multiple`; where they are
fixed, it is resized. Alpha is the output of that name or the first one, [1, 1, H, W], [1, H, W] or [H, W] in 0..1 (or
logits, with `activation="sigmoid"`), of the input's size or of another, from which it is resized.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from p3mdata.base.files import sha256
from p3mdata.base.quiet import load_onnxruntime
from p3mdata.errors import SetupError
from p3mdata.faces.onnx_graph import weights_of
from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from p3mnet.baselines import Alpha, Image, Method
from p3mnet.baselines.classic import solve_small
from p3mnet.distances import PLANES, nearness

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# Of a trimap apart: numbers of its classes.
_CLASSES = "tensor(int64)"
# ImageNet's, as in `p3mnet.model`, which needs torch.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PICTURE, _LABELS = 3, (BACKGROUND, UNKNOWN, FOREGROUND)
# Inputs of a file that wants distances.
_WITH_DISTANCES = 3
_CHANNELS_OF_TRIMAP = {3: 0, 4: 1, 6: 3}


class OnnxOptions(BaseModel):
    """What a file does not say about itself.

    Attributes:
        norm: Range of the picture: "imagenet" (0..1 minus mean, by deviation), "half" (-1..1), "unit" (0..1), "bytes"
            (0..255).
        order: Of its colours.
        trimap: Values of a one-plane trimap: "unit" (0, 0.5, 1), "bytes" (0, 128, 255), "classes" (0, 1, 2).
        multiple: Of the sides, where they are open.
        channels: Of the one input, where the file leaves them open: 3, 4 or 6.
        output: Name of the output that is alpha.
        activation: "sigmoid" where the output has logits, as BiRefNet's has; "none" where it is alpha.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: Literal["imagenet", "half", "unit", "bytes"] = "imagenet"
    order: Literal["rgb", "bgr"] = "rgb"
    trimap: Literal["unit", "bytes", "classes"] = "unit"
    multiple: int = Field(32, ge=1)
    channels: Literal[3, 4, 6] | None = None
    output: str | None = None
    activation: Literal["none", "sigmoid"] = "none"


class _Inputs(NamedTuple):
    """Names of the inputs; planes of the trimap, 0 for none; types; height and width, None where open."""

    image: str
    trimap: str | None
    distances: str | None
    planes: int
    dtype: Any
    trimap_dtype: Any
    height: int | None
    width: int | None


class OnnxFile(Method):
    """A network in a file.

    Args:
        path: The file.
        options: What it does not say about itself.
        max_side: Longest side that a file with open sides sees, in pixels.
        device: "auto", "cpu", "cuda" or "cuda:N"; the processor where onnxruntime has no GPU.

    Raises:
        SetupError: The file cannot be read, or its inputs are none of the table's.
    """

    def __init__(self, path: Path, options: OnnxOptions, max_side: int, device: str = "auto") -> None:
        onnxruntime = load_onnxruntime()
        self.options, self.max_side, self.path = options, max_side, path
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise SetupError(f"{path}: cannot be read ({exc.strerror or exc}).") from exc
        wanted: list[Any] = ["CPUExecutionProvider"]
        if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            wanted.insert(0, ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}))
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        try:
            # By name, since large files keep their weights beside them.
            self.session = onnxruntime.InferenceSession(str(path), settings, providers=wanted)
        except Exception as exc:
            raise SetupError(f"{path}: is no ONNX file that onnxruntime can run ({_first_line(exc)}).") from exc
        self.inputs = _understood(self.session.get_inputs(), options, path)
        self.output = _alpha_of([output.name for output in self.session.get_outputs()], options, path)
        self.needs_trimap = self.inputs.planes > 0
        if self.session.get_providers()[0] != "CPUExecutionProvider":
            self.device = "GPU (onnxruntime)"
        # Batch norm's statistics are among them, unless they are folded.
        self.parameters, beside = weights_of(data)
        files = [data, *((path.parent / name).read_bytes() for name in sorted(beside))]
        self.identity: Mapping[str, Any] = {
            "onnx": [sha256(content) for content in files], "options": options.model_dump(), "max_side": max_side,
            "onnxruntime": onnxruntime.__version__,
        }  # fmt: skip

    def predict(self, image: Image, trimap: Image | None) -> Alpha:
        """See `Method.predict`."""
        height, width = image.shape[:2]
        # A fixed size is the only one that such a file sees.
        cap = self.max_side if self.inputs.height is None else max(height, width)
        if self.needs_trimap:
            assert trimap is not None
            return solve_small(self._run, image, trimap, cap)
        scale = min(1.0, cap / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return _resized(self._run(_resized(image, *size), None), width, height)

    def _run(self, image: Image, trimap: Image | None) -> Alpha:
        height, width = image.shape[:2]
        high, wide = (
            side if fixed is None else fixed
            for side, fixed in zip((height, width), (self.inputs.height, self.inputs.width), strict=True)
        )
        if (high, wide) != (height, width):
            image = _resized(image, wide, high)
            trimap = None if trimap is None else _resized(trimap, wide, high, cv2.INTER_NEAREST_EXACT)
        feed = self._feed(image, trimap)
        try:
            found = self.session.run([self.output], feed)[0]
        except Exception as exc:
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feed.items())
            raise SetupError(f"{self.path}: does not run on {shapes} ({_first_line(exc)}).") from exc
        alpha = np.asarray(found, np.float32).squeeze()
        if alpha.ndim != 2 or not np.isfinite(alpha).all():
            what = f"has the shape {list(np.shape(found))}" if alpha.ndim != 2 else "holds values that are no numbers"
            raise SetupError(f"{self.path}: its output '{self.output}' {what}; alpha should be [1, 1, H, W].")
        if self.options.activation == "sigmoid":
            # tanh does not overflow.
            alpha = (0.5 + 0.5 * np.tanh(alpha / 2)).astype(np.float32)
        padded = next(iter(feed.values())).shape[-2:]
        alpha = _resized(alpha, padded[1], padded[0])[:high, :wide]
        clipped: Alpha = np.clip(_resized(alpha, width, height), 0, 1)
        return clipped

    def _feed(self, image: Image, trimap: Image | None) -> dict[str, NDArray[Any]]:
        inputs = self.inputs
        planes = [_normalised(image, self.options).transpose(2, 0, 1)]
        if trimap is not None:
            values = "classes" if inputs.trimap_dtype is np.int64 else self.options.trimap
            planes.append(_trimap_planes(trimap, inputs.planes, values))
            if inputs.distances is not None:
                planes.append(nearness([trimap == BACKGROUND, trimap == FOREGROUND]))
        down, right = (
            0 if fixed else -side % self.options.multiple
            for side, fixed in zip(image.shape[:2], (inputs.height, inputs.width), strict=True)
        )
        padded = [
            np.pad(plane, ((0, 0), (0, down), (0, right)), mode="edge")[None].astype(dtype)
            for plane, dtype in zip(planes, (inputs.dtype, inputs.trimap_dtype, inputs.dtype), strict=False)
        ]
        if inputs.trimap is None:
            return {inputs.image: np.concatenate(padded, 1)}
        names = [name for name in (inputs.image, inputs.trimap, inputs.distances) if name is not None]
        return dict(zip(names, padded, strict=True))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _understood(found: list[Any], options: OnnxOptions, path: Path) -> _Inputs:
    """What the inputs of a file are for."""
    told = ", ".join(f"{each.name} {each.shape} {each.type}" for each in found)
    channels = [each.shape[1] if len(each.shape) == 4 and isinstance(each.shape[1], int) else None for each in found]
    if options.channels and len(found) == 1:
        channels[0] = channels[0] or options.channels
    trimap, distances, planes = None, None, 0
    if len(found) == _WITH_DISTANCES and channels.count(PLANES) == 1:
        distances = found[channels.index(PLANES)]
        found = [each for each in found if each is not distances]
        channels.remove(PLANES)
    if len(found) == 1 and channels[0] in _CHANNELS_OF_TRIMAP:
        image, planes = found[0], _CHANNELS_OF_TRIMAP[channels[0]]
    elif len(found) == 2 and _PICTURE in channels and set(channels) <= {1, _PICTURE}:
        # Two of three planes each: the name says which is the trimap, else it is the second.
        second = channels.index(1) if 1 in channels else int("trimap" not in found[0].name.lower())
        image, trimap, planes = found[1 - second], found[second], int(channels[second] or 0)
    else:
        raise SetupError(
            f"{path}: its inputs ({told}) are none that can be fed: one of 3, 4 or 6 channels, or picture and trimap "
            "apart, with FBA's distances or without. Run it elsewhere and give its alphas with pngs:NAME=FOLDER."
        )
    apart = trimap is not None and trimap.type == _CLASSES and planes == 1
    types = {each.type for each in (*found, *filter(None, [distances])) if not (apart and each is trimap)}
    if types - set(_TYPES) or len(types) > 1:
        raise SetupError(f"{path}: its inputs ({told}) must be float32 or float16.")
    height, width = (side if isinstance(side, int) and side > 0 else None for side in image.shape[2:])
    trimap_dtype = np.int64 if apart else _TYPES[image.type]
    beside, third = (None if each is None else str(each.name) for each in (trimap, distances))
    return _Inputs(image.name, beside, third, planes, _TYPES[image.type], trimap_dtype, height, width)


def _alpha_of(names: list[str], options: OnnxOptions, path: Path) -> str:
    """Name of the output that is alpha."""
    if options.output is not None and options.output not in names:
        raise SetupError(f"{path}: has no output '{options.output}'. Outputs: {', '.join(names)}.")
    return options.output or ("alpha" if "alpha" in names else names[0])


def _resized(plane: NDArray[Any], width: int, height: int, how: int | None = None) -> NDArray[Any]:
    if plane.shape[:2] == (height, width):
        return plane
    smaller = height * width < plane.shape[0] * plane.shape[1]
    how = how if how is not None else cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, (width, height), interpolation=how), plane.dtype)


def _normalised(image: Image, options: OnnxOptions) -> NDArray[np.float32]:
    """HxWx3 uint8 RGB -> float32 in the file's order and range."""
    colours: NDArray[Any] = image.astype(np.float32) / 255
    if options.norm == "imagenet":
        colours = (colours - np.array(_MEAN, np.float32)) / np.array(_DEVIATION, np.float32)
    elif options.norm == "half":
        colours = 2 * colours - 1
    elif options.norm == "bytes":
        colours = image.astype(np.float32)
    return colours if options.order == "rgb" else colours[:, :, ::-1]


def _trimap_planes(trimap: Image, planes: int, values: str) -> NDArray[np.float32]:
    """[planes, H, W]."""
    if planes == len(_LABELS):
        return np.stack([trimap == label for label in _LABELS]).astype(np.float32)
    known = {"unit": (0, 0.5, 1), "bytes": (0, 128, 255), "classes": (0, 1, 2)}[values]
    plane = np.zeros(trimap.shape, np.float32)
    for label, value in zip(_LABELS, known, strict=True):
        plane[trimap == label] = value
    return plane[None]
