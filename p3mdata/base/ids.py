"""Ids of source files: names from which nobody who lacks the run's secret can tell a photograph."""

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from p3mdata.errors import SettingsError

# What plan.json and dataset.json say about ids; those that say nothing are older than secrets.
IDS, KEYED = "ids", "secret"

_SEED_DOMAIN, _SECRET_DOMAIN = b"p3mdata.id.v1", b"p3mdata.id.v2/"
_ID_HEX = 20
# Copies of one file get -2, -3 and on.
ID = re.compile(rf"[0-9a-f]{{{_ID_HEX}}}(-[0-9]+)?")
_SECRET = re.compile("[0-9a-f]{64}")
# More than a secret and the end of its line.
_MOST_CHARACTERS = 80


def new_secret() -> str:
    """256 random bits as 64 hex digits."""
    return secrets.token_hex(32)


def read_secret(path: Path) -> str:
    """The secret in a file.

    Raises:
        SettingsError: It cannot be read, or holds no secret.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_CHARACTERS).decode("ascii", "replace").strip()
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read ({exc.strerror or exc}). Check the path of the secret.") from exc
    if not _SECRET.fullmatch(text):
        raise SettingsError(
            f"{path}: holds no secret of 64 hex digits. Give private/secret of a run, or what 'openssl rand -hex 32' "
            "writes."
        )
    return text


def sample_id(digest: str, source: str, seed: int, secret: str | None) -> str:
    """Id of a source: a keyed hash of its content. A file without readable content is named by its path.

    Args:
        digest: Hex SHA-256 of the content, '' without one.
        source: Path of the file.
        seed: Of the run's settings; another one gives other ids under the same secret.
        secret: Of the run; None for runs planned before runs had one, whose ids anybody with the photograph can make.
    """
    content = digest or f"unreadable:{source}"
    key = _SEED_DOMAIN if secret is None else _SECRET_DOMAIN + bytes.fromhex(secret)
    found = hmac.new(key + str(seed).encode(), content.encode("utf-8", "surrogateescape"), hashlib.sha256)
    return found.hexdigest()[:_ID_HEX]
