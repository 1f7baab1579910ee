"""Ids of source files."""

import hashlib
import hmac

_ID_DOMAIN = b"p3mdata.id.v1"
_ID_HEX = 20


def sample_id(digest: str, source: str, seed: int) -> str:
    """Id of a source: a keyed hash of its content, so that no public name equals a hash of the source file.

    A file without readable content is named by its path.
    """
    content = digest or f"unreadable:{source}"
    key = _ID_DOMAIN + str(seed).encode()
    return hmac.new(key, content.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:_ID_HEX]
