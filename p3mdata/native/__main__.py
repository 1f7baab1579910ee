"""`python -m p3mdata.native` compiles the library in place."""

import sys

from p3mdata.native.compiling import HERE, CannotCompile, compile_library
from p3mdata.native.library import load


def main() -> int:
    """Make the library, and say so."""
    try:
        print(f"compiled: {compile_library()}")
    except CannotCompile as exc:
        if load(HERE)[0] is not None:
            print(f"compiled before, from these sources; not anew: {exc}")
            return 0
        print(f"not compiled: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
