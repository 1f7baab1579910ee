"""Addresses of what is not on this machine: s3://bucket/photos, gs://..., and whatever else fsspec opens.

They are `upath.UPath` objects, which have the methods of `pathlib.Path` that are used on sources. A run may be put
into a store as well (`store.py`, `staging.py`), but it is worked on in a folder of this machine: that needs locks and
renames, which object stores do not have.
"""

from __future__ import annotations

import errno
import re
import tempfile
from pathlib import Path
from typing import Any

from p3mdata.base.files import sha256
from p3mdata.base.system import user_mark
from p3mdata.errors import RunFolderError, SettingsError, SetupError

# As `Path` leaves an address: with one slash.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,3}(?=[^/])")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def location(path: Any) -> Any:
    """A local path as it is; an address as a remote path.

    Raises:
        SetupError: The library for such addresses is not installed.
        SettingsError: Nothing opens such addresses.
    """
    found = _ADDRESS.match(str(path))
    if found is None or is_remote(path):
        return path
    scheme, rest = found[1], str(path)[found.end() :]
    if scheme == "file":
        return Path("/" + rest)
    extra = _EXTRAS.get(scheme, "remote")
    try:
        from upath import UPath

        remote = UPath(f"{scheme}://{rest}")
        _ = remote.fs
    except ImportError as exc:
        library = exc.name or "another library"
        raise SetupError(f"{scheme}://{rest}: needs {library}: run pip install 'p3mdata[{extra}]'.") from exc
    except ValueError as exc:
        raise SettingsError(f"{scheme}://{rest}: cannot be opened ({exc}). Check the address.") from exc
    return remote


def is_address(path: Any) -> bool:
    """Whether a path reads like s3://bucket/photos."""
    return _ADDRESS.match(str(path)) is not None


def is_remote(path: Any) -> bool:
    """Whether a path is no path of this machine."""
    return not isinstance(path, Path | str)


def refuse_address(run: Any) -> None:
    """Refuse an address where a run folder is needed.

    Raises:
        RunFolderError: With the way out.
    """
    found = _ADDRESS.match(str(run))
    if found is not None and found[1] != "file":
        address = f"{found[1]}://{str(run)[found.end() :]}"
        raise RunFolderError(
            f"{address}: lies in an object store. Run 'p3mdata fetch {address} DIR' first, then use DIR."
        )


def staging_folder(store: Any, task: str | None) -> Path:
    """Where this machine works on a run that lies in a store; each task has a folder of its own."""
    digest = sha256(f"{store} {task or ''}".encode("utf-8", "surrogateescape"))
    return Path(tempfile.gettempdir()) / f"p3mdata-{user_mark()}-{digest[:16]}"


def entries(folder: Any) -> tuple[list[str], list[str]]:
    """Names of a remote folder's files and of its folders.

    Raises:
        OSError: It cannot be listed.
    """
    listed = as_os_error(lambda: folder.fs.ls(folder.path, detail=True))
    names: dict[str, list[str]] = {"file": [], "directory": []}
    own = folder.path.strip("/")
    for entry in listed:
        # Object stores list the folder itself where somebody made an empty object for it.
        if entry["name"].strip("/") != own:
            names[entry["type"]].append(entry["name"].rstrip("/").rpartition("/")[2])
    return names["file"], names["directory"]


def as_os_error(work: Any) -> Any:
    """Call a function of a remote store; its libraries' own errors become those of the operating system."""
    try:
        return work()
    except (OSError, MemoryError):
        raise
    except Exception as exc:
        raise OSError(errno.EIO, f"{type(exc).__name__}: {exc}") from exc
