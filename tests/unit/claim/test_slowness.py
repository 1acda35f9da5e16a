"""What a slow machine can be blamed for, word by word."""

import re

import pytest

from testbed.claim import expect
from testbed.claim.expect import Expectation
from testbed.claim.seen import GIVING_UP
from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

AT = {"at": "mn/hotel"}
EVENT = {"node": "mn", "name": "registered"}
PATH = {"from": "mn", "to": "cn"}
GATEWAYS = {"from": "core", "gateways": {"exactly": 1}}
WORDS = [
    # the word, the bound for what is missing, the bound for what is there and must not be
    ({"packets": {**AT, "at-least": 1}}, 1000, 1000),
    ({"packets": {**AT, "none": True}}, 1000, None),
    ({"clear": {**AT, "at-most": 2}}, 1000, None),
    ({"ike": {**AT, "exchange": "IKE_AUTH", "exactly": 2}}, 1000, 1000),
    ({"ike": {**AT, "exchange": "IKE_AUTH", "exactly": 0}}, 1000, 12800),
    ({"esp-sas": {**AT, "exactly": 2}}, 1000, 1000),
    ({"binding": {}}, 3000, 3000),
    ({"visitor": {"agent": "fa"}}, 3000, None),
    ({"counter": {"node": "fa", "name": "x", "exactly": 0}}, 1000, None),
    ({"mobile-node": "registered"}, 3000, None),
    ({"heard": "fa"}, 1000, None),
    ({"event": {**EVENT, "exactly": 1}}, 1000, 1000),
    ({"event": {**EVENT, "none": True}}, 1000, None),
    ({"daemons": {"node": "gw", "running": "charon"}}, None, None),
    ({"perimeter": GATEWAYS}, 1000, None),
    ({"refused": {"set": "a=b", "because": "x"}}, None, None),
    ({"accepted": {"set": "a=b"}}, None, None),
    ({"probe": {"lost": {"none": True}}}, 1000, None),
    ({"probe": {"outage": "300ms"}}, 300, None),
    ({"probe": {"silent": "40ms"}}, 1000, None),
    ({"session": "alive"}, 1000, None),
    ({"session": "alive", "within": "200ms"}, 200, None),
    ({"session": "alive", "within": "20s"}, 1000, None),
    ({"reachable": PATH}, 1000, None),
    ({"unreachable": PATH}, 1000, None),
    ({"received": {"node": "cn", "exactly": 1}}, 1000, None),
    ({"received": {"node": "cn", "none": True}}, 1000, None),
    ({"hops": PATH}, 1000, None),
    ({"ike-beyond": {**AT, "node": "gw", "documents": ["RFC 7296"], "none": True}}, 1000, None),
    ({"mip-beyond": {**AT, "documents": ["RFC 5944"], "at-least": 1}}, 1000, 1000),
    ({"changed": {"node": "gw", "what": "services", "than": "plain-mip", "none": True}}, None, None),
    ({"added": {"than": "plain-mip", "at-least": 1}}, None, None),
    ({"combined": {"of": ["vpn-gateway", "home-agent"], "none": True}}, None, None),
    ({"growth": {**AT, "filter": "udp", "at-most": 1.1}}, 1000, 50),
]


@pytest.mark.parametrize(("word", "missing", "unwanted"), WORDS, ids=lambda one: str(one))
def test_what_slowness_explains(word, missing, unwanted):
    expectation = Expectation.model_validate(word)
    assert (expectation.bound(False), expectation.bound(True)) == (missing, unwanted)


def test_every_word_is_in_the_table():
    assert {key for word, _, _ in WORDS for key in word} - {"within"} == {one.word for one in expect.WORDS}


def test_what_waits_in_vain_takes_long():
    """The labs are planned by it."""
    takes_long = [
        {"mobile-node": "not-registered"},
        {"session": "broken"},
        {"unreachable": PATH},
    ]
    for words, *_ in WORDS:
        assert Expectation.model_validate(words).part.takes_long == (words in takes_long), words
    assert all(Expectation.model_validate(words).part.takes_long for words in takes_long)


def test_charon_gives_a_peer_up_when_it_is_thought_to():
    """strongSwan takes whole numbers for limit and tries: `2.0` would be no limit at all."""
    lab = render_lab(load_topology("scenario-2.1"), lab="x", secrets=Secrets("psk", "00" * 16))
    text = lab.nodes["gw"].files["/etc/strongswan.conf"].content
    value = dict(re.findall(r"^ *retransmit_(\w+) = (\S+)$", text, re.MULTILINE))
    timeout, base, limit = float(value["timeout"]), float(value["base"]), int(value["limit"])
    waits = [min(timeout * base**sent, limit) for sent in range(int(value["tries"]) + 1)]
    assert sum(waits) * 1000 == pytest.approx(GIVING_UP)
