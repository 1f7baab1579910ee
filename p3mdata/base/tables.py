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
    bare = any("\r" in cell for cell in told)
    csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL).writerow(told)
    return line.getvalue()
