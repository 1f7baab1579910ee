"""One table of several train-checks: networks, integration modules or kinds of pasting beside each other. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from p3mdata.base.jsonl import read_json
from p3mdata.errors import RunFolderError
from p3mdata.typing import Json
from p3mnet.traincheck.layout import REPORT
from p3mnet.traincheck.statistics import told_spread

_METRICS = ("SAD", "SAD_T", "MSE", "MAD")


def comparison(checks: Sequence[Path]) -> tuple[list[Json], str]:
    """Rows of table 4 of each train-check, and the table in Markdown.

    Args:
        checks: Folders of train-checks, in the order of the lines.

    Raises:
        RunFolderError: A folder holds no train-check, or one that trained nothing.
    """
    reports = [(_title(report), report) for report in map(_report, checks)]
    rows = [{"network": title, "kind": report["kind"], **row} for title, report in reports for row in report["table_4"]]
    columns = list(dict.fromkeys((row["protocol"], row["test"]) for row in rows))
    lines = [f"# {len(reports)} train-checks", ""]
    lines += [f"Note: {kind}." for kind in sorted({report["kind"] for _, report in reports})]
    for metric in _METRICS:
        lines += ["", f"## {metric}, mean ± deviation over seeds", ""]
        lines.append("| network | " + " | ".join(f"{protocol} {test}" for protocol, test in columns) + " |")
        lines.append("|---" * (len(columns) + 1) + "|")
        for title, report in reports:
            cells = {(row["protocol"], row["test"]): row["metrics"].get(metric) for row in report["table_4"]}
            lines.append(f"| {title} | " + " | ".join(told_spread(cells.get(column)) for column in columns) + " |")
    return rows, "\n".join(lines) + "\n"


def _report(folder: Path) -> Mapping[str, Any]:
    if not (folder / REPORT).is_file():
        raise RunFolderError(f"{folder}: holds no train-check. Run 'p3mdata train-check' with --out {folder} first.")
    report = read_json(folder / REPORT)
    if not all(key in report for key in ("table_4", "settings", "kind")):
        raise RunFolderError(f"{folder / REPORT}: is damaged, or of another version. Run the train-check again.")
    return report


def _title(report: Mapping[str, Any]) -> str:
    settings = report["settings"]
    pasted = settings.get("copy_paste", "none")
    return str(settings.get("variant")) + ("" if pasted == "none" else f" + {pasted.upper()}")
