"""A task whose cluster is found by a class, so that the API server does not know where its pod is."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import DAG, Param

from kpo_async.operators.pod import KubernetesPodOperator
from tests.ui.file_cluster import FileCluster

with DAG("hooked_pods", schedule=None, start_date=datetime(2026, 1, 1), params={"namespace": Param("", type="string")}):
    KubernetesPodOperator(
        task_id="hooked",
        image="busybox:1.36",
        cmds=["sleep", "600"],
        namespace="{{ params.namespace }}",
        cluster_hook=FileCluster,
        cluster_hook_kwargs={"path": os.environ.get("KPO_KUBECONFIG", "")},
        deferrable=True,
    )
