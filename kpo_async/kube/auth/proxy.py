"""The proxy to an API server, from the environment variables that kubectl and every Go program read. Pure.

Unlike Python's own reading of NO_PROXY this knows networks (`10.0.0.0/8`), by which clusters are usually excepted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def proxy_from_environment(server: str, environ: Mapping[str, str]) -> str | None:
    """The URL of the proxy for `server`, or None for a direct connection. Loopback addresses never use a proxy."""
    url = urlsplit(server)
    host = (url.hostname or "").rstrip(".").lower()
    variable = f"{url.scheme}_proxy"
    proxy = environ.get(variable.upper()) or environ.get(variable)
    if not proxy or _is_loopback(host):
        return None
    port = url.port or (443 if url.scheme == "https" else 80)
    excepted = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if any(_matches(entry.strip().lower(), host, port) for entry in excepted.split(",") if entry.strip()):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY excepts the host: `*`, a network, an address or a domain, maybe with a port."""
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    if address is not None:
        return _address(name) == address
    domain = name.removeprefix("*")
    return host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith(f".{domain}")


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, int(rest[1:]) if rest[1:].isdecimal() else None
    name, colon, digits = entry.rpartition(":")
    if colon and ":" not in name and digits.isdecimal():
        return name, int(digits)
    return entry, None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
