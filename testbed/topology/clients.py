"""Checks of VPN clients and of home agents outside: what their settings need (RFC 4555, RFC 5265)."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.agreed import DUAL, MIP_IN_IPSEC
from testbed.document.functions import Meaning
from testbed.topology.cast import Cast
from testbed.topology.homes import Problem


def check_clients(cast: Cast) -> Iterator[Problem]:
    """What is wrong with settings that need a stack, or something of a home agent."""
    for name in cast.topology.nodes:
        if cast.meant(name, Meaning.MOBIKE) and not _offers(cast, "mip-in-ipsec"):
            yield _lacks_stack(cast, name, Meaning.MOBIKE, "the stack mip-in-ipsec")
        if cast.meant(name, Meaning.WHEREABOUTS) == "detected" and not _offers(cast, *MIP_IN_IPSEC):
            yield _lacks_stack(cast, name, Meaning.WHEREABOUTS, "a stack with MIPv4 inside IPsec")
        if cast.meant(name, Meaning.HOME_AGENT) is not None:
            yield from _check_detection(cast, name)
        if cast.meant(name, Meaning.OUTER_HOME_AGENT) is not None:
            yield from _check_outer(cast, name)


def _offers(cast: Cast, *stacks: str) -> bool:
    option = cast.topology.options.get("stack")
    return option is None or any(option.allows(one) for one in stacks)


def _setting(cast: Cast, name: str, meaning: Meaning) -> tuple[str, ...]:
    return ("nodes", name, "settings", cast.written_as(name, meaning))


def _lacks_stack(cast: Cast, name: str, meaning: Meaning, needed: str) -> Problem:
    return (
        _setting(cast, name, meaning),
        f"{cast.written_as(name, meaning)} needs {needed}, which this topology does not offer",
        "add it to the choices of the option stack, or leave the setting out",
    )


def _check_detection(cast: Cast, name: str) -> Iterator[Problem]:
    """A mobile node that finds out what is inside never believes a home agent that trusts nobody."""
    option, agent = cast.topology.options.get("stack"), cast.home_agent(name)
    dual = option is not None and option.default == DUAL and cast.meant(name, Meaning.VPN_GATEWAY) is not None
    detects = cast.meant(name, Meaning.WHEREABOUTS) == "detected"
    if dual and cast.meant(name, Meaning.OUTER_HOME_AGENT) is None:
        hint = "add x-mobile-node to its roles, or choose another default of the option stack"
        yield (
            ("nodes", name),
            f"the stack {DUAL} needs a home agent outside, which {name} does not have",
            hint,
        )
    if (dual or detects) and agent in cast.topology.nodes and cast.meant(agent, Meaning.TRUSTED) is None:
        key = cast.written_as(agent, Meaning.TRUSTED)
        message = f"{name} is never inside: its home agent {agent} has no trusted networks (RFC 5265 §3.2.3)"
        yield _setting(cast, name, Meaning.HOME_AGENT), message, f"settings of {agent}: {{{key}: [PREFIX]}}"


def _check_outer(cast: Cast, name: str) -> Iterator[Problem]:
    agent, inner = cast.meant(name, Meaning.OUTER_HOME_AGENT), cast.home_agents(name)
    if not _offers(cast, DUAL):
        yield _lacks_stack(cast, name, Meaning.OUTER_HOME_AGENT, f"the stack {DUAL}")
    if agent in inner:
        message = f"{agent} is the home agent of {name} inside already; the two MUST differ (RFC 5265 §3.5)"
        yield _setting(cast, name, Meaning.OUTER_HOME_AGENT), message, "name a home agent outside"
        return
    home, address = cast.home_prefix(agent), cast.meant(name, Meaning.OUTER_HOME_ADDRESS)
    if home is not None and address is not None and address not in home:
        message = f"expected an address in {home}, the home network of {agent}, got {address}"
        yield _setting(cast, name, Meaning.OUTER_HOME_ADDRESS), message, None
