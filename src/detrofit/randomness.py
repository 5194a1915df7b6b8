"""Seeds of independent random streams, derived from keys by hashing, so that no stream depends on another's use."""

from __future__ import annotations

import hashlib


def derive_seed(*keys: int | str) -> int:
    """A 63-bit seed for the stream named by `keys`, e.g. `derive_seed(seed, "augment", epoch, image)`.

    The same keys give the same seed on every platform and in every process; any other keys an unrelated one.
    """
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in keys)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
