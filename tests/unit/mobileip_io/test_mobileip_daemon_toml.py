import importlib
import re
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from testbed.mobileip.core.api import Datagram, SendDatagram
from testbed.mobileip.core.delivery import Delivery
from testbed.mobileip.core.foreign.config import Inform
from testbed.mobileip.core.home.config import UdpTunnelling
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile.config import UdpTunnel
from testbed.mobileip.core.parameters import ReverseTunnel
from testbed.mobileip.core.security import Credential, ReplayProtection
from testbed.mobileip.io import daemon_toml, foreign_agent_toml, home_agent_toml, mobile_node_toml
from testbed.mobileip.io.daemon_toml import Attachment
from testbed.mobileip.io.errors import ConfigError
from testbed.mobileip.io.table import Table
from testbed.mobileip.wire.encapsulation import Encapsulation

READERS = (home_agent_toml, foreign_agent_toml, mobile_node_toml)
READ = dict(zip(("home_agent", "foreign_agent", "mobile_node"), (each.read for each in READERS), strict=True))

HOME_AGENT = """
control = "/run/ha.sock"
address = "10.0.1.2"
[home]
interface = "home"
prefix = "10.0.1.0/24"
advertise = true
[limits]
lifetime = 300
simultaneous = 2
[replay]
tolerance = 5
[[security]]
mobile-node = "10.0.1.100"
spi = 256
algorithm = "hmac-md5"
key = "00ff"
[[security]]
foreign-agent = "10.0.0.4"
spi = 300
key = "0102"
"""
FOREIGN_AGENT = """
interface = "office"
address = "10.0.2.1"
care-of = "10.0.0.4"
[advertisement]
interval = 0.5
registration-lifetime = 120
registration-required = false
reverse-tunnel = "required"
[[security]]
home-agent = "10.0.1.2"
spi = 300
key = "0102"
"""
MOBILE_NODE = """
home-address = "10.0.1.100"
home-prefix = "10.0.1.0/24"
home-agent = "10.0.1.2"
reverse-tunnel = true
mip-rule-preference = 200
[security]
spi = 256
key = "00ff"
[attachment]
interface = "eth1"
mode = "co-located"
care-of = "198.51.100.70"
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        file = tmp_path / "daemon.toml"
        file.write_text(text)
        return file

    return write


def test_the_encapsulating_delivery_style(write):
    asks = MOBILE_NODE.replace("reverse-tunnel = true", 'reverse-tunnel = true\ndelivery = "encapsulating"')
    assert mobile_node_toml.read(write(asks)).core.delivery is Delivery.ENCAPSULATING
    assert mobile_node_toml.read(write(MOBILE_NODE)).core.delivery is Delivery.DIRECT
    with pytest.raises(ConfigError, match="encapsulating delivery is to a reverse tunnel"):
        mobile_node_toml.read(write(asks.replace("reverse-tunnel = true", "reverse-tunnel = false")))
    assert foreign_agent_toml.read(write(FOREIGN_AGENT)).core.encapsulating_delivery
    refuses = "encapsulating-delivery = false\n" + FOREIGN_AGENT
    assert not foreign_agent_toml.read(write(refuses)).core.encapsulating_delivery


def test_home_agent(write):
    settings = home_agent_toml.read(write(HOME_AGENT))
    core = settings.core
    assert settings.control == Path("/run/ha.sock")
    assert (core.home_interface, core.lifetime, core.simultaneous, core.bindings) == ("home", 300, 2, 10_000)
    assert core.replay_tolerance == 5.0
    assert core.advertising is not None
    assert core.reverse_tunnel is ReverseTunnel.OFFERED
    assert [each.peer for each in core.mobile_nodes] == [IPv4Address("10.0.1.100")]
    assert [each.key for each in core.foreign_agents] == [b"\1\2"]


def test_virtual_home(write):
    text = HOME_AGENT.replace('interface = "home"\n', "").replace("advertise = true\n", "")
    core = home_agent_toml.read(write(text)).core
    assert core.home_interface is None
    assert core.advertising is None


def test_foreign_agent(write):
    settings = foreign_agent_toml.read(write(FOREIGN_AGENT))
    core = settings.core
    assert settings.control is None
    assert core.advertising.interval == 0.5
    assert core.registration_lifetime == 120
    assert not core.registration_required
    assert core.reverse_tunnel is ReverseTunnel.REQUIRED
    assert [each.peer for each in core.home_agents] == [IPv4Address("10.0.1.2")]


def test_mobile_node(write):
    settings = mobile_node_toml.read(write(MOBILE_NODE))
    assert settings.rule_preference == 200
    assert settings.attachment == Attachment("eth1", IPv4Address("198.51.100.70"))
    assert settings.core.security.key == b"\0\xff"
    assert mobile_node_toml.read(write(MOBILE_NODE.split("[attachment]")[0])).attachment is None


def test_mobile_nodes_by_nai(write):
    text = HOME_AGENT.replace(
        'mobile-node = "10.0.1.100"', 'mobile-node = "mn@example.net"\nreplay = "nonces"'
    )
    text = text.replace("advertise = true", 'pool = ["10.0.1.192/26", "10.0.1.100"]')
    core = home_agent_toml.read(write(text)).core
    assert [(each.peer, each.replay) for each in core.mobile_nodes] == [
        ("mn@example.net", ReplayProtection.NONCES)
    ]
    assert core.pool == (IPv4Network("10.0.1.192/26"), IPv4Network("10.0.1.100/32"))
    text = MOBILE_NODE.replace('home-address = "10.0.1.100"', 'nai = "mn@example.net"')
    core = mobile_node_toml.read(write(text)).core
    assert (core.home_address, core.nai) == (None, "mn@example.net")
    text = FOREIGN_AGENT.replace('home-agent = "10.0.1.2"', 'mobile-node = "mn@example.net"')
    assert [each.peer for each in foreign_agent_toml.read(write(text)).core.mobile_nodes] == [
        "mn@example.net"
    ]


def test_encapsulations(write):
    gre, minimal = Encapsulation.GRE, Encapsulation.MINIMAL
    assert home_agent_toml.read(write(HOME_AGENT)).core.encapsulations == (gre, minimal)
    assert home_agent_toml.read(write("gre = false\n" + HOME_AGENT)).core.encapsulations == (minimal,)
    text = FOREIGN_AGENT.replace("interval = 0.5", "minimal = false")
    assert foreign_agent_toml.read(write(text)).core.encapsulations == (gre,)
    assert mobile_node_toml.read(write(MOBILE_NODE)).core.encapsulation is Encapsulation.IP_IN_IP
    text = 'encapsulation = "minimal"\n' + MOBILE_NODE
    assert mobile_node_toml.read(write(text)).core.encapsulation is minimal
    with pytest.raises(
        ConfigError, match=r":1: encapsulation: expected one of ip-in-ip, gre, minimal, got 'udp'"
    ):
        mobile_node_toml.read(write(text.replace("minimal", "udp")))


def test_tunnels_in_udp(write):
    ha = home_agent_toml.read(write(HOME_AGENT)).core
    assert ha.udp_tunnel == UdpTunnelling(keepalive=0, forced=True, lifetime=60)
    table = "[udp-tunnel]\nkeepalive = 20\nforced = false\nlifetime = 90\n"
    ha = home_agent_toml.read(write(HOME_AGENT + table)).core
    assert ha.udp_tunnel == UdpTunnelling(20, False, 90)
    assert home_agent_toml.read(write(HOME_AGENT + table + "accept = false")).core.udp_tunnel is None
    fa = foreign_agent_toml.read(write(FOREIGN_AGENT)).core
    assert (fa.udp_tunnel, fa.keepalive) == (False, 110)
    fa = foreign_agent_toml.read(write("behind-nat = true\nkeepalive = 30\n" + FOREIGN_AGENT)).core
    assert (fa.udp_tunnel, fa.keepalive) == (True, 30)
    mn = mobile_node_toml.read(write(MOBILE_NODE)).core
    assert (mn.udp_tunnel, mn.keepalive) == (UdpTunnel.OFF, 110)
    mn = mobile_node_toml.read(write('udp-tunnel = "forced"\nkeepalive = 30\n' + MOBILE_NODE)).core
    assert (mn.udp_tunnel, mn.keepalive) == (UdpTunnel.FORCED, 30)
    for wrong in ('udp-tunnel = "on"\n', "keepalive = 9\n"):
        with pytest.raises(ConfigError):
            mobile_node_toml.read(write(wrong + MOBILE_NODE))
    with pytest.raises(ConfigError, match="keepalive"):
        home_agent_toml.read(write(HOME_AGENT + table.replace("20", "-1")))


@pytest.mark.parametrize(
    ("table", "trusted"),
    [
        ("", None),
        ("[trusted]\n", ()),
        ('[trusted]\nnetworks = ["10.0.0.0/8"]\n', (IPv4Network("10.0.0.0/8"),)),
    ],
)
def test_trusted_networks(write, table, trusted):
    """RFC 5265 §4.3: by default none is."""
    assert home_agent_toml.read(write(HOME_AGENT + table)).core.trusted == trusted


def test_the_modules_document_files_that_can_be_read(write):
    def documented(module):
        return re.search(r"```toml\n(.*?)```", module.__doc__, re.DOTALL).group(1)

    general = documented(daemon_toml)
    texts = {module: general + documented(module) for module in READERS}
    texts[home_agent_toml] = re.sub(r"^table .*\n.*\n", "", texts[home_agent_toml], flags=re.MULTILINE)
    assert home_agent_toml.read(write(texts[home_agent_toml])).core.simultaneous == 4
    assert foreign_agent_toml.read(write(texts[foreign_agent_toml])).core.visitors == 1000
    assert mobile_node_toml.read(write(texts[mobile_node_toml].replace('"…"', '"00"'))).rule_preference == 230


@pytest.mark.parametrize(
    ("read", "text", "change", "message"),
    [
        ("home_agent", HOME_AGENT, ('address = "10.0.1.2"', ""), "address: is missing"),
        ("home_agent", HOME_AGENT, ("10.0.1.0/24", "10.0.1.7/24"), "home.prefix: expected an IPv4 prefix"),
        ("home_agent", HOME_AGENT, ("lifetime = 300", "lifetime = 0"), "lifetime must be 1 to 65535"),
        (
            "home_agent",
            HOME_AGENT,
            ("lifetime = 300", 'lifetime = "x"'),
            "limits.lifetime: expected an integer",
        ),
        (
            "home_agent",
            HOME_AGENT,
            ("lifetime = 300", "lifetime = true"),
            "limits.lifetime: expected an integer",
        ),
        ("home_agent", HOME_AGENT, ("lifetime = 300", "life-time = 1"), "did you mean 'lifetime'?"),
        ("home_agent", HOME_AGENT, ("spi = 256", "spi = 255"), "security[0]: SPI must be"),
        ("home_agent", HOME_AGENT, ("hmac-md5", "sha"), "algorithm: expected one of hmac-md5, keyed-md5, "),
        ("home_agent", HOME_AGENT, ("hmac-md5", "hmac-sha-256"), "key for hmac-sha-256 must have 32 bytes"),
        ("home_agent", HOME_AGENT, ('"00ff"', '"ff"\nreplay="no"'), "expected one of timestamps, nonces"),
        ("home_agent", HOME_AGENT, ('"0102"', '"ff"\nreplay="nonces"'), "security[1].replay: unknown key"),
        ("home_agent", HOME_AGENT, ("foreign-agent", "stranger"), "security[1].mobile-node: is missing"),
        ("home_agent", HOME_AGENT, ("[home]", "[home"), "daemon.toml:4:6: "),
        (
            "foreign_agent",
            FOREIGN_AGENT,
            ('"required"', '"maybe"'),
            "reverse-tunnel: expected one of required",
        ),
        ("foreign_agent", FOREIGN_AGENT, ("0.5", '"often"'), "advertisement.interval: expected a number"),
        (
            "home_agent",
            HOME_AGENT,
            ("10.0.1.100", "mn@"),
            "security[0]: expected a network access identifier",
        ),
        ("home_agent", HOME_AGENT, ("10.0.1.100", "a@b.c"), "mobile nodes known by their NAI need a pool"),
        (
            "home_agent",
            HOME_AGENT,
            ("advertise = true", 'pool = ["10.0.2.0/24"]'),
            "the pool 10.0.2.0/24 is not within the home prefix",
        ),
        ("mobile_node", MOBILE_NODE, ("home-address", "nay"), "needs a home address, or an NAI"),
        ("mobile_node", MOBILE_NODE, ("= 200", "= 40000"), "mip-rule-preference: expected 1 to 32765"),
        ("mobile_node", MOBILE_NODE, ("10.0.1.100", "10.0.9.1"), "is not in the home prefix"),
        ("mobile_node", MOBILE_NODE, ('"eth1"', "1"), "attachment.interface: expected a string"),
        ("mobile_node", MOBILE_NODE, ("[security]", "[secrets]"), "security.spi: is missing"),
    ],
)
def test_errors_name_file_and_key(write, read, text, change, message):
    assert change[0] in text
    file = write(text.replace(*change, 1))
    with pytest.raises(ConfigError) as caught:
        READ[read](file)
    assert str(caught.value).startswith(f"{file}:")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("control = 1", ":1: control: expected a string, got 1"),
        ("# who\n\nx = [\n  1,\n]\naddress = 'a'\n", ":6: address: expected an IPv4 address, got 'a'"),
        ("x = [\n  1,\n]\n", ":1: x: unknown key"),
        ("[[security]]\nspi = 1\n[[security]]\n", ":3: security[1].mobile-node: is missing"),
        ("[limits]\nlifetime = 1\nbindings = 'x'\n", ":3: limits.bindings: expected an integer, got 'x'"),
        ("a.b = 1\nlimits.lifetime = 'x'\n", ":2: limits.lifetime: expected an integer, got 'x'"),
        ('x = """\n[limits]\n"""\nlimits = 3\n', ":4: limits: expected a table, got 3"),
        ("", ": address: is missing"),
        ("a = 1\nb = = 2\n", ":2:5: Invalid value"),
        ("a = [1,\n", ": Invalid value (at end of document)"),
    ],
)
def test_errors_have_the_line_on_which_a_statement_begins(write, text, message):
    file = write(text)
    with pytest.raises(ConfigError) as caught:
        table = Table.load(file)
        for key in ("lifetime", "bindings"):
            table.table("limits").integer(key, 1)
        for entry in table.tables("security"):
            if not entry.has("spi"):
                entry.address("mobile-node")
        table.string("control", "")
        if table.has("address") or not text:
            table.address("address")
        table.finish()
    assert str(caught.value) == f"{file}{message}"


def test_a_key_is_never_quoted(write):
    with pytest.raises(ConfigError) as caught:
        mobile_node_toml.read(write(MOBILE_NODE.replace("00ff", "secret")))
    assert "secret" not in str(caught.value)
    assert "security.key" in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        home_agent_toml.read(tmp_path / "absent.toml")


def test_the_benchmark_of_registrations_may_sign_long_before_it_sends(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    client = importlib.import_module("benchmarks.registration_client")
    benchmark = importlib.import_module("benchmarks.registrations")
    file = tmp_path / "home-agent.toml"
    file.write_text(benchmark.CONFIGURATION + benchmark.security(1))
    agent = HomeAgent(home_agent_toml.read(file).core, lambda now: now)
    care_of, address = IPv4Address(client.SELF), IPv4Address(client.AGENT)
    signed = 1.7e9
    asked = client.request(benchmark.FIRST, care_of, bytes.fromhex(benchmark.KEY), signed)
    agent.receive(Datagram(asked, care_of, 434, address, 434), signed + 60)
    (reply,) = [each for each in agent.effects() if isinstance(each, SendDatagram)]
    assert reply.datagram.payload[1] in (0, 1)


def test_revocation_is_configured(write):
    """RFC 3543."""
    assert home_agent_toml.read(write(HOME_AGENT)).core.inform_revoked is True
    assert home_agent_toml.read(write("inform-revoked = false\n" + HOME_AGENT)).core.inform_revoked is False
    fa = foreign_agent_toml.read(write(FOREIGN_AGENT)).core
    assert (fa.revocation, fa.inform) == (False, Inform.HOME_AGENT)
    required = FOREIGN_AGENT.replace("required = false", "required = true")
    text = 'revocation = true\ninform-revoked = "never"\n'
    fa = foreign_agent_toml.read(write(text + required)).core
    assert (fa.revocation, fa.inform) == (True, Inform.NEVER)
    assert mobile_node_toml.read(write(MOBILE_NODE)).core.revocation is False
    assert mobile_node_toml.read(write("revocation = true\n" + MOBILE_NODE)).core.revocation is True
    for wrong, expected in (('inform-revoked = "ask"\n', "home-agent"), (text, "R bit")):
        with pytest.raises(ConfigError, match=expected):
            foreign_agent_toml.read(write(wrong + FOREIGN_AGENT))
    with pytest.raises(ConfigError, match="revocation needs port 434, not 4434"):
        foreign_agent_toml.read(write("port = 4434\n" + text + required))


def test_challenges_and_aaa_keys_are_configured(write):
    """RFC 4721."""
    key = '\n[[aaa]]\nmobile-node = "10.0.1.100"\nspi = 700\nkey = "0a0b"\n'
    credential = Credential(IPv4Address("10.0.1.100"), 700, b"\n\x0b")
    assert home_agent_toml.read(write(HOME_AGENT)).core.aaa == ()
    assert home_agent_toml.read(write(HOME_AGENT + key)).core.aaa == (credential,)
    assert foreign_agent_toml.read(write(FOREIGN_AGENT)).core.challenge_window == 0
    fa = foreign_agent_toml.read(write("challenge-window = 3\n" + FOREIGN_AGENT + key)).core
    assert (fa.challenge_window, fa.aaa) == (3, (credential,))
    assert mobile_node_toml.read(write(MOBILE_NODE)).core.aaa is None
    own = '\n[aaa]\nspi = 700\nkey = "0a0b"\n'
    assert mobile_node_toml.read(write(MOBILE_NODE + own)).core.aaa == credential
    for wrong, expected in (
        ("challenge-window = 1\n" + FOREIGN_AGENT, "window of challenges"),
        (FOREIGN_AGENT + key.replace("700", "3"), "SPI of an AAA key"),
    ):
        with pytest.raises(ConfigError, match=expected):
            foreign_agent_toml.read(write(wrong))
