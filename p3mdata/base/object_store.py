"""A run's files in an object store: put whole, read, listed, removed; a fault is one sentence.

A put is what a rename is in a folder: a name shows nothing, the old content, or all of the new one.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from p3mdata.base.addresses import as_os_error
from p3mdata.base.files import atomic
from p3mdata.errors import StoreError

_T = TypeVar("_T")
# Requests under way at a time, each with one file in memory.
_AT_ONCE = 8
_BLOCK = 1 << 22
# How often an object is read again that somebody put meanwhile.
_REREADS = 5
# Stores without folders; asking them to make one costs a request for each file, and may make a bucket.
_FLAT = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "memory"})


class _Overwritten(StoreError):
    """An object changed between two parts of it."""


class Store:
    """The files of one run; names are those of a run folder, such as images/ID.jpg.

    Every method raises StoreError when the store fails.

    Args:
        root: Address of the run, a `upath.UPath`.
    """

    def __init__(self, root: Any) -> None:
        self.root = root
        self._fs: Any = root.fs
        self._path = root.path.rstrip("/")
        self._flat = root.protocol in _FLAT

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""

        def work(path: str) -> None:
            self._make_folder(path)
            self._fs.pipe_file(path, data)

        self._call("written", name, work)

    def put_file(self, name: str, file: Path) -> None:
        """Write an object from a file of any size."""

        def work(path: str) -> None:
            self._make_folder(path)
            self._fs.put_file(str(file), path)

        self._call("written", name, work)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object if there is none of that name; False when there is."""

        def work(path: str) -> None:
            self._make_folder(path)
            self._fs.pipe_file(path, data, mode="create")

        try:
            self._call("written", name, work)
        except StoreError:
            if self.has(name):
                return False
            # A store that cannot put under a condition; one that fails says so again.
            self.put(name, data)
        return True

    def get(self, name: str) -> bytes | None:
        """Content of an object; None when there is none."""
        data: bytes | None = self._call("read", name, self._fs.cat_file, missing=None)
        return data

    def get_file(self, name: str, file: Path, mode: int = 0o644) -> bool:
        """Write an object's content into a file, atomically; False when there is no such object.

        Raises:
            OSError: The file cannot be written.
        """
        for _ in range(_REREADS):
            with contextlib.suppress(_Overwritten):
                return self._copy(name, file, mode)
        return self._copy(name, file, mode)

    def _copy(self, name: str, file: Path, mode: int) -> bool:
        self._forget()
        source = self._call("read", name, lambda path: self._fs.open(path, "rb"), missing=None)
        if source is None:
            return False
        with source, atomic(file, mode) as sink:
            while block := self._call("read", name, lambda path: source.read(_BLOCK)):
                sink.write(block)
        return True

    def has(self, name: str) -> bool:
        """Whether there is such an object."""

        def work(path: str) -> bool:
            self._forget()
            return bool(self._fs.exists(path))

        return bool(self._call("read", name, work))

    def remove(self, name: str) -> None:
        """Remove an object, if there is one."""

        def work(path: str) -> None:
            self._forget()
            self._fs.rm_file(path)

        self._call("removed", name, work, missing=None)

    def names(self, folder: str) -> Iterator[str]:
        """Names of all objects below a folder."""
        yield from self._listed(folder, self._fs.find)

    def top(self) -> Iterator[str]:
        """Names of the objects and folders directly below the root."""
        for name in self._listed("", lambda path: self._fs.ls(path, detail=False)):
            yield name.strip("/")

    def modified(self, name: str) -> float:
        """When an object was written, in seconds since 1970."""

        def work(path: str) -> float:
            self._forget()
            return float(self._fs.modified(path).timestamp())

        return float(self._call("read", name, work))

    def each(self, work: Callable[[_T], object], items: Iterable[_T]) -> None:
        """Call a function for each item, several at a time; what one raises is raised when none is under way."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _listed(self, folder: str, work: Callable[[str], Iterable[str]]) -> Iterator[str]:
        def listing(path: str) -> list[str]:
            self._forget()
            return list(work(path))

        path = self._where(folder)
        for found in self._call("listed", folder, listing, missing=[]):
            if (name := found.strip("/")) != path.strip("/"):
                yield name[len(self._path.strip("/")) + 1 :]

    def _where(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def _forget(self) -> None:
        """Listings are kept by the libraries; other machines write meanwhile."""
        self._fs.invalidate_cache()

    def _make_folder(self, path: str) -> None:
        if not self._flat:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _call(self, verb: str, name: str, work: Callable[[str], Any], **otherwise: Any) -> Any:
        """Do something with an object; `missing` is the answer when there is none."""
        try:
            return as_os_error(lambda: work(self._where(name)))
        except OSError as exc:
            if isinstance(exc, FileNotFoundError) and "missing" in otherwise:
                return otherwise["missing"]
            reason = " ".join(str(exc.strerror or exc).split()) or type(exc).__name__
            # An object that was put again while it was read in parts.
            fault = _Overwritten if exc.errno == errno.EBUSY else StoreError
            raise fault(
                f"{self.root}{'/' * bool(name)}{name}: cannot be {verb} ({reason}). Check the address, your rights and "
                "the network, then run the same command again."
            ) from exc
