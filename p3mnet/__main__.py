"""`python -m p3mnet`."""

from p3mnet.cli import main

if __name__ == "__main__":
    main()
