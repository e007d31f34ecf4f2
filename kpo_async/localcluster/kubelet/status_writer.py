"""Writes one pod's status to the API, and deletes the pod once its containers have ended."""

from __future__ import annotations

from collections.abc import Callable

from kpo_async.localcluster.client import InProcessClient, NotFound
from kpo_async.localcluster.kubelet import podstatus
from kpo_async.localcluster.kubelet.podstatus import PodRecord
from kpo_async.localcluster.store.objects import Object, is_deleting


class PodStatusWriter:
    """The kubelet's writes about one pod. A pod that has been removed, or replaced by another one, is left alone."""

    def __init__(self, client: InProcessClient, clock: Callable[[], int], pod: Object) -> None:
        self._client = client
        self._clock = clock
        self._metadata = pod["metadata"]

    def _current(self) -> Object | None:
        try:
            pod = self._client.get("pods", self._metadata["namespace"], self._metadata["name"])
        except NotFound:
            return None
        return pod if pod["metadata"]["uid"] == self._metadata["uid"] else None

    def write(self, record: PodRecord, **fields: str) -> Object | None:
        """Write the status that follows from a record, with further fields. Returns the pod, None if it is gone."""
        pod = self._current()
        if pod is None:
            return None
        status = podstatus.build(pod, record, self._clock())
        return self._client.update_status("pods", {**pod, "status": {**status, **fields}})

    def confirm_deletion(self) -> None:
        """Delete the pod with no grace left if its deletion has been requested, which removes it."""
        pod = self._current()
        if pod is not None and is_deleting(pod):
            metadata = self._metadata
            self._client.delete("pods", metadata["namespace"], metadata["name"], grace_seconds=0, uid=metadata["uid"])
