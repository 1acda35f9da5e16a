"""pcap filters: the grammar and what the host matches agree with the node image's tcpdump."""

from __future__ import annotations

import sys
from base64 import b64encode
from pathlib import Path

import pytest

from testbed.claim.expect.wire import Packets
from testbed.engine.docker import DockerEngine
from testbed.evidence.verdicts import KINDS
from testbed.packet.filters import FilterError, filter_hosts
from testbed.packet.match import match
from testbed.packet.pcap import ETHERNET, LINUX_SLL2, Frame, write_pcap
from testbed.topology.load import builtin_topologies, load_topology

sys.path.append(str(Path(__file__).parents[1] / "unit" / "packet"))
from pcap_filters import BAD, GOOD, HOSTS, frames

# What `tcpdump -y EN10MB -d` asks of libpcap, without a process for each filter.
# libpcap calls a filter that nothing can match an error, which is no matter of grammar.
COMPILE = """
import ctypes, sys
pcap = ctypes.CDLL("libpcap.so.0.8")
pcap.pcap_open_dead.restype = ctypes.c_void_p
pcap.pcap_geterr.argtypes, pcap.pcap_geterr.restype = [ctypes.c_void_p], ctypes.c_char_p
pcap.pcap_compile.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint]
ethernet, optimized, netmask = ctypes.c_void_p(pcap.pcap_open_dead(1, 262144)), 1, 0
names, filters = (part.splitlines() for part in sys.stdin.read().split("\\n\\n", 1))
with open("/etc/hosts", "a") as hosts:
    hosts.writelines(f"192.0.2.1 {name}\\n" for name in names)
for text in filters:
    program = (ctypes.c_char * 16)()
    good = pcap.pcap_compile(ethernet, program, text.encode(), optimized, netmask) == 0
    said = "" if good else pcap.pcap_geterr(ethernet).decode()
    print("yes" if good or "rejects all packets" in said else f"no: {said}")
"""


def built_in() -> set[str]:
    return {
        expectation.part.filter
        for name in builtin_topologies()
        for claim in load_topology(name).topology.claims.values()
        for kind in KINDS
        for _, run in claim.experiments(kind)
        for _, expectation in run.expectations()
        if isinstance(expectation.part, Packets)
    }


def mutated(text: str) -> set[str]:
    """A filter with each word left out, doubled, misspelt, and changed for the one after it."""
    words = text.replace("(", "( ").replace(")", " )").split()
    found = set()
    for index, word in enumerate(words):
        before, after = words[:index], words[index + 1 :]
        for instead in ([], [word, word], [word + "x"], [*after[:1], word]):
            found.add(
                " ".join([*before, *instead, *(after[1:] if instead[1:] and instead[0] != word else after)])
            )
    return found


def accepted(text: str, nodes: set[str]) -> bool:
    try:
        return set(filter_hosts(text)) <= nodes
    except FilterError:
        return False


def test_agrees_with_libpcap(engine: DockerEngine, bare_node: str) -> None:
    ours = built_in()
    nodes = {node for text in ours for node in filter_hosts(text)}
    filters = [*GOOD, *BAD, *sorted(ours), *sorted({one for text in ours for one in mutated(text)})]
    with engine.execute(bare_node, ["python3", "-c", COMPILE], stdin=True) as session:
        session.send("\n".join([*sorted(nodes), "", *filters]).encode())
        session.end_input()
        verdicts = b"".join(data for stream, data in session if stream == "stdout").decode().splitlines()
    assert len(verdicts) == len(filters)
    differ = [
        f"{text}: libpcap says {verdict}"
        for text, verdict in zip(filters, verdicts, strict=True)
        if accepted(text, nodes) != (verdict == "yes")
    ]
    assert not differ
    refused = [text for text, verdict in zip(filters, verdicts, strict=True) if verdict != "yes"]
    assert set(refused) >= set(BAD) and not set(refused) & ours and len(refused) > len(BAD) + 100


MATCH = """\
read -r capture
echo "$capture" | base64 -d >/run/a.pcap
while read -r name; do [ "$name" ] || break; echo "$name" >>/etc/hosts; done
while IFS= read -r text; do
    if tcpdump -r /run/a.pcap -n -t -q "($text)" >/run/matched 2>/dev/null
    then grep -c '^[^ \t]' /run/matched || :; else echo no; fi
done
"""


@pytest.mark.parametrize("linktype", [ETHERNET, LINUX_SLL2])
def test_the_host_matches_what_tcpdump_matches(
    engine: DockerEngine, bare_node: str, tmp_path: Path, linktype: int
) -> None:
    captured = list(frames(linktype).values())
    write_pcap(tmp_path / "a.pcap", linktype, captured)
    filters = [*GOOD, *sorted(text for text in built_in() if set(filter_hosts(text)) <= HOSTS.keys())]
    hosts = [f"{address} {name}" for name, address in HOSTS.items()]
    with engine.execute(bare_node, ["sh", "-c", MATCH], stdin=True) as session:
        capture = b64encode((tmp_path / "a.pcap").read_bytes()).decode()
        session.send("\n".join([capture, *hosts, "", *filters, ""]).encode())
        session.end_input()
        counts = b"".join(data for stream, data in session if stream == "stdout").decode().split()
    ours = [counted(captured, text) for text in filters]
    assert dict(zip(filters, ours, strict=True)) == dict(zip(filters, counts, strict=True))
    assert len(set(ours)) > 4  # not all alike


def counted(captured: list[Frame], text: str) -> str:
    try:
        return str(len(match(captured, text, HOSTS)))
    except FilterError:
        return "no"
