"""Layouts of datasets: which sets there are and which folder holds what; declared in manifests/layouts/*.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from p3mdata.base.parsing import fault, read_yaml
from p3mdata.base.resources import manifests_dir
from p3mdata.config import OBFUSCATIONS
from p3mdata.errors import SettingsError

OBFUSCATED = {method: said.folder for method, said in OBFUSCATIONS.items()}
# Colour pictures, and one-channel ones.
PICTURES = ("image", "foreground", "background")
KINDS = (*PICTURES, "alpha", "trimap", "facemask")
_PLACEHOLDER = "{obfuscated}"


class Content(str, Enum):
    """What the pictures of a set show: obfuscated faces, or nothing that is private."""

    OBFUSCATED = "obfuscated"
    FREE = "free"


class SetLayout(BaseModel):
    """One set: its folder below the dataset, and the folder of each kind of file below that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    content: Content = Content.OBFUSCATED
    folders: dict[str, str] = Field(min_length=2)


class Layout(BaseModel):
    """A dataset's sets by name, in order: training, obfuscated validation, free validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sets: dict[str, SetLayout] = Field(min_length=1)

    def folder(self, name: str, kind: str, obfuscated: str) -> str:
        """Folder of a kind of file of a set, relative to the dataset, POSIX."""
        chosen = self.sets[name]
        return f"{chosen.path}/{chosen.folders[kind]}".replace(_PLACEHOLDER, obfuscated)

    @property
    def training(self) -> str:
        """The first obfuscated set."""
        return self._of(Content.OBFUSCATED, 0)

    @property
    def validation(self) -> str | None:
        """The second obfuscated set, if there is one."""
        return self._of(Content.OBFUSCATED, 1) or None

    @property
    def free(self) -> str | None:
        """The set without private content, if there is one."""
        return self._of(Content.FREE, 0) or None

    def _of(self, content: Content, number: int) -> str:
        names = [name for name, chosen in self.sets.items() if chosen.content is content]
        return names[number] if len(names) > number else ""

    def renamed(self, names: dict[str, str]) -> Layout:
        """The same layout with other names of sets; the last part of a set's folder follows its name.

        Raises:
            SettingsError: A name is not of this layout, or two sets get one name.
        """
        if unknown := sorted(set(names) - set(self.sets)):
            raise SettingsError(f"layout {self.name}: has no set '{unknown[0]}'. Sets: {', '.join(self.sets)}.")
        sets = {names.get(old, old): _moved(chosen, old, names.get(old, old)) for old, chosen in self.sets.items()}
        if len(sets) < len(self.sets):
            raise SettingsError(f"layout {self.name}: two sets cannot have one name.")
        return self.model_copy(update={"sets": sets})


def _moved(chosen: SetLayout, old: str, new: str) -> SetLayout:
    head, _, tail = chosen.path.rpartition("/")
    return chosen.model_copy(update={"path": f"{head}/{new}".lstrip("/") if tail == old else chosen.path})


def read_layout(name: str) -> Layout:
    """A layout that comes with the tool by name, or one of your own by path.

    Raises:
        SettingsError: There is none of this name, or the file is no layout.
    """
    own = {path.stem: path for path in sorted((manifests_dir() / "layouts").glob("*.yaml"))}
    path = own.get(name) or Path(name)
    if path.suffix != ".yaml":
        raise SettingsError(f"{name}: no layout has this name. Give one of {', '.join(own)}, or a YAML file.")
    try:
        layout = Layout(**read_yaml(path))
    except (ValidationError, TypeError) as exc:
        raise SettingsError(f"{path}: is no layout ({fault(exc)}).") from exc
    for set_name, chosen in layout.sets.items():
        if unknown := sorted(set(chosen.folders) - set(KINDS)) or sorted({"image", "alpha"} - set(chosen.folders)):
            raise SettingsError(f"{path}: set '{set_name}' has a wrong or missing folder kind '{unknown[0]}'.")
        if any(part in ("..", "") for part in (*chosen.path.split("/"), *chosen.folders.values())):
            raise SettingsError(f"{path}: set '{set_name}' points outside the dataset.")
    return layout


def layouts() -> Iterator[Layout]:
    """All layouts that come with the tool."""
    for path in sorted((manifests_dir() / "layouts").glob("*.yaml")):
        yield read_layout(path.stem)
