"""Where a closer look for small faces is worth its time.

A network of twelve thousand parameters foretells where the look for bystanders will find a face, and the look before it
has scores of its own for every place. What either of them proposes is looked at, with what is around it; the scores
alone lose the smallest faces. `manifests/proposals.md` says what the network learnt from.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.faces.engine import engine
from p3mdata.faces.integers import Kind, Layer
from p3mdata.faces.onnx_graph import floats_of, read_model
from p3mdata.faces.pyramid import Pyramid, Window
from p3mdata.records import Mask

# Name of the network's output: logits of cells of CELL pixels.
LOGITS = "logits"
SIDE, CELL = 768, 8
# From where on a place is proposed, by the network and by the look before.
_LEAST_CHANCE, _LEAST_SCORE = 0.5, 0.03
# Cells around a proposed one that are looked at with it.
_AROUND = 2
# Windows begin at multiples of this many pixels, as the cells of the look's network do.
_GRID = 32
# Where they would cover more than this share, or are this many, the whole picture is looked at.
_MOST_COVERED, _MOST_WINDOWS = 0.5, 48

_Rectangle = tuple[int, int, int, int]


def layers(data: bytes) -> list[Layer]:
    """The layers of the network's file, of a picture (h, w, 3) of which both sides are multiples of 8; one output.

    Args:
        data: The file, an ONNX model.
    """
    graph = read_model(data).graph
    weights = {name: values.astype(np.float64) for name, values in floats_of(graph).items()}
    found: dict[str, Layer] = {}
    for node in graph.node:
        source, made = node.input[0], node.output[0]
        if node.op_type == "Relu":
            found[made] = replace(found.pop(source), name=made, relu=True)
            continue
        kernel, biases = (weights[name] for name in node.input[1:])
        ints = {attribute.name: attribute for attribute in node.attribute}
        kind: Kind = "depthwise" if ints["group"].i > 1 else "conv"
        stride, output = ints["strides"].ints[0], made == LOGITS
        found[made] = Layer(made, kind, (source,), kernel, biases, stride, fine=not output, output=output)
    return list(found.values())


class Proposals:
    """The proposal network of one worker."""

    def __init__(self) -> None:
        self._network = engine("proposals", layers)
        self._least = math.log(_LEAST_CHANCE / (1 - _LEAST_CHANCE))

    def windows(self, image: Pyramid, scores: NDArray[np.float32], shape: tuple[int, int]) -> list[Window] | None:
        """The parts of an image to look at more closely.

        Args:
            image: The image.
            scores: Of places of the whole image, as `LibFaceDetection.look` gives them.
            shape: Height and width of the image in the closer look.

        Returns:
            Rows and columns of each part in the image at that size; None for all of it.
        """
        small, _ = image.at(SIDE)
        (logits,) = self._network(small)[0]
        height, width = (-(-length // CELL) for length in small.shape[:2])
        proposed = logits[:height, :width] >= self._least
        known = (scores >= _LEAST_SCORE).astype(np.uint8)
        proposed |= cv2.resize(known, (width, height), interpolation=cv2.INTER_NEAREST) > 0
        return _windows(proposed, max(shape) / SIDE * CELL, shape)


def _windows(proposed: Mask, cell: float, shape: tuple[int, int]) -> list[Window] | None:
    """Windows in an image of some height and width around the proposed cells, each `cell` pixels of it wide."""
    around = cv2.dilate(proposed.view(np.uint8), np.ones((2 * _AROUND + 1, 2 * _AROUND + 1), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(around, connectivity=8)
    if count - 1 > _MOST_WINDOWS:
        return None
    cells = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:]]
    windows = []
    for left, top, right, bottom in _joined(cells):
        rows, cols = (
            _whole(int(first * cell), math.ceil(last * cell), side)
            for first, last, side in ((top, bottom, shape[0]), (left, right, shape[1]))
        )
        windows.append((rows, cols))
    covered = sum((rows.stop - rows.start) * (cols.stop - cols.start) for rows, cols in windows)
    return None if covered > _MOST_COVERED * shape[0] * shape[1] else windows


def _whole(first: int, last: int, side: int) -> slice:
    """From one pixel to before another, and what is around them up to a multiple of `_GRID`, in an image of `side`."""
    spare = (first - last) % _GRID
    first -= spare // 2
    length = -(-(last - first) // _GRID) * _GRID
    first = max(0, min(first, side - length))
    return slice(first, min(side, first + length))


def _joined(rectangles: list[_Rectangle]) -> list[_Rectangle]:
    """The rectangles, those as one that are no larger together than one by one."""
    todo = list(rectangles)
    done: list[_Rectangle] = []
    while todo:
        one = todo.pop()
        for number, other in enumerate(todo):
            both = min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])
            if _price(both) <= _price(one) + _price(other):
                # The larger one may reach what was apart before.
                todo[number] = both
                todo += done
                done = []
                break
        else:
            done.append(one)
    return sorted(done)


def _price(rectangle: _Rectangle) -> int:
    """What it costs to look at a rectangle: its cells, and some more for the call and what it is filled up with."""
    left, top, right, bottom = rectangle
    return (right - left + 2) * (bottom - top + 2)
