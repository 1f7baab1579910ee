"""Fingerprints of files: whether what a run began with is what it goes on with."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

# A larger file is judged by its size and by pieces that are spread over it: compressed pictures that differ do so
# nearly everywhere, and their last bytes hold checksums.
_WHOLE = 1 << 20
_PIECES, _PIECE = 16, 1 << 16
_THREADS = 8


def fingerprint_of(path: Path) -> str:
    """Of a file's content; "absent" where there is none that can be read. Times and places do not matter."""
    try:
        size = path.stat().st_size
        with path.open("rb") as source:
            if size <= _WHOLE:
                return sha256(source.read()).hexdigest()[:16]
            digest = sha256(str(size).encode())
            for number in range(_PIECES):
                source.seek(number * (size - _PIECE) // (_PIECES - 1))
                digest.update(source.read(_PIECE))
            return digest.hexdigest()[:16]
    except OSError:
        return "absent"


def fingerprints_of(paths: Iterable[Path]) -> list[str]:
    """Fingerprints in the order of the paths; files are read by several threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(fingerprint_of, paths))
