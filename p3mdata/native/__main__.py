"""`python -m p3mdata.native` compiles the library in place."""

import sys

from p3mdata.native.compiling import CannotCompile, compile_library


def main() -> int:
    """Make the library, and say so."""
    try:
        print(f"compiled: {compile_library()}")
    except CannotCompile as exc:
        print(f"not compiled: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
