"""Where a task deliberately differs from the incumbent's (provider 10.25.0). Everything else is equal.

The table in `docs/migrating.md` is made from this. The parity test allows the differences of manifests and no others.
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One row: the subject, the incumbent's way, kpo_async's way, and why."""

    name: str
    incumbent: str
    here: str
    why: str


DIFFERENCES = (
    Difference(
        "name suffix",
        "8 random characters",
        "8 characters that follow from the task instance and its try number",
        "A create whose answer was lost is repeated without ever making a second pod.",
    ),
    Difference(
        "own marks",
        "none",
        "labels `kpo-async/managed`, `kpo-async/installation`, annotations `kpo-async/owner`, `kpo-async/task`",
        "The shared watch selects on the labels; the annotations say whose pod it is, for who did not make it.",
    ),
    Difference(
        "XCom sidecar",
        "an ordinary container that runs until it is killed through `pods/exec`",
        "a native sidecar (an init container with `restartPolicy: Always`) that hands the file over and ends by itself",
        "No `pods/exec` right, no pod that runs on for its sidecar alone. The classic one remains as an option.",
    ),
    Difference(
        "Secret volumes",
        "`secretvol` + a random UUID",
        "`secretvol` + a hash of the Secret's name, target and items",
        "The same parameters give the same manifest.",
    ),
    Difference(
        "forms",
        "most lists want models of `kubernetes`; dicts, tuples and `kubernetes_asyncio` raise or fail later",
        "dicts, lists, tuples and models of both clients are accepted everywhere, mixed",
        "Importing a client to write a DAG costs each parse 0.8 s.",
    ),
    Difference(
        "illegal names",
        "sent as they are: the server refuses `-x` and a label `-1a2b`, and never finds the second of `a, b`",
        "the nearest legal name",
        "It is plain what was meant.",
    ),
    Difference(
        "misspelt fields",
        "dropped without a word, by the provider or by the server: `run_as_user` in a dict runs as root",
        "snake_case is understood; any other field that Kubernetes does not know is refused, with the nearest one",
        "A field that is dropped is data lost, or a pod with other rights.",
    ),
    Difference(
        "impossible values",
        "sent to the server, which refuses them (`labels={'a': 1}`), or read oddly (`command: sh` becomes `[s, h]`)",
        "refused: when the DAG is parsed if it is known by then, else when the pod is built",
        "A mistake shows where it was made, with the parameter's name.",
    ),
)

AT_RUN_TIME = (
    Difference(
        "companions: ordinary containers beside the base container",
        "the task waits for all of them, for ever for one that never ends, and fails with any of them",
        "one that fails fails the task, unless `ignore_companions` names it; those that still run after the base "
        "container has ended well have `companion_grace_seconds=60`, then they are stopped with a warning",
        "An upload is not cut off, and a proxy that never ends does not hold the task. Containers that webhooks "
        "inject, native sidecars and the XCom sidecar count for neither.",
    ),
    Difference(
        "failed pods",
        "the exception shows the pod's status as Python text, over several lines",
        "the exception is one sentence with the cause, the log has a block, and the XCom `pod_diagnosis` the same "
        "as an object (category, message, pod, node, container, exit code, signal, reason, hints)",
        "A callback or an alert can branch on the category. `[kpo_async] push_diagnosis = off` leaves the XCom out.",
    ),
)
"""What differs after the manifest was sent."""
