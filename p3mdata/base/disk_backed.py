"""Sequences and mappings of millions that do not lie in memory: kept in a temporary file, or made when asked for."""

from __future__ import annotations

import pickle
import sqlite3
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any, Generic, TypeVar, overload

from p3mdata.base import system
from p3mdata.errors import SettingsError

S = TypeVar("S")
T = TypeVar("T")


class LazyMap(Sequence[T], Generic[S, T]):
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
    def __getitem__(self, index: slice) -> LazyMap[S, T]: ...
    def __getitem__(self, index: int | slice) -> T | LazyMap[S, T]:
        if isinstance(index, slice):
            return LazyMap(self._make, self._items[index])
        return self._make(self._items[index])


class DiskList(Sequence[T]):
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
            raise _unwritable(exc.strerror) from exc
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
                written = system.write_at(self._descriptor, data, self._end)
                data, self._end = data[written:], self._end + written
        except OSError as exc:
            raise _unwritable(exc.strerror) from exc
        return start, self._end - start

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> LazyMap[int, T]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return LazyMap(self.__getitem__, range(len(self))[index])
        return pickle.loads(system.read_at(self._descriptor, self._sizes[index], self._starts[index]))


class DiskDict(MutableMapping[str, T]):
    """Values by name in a temporary file, in the order of the names; in memory is a cache of two megabytes.

    What is changed in a value that was read is not kept. The number of values is counted when it is asked for.

    Args:
        items: The first ones; of equal names the last one counts.

    Raises:
        SettingsError: The folder for temporary files cannot be written.
        TypeError: A name is no string.
    """

    def __init__(self, items: Iterable[tuple[str, T]] = ()) -> None:
        # A database without a name is a file without one, which is there when the cache is full.
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._rows.close)
        self._run("PRAGMA journal_mode = OFF")
        self._run("CREATE TABLE shelf (name BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        # Never to be ended: nothing of it outlives the process.
        self._run("BEGIN")
        for name, value in items:
            self[name] = value

    def _run(self, statement: str, *values: bytes) -> sqlite3.Cursor:
        try:
            return self._rows.execute(statement, values)
        except sqlite3.OperationalError as exc:
            raise _unwritable(str(exc)) from exc

    def __setitem__(self, name: str, value: T) -> None:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._run("INSERT OR REPLACE INTO shelf VALUES (?, ?)", _key(name), data)

    def __getitem__(self, name: str) -> T:
        if (row := self._run("SELECT value FROM shelf WHERE name = ?", _key(name)).fetchone()) is None:
            raise KeyError(name)
        value: T = pickle.loads(row[0])
        return value

    def __delitem__(self, name: str) -> None:
        if not self._run("DELETE FROM shelf WHERE name = ?", _key(name)).rowcount:
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        for (name,) in self._run("SELECT name FROM shelf ORDER BY name"):
            yield name.decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        number: int = self._run("SELECT count(*) FROM shelf").fetchone()[0]
        return number


def _key(name: str) -> bytes:
    """Bytes in the order of the names, whatever is in them; file names may hold what is no character."""
    if not isinstance(name, str):
        raise TypeError(f"{type(name).__name__} is no name")
    return name.encode("utf-8", "surrogatepass")


def _unwritable(why: str | None) -> SettingsError:
    return SettingsError(
        f"the folder for temporary files cannot be written ({why}). Make room, or set TMPDIR to another folder."
    )
