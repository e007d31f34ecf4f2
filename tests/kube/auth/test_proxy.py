"""Which environment leads through a proxy: the rules of Go's `httpproxy`, which kubectl follows."""

from __future__ import annotations

import pytest

from kpo_async.kube.auth.proxy import proxy_from_environment

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("server", "excepted", "direct"),
    [
        pytest.param("https://api.example.com", "", False, id="nothing excepted"),
        pytest.param("https://api.example.com", "*", True, id="all"),
        pytest.param("https://api.example.com", "example.com", True, id="domain"),
        pytest.param("https://example.com", "example.com", True, id="domain itself"),
        pytest.param("https://badexample.com", "example.com", False, id="no part of a name"),
        pytest.param("https://example.com", ".example.com", False, id="only below the domain"),
        pytest.param("https://api.example.com", ".example.com", True, id="below the domain"),
        pytest.param("https://api.example.com", "*.example.com", True, id="star domain"),
        pytest.param("https://API.Example.com", " other , EXAMPLE.com ", True, id="case and blanks"),
        pytest.param("https://api.example.com:6443", "api.example.com:6443", True, id="port"),
        pytest.param("https://api.example.com:6443", "api.example.com:443", False, id="another port"),
        pytest.param("https://api.example.com", "api.example.com:443", True, id="default port"),
        pytest.param("https://10.1.2.3:6443", "10.0.0.0/8", True, id="network"),
        pytest.param("https://11.1.2.3:6443", "10.0.0.0/8", False, id="another network"),
        pytest.param("https://10.1.2.3:6443", "10.1.2.3", True, id="address"),
        pytest.param("https://10.1.2.3:6443", "10.1.2.3:6443", True, id="address and port"),
        pytest.param("https://10.1.2.3:6443", "2.3", False, id="no suffix of an address"),
        pytest.param("https://[fd00::1]:6443", "fd00::/8", True, id="IPv6 network"),
        pytest.param("https://[fd00::1]:6443", "[fd00::1]:6443", True, id="IPv6 address and port"),
        pytest.param("https://[fd00::1]:6443", "fd00::1", True, id="IPv6 address"),
        pytest.param("https://[fd00::1]:6443", "10.0.0.0/8", False, id="IPv6 and a network of IPv4"),
        pytest.param("https://api.example.com", "nonsense/99,,", False, id="nonsense"),
        pytest.param("https://localhost:6443", "", True, id="localhost"),
        pytest.param("https://127.0.0.1:6443", "", True, id="loopback"),
        pytest.param("https://[::1]:6443", "", True, id="IPv6 loopback"),
    ],
)
def test_no_proxy(server: str, excepted: str, direct: bool) -> None:
    environ = {"HTTPS_PROXY": PROXY, "NO_PROXY": excepted}
    assert proxy_from_environment(server, environ) == (None if direct else PROXY)


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"https_proxy": PROXY}, PROXY, id="lower case"),
        pytest.param({"HTTPS_PROXY": "proxy:1"}, "http://proxy:1", id="no scheme"),
        pytest.param({"HTTP_PROXY": PROXY}, None, id="for http only"),
        pytest.param({"https_proxy": PROXY, "no_proxy": "api"}, None, id="lower case exception"),
    ],
)
def test_the_variable_of_the_scheme_counts(environ: dict[str, str], proxy: str | None) -> None:
    assert proxy_from_environment("https://api", environ) == proxy
