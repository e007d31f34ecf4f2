"""A watcher of its own, in a process of its own: when did each pod's end become visible to anybody?

Shares no code with what it judges: urllib, TLS, lines, json. Run with a kubeconfig, a namespace and an output file; it
says `watching` when it is, and on SIGTERM writes {pod: seconds since the epoch} and leaves.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import ssl
import sys
import tempfile
import time
import urllib.request
from base64 import b64decode
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

ENDED = (b'"phase":"Succeeded"', b'"phase":"Failed"')
_REQUESTS = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)


class RawCluster:
    """Plain HTTPS to the current context of a kubeconfig with a client certificate or a token."""

    def __init__(self, kubeconfig: str) -> None:
        document = yaml.safe_load(Path(kubeconfig).read_text())
        named = {kind: {entry["name"]: entry for entry in document[kind]} for kind in ("contexts", "clusters", "users")}
        context = named["contexts"][document["current-context"]]["context"]
        cluster = named["clusters"][context["cluster"]]["cluster"]
        user = named["users"][context["user"]]["user"]
        base = Path(kubeconfig).parent
        self.server = cluster["server"]
        self.headers = {"Authorization": f"Bearer {user['token']}"} if user.get("token") else {}
        self.tls = ssl.create_default_context(cadata=_material(cluster, "certificate-authority", base).decode() or None)
        if cluster.get("insecure-skip-tls-verify"):
            self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        if certificate := _material(user, "client-certificate", base):
            with tempfile.NamedTemporaryFile() as pair:
                pair.write(certificate + b"\n" + _material(user, "client-key", base))
                pair.flush()
                self.tls.load_cert_chain(pair.name)

    def open(self, path: str) -> Any:
        request = urllib.request.Request(self.server + path, headers=self.headers)
        return urllib.request.urlopen(request, context=self.tls)

    def requests_about_pods(self) -> Counter[str]:
        """How many requests about pods the server has answered so far, by verb. A watch counts when it ends."""
        with self.open("/metrics") as answer:
            text = answer.read().decode()
        counts: Counter[str] = Counter()
        for labels, value in _REQUESTS.findall(text):
            described = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if described.get("resource") == "pods":
                counts[described["verb"]] += int(float(value))
        return counts


def _material(section: dict[str, str], name: str, base: Path) -> bytes:
    if f"{name}-data" in section:
        return b64decode(section[f"{name}-data"])
    return (base / section[name]).read_bytes() if name in section else b""


def main() -> None:
    """Watch until told to stop."""
    kubeconfig, namespace, output = sys.argv[1:]
    ends: dict[str, float] = {}

    def leave(*_: object) -> None:
        Path(output).write_text(json.dumps(ends))
        sys.exit()

    signal.signal(signal.SIGTERM, leave)
    cluster = RawCluster(kubeconfig)
    path = f"/api/v1/namespaces/{namespace}/pods"
    print("watching", flush=True)
    while True:  # somebody may restart the API server
        with contextlib.suppress(OSError, http.client.HTTPException):
            watch(cluster, path, ends)
        time.sleep(0.1)


def watch(cluster: RawCluster, path: str, ends: dict[str, float]) -> None:
    """List and watch once; the present time goes into `ends` for every pod that is seen to have ended."""
    with cluster.open(path) as answer:
        listed = json.load(answer)
    for pod in listed["items"]:
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            ends.setdefault(pod["metadata"]["name"], time.time())
    version = listed["metadata"]["resourceVersion"]
    with cluster.open(f"{path}?watch=true&resourceVersion={version}") as answer:
        for line in answer:
            if any(phase in line for phase in ENDED):
                ends.setdefault(json.loads(line)["object"]["metadata"]["name"], time.time())
            elif line.startswith(b'{"type":"ERROR"'):
                print(line.decode()[:300], file=sys.stderr)


if __name__ == "__main__":
    main()
