"""What a person meets when things go wrong, case by case, beside an earlier version.

    python -m benchmarks.robustness                                     # all cases on this checkout
    python -m benchmarks.robustness --base ../earlier                   # beside another one
    python -m benchmarks.robustness --case torn --case fetch            # those whose words hold one of these

Every case goes through the command line, `python -m p3mdata` of a checkout, with the real detectors, on six small
pictures that are made here (21 photographs for the test of membership: those of $P3MDATA_SHARED/testdata where it is
there). A kill comes at the N-th file that gets its name; a signal while the program is still loading comes at a fixed
import. The store is moto's S3 server on this machine; the full disk is a tmpfs, which needs root to be mounted.

Prints a table in Markdown. Exit 1 when this checkout does not come to what is right in a case; the earlier one may.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.robustness_ends import CASES as ENDS
from benchmarks.robustness_runs import CASES as RUNS
from benchmarks.robustness_tool import NOT_TRIED, ROOT, Tool


def row_of(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, action="append", default=[], help="another checkout, shown before this")
    parser.add_argument("--case", action="append", help="only those whose words hold this")
    args = parser.parse_args()
    cases = [
        case
        for case in (*RUNS, *ENDS)
        if (not args.case or any(text in f"{case.point}: {case.words}" for text in args.case))
    ]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="p3mdata-robustness-") as place:
        tools = []
        for number, checkout in enumerate([*args.base, ROOT]):
            folder = Path(place).resolve() / str(number)
            folder.mkdir()
            tools.append(Tool(checkout.resolve(), folder))
        print(row_of(["case", *(tool.checkout.name for tool in tools)]))
        print(row_of(["---"] * (1 + len(tools))), flush=True)
        for number, case in enumerate(cases):
            seen = []
            for tool in tools:
                at = tool.place / f"case-{number}"
                at.mkdir()
                try:
                    seen.append(case.see(tool, at))
                except Exception as exc:
                    seen.append(f"{NOT_TRIED}{type(exc).__name__}: {exc}")
                shutil.rmtree(at, ignore_errors=True)
            print(row_of([f"{case.point}: {case.words}", *seen]), flush=True)
            if seen[-1] != case.right:
                wrong += 1
                print(f"right would be: {case.right}", file=sys.stderr, flush=True)
    print(f"{len(cases)} cases, {wrong} not as they should be", file=sys.stderr)
    sys.exit(1 if wrong or not cases else 0)


if __name__ == "__main__":
    main()
