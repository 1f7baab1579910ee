"""The first lines of the command line: an interruption while the rest is still imported ends like any other."""

from collections.abc import Callable

from p3mdata.base.streams import start


def _load() -> Callable[[], None]:
    from p3mnet.cli import main

    return main


def main() -> None:
    """Run the command line of this process."""
    start(_load)


if __name__ == "__main__":
    main()
