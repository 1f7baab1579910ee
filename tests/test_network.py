"""Networks in integers in C: all kinds of layers, sizes and instruction sets equal numpy's integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from p3mdata.native import LEVELS, Library, library
from p3mdata.native.network import Network
from tests.native_levels import use

Values = NDArray[np.int64]


@dataclass(frozen=True)
class Counted:
    """A layer, as networks of detectors have them."""

    name: str
    kind: str
    sources: tuple[str, ...]
    weights: NDArray[np.int16] | None = None
    biases: NDArray[np.int32] | None = None
    scales: NDArray[np.float32] | None = None
    stride: int = 1
    low: int = 0
    high: int = 255
    output: bool = False


class Making:
    """A random network while it is made, and what it gives for a picture, computed one product after another."""

    def __init__(self, seed: int, picture: NDArray[np.uint8]) -> None:
        self.random = np.random.default_rng(seed)
        self.layers: list[Counted] = []
        self.values: dict[str, Values] = {"picture": picture.astype(np.int64)}
        self.limits = {"picture": (0, 255)}
        self.outputs: list[NDArray[np.float32]] = []

    def conv(
        self, name: str, source: str, filters: int, side: int = 1, *, kind: str = "conv", stride: int = 1,
        low: int = 0, high: int = 255, output: bool = False,
    ) -> None:  # fmt: skip
        values = self.values[source]
        channels = 1 if kind == "depthwise" else values.shape[2]
        least, most = self.limits[source]
        largest = max(-least, most)
        # As large as the sum allows, in both directions.
        most_weight = 127 if largest <= 255 and source != "picture" and kind != "depthwise" else 32767
        most_weight = min(most_weight, ((1 << 24) - 70000) // (largest * channels * side * side))
        weights = self.random.integers(-most_weight, most_weight + 1, (filters, channels, side, side))
        weights[0] = most_weight
        biases = self.random.integers(-60000, 60000, filters)
        sums = _sums(values, weights, biases, kind, stride)
        scales = (self.random.uniform(0.3, 3, filters) * max(high, 255) / (np.abs(sums).max((0, 1)) + 1)).astype(
            np.float32
        )
        scales[-1] = 0.5  # halves
        product = sums.astype(np.float32) * scales
        if output:
            self.outputs.append(product.transpose(2, 0, 1))
        else:
            self.values[name] = np.clip(np.rint(product.astype(np.float64)), low, high).astype(np.int64)
        self.limits[name] = low, high
        self.layers.append(
            Counted(
                *(name, kind, (source,), weights.astype(np.int16), biases.astype(np.int32), scales),
                *(stride, low, high, output),
            )
        )

    def join(self, name: str, kind: str, *sources: str) -> None:
        first, *others = (self.values[source] for source in sources)
        if kind == "pool":
            height, width = (side // 2 * 2 for side in first.shape[:2])
            made = first[:height, :width].reshape(height // 2, 2, width // 2, 2, -1).max((1, 3))
        else:
            made = (first.repeat(2, 0).repeat(2, 1) if kind == "doubled" else first) + others[0]
        low, high = (pick(self.limits[source][i] for source in sources) for i, pick in ((0, min), (1, max)))
        self.values[name], self.limits[name] = np.clip(made, low, high), (low, high)
        self.layers.append(Counted(name, kind, sources, low=low, high=high))


def _sums(values: Values, weights: Values, biases: Values, kind: str, stride: int) -> Values:
    height, width, _ = values.shape
    filters, _, side, _ = weights.shape
    if kind == "enlarge":
        sums = np.zeros((2 * height, 2 * width, filters), np.int64)
        for down in (0, 1):
            for over in (0, 1):
                sums[down::2, over::2] = values @ weights[:, :, down, over].T
        return sums + biases
    around = side // 2
    padded = np.pad(values, ((around, around), (around, around), (0, 0)))
    sums = np.zeros((-(-height // stride), -(-width // stride), filters), np.int64)
    for down in range(side):
        for over in range(side):
            part = padded[down : down + height : stride, over : over + width : stride]
            sums += part * weights[:, 0, down, over] if kind == "depthwise" else part @ weights[:, :, down, over].T
    return sums + biases


def everything(seed: int, picture: NDArray[np.uint8]) -> Making:
    """All kinds of layers on all kinds of values; sides of the picture are multiples of 4."""
    made = Making(seed, picture)
    made.conv("stem", "picture", 20, 3, stride=2)
    made.conv("bytes", "stem", 70)
    made.conv("fine", "bytes", 40, low=-4095, high=4095)
    made.conv("each", "fine", 40, 3, kind="depthwise", low=0, high=4095)
    made.conv("halved", "each", 40, 3, kind="depthwise", stride=2, low=-127, high=127)
    made.conv("signed", "halved", 37, low=-127, high=127)
    made.conv("window", "signed", 37, 3, low=-127, high=127)
    made.join("added", "sum", "signed", "window")
    made.conv("whole", "signed", 37)
    # Neither bytes with a sign nor without one hold it.
    made.join("mixed", "sum", "whole", "window")
    made.conv("out of mixed", "mixed", 6, output=True)
    made.conv("large", "added", 40, 2, kind="enlarge", stride=2)
    made.join("joined", "sum", "large", "each")
    # Bytes with and without a sign, channel by channel.
    made.conv("signs each", "signed", 37, 3, kind="depthwise", low=-127, high=127)
    made.conv("bytes each", "stem", 20, 3, kind="depthwise", stride=2)
    made.conv("out of signs", "signs each", 4, output=True)
    made.conv("out of bytes", "bytes each", 4, output=True)
    made.conv("again", "added", 40, low=0, high=4095)
    made.join("doubled", "doubled", "again", "joined")
    made.join("pooled", "pool", "doubled")
    made.conv("out", "pooled", 21, 3, output=True)
    made.conv("other", "window", 5, output=True)
    made.conv("picture too", "picture", 6, 1, output=True)
    return made


def filled(picture: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    down, across = (-side % multiple for side in picture.shape[:2])
    return np.pad(picture, ((0, down), (0, across), (0, 0)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [(1, 1), (4, 3), (7, 61), (66, 5), (37, 43)])
def test_every_kind_of_layer_is_exact(level: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, level)
    native = library()
    assert native is not None
    # Rows lie apart, and what lies between them is not the picture's.
    image = np.random.default_rng(1).integers(0, 256, (size[0], size[1] + 3, 3), np.uint8)[:, 1:-2]
    expected = everything(sum(size), filled(image, 4))
    network = Network(expected.layers, native)
    for _ in range(2):  # with fresh memory, and with that of the call before
        for ours, theirs in zip(network(image, 4), expected.outputs, strict=True):
            assert ours.flags.c_contiguous and np.array_equal(ours, theirs)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("filters", "width"), [(1, 31), (16, 5), (33, 7), (64, 9), (80, 10), (96, 20), (144, 3), (161, 31)]
)
def test_any_number_of_filters_and_pixels(
    level: str, filters: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, level)
    native = library()
    assert native is not None
    picture = np.random.default_rng(2).integers(0, 256, (5, width, 3), np.uint8)
    made = Making(filters, picture)
    made.conv("bytes", "picture", 24)
    made.conv("many", "bytes", filters)
    made.conv("out", "many", filters, output=True)
    made.conv("fine", "bytes", 24, low=-4095, high=4095)
    made.conv("many fine", "fine", filters, 3, low=0, high=4095)
    made.conv("out too", "many fine", filters, stride=2, output=True)
    for ours, theirs in zip(Network(made.layers, native)(picture, 1), made.outputs, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Library:
    use(monkeypatch, "generic")
    found = library()
    assert found is not None
    return found


def layer(**changes: Any) -> Counted:
    """A convolution of 1x1 on the picture."""
    weights = np.ones((4, 3, 1, 1), np.int16)
    plain: dict[str, Any] = {"weights": weights, "biases": np.ones(4, np.int32), "scales": np.ones(4, np.float32)}
    return Counted(**{"name": "one", "kind": "conv", "sources": ("picture",), **plain, **changes})


OF_THREE = {"biases": np.ones(3, np.int32), "scales": np.ones(3, np.float32)}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weights": np.ones((4, 5, 1, 1), np.int16)}, "cannot be computed"),
        ({"weights": np.ones((4, 3, 5, 5), np.int16)}, "cannot be computed"),
        ({"stride": 3}, "cannot be computed"),
        ({"kind": "depthwise", "weights": np.ones((4, 1, 3, 3), np.int16)}, "cannot be computed"),
        ({"biases": np.ones(3, np.int32)}, "cannot be computed"),
        ({"weights": None}, "no weights"),
        ({"weights": np.full((4, 3, 1, 1), 32767, np.int16)}, "may not be exact"),
        ({"scales": np.full(4, 2**31 / 766, np.float32)}, "may not fit 32 bits"),
        ({"scales": np.full(4, np.nan, np.float32)}, "may not fit 32 bits"),
        ({"kind": "sum"}, "other sources"),
        ({"sources": ()}, "other sources"),
        ({"high": 32768}, "do not fit 16 bits"),
        ({"low": -32768}, "do not fit 16 bits"),
        ({"low": 256}, "do not fit 16 bits"),
        ({"kind": "depthwise", "weights": np.ones((3, 1, 3, 3), np.int16), **OF_THREE}, "cannot be computed"),
        ({"kind": "enlarge", "weights": np.ones((4, 3, 2, 2), np.int16)}, "cannot be computed"),
    ],
)
def test_what_cannot_be_computed_is_refused(native: Library, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Network([layer(**changes)], native)


def test_outputs_end_a_network_and_are_of_convolutions(native: Library) -> None:
    behind = layer(name="two", sources=("one",), weights=np.ones((4, 4, 1, 1), np.int16))
    with pytest.raises(ValueError, match="'two' is made of an output"):
        Network([layer(output=True), behind], native)
    with pytest.raises(ValueError, match="'half' cannot be an output"):
        Network([layer(), Counted("half", "pool", ("one",), output=True)], native)


class Shared(dict[Any, Any]):
    """What many threads share: whatever one of them has just seen another one takes away."""

    def __contains__(self, key: object) -> bool:
        seen = super().__contains__(key)
        self.clear()
        return seen


class Emptied(list[Any]):
    """As `Shared`."""

    def __bool__(self) -> bool:
        seen = len(self) > 0
        self.clear()
        return seen


def test_threads_may_share_a_network(native: Library) -> None:
    network, picture = Network([layer(output=True)], native), np.full((2, 2, 3), 7, np.uint8)
    network._plans, network._memory = Shared(), Emptied()
    for _ in range(2):
        assert np.array_equal(network(picture, 1)[0], np.full((4, 2, 2), 22, np.float32))


def test_plans_of_so_many_sizes_are_kept(native: Library) -> None:
    network = Network([layer(output=True)], native)
    for width in range(1, 71):
        network(np.zeros((1, width, 3), np.uint8), 1)
    assert [width for _, width in network._plans] == list(range(7, 71))


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (63, ValueError), (200, ValueError), (1 << 60, MemoryError)]
)
def test_without_memory_there_are_no_outputs(size: int, error: type[Exception], native: Library) -> None:
    network = Network([layer(), layer(name="two", sources=("one",), weights=np.ones((4, 4, 1, 1), np.int16))], native)
    network._plans[2, 2] = size, *network._plan(2, 2)[1:]
    with pytest.raises(error):
        network(np.zeros((2, 2, 3), np.uint8), 1)


def test_pictures_that_c_cannot_walk_through_are_refused(native: Library) -> None:
    network = Network([layer(output=True)], native)
    image = np.zeros((8, 8, 3), np.uint8)
    for wrong in (image[:, ::2], image[:, :, :2], image.astype(np.int16), image[0]):
        with pytest.raises(ValueError, match="whole rows"):
            network(wrong, 1)
    with pytest.raises(ValueError, match="sides of a picture"):
        network(np.zeros((1, (1 << 14) + 1, 3), np.uint8), 1)
    halves = [layer(), Counted("half", "pool", ("one",)), Counted("whole", "doubled", ("half", "one"))]
    with pytest.raises(ValueError, match="do not fit together in a picture of 3x3"):
        Network(
            [*halves, layer(name="out", sources=("whole",), weights=np.ones((4, 4, 1, 1), np.int16), output=True)],
            native,
        )(np.zeros((3, 3, 3), np.uint8), 1)
