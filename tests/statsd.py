"""A StatsD receiver that reads all the time: the buffer of a socket holds few packets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StatsdReceiver:
    """What has arrived. `packets` are those of this package, without the prefix `airflow.kpo_async.`."""

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver
        self.port: int = receiver.getsockname()[1]
        self.packets: list[str] = []

    @property
    def names(self) -> set[str]:
        """The metrics' names, where tags are sent as InfluxDB writes them."""
        return {packet.partition(",")[0].partition(":")[0] for packet in self.packets}

    def of(self, name: str) -> list[str]:
        """Return the packets of one metric, where tags are sent as InfluxDB writes them."""
        return [packet for packet in self.packets if packet.partition(",")[0].partition(":")[0] == name]

    def run(self) -> None:
        """Read until an empty packet arrives."""
        while packet := self._receiver.recv(65536).decode():
            prefix, _, rest = packet.partition("airflow.kpo_async.")
            if rest and not prefix:
                self.packets.append(rest)


@contextmanager
def statsd_receiver() -> Iterator[StatsdReceiver]:
    """Receive on a free port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        receiver = StatsdReceiver(listening)
        thread = threading.Thread(target=receiver.run, name="statsd receiver")
        thread.start()
        try:
            yield receiver
        finally:
            # In the order of arrival: what was sent before is read before.
            listening.sendto(b"", listening.getsockname())
            thread.join()
