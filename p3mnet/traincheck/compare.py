"""One table of several train-checks: networks, integration modules or kinds of pasting beside each other. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from p3mdata.base.jsonl import read_json
from p3mdata.base.parsing import fault
from p3mdata.errors import RunFolderError
from p3mdata.typing import Json
from p3mnet.traincheck.layout import REPORT
from p3mnet.traincheck.statistics import Spread, told_spread

_METRICS = ("SAD", "SAD_T", "MSE", "MAD")


class _Row(BaseModel):
    """A line of table 4; the rest of it goes through as it is."""

    model_config = ConfigDict(frozen=True, extra="allow")
    protocol: str
    test: str
    metrics: dict[str, Spread]


class _Settings(BaseModel):
    """What names a train-check among others."""

    variant: str
    copy_paste: str = "none"

    def title(self) -> str:
        return self.variant + ("" if self.copy_paste == "none" else f" + {self.copy_paste.upper()}")


class _Report(BaseModel):
    """What is compared of report.json."""

    kind: str
    settings: _Settings
    table_4: tuple[_Row, ...]


def comparison(checks: Sequence[Path]) -> tuple[list[Json], str]:
    """Rows of table 4 of each train-check, and the table in Markdown.

    Args:
        checks: Folders of train-checks, in the order of the lines.

    Raises:
        RunFolderError: A folder holds no train-check, or one that trained nothing.
    """
    reports = [(report.settings.title(), report) for report in map(_report, checks)]
    rows = [
        {"network": title, "kind": report.kind, **row.model_dump()}
        for title, report in reports
        for row in report.table_4
    ]
    columns = list(dict.fromkeys((row.protocol, row.test) for _, report in reports for row in report.table_4))
    lines = [f"# {len(reports)} train-checks", ""]
    lines += [f"Note: {kind}." for kind in sorted({report.kind for _, report in reports})]
    for metric in _METRICS:
        lines += ["", f"## {metric}, mean ± deviation over seeds", ""]
        lines.append("| network | " + " | ".join(f"{protocol} {test}" for protocol, test in columns) + " |")
        lines.append("|---" * (len(columns) + 1) + "|")
        for title, report in reports:
            cells = {(row.protocol, row.test): row.metrics.get(metric) for row in report.table_4}
            lines.append(f"| {title} | " + " | ".join(told_spread(cells.get(column)) for column in columns) + " |")
    return rows, "\n".join(lines) + "\n"


def _report(folder: Path) -> _Report:
    path = folder / REPORT
    if not path.is_file():
        raise RunFolderError(f"{folder}: holds no train-check. Run 'p3mdata train-check' with --out {folder} first.")
    try:
        return _Report.model_validate(read_json(path))
    except ValidationError as exc:
        raise RunFolderError(
            f"{path}: is damaged, or of another version ({fault(exc)}). Run the train-check again."
        ) from exc
