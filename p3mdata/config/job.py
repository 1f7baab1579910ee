"""How a run is carried out, and on which folders; but for the ids nothing here changes a byte of the result."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, WrapValidator, field_validator, model_validator

from p3mdata.base.addresses import is_address, is_remote, location, staging_folder
from p3mdata.config.settings import Settings, Strict


class Executor(str, Enum):
    """Who does the shards: processes of this machine, or actors on a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


class Execution(Strict):
    """How a run is carried out; but for the ids, which follow the secret, nothing here changes a byte of the result."""

    workers: int = Field(0, ge=0, description="worker processes; 0 = as many as cores and memory allow")
    limit: int | None = Field(None, ge=1, description="take only the first N source files")
    files: Path | None = Field(None, description="take only the source files of this list, one path below SRC per line")
    secret_file: Path | None = Field(
        None, description="private/secret of another run, so that equal photographs get equal ids; absent = a new one"
    )
    overwrite: bool = Field(False, description="delete an earlier run in OUT first; its secret, and so its ids, stay")
    task: str | None = Field(
        None, description="K/N: do task K of N (from 1) of a run that N calls on one or many machines share"
    )

    executor: Executor = Field(Executor.LOCAL, description="local processes, or ray: actors on the nodes of a cluster")
    address: str | None = Field(
        None, description="with --executor ray: the cluster; absent = RAY_ADDRESS, or this machine"
    )

    @field_validator("task")
    @classmethod
    def _is_a_task(cls, value: str | None) -> str | None:
        number, _, of = (value or "1/1").partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ValueError("must be K/N with K from 1 to N, such as 3/8")
        return value

    @property
    def task_number(self) -> tuple[int, int] | None:
        """Number of the task, from 1, and how many there are; None when this call does the whole run."""
        if self.task is None:
            return None
        number, _, of = self.task.partition("/")
        return int(number), int(of)


def _local_or_remote(value: Any, check: Callable[[Any], Any]) -> Any:
    there = location(value)
    return there if is_remote(there) else check(there)


# A local path, or an address such as s3://bucket/photos.
Folder = Annotated[Path, WrapValidator(_local_or_remote)]


class Job(Strict):
    """One `anonymize` stage: a source folder, its companions, where to, and the settings.

    Attributes:
        chosen: Paths below the source folder that are taken, where single files were named; empty takes all.
        out: The run folder; given an address, the folder of this machine in which the run is staged.
        store: The run's address in an object store; None when the run is `out`.
    """

    source: Folder
    out: Path
    alphas: Folder | None = None
    trimaps: Folder | None = None
    masks: Folder | None = None
    settings: Settings = Settings()
    execution: Execution = Execution()
    store: Folder | None = None
    chosen: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _staged(cls, values: Any) -> Any:
        """An OUT that is an address becomes `store`."""
        if not isinstance(values, dict) or not is_address(values.get("out", "")):
            return values
        there = location(str(values["out"]).rstrip("/"))
        if not is_remote(there):
            return {**values, "out": there}
        task = getattr(values.get("execution"), "task", None)
        return {**values, "store": there, "out": staging_folder(there, task)}

    @property
    def place(self) -> Path:
        """Where the run lies for its user: a folder or an address."""
        return self.out if self.store is None else self.store
