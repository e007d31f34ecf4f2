"""Which of two resourceVersions is the older one. Pure.

Versions of one resource are growing decimal integers (KEP-5504). Whatever else a server sends can only be told equal or
different; different then counts as newer, because the latest word of a server is the best there is.
"""

from __future__ import annotations


def is_older(version: str, than: str) -> bool:
    """Whether `version` is known to come before `than`."""
    if version == than or not (version.isdecimal() and than.isdecimal()):
        return False
    return (len(version), version) < (len(than), than)
