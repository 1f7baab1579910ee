"""The first lines of the command line: Ctrl-C while the rest is still imported ends like any other interruption."""

import sys

from p3mdata.errors import EXIT_INTERRUPTED


def main() -> None:
    """Run the command line of this process."""
    try:
        from p3mnet.cli import main as run
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
