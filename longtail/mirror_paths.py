"""Where this machine keeps the mirror of a store that is elsewhere; nothing is made or asked."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

VARIABLE = "LONGTAIL_MIRROR"


def is_remote(store: str) -> bool:
    """Whether a store's name is a URL of another place than this machine's files."""
    return "://" in store and not store.startswith("file://")


def normal_url(url: str) -> str:
    """One spelling of a URL, so that it has one mirror."""
    protocol, _, path = url.partition("://")
    return f"{'s3' if protocol == 's3a' else protocol}://{path.strip('/')}"


def directory_of(url: str) -> Path:
    """The mirror's directory, below $LONGTAIL_MIRROR or in the user's cache."""
    url = normal_url(url)
    if named := os.environ.get(VARIABLE):
        base = Path(named)
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtail"
    readable = re.sub(r"[^a-z0-9]+", "-", url.partition("://")[2].lower()).strip("-")[:40]
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    return base.expanduser().resolve() / f"{readable}-{digest}"
