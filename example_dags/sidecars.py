"""Containers beside the base container: one that serves it, and one that finishes its own work after it."""

from __future__ import annotations

from airflow.sdk import dag

from kpo_async.operators.pod import KubernetesPodOperator

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "spec": {
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "initContainers": [
            {
                # A native sidecar: it starts first, runs beside the others, and ends with them.
                "name": "clock",
                "image": "busybox:1.36",
                "restartPolicy": "Always",
                "command": ["sh", "-c", "while true; do date > /shared/now; sleep 1; done"],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            }
        ],
        "containers": [
            {"name": "base", "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]},
            {
                # A companion: it may go on for `companion_grace_seconds`, and fails the task if it fails.
                "name": "uploader",
                "image": "busybox:1.36",
                "command": [
                    "sh",
                    "-c",
                    "until [ -e /shared/done ]; do sleep 1; done; echo uploaded $(cat /shared/done)",
                ],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            },
        ],
    },
}


@dag(schedule=None, tags=["kpo-async"])
def sidecars() -> None:
    KubernetesPodOperator(
        task_id="work",
        image="busybox:1.36",
        cmds=["sh", "-c", "until [ -e /shared/now ]; do sleep 1; done; echo the report > /shared/done"],
        pod_template_dict=POD,
        companion_grace_seconds=300,
        container_logs=True,
        deferrable=True,
    )


sidecars()
