"""Text that comes in, as YAML or values: limits on size, and one sentence for what a schema refuses."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from p3mdata.errors import SettingsError, reason_of
from p3mdata.typing import Json

# Characters.
_MOST_OF_A_FAULT = 160
# Of a YAML file: ten aliases of ten aliases, and so on, are a small file that nobody can print.
_MOST_VALUES = 100_000
# Of a record. Floats tell whole numbers apart up to here.
_MOST_COUNTED = 1 << 53

T = TypeVar("T")
# By class of records; each is made in milliseconds.
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def fault(exc: Exception) -> str:
    """What is wrong, on one line and short, whatever the values are that somebody wrote."""
    if not isinstance(exc, ValidationError):
        return " ".join(f"{type(exc).__name__}: {exc}".split())[:_MOST_OF_A_FAULT]
    first = exc.errors(include_url=False, include_context=False)[0]
    key = ".".join(reprlib.repr(part).strip("'") for part in first["loc"]) or "settings"
    return f"'{key}' cannot be {reprlib.repr(first['input'])}: {first['msg'].removeprefix('Value error, ')}"


def as_declared(record: T) -> T:
    """A dataclass that came from a file, whose fields hold what they are declared to hold.

    Raises:
        ValueError: One holds something else, a number that is none, or one that nobody counts to.
    """
    fields = asdict(cast(Any, record))
    # What is only like it, such as a number in quotes, is taken for it there, and differs from it here.
    kind: type[Any] = type(record)
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    if _ADAPTERS[kind].validate_python(fields) != record:
        raise ValueError("a value is not of its kind")
    if any(isinstance(value, int | float) and not abs(value) < _MOST_COUNTED for value in _values(fields)):
        raise ValueError("a number is too large")
    return record


def read_yaml(path: Path) -> Json:
    """A YAML mapping from a file.

    Raises:
        SettingsError: The file cannot be read, is not YAML, or is not a mapping.
    """
    # Most calls read none.
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read ({reason_of(exc)}). Check the path.") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        # Impossible dates are a ValueError to the library, deep nesting a RecursionError.
        raise SettingsError(f"{path}: is not valid YAML ({str(exc).splitlines()[0]}). Correct it.") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: must hold 'setting: value' lines.")
    if sum(1 for _ in itertools.islice(_values(content), _MOST_VALUES + 1)) > _MOST_VALUES:
        raise SettingsError(f"{path}: holds more than {_MOST_VALUES} values, or aliases of aliases. Write it plainly.")
    return content


def _values(content: Any) -> Iterator[Any]:
    """Everything in nested lists and mappings; what aliases name is counted as often as it is named."""
    todo = [content]
    while todo:
        value = todo.pop()
        yield value
        if isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            todo += value
