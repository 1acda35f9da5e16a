"""pcap filters are checked when a topology is loaded, without libpcap."""

from __future__ import annotations

import pytest
from pcap_filters import BAD, GOOD

from testbed.claim.expect.wire import Packets
from testbed.evidence.verdicts import KINDS
from testbed.packet.filters import FilterError, filter_hosts
from testbed.topology.load import builtin_topologies, load_topology


@pytest.mark.parametrize("text", ["", *GOOD])
def test_good(text: str) -> None:
    assert filter_hosts(text) == ()


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(FilterError) as caught:
        filter_hosts(text)
    assert caught.value.message


def test_names_of_hosts() -> None:
    assert filter_hosts("src host ha and dst host fa-hotspot or ha or 192.0.2.1") == ("ha", "fa-hotspot")
    assert filter_hosts("host (cn or mn) and port domain") == ("cn", "mn")


def test_a_misspelt_word_has_a_hint() -> None:
    with pytest.raises(FilterError) as caught:
        filter_hosts("udp portt 434")
    assert (caught.value.message, caught.value.hint) == (
        "'portt' does not fit here (character 5)",
        "did you mean port?",
    )


@pytest.mark.parametrize("name", builtin_topologies())
def test_built_in_filters_name_nodes(name: str) -> None:
    topology = load_topology(name).topology
    for claim in topology.claims.values():
        for kind in KINDS:
            for _, run in claim.experiments(kind):
                for _, expectation in run.expectations():
                    if isinstance(expectation.part, Packets) and run.topology is None:
                        assert set(filter_hosts(expectation.part.filter)) <= topology.nodes.keys()
