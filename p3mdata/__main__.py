"""`python -m p3mdata`."""

from p3mdata.cli import main

if __name__ == "__main__":
    main()
