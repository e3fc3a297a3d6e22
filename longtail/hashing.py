"""Hashes of strings that are the same on every machine and in every process."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def stable_hash(strings: Iterable[str], *, seed: int = 0) -> NDArray[np.uint64]:
    """BLAKE2b-64 (RFC 7693) of each string's UTF-8 form, keyed with the seed.

    Python's own ``hash`` changes from process to process, and NumPy's generators may change from
    version to version; this does neither.

    Args:
        strings: any strings; lone surrogates are hashed as they stand.
        seed: key of the hash, 0 … 2⁶⁴ − 1; another seed gives an unrelated order.

    Returns:
        One unsigned 64-bit number per string, shape (n,).
    """
    keyed = blake2b(digest_size=8, key=seed.to_bytes(8, "little"))
    digests = []
    for text in strings:
        hasher = keyed.copy()
        hasher.update(text.encode("utf-8", "surrogatepass"))
        digests.append(hasher.digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
