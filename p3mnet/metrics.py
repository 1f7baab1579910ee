"""Errors of an alpha matte: SAD, MSE, MAD over the image, the transition and the known areas, Grad and Conn.

Definitions: Rhemann et al., 'A Perceptually Motivated Online Benchmark for Image Matting' (CVPR 2009), with the areas
and factors of P3M-Net's evaluation ('Rethinking Portrait Matting with Privacy Preserving', IJCV 2023). All are computed
on float32 in [0, 1] and summed in float64; 0 is a perfect prediction, and none has an upper bound that does not grow
with the image, except those per pixel.

| name | formula, d = prediction - truth | unit |
|---|---|---|
| SAD | sum abs(d) / 1000 | thousands of opaque pixels |
| MSE, MAD | mean d^2, mean abs(d) | per pixel, in [0, 1] |
| SAD_T, MSE_T, MAD_T | the same where the trimap is 128 | as above, per transition pixel |
| SAD_FG, SAD_BG | SAD where the trimap is 255, where it is 0 | as SAD |
| GRAD | sum (abs(grad prediction) - abs(grad truth))^2 / 10 | tens of squared alpha per pixel |
| CONN | sum abs(phi(prediction) - phi(truth)) / 1000 | as SAD |

The default values are those of the reference's program, so that figures can be held against published ones. In three
places that program departs from its definitions; `corrected=True` follows the definitions there:

- -T: the prediction is set to the trimap outside the transition, and the whole image is summed. A trimap that calls
  pixels known which the truth does not then adds their error. Corrected: only the transition is summed.
- CONN: thresholds at which prediction and truth have no pixel in common are skipped, and what was connected up to
  there counts as fully connected: without any common pixel CONN is 0. Corrected: connected up to the last threshold.
- Without a transition pixel MSE_T and MAD_T are 0 / 0 there. Here they are None, corrected or not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.trimap import BACKGROUND, FOREGROUND, UNKNOWN, trimap_of

NAMES = ("SAD", "MSE", "MAD", "SAD_T", "MSE_T", "MAD_T", "SAD_FG", "SAD_BG", "GRAD", "CONN")
THOUSAND = 1000

_SIGMA = 1.4
# The gaussian is cut off at four sigmas.
_RADIUS = int(4 * _SIGMA + 0.5)
_GRAD_UNIT = 10
# Side of the squares in which gradients are computed.
_TILE = 256
# Rows whose connectedness is compared at a time.
_ROWS = 32
# Side of the blocks whose most opaque one is sought.
_BLOCK = 16
# Thresholds of connection: 0.1, 0.2, ... 1.
_STEPS = 10
# Differences from the level of connection below this are none.
_THETA = np.float32(0.15)

Matte = NDArray[Any]
Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]


def evaluate_pair(
    pred: Matte, alpha: Matte, trimap: Matte | None = None, corrected: bool = False
) -> dict[str, float | None]:
    """All metrics of one prediction, by the names in `NAMES`.

    Args:
        pred: Predicted matte, HxW: uint8 or uint16, full scale opaque, or float in [0, 1].
        alpha: True matte of the same size, of any of these types.
        trimap: HxW uint8 of 0, 128, 255; None makes it of the truth, with an elliptic kernel of 25 pixels.
        corrected: Follow the definitions where the reference does not (see the module).

    Returns:
        A finite number each; None for MSE_T and MAD_T where there is no transition pixel.

    Raises:
        TypeError: An array is of another type.
        ValueError: An array is not HxW, empty, of another size, or has values that it cannot have.
    """
    pair = _pair(pred, alpha)
    areas = _areas(pair, trimap)
    total, squares = _absolute(pair), _squares(pair)
    inside, squares_inside, pixels = _transition(pair, areas, corrected)
    return {
        "SAD": total / THOUSAND,
        "MSE": squares / pair.g.size,
        "MAD": total / pair.g.size,
        "SAD_T": inside / THOUSAND,
        "MSE_T": squares_inside / pixels if pixels else None,
        "MAD_T": inside / pixels if pixels else None,
        "SAD_FG": _absolute(_inside(pair, areas == FOREGROUND)) / THOUSAND,
        "SAD_BG": _absolute(_inside(pair, areas == BACKGROUND)) / THOUSAND,
        "GRAD": _gradient_error(pair) / _GRAD_UNIT,
        "CONN": _connectivity_error(pair, corrected) / THOUSAND,
    }


def sad(pred: Matte, alpha: Matte) -> float:
    """Sum of absolute differences, in thousands."""
    return _absolute(_pair(pred, alpha)) / THOUSAND


def mse(pred: Matte, alpha: Matte) -> float:
    """Mean squared difference per pixel."""
    return _squares(_pair(pred, alpha)) / np.size(alpha)


def mad(pred: Matte, alpha: Matte) -> float:
    """Mean absolute difference per pixel."""
    return _absolute(_pair(pred, alpha)) / np.size(alpha)


def sad_t(pred: Matte, alpha: Matte, trimap: Matte | None = None, corrected: bool = False) -> float:
    """Sum of absolute differences in the transition, in thousands; 0 without a transition pixel."""
    pair = _pair(pred, alpha)
    return _transition(pair, _areas(pair, trimap), corrected)[0] / THOUSAND


def mse_t(pred: Matte, alpha: Matte, trimap: Matte | None = None, corrected: bool = False) -> float | None:
    """Mean squared difference per transition pixel; None where there is none."""
    pair = _pair(pred, alpha)
    _, squares, pixels = _transition(pair, _areas(pair, trimap), corrected)
    return squares / pixels if pixels else None


def mad_t(pred: Matte, alpha: Matte, trimap: Matte | None = None, corrected: bool = False) -> float | None:
    """Mean absolute difference per transition pixel; None where there is none."""
    pair = _pair(pred, alpha)
    total, _, pixels = _transition(pair, _areas(pair, trimap), corrected)
    return total / pixels if pixels else None


def sad_fg(pred: Matte, alpha: Matte, trimap: Matte | None = None) -> float:
    """Sum of absolute differences in the trimap's foreground, in thousands."""
    pair = _pair(pred, alpha)
    return _absolute(_inside(pair, _areas(pair, trimap) == FOREGROUND)) / THOUSAND


def sad_bg(pred: Matte, alpha: Matte, trimap: Matte | None = None) -> float:
    """Sum of absolute differences in the trimap's background, in thousands."""
    pair = _pair(pred, alpha)
    return _absolute(_inside(pair, _areas(pair, trimap) == BACKGROUND)) / THOUSAND


def sad_inside(pred: Matte, alpha: Matte, mask: Matte) -> float:
    """Sum of absolute differences where a mask of any type is not 0, in thousands."""
    pair = _pair(pred, alpha)
    return _absolute(_inside(pair, _same_size("mask", mask, pair.g) != 0)) / THOUSAND


def grad(pred: Matte, alpha: Matte) -> float:
    """Squared differences of the gradients' magnitudes, summed and divided by 10.

    Gradients are derivatives of a gaussian of sigma 1.4, cut off after 6 pixels; at its border the image is mirrored
    with its outermost pixels doubled.
    """
    return _gradient_error(_pair(pred, alpha)) / _GRAD_UNIT


def conn(pred: Matte, alpha: Matte, corrected: bool = False) -> float:
    """Differences of connectedness, in thousands.

    At each threshold t = 0.1, 0.2, ... 1 the core is the largest 4-connected component of pixels where prediction and
    truth both reach t. A pixel's level l is the threshold before the first whose core is without it. What a matte a has
    above that level, a - l where this is at least 0.15 and else 0, is not connected: phi = 1 - (a - l).
    """
    return _connectivity_error(_pair(pred, alpha), corrected) / THOUSAND


class _Pair(NamedTuple):
    """Prediction and truth, checked, as float32 in [0, 1]."""

    p: Floats
    g: Floats


def _size(array: Matte) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def _same_size(name: str, array: Matte, alpha: Matte) -> Matte:
    array = np.asarray(array)
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}: it must be HxW.")
    if array.shape != alpha.shape:
        raise ValueError(f"{name} is {_size(array)} but alpha is {_size(alpha)}: both must have one size.")
    return array


def _pair(pred: Matte, alpha: Matte) -> _Pair:
    p, g = np.asarray(pred), np.asarray(alpha)
    for name, array in (("pred", p), ("alpha", g)):
        if array.ndim != 2 or not array.size:
            raise ValueError(f"{name} has shape {array.shape}: it must be HxW, one channel, and not empty.")
        if array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16):
            raise TypeError(f"{name} has type {array.dtype}: it must be uint8, uint16 or float.")
        # What is not a number passes no comparison.
        if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"{name} has values from {array.min():g} to {array.max():g}: floats must be in [0, 1].")
    _same_size("pred", p, g)
    return _Pair(_floats(p), _floats(g))


def _floats(matte: Matte) -> Floats:
    if matte.dtype.kind == "f":
        return np.ascontiguousarray(matte, np.float32)
    return np.divide(matte, np.iinfo(matte.dtype).max, dtype=np.float32, order="C")


def _areas(pair: _Pair, trimap: Matte | None) -> Mask:
    """The trimap, checked; without one, that of the truth."""
    if trimap is None:
        clear = np.where(pair.g == 1, FOREGROUND, np.where(pair.g > 0, UNKNOWN, BACKGROUND))
        return trimap_of(clear.astype(np.uint8))
    areas = _same_size("trimap", trimap, pair.g)
    if areas.dtype != np.uint8:
        raise TypeError(f"trimap has type {areas.dtype}: it must be uint8.")
    if sum(np.count_nonzero(areas == value) for value in (BACKGROUND, UNKNOWN, FOREGROUND)) < areas.size:
        raise ValueError("trimap has values other than 0, 128 and 255.")
    return areas


def _absolute(pair: _Pair) -> float:
    """Sum of absolute differences."""
    return cv2.norm(*pair, cv2.NORM_L1)


def _squares(pair: _Pair) -> float:
    """Sum of squared differences."""
    rows = range(0, pair.p.shape[0], _ROWS)
    return sum(_squared(pair.p[top : top + _ROWS], pair.g[top : top + _ROWS]) for top in rows)


def _squared(p: Floats, g: Floats) -> float:
    """The same of a part, in double precision.

    cv2.norm squares in single precision where it does not call Intel's library, which squares in double: by system,
    processor and settings of the process its sum differs by up to 4e-8.
    """
    apart = np.subtract(p, g, dtype=np.float64)
    return float(np.square(apart, out=apart).sum())


def _inside(pair: _Pair, where: NDArray[np.bool_], elsewhere: Floats | None = None) -> _Pair:
    """The pair with the prediction set to the truth, or to another matte, elsewhere.

    OpenCV takes masks for its norms too, but then sums in float32.
    """
    p = (pair.g if elsewhere is None else elsewhere).copy()
    np.copyto(p, pair.p, where=where)
    return pair._replace(p=p)


def _transition(pair: _Pair, areas: Mask, corrected: bool) -> tuple[float, float, int]:
    """Sums of absolute and of squared differences, and the number of transition pixels."""
    unknown = areas == UNKNOWN
    inside = _inside(pair, unknown, None if corrected else (areas == FOREGROUND).astype(np.float32))
    return _absolute(inside), _squares(inside), int(np.count_nonzero(unknown))


def _kernels() -> tuple[Floats, Floats, Floats]:
    """A gaussian, its derivative, and that as weights of the differences between neighbours."""
    at = np.arange(-_RADIUS, _RADIUS + 1)
    gaussian = np.exp(-0.5 * (at / _SIGMA) ** 2)
    gaussian /= gaussian.sum()
    derivative = at * gaussian / _SIGMA**2
    return gaussian.astype(np.float32), derivative.astype(np.float32), -np.cumsum(derivative)[:-1].astype(np.float32)


_GAUSSIAN, _DERIVATIVE, _OF_DIFFERENCES = _kernels()


def _magnitude(matte: Matte) -> Floats:
    """Length of the gradient at each pixel that is at least the kernel's radius inside."""
    height, width = (side - 2 * _RADIUS for side in matte.shape)
    rows = slice(_RADIUS, _RADIUS + height)
    # Differences first, for OpenCV filters columns exactly to 0 where the matte is flat, but not rows.
    steps = cv2.subtract(matte[:, 1:], matte[:, :-1])
    across = cv2.sepFilter2D(steps, -1, _OF_DIFFERENCES, _GAUSSIAN, anchor=(0, _RADIUS))[rows, :width]
    down = cv2.sepFilter2D(matte, -1, _GAUSSIAN, _DERIVATIVE)[rows, _RADIUS : _RADIUS + width]
    # cv2.magnitude rounds differently from call to call, as memory happens to be aligned.
    return np.sqrt(across * across + down * down)


def _gradient_error(pair: _Pair) -> float:
    """Sum over tiles that fit a processor's cache; those that see no difference add nothing."""
    different = pair.p != pair.g
    error = 0.0
    for top in range(0, different.shape[0], _TILE):
        for left in range(0, different.shape[1], _TILE):
            (rows, above, below), (columns, before, after) = map(_seen, (top, left), different.shape)
            if different[rows, columns].any():
                p, g = (
                    cv2.copyMakeBorder(matte[rows, columns], above, below, before, after, cv2.BORDER_REFLECT)
                    for matte in pair
                )
                error += _squared(_magnitude(p), _magnitude(g))
    return error


def _seen(begin: int, side: int) -> tuple[slice, int, int]:
    """Rows or columns on which a tile's gradients depend, and how many of them lack before and after the image."""
    first, last = begin - _RADIUS, min(begin + _TILE, side) + _RADIUS
    return slice(max(0, first), min(side, last)), max(0, -first), max(0, last - side)


def _connectivity_error(pair: _Pair, corrected: bool) -> float:
    level, last = _levels(np.minimum(*pair))
    # A table of all bytes; there is no level above 1.
    levels = np.arange(256, dtype=np.float32) / np.float32(_STEPS)
    if not corrected:
        levels[last] = 1
    error = 0.0
    for top in range(0, level.shape[0], _ROWS):
        rows = slice(top, top + _ROWS)
        connected = cv2.LUT(level[rows], levels)
        over = [matte[rows] - connected for matte in pair]
        p, g = (part * (part >= _THETA) for part in over)
        error += cv2.norm(p, g, cv2.NORM_L1)
    return error


def _levels(both: Floats) -> tuple[Mask, int]:
    """Number of thresholds, from the first on, whose core holds a pixel; and that of thresholds with a core."""
    level, core = np.zeros(both.shape, np.uint8), np.empty(both.shape, np.uint8)
    held = np.ones_like(core)
    seed = _solid(both)
    for number in range(_STEPS):
        np.greater_equal(both, np.float32((number + 1) / _STEPS), out=core.view(bool))
        if not core.any():
            return level, number
        _keep_largest(core, seed)
        held &= core
        level += held
    return level, _STEPS


def _solid(matte: Floats) -> tuple[int, int]:
    """Row and column of a pixel in the most opaque block, which is likely to be in the core of each threshold."""
    small = [max(1, side // _BLOCK) for side in matte.shape]
    column, row = cv2.minMaxLoc(cv2.resize(matte, small[::-1], interpolation=cv2.INTER_AREA))[3]
    return (2 * row + 1) * matte.shape[0] // (2 * small[0]), (2 * column + 1) * matte.shape[1] // (2 * small[1])


def _keep_largest(mask: Mask, seed: tuple[int, int]) -> None:
    """Of 0 and 1, leave 1 in the largest 4-connected component only; of equal ones in the first from the top."""
    total = np.count_nonzero(mask)
    # With more than half of all pixels, no other one is larger.
    if mask[seed] and 2 * cv2.floodFill(mask, None, seed[::-1], 2)[0] > total:
        largest: NDArray[Any] = mask
        value = 2
    else:
        largest = cv2.connectedComponents(mask, connectivity=4)[1]
        value = 1 + int(np.bincount(largest.ravel())[1:].argmax())
    np.equal(largest, value, out=mask.view(bool))
