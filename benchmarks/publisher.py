"""A publisher that costs little: ready-made MQTT 3.1.1 PUBLISH packets, QoS 1, over plain sockets on loopback.

It runs as a process of its own. ``send`` keeps a bounded number of messages unacknowledged by the broker and paces them
to a rate, so that it is bounded in count, in time and in memory.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

WINDOW = 2000
COLUMNS = ["ds", "dt", "tq", "co2", "tg", "dp", "v", "pa", "ti", "m", "st"]


@dataclass(frozen=True, slots=True)
class Load:
    """``messages`` in turn from ``devices`` devices, ``records`` records each, ``rate`` a second (0: no limit)."""

    port: int
    username: str
    password: str
    devices: int
    messages: int
    records: int = 1
    rate: float = 0.0
    first_seq: int = 1


def body(seq: int, records: int, now_ms: int) -> bytes:
    """A message as a node sends it, with values that differ from one to the next."""
    rows = [
        [
            index,
            5000 * index,
            1,
            90000 + (seq + index) % 5000,
            180 + seq % 40 / 4,
            3.61,
            4 + seq % 10 / 10,
            79.68,
            41,
            None,
            0,
        ]
        for index in range(records)
    ]
    start_ms = now_ms - 5000 * records
    message = {"v": 1, "sid": "9f3c21aa", "boot": 4, "cfg": 17, "seq": seq, "n": records, "t": start_ms}
    return json.dumps(message | {"s": {"cols": COLUMNS, "rows": rows}}, separators=(",", ":")).encode()


def packets(load: Load) -> Iterator[bytes]:
    """PUBLISH packets with packet identifiers 1 to 65535 in turn."""
    channel = "data" if load.records == 1 else "backlog"
    for number in range(load.messages):
        turn, device = divmod(number, load.devices)
        topic = f"ct/v1/dev-{device:05}/up/{channel}".encode()
        seq = load.first_seq + turn * load.records
        now_ms = time.time_ns() // 1_000_000
        if load.records > 1:  # so that a device's batches do not lie over each other in time
            now_ms -= (load.messages // load.devices - turn) * 5000 * load.records
        payload = body(seq, load.records, now_ms)
        head = struct.pack("!H", len(topic)) + topic + struct.pack("!H", number % 65535 + 1)
        yield b"\x32" + _length(len(head) + len(payload)) + head + payload


def send(load: Load) -> float:
    """Publish everything; how many seconds it took until the broker had acknowledged the last."""
    with socket.create_connection(("127.0.0.1", load.port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(_connect(load.username, load.password))
        if link.recv(4)[3:] != b"\x00":
            raise ConnectionError("the broker refused the publisher")
        began = time.monotonic()
        unacknowledged = sent = 0
        waiting = packets(load)
        while sent < load.messages:
            if load.rate:  # a packet carries the time at which it is made
                time.sleep(max(0.0, began + sent / load.rate - time.monotonic()))
            chunk = list(islice(waiting, 1 if load.rate else 50))
            link.sendall(b"".join(chunk))
            sent += len(chunk)
            unacknowledged += len(chunk)
            while unacknowledged > WINDOW:
                unacknowledged -= _acknowledgements(link)
        while unacknowledged:
            unacknowledged -= _acknowledgements(link)
        return time.monotonic() - began


def _acknowledgements(link: socket.socket) -> int:
    data = link.recv(65536)
    if not data:
        raise ConnectionError("the broker closed the connection")
    while len(data) % 4:  # a PUBACK has four bytes
        data += link.recv(4 - len(data) % 4)
    return len(data) // 4


def _connect(username: str, password: str) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("!H", len(value.encode())) + value.encode()

    variable = text("MQTT") + b"\x04\xc2" + struct.pack("!H", 600)
    payload = text(f"bench-{time.time_ns()}") + text(username) + text(password)
    return b"\x10" + _length(len(variable + payload)) + variable + payload


def _length(number: int) -> bytes:
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)


if __name__ == "__main__":
    print(send(Load(**json.loads(sys.argv[1]))))
