"""A hand-off, seen from the home agent's link by tcpdump, and read by tshark."""

import json
import os
import subprocess

from conftest import COMPOSE, LAB


def test_a_move_is_registered_with_the_home_agent(run, tmp_path):
    capture = tmp_path / "ha.pcap"
    tcpdump = ["tcpdump", "-i", "any", "-U", "-w", "-", "-c", "2", "udp port 434"]
    command = [COMPOSE, "exec", "-T", "ha", *tcpdump]
    with (
        capture.open("wb") as file,
        subprocess.Popen(command, cwd=LAB, stdout=file, stderr=subprocess.PIPE, env=os.environ) as process,
    ):
        assert process.stderr is not None
        while b"listening on" not in process.stderr.readline():
            pass
        events = [json.loads(line) for line in run("move", "mn", "airport").splitlines()]
        process.wait(20)  # it ends with the second packet: the request and the reply
    assert events[-1]["event"] == "settled" and events[-1]["state"] == "registered"
    fields = ["-T", "fields", "-e", "mip.type", "-e", "mip.code"]
    read = subprocess.run(["tshark", "-r", capture, *fields], capture_output=True, text=True)
    assert read.stdout.split() == ["1", "3", "0"]
    (binding,) = json.loads(run("state", "ha", "home-agent"))["bindings"]
    assert binding["care_of_addresses"] == [events[-1]["detail"].rsplit(" ", 1)[-1]]


def test_data_reaches_the_correspondent(run):
    assert " 0% packet loss" in run("exec", "mn", "ping", "-c", "2", "-W", "2", "cn")
