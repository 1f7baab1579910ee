"""Rows of CSV files that every reader takes for one row, whatever a file is called."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable


def csv_line(cells: Iterable[object]) -> str:
    """One row with its line feed; all cells are quoted where one holds a carriage return.

    Readers take a bare carriage return for the end of a row, and the writer of older Pythons leaves it bare.
    """
    told = [str(cell) for cell in cells]
    line = io.StringIO()
    quoting = csv.QUOTE_ALL if any("\r" in cell for cell in told) else csv.QUOTE_MINIMAL
    csv.writer(line, lineterminator="\n", quoting=quoting).writerow(told)
    return line.getvalue()
