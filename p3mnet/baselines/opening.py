"""From what a user writes to methods: 'closed-form', 'classic', 'gfm+icp', 'onnx:dim=FILE', 'pngs:shm=FOLDER'."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from p3mdata.errors import SettingsError, SetupError
from p3mnet.baselines import CATALOGUE, Entry, Family, Method
from p3mnet.baselines.onnx_file import OnnxFile, OnnxOptions

# Names of several methods at once.
GROUPS: Mapping[str, tuple[Family, ...]] = {
    "all": tuple(Family),
    "classic": (Family.CLASSIC,),
    "trimap-based": (Family.DEEP,),
    "trimap-free": (Family.FREE,),
}
# Labels become folders.
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Request:
    """One row of the tables that a user asked for.

    Attributes:
        label: Name of the row, unique; for networks the method's name, with what tells its training after a '+'.
        entry: Its title and family.
        kind: Of the catalogue, an ONNX file, or a folder of alphas.
        path: Checkpoint, file or folder.
        options: Of an ONNX file.
    """

    label: str
    entry: Entry
    kind: Literal["catalogue", "onnx", "pngs"] = "catalogue"
    path: Path | None = None
    options: OnnxOptions = field(default_factory=OnnxOptions)

    @property
    def title(self) -> str:
        """In tables."""
        tail = self.label.partition("+")[2]
        return f"{self.entry.title} + {tail}" if tail and self.kind == "catalogue" else self.entry.title


def parse_requests(
    methods: Iterable[str], checkpoints: Sequence[str] = (), options: Sequence[str] = ()
) -> list[Request]:
    """What was asked for, in that order.

    Args:
        methods: Names of the catalogue or of `GROUPS`, `onnx:[NAME=]FILE`, `pngs:NAME=FOLDER`; several in one string
            are parted by commas. Networks may carry '+' and a word, such as gfm+fcp, to stand there several times.
        checkpoints: 'NAME=FILE' for networks among `methods`.
        options: 'NAME.option=value' for ONNX files, see `OnnxOptions`.

    Raises:
        SettingsError: A name is unknown or there twice, or something looks otherwise.
    """
    found: dict[str, Request] = {}
    for request in _requests(methods):
        if request.label in found:
            if request == found[request.label]:
                continue
            raise SettingsError(f"--methods: two are called {request.label}. Give one another name with NAME=.")
        found[request.label] = request
    for label, path in _pairs("--checkpoint", checkpoints, "NAME=FILE"):
        request = _among(found, label, "--checkpoint")
        if request.kind != "catalogue" or not request.entry.trainable:
            raise SettingsError(f"--checkpoint {label}: has no weights to load; only networks of `p3mnet train` have.")
        found[label] = Request(label, request.entry, path=Path(path))
    given: dict[str, dict[str, Any]] = {}
    for key, value in _pairs("--onnx", options, "NAME.option=value"):
        label, _, option = key.rpartition(".")
        if _among(found, label, "--onnx").kind != "onnx":
            raise SettingsError(f"--onnx {key}: {label} is no ONNX file among --methods.")
        given.setdefault(label, {})[option] = yaml.safe_load(value)
    for label, chosen in given.items():
        request = found[label]
        found[label] = Request(label, request.entry, "onnx", request.path, _options(label, chosen))
    return list(found.values())


def open_method(request: Request, max_side: int, mode: Any, device: str) -> Method:
    """A method that is ready to predict; not for folders of alphas.

    Raises:
        SetupError: It cannot run here, or its file cannot be used.
    """
    if request.kind == "onnx":
        assert request.path is not None
        return OnnxFile(request.path, request.options, max_side, device)
    if request.entry.obstacle:
        raise SetupError(request.entry.obstacle)
    if request.entry.trainable:
        from p3mnet.baselines.network import Network

        return Network(request.entry.model, request.path, mode, device)
    from p3mnet.baselines.classic import Classic

    return Classic(request.entry.name, max_side)


def _requests(methods: Iterable[str]) -> Iterator[Request]:
    for word in (word.strip() for given in methods for word in given.split(",")):
        kind, colon, rest = word.partition(":")
        if word in GROUPS:
            yield from (Request(entry.name, entry) for entry in CATALOGUE.values() if entry.family in GROUPS[word])
        elif colon and kind in ("onnx", "pngs"):
            label, equals, path = rest.rpartition("=")
            label = label if equals else Path(path).stem
            if not path or not _LABEL.fullmatch(label) or (kind == "pngs" and not equals):
                raise SettingsError(
                    f"--methods {word}: must look like onnx:NAME=FILE or pngs:NAME=FOLDER, with a NAME of letters, "
                    "digits, dots, dashes and underscores."
                )
            known = CATALOGUE.get(label)
            yield Request(label, known or Entry(label, label, Family.FREE), kind, Path(path))  # type: ignore[arg-type]
        else:
            yield _of_catalogue(word)


def _of_catalogue(word: str) -> Request:
    name, plus, tail = word.partition("+")
    entry = CATALOGUE.get(name)
    if entry is None:
        close = difflib.get_close_matches(name, [*CATALOGUE, *GROUPS], 1, 0.5)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise SettingsError(f"--methods {word or 'nothing'}: there is no such method.{hint} See --methods list.")
    if plus and not (entry.trainable and tail and _LABEL.fullmatch(word) and "+" not in tail):
        raise SettingsError(f"--methods {word}: only networks carry one '+' and a word, such as gfm+fcp.")
    return Request(word, entry)


def _pairs(flag: str, given: Sequence[str], form: str) -> Iterator[tuple[str, str]]:
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise SettingsError(f"{flag} {pair}: must look like {form}.")
        yield name, value


def _among(found: Mapping[str, Request], label: str, flag: str) -> Request:
    if label not in found:
        raise SettingsError(f"{flag} {label}: is not among --methods ({', '.join(found)}).")
    return found[label]


def _options(label: str, given: Mapping[str, Any]) -> OnnxOptions:
    try:
        return OnnxOptions.model_validate(given)
    except ValidationError as exc:
        first = exc.errors()[0]
        known = ", ".join(OnnxOptions.model_fields)
        raise SettingsError(f"--onnx {label}.{first['loc'][0]}: {first['msg']}. Options: {known}.") from exc
