"""The parts of the live picture as text: what a terminal shows, and what a test reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.text import Text

from testbed.document.functions import Function
from testbed.report.ladder_text import STYLES
from testbed.report.tree import DOMAINS
from testbed.topology.loaded import LoadedTopology
from testbed.watch.picture import Agent, Handoff, Mobile, Picture, left
from testbed.watch.rows import LiveRow

FRESH: Final = 3.0
"""Seconds after its last packet that a stream is shown."""
STREAMS: Final = 8
"""Streams that are shown at most."""
PLACES_WIDTH: Final = 42
"""Columns of `places`."""
_NAMES: Final = 14  # columns before the nodes of a network
_BARS: Final = "▁▂▃▄▅▆▇█"
_LOST: Final = "╳"
_TITLES: Final = {"internet": "Internet", "operator": "Operator", "dmz": "DMZ", "intranet": "Intranet"}


def places(topology: LoadedTopology, picture: Picture) -> Text:
    """Every network of every domain with its nodes; mobile nodes where they are, and a key to move there."""
    keys = {
        network: str(number)
        for mobile in list(picture.mobiles.values())[:1]
        for number, network in enumerate(mobile.networks, 1)
    }
    text = Text()
    for domain in DOMAINS:
        networks = [name for name, network in topology.networks.items() if network.domain == domain]
        if networks:
            text.append(f"{_TITLES[domain]}\n", "bold underline")
        for name in networks:
            text.append(f" {keys.get(name, ' '):1} ", "reverse" if name in keys else "")
            text.append(f" {name:<10}", "bold")
            column = _NAMES
            for node, spec in topology.nodes.items():
                if name in spec.links:
                    if column + 1 + len(node) > PLACES_WIDTH:
                        text.append("\n" + " " * _NAMES)
                        column = _NAMES
                    text.append(f" {node}", "red strike" if f"{node}/{name}" in picture.failed else "dim")
                    column += 1 + len(node)
            for mobile in picture.mobiles.values():
                if mobile.network == name:
                    text.append(" ✂" if f"{mobile.node}/{name}" in picture.failed else "", "bold red")
                    text.append(f" ●{mobile.node}", "bold green" if mobile.registration else "bold yellow")
                elif mobile.handoff and not mobile.handoff.state and mobile.handoff.network == name:
                    text.append(f" ◌{mobile.node}", "bold yellow blink")
            text.append("\n")
    return text


def about(mobile: Mobile, now: float, width: int = 52) -> Text:
    """A mobile node: IPsec, registration with its lifetime, the probe, and the hand-off as it happens."""
    text = Text()
    text.append(f"{mobile.node} ", "bold")
    text.append(f"{mobile.network or 'on its way'}\n", "bold green" if mobile.network else "bold yellow")
    if mobile.ipsec:
        text.append("IPsec         ", "dim")
        text.append(f"{mobile.ipsec}\n", "red" if mobile.ipsec in ("down", "off") else "")
    text.append("registration  ", "dim")
    text.append(mobile.registration or "none", "" if mobile.registration else "red")
    if (seconds := left(mobile.expires, now)) is not None:
        text.append(f", {seconds:.0f} s left")
    text.append("\n")
    text.append("probe         ", "dim").append_text(echoes(mobile, width - 14)).append("\n")
    if mobile.handoff:
        text.append_text(handoff(mobile.handoff))
    return text


def echoes(mobile: Mobile, width: int) -> Text:
    """The round-trip times of the probe as bars, the last of them in ms, and how many were lost."""
    if not mobile.echoes:
        return Text("none", "dim")
    last = mobile.echoes[-1]
    words = "no answer" if last is None else f"{last:.1f} ms"
    if mobile.lost:
        words += f", {mobile.lost} of {len(mobile.echoes)} lost"
    shown = list(mobile.echoes)[-max(width - len(words) - 1, 1) :]
    top = max((echo for echo in shown if echo is not None), default=1.0)
    text = Text()
    for echo in shown:
        if echo is None:
            text.append(_LOST, "red")
        else:
            text.append(_BARS[min(int(echo / top * len(_BARS)), len(_BARS) - 1)], "green")
    return text.append(f" {words}", "red" if last is None else "")


def handoff(one: Handoff) -> Text:
    """The last move: its steps with the ms since it began."""
    text = Text("hand-off      ", "dim")
    text.append(f"to {one.network}: ")
    text.append(" · ".join(f"{step} {ms:.0f}" for step, ms in one.steps.items()) or "begun")
    if not one.state:
        return text.append(" …", "bold yellow")
    return text.append(f" ms: {one.state}", "green" if one.state in ("registered", "at-home") else "red")


def knows(picture: Picture, now: float) -> Text:
    """What agents and gateways know: bindings, visitors, IKE SAs; and who does not answer."""
    text = Text()
    for agent in picture.agents.values():
        if agent.entries or agent.role == Function.HOME_AGENT:
            text.append_text(_agent(agent, now))
    for gateway, words in picture.associations.items():
        text.append(f"{gateway:<13} ", "bold").append("IKE SA ", "dim").append(
            ", ".join(words) or "none"
        ).append("\n")
    for name in sorted(picture.silent):
        text.append(f"{name} does not answer\n", "red")
    return text


def _agent(agent: Agent, now: float) -> Text:
    text = Text()
    what = "binding" if agent.role == Function.HOME_AGENT else "visitor"
    text.append(f"{agent.node:<13} ", "bold")
    if not agent.entries:
        return text.append(f"no {what}\n", "dim")
    for number, one in enumerate(agent.entries):
        seconds = left(one.expires, now)
        text.append("" if not number else " " * 14).append(f"{what} ", "dim").append(
            f"{one.name} at {one.at}"
        )
        text.append(f" ({seconds:.0f} s)\n" if seconds is not None else "\n")
    return text


def streams(rows: Sequence[LiveRow]) -> Text:
    """The streams of data of the last seconds, a line each, those that began first above."""
    now = max((row.until for row in rows), default=0.0)
    lines = [line(row) for row in rows if not row.turning and now - row.until < FRESH]
    text = Text("\n", no_wrap=True, overflow="ellipsis").join(lines[-STREAMS:])
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def line(row: LiveRow) -> Text:
    """A row of the ladder: when, from whom to whom, how often, every header."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(datetime.fromtimestamp(row.until).strftime("%H:%M:%S.%f")[:-3], "dim")
    text.append(f" {row.sender:>10} → {row.receiver or '*':<10} ", "cyan")
    if not row.turning:
        text.append(f"{row.count} × ", "bold")
    for number, (kind, words) in enumerate(row.parts):
        text.append(" | " if number else "", "dim").append(words, STYLES.get(kind, ""))
    return text
