"""Compare resourceVersions. Pure.

The versions of one resource are growing decimal integers (KEP-5504). Other strings can only be equal or different.
Different ones count as newer, because the latest response of a server is the best knowledge there is.
"""

from __future__ import annotations


def is_older(version: str, than: str) -> bool:
    """Whether `version` is known to come before `than`."""
    if version == than or not (version.isdecimal() and than.isdecimal()):
        return False
    return (len(version), version) < (len(than), than)
