"""Global variables of a shared library for 64-bit Linux, read as data: nothing of it is loaded or run, on any system.

Only what is needed of the ELF format (System V ABI, x86-64 supplement): segments that are loaded, dynamic symbols, and
relocations that put a symbol's address into memory.
"""

from __future__ import annotations

import struct
from functools import cached_property

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little endian
_SEGMENT, _SECTION = struct.Struct("<IIQQQQQQ"), struct.Struct("<IIQQQQIIQQ")
_SYMBOL, _RELOCATION = struct.Struct("<IBBHQQ"), struct.Struct("<QQq")
_LOAD, _RELOCATIONS, _DYNAMIC_SYMBOLS = 1, 4, 11
_ADDRESS_OF_SYMBOL = 1  # R_X86_64_64


class SharedLibrary:
    """A library's bytes, addressed as they lie in memory when it is loaded at address 0.

    Raises:
        ValueError: `data` is no such library; so do methods for what is not in it.
    """

    def __init__(self, data: bytes) -> None:
        if not data.startswith(_MAGIC):
            raise ValueError("not a shared library for 64-bit Linux")
        self._data = data

    def _table(self, layout: struct.Struct, at: int, size: int) -> list[tuple[int, ...]]:
        return list(layout.iter_unpack(self._data[at : at + size]))

    @cached_property
    def _segments(self) -> list[tuple[int, ...]]:
        (at,) = struct.unpack_from("<Q", self._data, 32)
        size, count = struct.unpack_from("<HH", self._data, 54)
        return [row for row in self._table(_SEGMENT, at, size * count) if row[0] == _LOAD]

    @cached_property
    def _sections(self) -> list[tuple[int, ...]]:
        (at,) = struct.unpack_from("<Q", self._data, 40)
        size, count = struct.unpack_from("<HH", self._data, 58)
        return self._table(_SECTION, at, size * count)

    @cached_property
    def _symbols(self) -> list[tuple[str, int]]:
        """Name and address of each dynamic symbol, in order."""
        section = next(row for row in self._sections if row[1] == _DYNAMIC_SYMBOLS)
        names = self._sections[section[6]][4]
        found = []
        for name, _, _, _, value, _ in self._table(_SYMBOL, section[4], section[5]):
            start = names + name
            found.append((self._data[start : self._data.index(b"\0", start)].decode(), value))
        return found

    @cached_property
    def pointers(self) -> dict[int, int]:
        """Addresses that the loader writes: where, and what."""
        found = {}
        for row in self._sections:
            if row[1] == _RELOCATIONS:
                for place, info, addend in self._table(_RELOCATION, row[4], row[5]):
                    if info & 0xFFFFFFFF == _ADDRESS_OF_SYMBOL:
                        found[place] = self._symbols[info >> 32][1] + addend
        return found

    def address(self, name: str) -> int:
        """Address of a global variable."""
        for symbol, value in self._symbols:
            if symbol == name:
                return value
        raise ValueError(f"no variable {name}")

    def read(self, address: int, size: int) -> bytes:
        """Bytes of memory as the file gives them, before the loader writes `pointers`."""
        for _, _, offset, start, _, in_file, _, _ in self._segments:
            if start <= address and address + size <= start + in_file:
                return self._data[offset + address - start :][:size]
        raise ValueError(f"no {size} bytes at {address:#x}")
