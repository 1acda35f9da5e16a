"""Runs in the home agent's container: sends registration requests signed beforehand and times the replies."""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import time
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from testbed.mobileip.wire.algorithm import AUTHENTICATOR_SIZE, Algorithm
from testbed.mobileip.wire.authentication import MOBILE_HOME, header
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

AGENT, SELF = "10.98.0.1", "10.98.0.2"
ELSEWHERE = "10.97.255.1"  # an address of the agent's own node is no care-of address
PATIENCE = 2.0  # seconds without a reply: what is under way then is lost


def request(home_address: IPv4Address, care_of: IPv4Address, key: bytes, now: float) -> bytes:
    """Return a signed request."""
    message = RegistrationRequest(
        RequestFlag.REVERSE_TUNNEL, 600, home_address, IPv4Address(AGENT), care_of, from_unix(now)
    ).encode()
    message += header(MOBILE_HOME, 256, AUTHENTICATOR_SIZE)
    return message + Algorithm.HMAC_MD5.authenticator(key, message)


def cpu_time() -> float:
    """Return the seconds of CPU time that all other processes of this container have taken."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != str(os.getpid()):
            with suppress(FileNotFoundError):  # it has ended
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def echo() -> tuple[int, int]:
    """Start a process that returns what it gets; return its id and port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((AGENT, 0))
    if child := os.fork():
        return child, server.getsockname()[1]
    while True:
        payload, sender = server.recvfrom(2048)
        server.sendto(payload, sender)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--first", type=IPv4Address, required=True)
    parser.add_argument("--key", type=bytes.fromhex, required=True)
    parser.add_argument("--care-of", type=IPv4Address, default=IPv4Address(ELSEWHERE))
    parser.add_argument("--echo", action="store_true")
    options = parser.parse_args()
    child, port = echo() if options.echo else (0, 434)
    now = time.time()
    requests = [
        request(options.first + number, options.care_of, options.key, now) for number in range(options.nodes)
    ]
    if options.echo:
        requests *= 20  # an echo is so fast that once each would be too short to time
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind((SELF, 0))
    client.connect((AGENT, port))
    client.settimeout(PATIENCE)
    sent: dict[bytes, float] = {}
    delays: list[float] = []
    replied: list[float] = []
    waiting = iter(requests)
    refused = 0

    def send_next() -> None:
        for message in waiting:
            # Home address: at 4 in a request and in a reply alike.
            sent[message[4:8]] = time.monotonic()
            client.send(message)
            return

    cpu, began = cpu_time(), time.monotonic()
    for _ in range(options.window):
        send_next()
    while sent:
        try:
            reply = client.recv(2048)
        except TimeoutError:
            break
        replied.append(time.monotonic())
        delays.append(replied[-1] - sent.pop(reply[4:8]))
        if not options.echo and reply[1] not in (0, 1):
            refused += 1
        send_next()
    seconds, cpu = time.monotonic() - began, cpu_time() - cpu
    if child:
        os.kill(child, 9)
        os.waitpid(child, 0)
    if refused:
        raise SystemExit(f"{refused} of {len(delays)} requests refused")
    tenth = len(replied) // 10
    print(
        json.dumps(
            {
                "rate": len(delays) / seconds,
                "first_tenth": tenth / (replied[tenth - 1] - began),
                "last_tenth": tenth / (replied[-1] - replied[-1 - tenth]),
                "cpu_us": cpu / len(delays) * 1e6,
                "median_ms": statistics.median(delays) * 1000,
                "lost": len(requests) - len(delays),
            }
        )
    )


if __name__ == "__main__":
    main()
