"""Compiled arithmetic: a small C library for the loops that numpy and OpenCV have no fast form of.

It is made when p3mdata is installed, by the machine's C compiler or one that is there for that alone, and is never
needed: whoever calls it has another way that gives the same bytes. The library knows nothing of Python; sizes are
checked on this side, each call works on memory of the caller alone, and all instruction sets (`LEVELS`) give the same
bytes.
"""

from p3mdata.native.library import LEVELS, VARIABLE, Library, finding, library

__all__ = ["LEVELS", "VARIABLE", "Library", "finding", "library"]
