"""PNG files of facemasks: long runs of three values, which an encoder that knows it need not look at pixel by pixel.

Deflate (RFC 1951) with one Huffman code for all files, made for such runs. Integers alone decide about the bytes, so
that they are the same on every machine, whatever build of zlib another library brings along.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from p3mdata.imaging.facemask import RECOMPOSED, REPLACED, UNTOUCHED

Ints = NDArray[np.int64]

_PNG = b"\x89PNG\r\n\x1a\n"
_ZLIB = b"\x78\x01"
_ADLER = 65521
_KNOWN = np.isin(np.arange(256), (UNTOUCHED, RECOMPOSED, REPLACED))
_END, _FIRST_LENGTH, _LONGEST = 256, 257, 258
# Bits of the code of each symbol. The lengths of runs are spread; what is most frequent are the longest.
_CODE_BITS = {UNTOUCHED: 4, RECOMPOSED: 6, REPLACED: 4, _END: 7}
_CODE_BITS |= {**dict.fromkeys(range(257, 268), 7), **dict.fromkeys(range(268, 285), 6), 285: 1}
# Length codes of RFC 1951: four for each number of extra bits, after eight without any; the last is the longest alone.
_EXTRA = np.array([0] * 8 + [bits for bits in range(1, 6) for _ in range(4)] + [0])
_LEAST = np.array([3 + i for i in range(8)] + [0] * 20 + [_LONGEST])
for _i in range(8, 28):
    _LEAST[_i] = _LEAST[_i - 1] + (1 << _EXTRA[_i - 1])
# In which code lengths are told, and what they are told in: the same for all, 0 to 7.
_TOLD_IN = 3
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


def encode_runs(
    array: NDArray[np.uint8], corner: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None
) -> bytes | None:
    """An 8-bit grey PNG; None for one that has other values than facemasks have.

    Args:
        array: HxW: all of it, or a part beside which it is 0.
        corner: Where the part begins, down and across.
        size: Height and width of all of it.
    """
    height, width = size or array.shape
    left, top, across, down = cv2.boundingRect(array)
    inner = np.zeros((down, across + 2), np.uint8)
    inner[:, 1:-1] = array[top : top + down, left : left + across]
    top, left = top + corner[0], left + corner[1]
    flat = inner.reshape(-1)
    # Rows begin and end with zeros here, and in the file with the number of their filter, which is none.
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    values = flat[changes].astype(np.int64)
    if not _KNOWN[values].all():
        return None
    row, column = np.divmod(changes, across + 2)
    count = height * (width + 1)
    begin = np.concatenate([[0], (top + row) * (width + 1) + left + column, [count]])
    values = np.concatenate([[UNTOUCHED], values])
    lengths = np.diff(begin)
    check = _adler(values, begin[:-1], lengths, count)
    data = _ZLIB + _packed(*_tokens(values, lengths)) + check.to_bytes(4, "big")
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    return _PNG + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(data, zlib.crc32(name)).to_bytes(4, "big")


def _adler(values: Ints, begin: Ints, lengths: Ints, size: int) -> int:
    """Adler-32 of runs, told from them and not from what they are packed into: who unpacks the file compares both."""
    low = (1 + int((values * (lengths % _ADLER) % _ADLER).sum())) % _ADLER
    # Every byte counts as often as there are bytes from it to the end; those of a run as its middle one on average.
    counted = lengths * (2 * (size - begin) - lengths + 1) // 2
    high = (size + int((values * (counted % _ADLER) % _ADLER).sum())) % _ADLER
    return high << 16 | low


def _codes() -> dict[int, tuple[int, int]]:
    """Code and number of its bits of each symbol; canonical codes, first bit lowest as they are stored."""
    found, code, last = {}, 0, 0
    for symbol, bits in sorted(_CODE_BITS.items(), key=lambda item: (item[1], item[0])):
        code <<= bits - last
        found[symbol] = int(f"{code:0{bits}b}"[::-1], 2), bits
        code, last = code + 1, bits
    return found


_SYMBOLS = _codes()


@cache
def _header() -> Ints:
    return np.array(list(_beginning()))


def _beginning() -> Iterator[tuple[int, int]]:
    """Values and their bits that begin the one block: it is the last, and brings its own code."""
    literals, told = 286, (1 << _TOLD_IN) - 1
    yield from ((1, 1), (2, 2), (literals - 257, 5), (0, 5), (len(_ORDER) - 4, 4))
    yield from ((_TOLD_IN if place <= told else 0, 3) for place in _ORDER)
    # One distance, 1, of one bit.
    for bits in [*(_CODE_BITS.get(symbol, 0) for symbol in range(literals)), 1]:
        yield int(f"{bits:0{_TOLD_IN}b}"[::-1], 2), _TOLD_IN


def _tokens(values: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Values and their bits of the block's symbols: of each run the value, the longest repeats, and the rest."""
    values, lengths = values[lengths > 0], lengths[lengths > 0]
    longest, rest = np.divmod(lengths - 1, _LONGEST)
    # Less than three are told one by one.
    single = np.where(rest < 3, rest, 0)
    code, bits = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for value in (UNTOUCHED, RECOMPOSED, REPLACED):
        code[value], bits[value] = _SYMBOLS[value]
    repeat, repeat_bits = _repeats()
    parts = 1 + longest + single + (rest >= 3)
    begin = np.cumsum(parts) - parts
    total = int(parts.sum())
    # All are longest repeats until told otherwise.
    out, out_bits = np.full(total, repeat[_LONGEST]), np.full(total, repeat_bits[_LONGEST])
    out[begin], out_bits[begin] = code[values], bits[values]
    for number in (1, 2):
        at = begin[single >= number] + number
        out[at], out_bits[at] = code[values[single >= number]], bits[values[single >= number]]
    some = rest >= 3
    out[begin[some] + 1], out_bits[begin[some] + 1] = repeat[rest[some]], repeat_bits[rest[some]]
    end, end_bits = _SYMBOLS[_END]
    return np.append(out, end), np.append(out_bits, end_bits)


@cache
def _repeats() -> tuple[Ints, Ints]:
    """Value and bits of a repeat of each length: symbol, extra bits, and the one distance, which is a 0."""
    value, size = np.zeros(_LONGEST + 1, np.int64), np.zeros(_LONGEST + 1, np.int64)
    for length in range(3, _LONGEST + 1):
        i = int(np.flatnonzero(length >= _LEAST)[-1])
        code, bits = _SYMBOLS[_FIRST_LENGTH + i]
        value[length] = code | (length - int(_LEAST[i])) << bits
        size[length] = bits + int(_EXTRA[i]) + 1
    return value, size


def _packed(values: Ints, sizes: Ints) -> bytes:
    """The header, and values of some bits each, one after another, lowest bit first."""
    head = _header()
    values, sizes = np.concatenate([head[:, 0], values]), np.concatenate([head[:, 1], sizes])
    begin = np.cumsum(sizes) - sizes
    stream = np.zeros(int(sizes.sum()), np.uint8)
    for bit in range(int(sizes.max())):
        which = sizes > bit
        stream[begin[which] + bit] = values[which] >> bit & 1
    return np.packbits(stream, bitorder="little").tobytes()
