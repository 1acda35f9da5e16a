"""What carries ESP on a node: the script that its init runs, with an `ip` that refuses one thing."""

import os
import subprocess

import pytest

from testbed.agreed import LACKING
from testbed.lab.events import parse_event
from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

IP = """#!/bin/sh
case "ip $*" in
*"$REFUSED"*) echo 'RTNETLINK answers: "Protocol not supported"' >&2; exit 2 ;;
esac
echo "ip $*" >>"$LOG"
"""
WORKS = "nothing"
TRIED = ["ip xfrm state add", "ip xfrm policy add", "ip link add ipsec0 type vti local 192.0.2.1"]


@pytest.fixture
def choose(tmp_path):
    """Run a node's script in a folder; returns its exit code, the events, and what it called."""

    def run(node, refused, *sets):
        lab = render_lab(load_topology("scenario-2.1", sets=sets), lab="l", secrets=Secrets("psk", "00" * 16))
        for path, file in lab.nodes[node].files.items():
            if path.startswith("/etc/testbed/esp/"):
                content = file.content.replace("/etc/testbed/esp", str(tmp_path))
                (tmp_path / path.rpartition("/")[2]).write_text(
                    content.replace("/run/testbed", str(tmp_path))
                )
        for program in ("ip", "nft"):
            (tmp_path / program).write_text(IP.replace("ip $*", f"{program} $*"))
            (tmp_path / program).chmod(0o755)
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "REFUSED": refused,
            "LOG": f"{tmp_path}/log",
        }
        done = subprocess.run(
            ["sh", "-c", f"exec 3>{tmp_path}/events 1>&2; sh {tmp_path}/choose"], env=environment
        )
        log = tmp_path / "log"
        calls = log.read_text().splitlines() if log.exists() else []
        return done.returncode, (tmp_path / "events").read_text(), calls

    return run


@pytest.mark.parametrize("node", ["gw", "mn"])
def test_the_kernel_where_all_of_it_works(choose, tmp_path, node):
    code, _, calls = choose(node, WORKS)
    assert (code, (tmp_path / "esp").read_text()) == (0, "kernel\n")
    assert "kernel-libipsec" not in (tmp_path / "strongswan.conf").read_text()
    end = {"gw": "local 203.0.113.2", "mn": "remote 203.0.113.2"}[node]
    assert calls[-2:] == [f"ip link add ipsec0 type vti {end} key 66", "ip link set ipsec0 mtu 1400 up"]
    assert not any(call.startswith("nft") for call in calls)
    assert (tmp_path / "child.conf").exists() == (node == "gw")


@pytest.mark.parametrize("refused", TRIED)
def test_userspace_where_any_of_it_does_not(choose, tmp_path, refused):
    code, events, calls = choose("mn", refused)
    assert (code, (tmp_path / "esp").read_text(), events) == (0, "userspace\n", "")
    assert "kernel-libipsec" in (tmp_path / "strongswan.conf").read_text()
    assert calls[-1].startswith("nft --file")


def test_userspace_where_it_is_asked_for_and_nothing_is_tried(choose, tmp_path):
    code, _, calls = choose("gw", WORKS, "esp=userspace")
    assert (code, (tmp_path / "esp").read_text(), calls) == (0, "userspace\n", [])
    assert (tmp_path / "child.conf").read_text() == ""


@pytest.mark.parametrize("refused", TRIED)
def test_the_kernel_asked_for_where_it_has_none(choose, refused):
    code, events, _ = choose("gw", refused, "esp=kernel")
    event = parse_event(events.strip(), 0.0)
    assert code == 1 and event is not None and event.name == LACKING
    assert event.fields["what"] == (
        "esp=kernel, and this kernel has no ESP (RTNETLINK answers: Protocol not supported)"
    )
    assert event.fields["hint"].endswith("or choose esp=userspace")
