"""What train-checks measured: the cost of training on faces that are obfuscated in some way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from p3mdata.base.jsonl import read_json
from p3mdata.errors import SettingsError
from p3mdata.typing import Json

_REPORT = "report.json"
# Normal photographs of the obfuscated validation set: where train-checks judge the cost.
_JUDGED = "P-normal"


@dataclass(frozen=True)
class Measured:
    """The cost of one obfuscation: SAD of B:N - N:N on photographs as taken.

    Attributes:
        value: Mean difference; above 0, training on obfuscated faces is worse.
        low, high: Its 95 % interval; None where there was one seed or one picture.
        base: SAD of N:N.
        benchmark: False for the smoke check of a machine without a GPU, which is no evidence.
    """

    value: float
    low: float | None
    high: float | None
    base: float
    benchmark: bool

    def words(self) -> str:
        """The figure with what it is worth."""
        span = "" if self.low is None or self.high is None else f" ({self.low:+.2f} to {self.high:+.2f})"
        kind = "" if self.benchmark else ", by a smoke check that is no evidence"
        return f"{self.value:+.2f} SAD{span} on {self.base:.2f}{kind}"

    def to_json(self) -> Json:
        return dict(vars(self))


def read_costs(folders: Iterable[Path]) -> dict[str, Measured]:
    """Costs by what was done to faces, as `Settings.named` says it; a later folder goes before an earlier one.

    Args:
        folders: Of `p3mdata train-check`.

    Raises:
        SettingsError: A folder holds no train-check, one of an earlier version, or one that measured no cost.
    """
    found: dict[str, Measured] = {}
    for folder in folders:
        path = folder / _REPORT
        if not path.is_file():
            raise SettingsError(f"{folder}: holds no train-check. Give a folder that 'p3mdata train-check' wrote.")
        report = read_json(path)
        try:
            domains, benchmark = report["domains"], report["scale"] == "full"
            mine = {
                domains[row["domain"]]: Measured(
                    **{part: row["metrics"]["SAD"][part] for part in ("value", "low", "high", "base")},
                    benchmark=benchmark,
                )
                for row in report["costs"]
                if row["test"] == _JUDGED and "SAD" in row["metrics"] and domains.get(row["domain"])
            }
        except (KeyError, TypeError, AttributeError):
            raise SettingsError(
                f"{path}: does not say which obfuscations it trained on. Run 'p3mdata train-check' again into {folder}."
            ) from None
        if not mine:
            raise SettingsError(
                f"{path}: measured no cost. Run the train-check with --originals, and with --each-method for more than "
                "the dataset's own obfuscation."
            )
        found |= mine
    return found
