"""Sequences of millions that do not lie in memory: kept in a temporary file, or made when they are asked for."""

from __future__ import annotations

import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from p3mdata.errors import SettingsError

S = TypeVar("S")
T = TypeVar("T")


class Each(Sequence[T], Generic[S, T]):
    """What a function makes of each item of a sequence, made anew whenever it is asked for."""

    def __init__(self, make: Callable[[S], T], items: Sequence[S]) -> None:
        self._make, self._items = make, items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return map(self._make, self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Each[S, T]: ...
    def __getitem__(self, index: int | slice) -> T | Each[S, T]:
        if isinstance(index, slice):
            return Each(self._make, self._items[index])
        return self._make(self._items[index])


class Spool(Sequence[T]):
    """Items in a temporary file, with 16 bytes of each in memory; what is changed in an item that was read is not kept.

    The file has no name, so that nothing is left of it however the process ends. It is read, not mapped: pages of a
    mapped file count as memory of the process.

    Args:
        items: The first ones.

    Raises:
        SettingsError: The folder for temporary files cannot be written.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        try:
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (open as long as this is)
        except OSError as exc:
            raise _unwritable(exc) from exc
        weakref.finalize(self, file.close)
        self._descriptor, self._end = file.fileno(), 0
        self._starts, self._sizes = array("q"), array("q")
        for item in items:
            self.append(item)

    def append(self, item: T) -> None:
        """Add an item behind the others."""
        start, size = self._write(item)
        self._starts.append(start)
        self._sizes.append(size)

    def __setitem__(self, index: int, item: T) -> None:
        self._starts[index], self._sizes[index] = self._write(item)

    def _write(self, item: T) -> tuple[int, int]:
        data, start = memoryview(pickle.dumps(item, pickle.HIGHEST_PROTOCOL)), self._end
        try:
            while data:
                written = os.pwrite(self._descriptor, data, self._end)
                data, self._end = data[written:], self._end + written
        except OSError as exc:
            raise _unwritable(exc) from exc
        return start, self._end - start

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Each[int, T]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Each(self.__getitem__, range(len(self))[index])
        return pickle.loads(os.pread(self._descriptor, self._sizes[index], self._starts[index]))


def _unwritable(exc: OSError) -> SettingsError:
    return SettingsError(
        f"the folder for temporary files cannot be written ({exc.strerror or exc}). Make room, or set TMPDIR to "
        "another folder."
    )
