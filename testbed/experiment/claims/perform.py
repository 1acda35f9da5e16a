"""Carries out the steps of a run. What a step changed on purpose is put right by `Performer.undo`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any, Final

from testbed.agreed import IPSEC_DEVICE, MOVE_STARTED, READY, ROAM, SETTLED, STEPS, Op
from testbed.claim.echo import answers, ping
from testbed.claim.steps import (
    Bypass,
    Carry,
    Flush,
    Ipsec,
    Move,
    OfMobileNode,
    Ping,
    Register,
    Run,
    Send,
    Service,
    Session,
    Step,
)
from testbed.claim.steps import Probe as ProbeStep
from testbed.document.functions import Function, Meaning
from testbed.errors import StepError, TestbedError
from testbed.experiment.claims.observer import LabLooker, Observer
from testbed.experiment.claims.reset import RESTART_WITHIN, flush
from testbed.experiment.traffic import Probe, TcpSession
from testbed.lab.access import LabAccess, Stopped

MOVE_WITHIN: Final = 25.0
"""Seconds after which a move that has not settled is an error; its own bounds are well below."""
WAIT_WITHIN: Final = 5000.0
"""Milliseconds a `wait-until` takes at most unless it says."""
CARRY: Final = "carry"
_ports = itertools.count(5005)

_DEAF = """\
table netdev testbed-bypass
delete table netdev testbed-bypass
table netdev testbed-bypass {{
  chain ingress {{
    type filter hook ingress devices = {{ {devices} }} priority 0; policy drop;
    ether type arp accept
    ip protocol esp accept
    udp sport {{ 67, 500, 4500 }} accept
    udp dport {{ 68, 500, 4500 }} accept
    counter
  }}
}}
"""
# The interface of the old link stays up until the new one has its address: the address never ceases to exist.
_CARRY = """\
ip link set {new} up
ip address replace {address}/32 dev {new}
ip route replace default via {router} dev {new} onlink table 100
ip link set {old} down
"""
_PUT_DOWN: Final = "ip address del {address}/32 dev {new} || :; ip link set {new} down"
_PLUG_IN: Final = """ip link set {old} up
ip route replace {subnet} dev {old} scope link table 100
ip route replace default via {router} dev {old} onlink table 100
"""
"""The kernel dropped these routes with the link; the connection manager saw nothing and relies on them."""


class Performer:
    """The hands of one run in one lab."""

    def __init__(self, lab: LabAccess, observer: Observer) -> None:
        self._lab = lab
        self.observer = observer
        self._undo: list[tuple[str, Callable[[], None]]] = []
        self._carried: dict[str, list[Mapping[str, str]]] = {}
        self.notes: list[str] = []

    def perform(self, step: Step, place: str) -> str:
        """Do what a step says (other than `expect`); returns what came of it. Raises `StepError`.

        `place` is where the run has it: `steps/3/wait-until`.
        """
        part = step.part
        match part:
            case Move():
                return self._move(part)
            case Carry():
                return self._carry(part)
            case Ping():
                return answers(ping(LabLooker(self._lab), part, count=part.count))
            case Session():
                return self._session(part)
            case ProbeStep():
                return self._probe(part)
            case Ipsec():
                return self._ipsec(part)
            case Bypass():
                return self._bypass(part)
            case Register():
                return self._register(part)
            case Send():
                return self._send(part)
            case Service():
                return self._service(part)
            case Run():
                return self._run(part)
            case Flush():
                return flush(self._lab, part.agents)
        if step.wait_until:
            decision = self.observer.observe(place, step.wait_until, WAIT_WITHIN)
            if not decision.held:
                raise StepError(f"waited in vain: {step.wait_until.phrase()}: {decision.observed}")
            return decision.observed
        raise AssertionError(step.word)  # pragma: no cover

    def undo(self) -> list[str]:
        """Put right what steps changed, the last first; returns what could not be put right."""
        problems = []
        while self._undo:
            what, action = self._undo.pop()
            try:
                action()
            except Stopped:
                break
            except TestbedError as error:
                problems.append(f"{what}: {error.message}")
        return problems

    # The mobile node

    def _move(self, part: Move) -> str:
        node = self._who(part)
        self._put_down(node)
        results, reached = [], {event: step for step, event in STEPS.items()}
        back = f"{node} back"  # of the first each run says where it is to begin
        if node != self._lab.mobile_node and back not in dict(self._undo):
            was = {"op": Op.MOVE, "network": self._lab.state(node, ROAM).get("network")}
            if was["network"]:
                self._undo.append((back, lambda: self._settle(node, was)))
        for network in part.to * part.times:
            _, settled = settle(self._lab, {"op": Op.MOVE, "network": network}, node)
            timeline: Mapping[str, Any] = settled.get("timeline") or {}
            if part.reaches and timeline.get(reached[part.reaches]) is None:
                detail = settled.get("detail")
                raise StepError(f"moved to {network}, but did not come as far as {part.reaches}: {detail}")
            marks = ", ".join(f"{name} {ms:.0f}" for name, ms in timeline.items() if ms is not None)
            results.append(f"{network}: {settled.get('state')} ({settled.get('detail')}); ms: {marks}")
        return "\n".join(results)

    def _carry(self, part: Carry) -> str:
        lab, node = self._lab, self._who(part)
        state = lab.state(node, ROAM)
        old, address = state.get("network"), state.get("address")
        if not old or not address:
            raise StepError(f"{node} has no address of its own to carry to {part.to}")
        router, address = self._router(part.to), str(address).partition("/")[0]
        back = {"new": part.to, "old": old, "address": address}
        self._carried.setdefault(node, []).append(back)
        self._undo.append((f"{CARRY} {node}", lambda: self._carry_back(node, back)))
        lab.shell(node, _CARRY.format(**back, router=router))
        return f"{address} is now on {part.to}, with {router} for a router"

    def _router(self, network: str) -> IPv4Address:
        topology = self._lab.topology
        for name in topology.topology.linked(network):
            if topology.forwards(name) and (address := topology.node(name).links[network]):
                return address
        raise StepError(f"nobody on {network} forwards")

    def _carry_back(self, node: str, carried: Mapping[str, str]) -> None:
        """Leave the node as it was, unless its connection manager has found out and gone on by itself."""
        script, old = _PUT_DOWN.format(**carried), carried["old"]
        network = self._lab.state(node, ROAM).get("network")
        if network == old:
            subnet = self._lab.topology.topology.networks[old].subnet
            script += "\n" + _PLUG_IN.format(old=old, subnet=subnet, router=self._router(old))
        self._lab.shell(node, script.partition(";")[0] if network == carried["new"] else script)

    def _who(self, part: OfMobileNode) -> str:
        return part.node or self._lab.mobile_node

    def _settle(self, node: str, request: Mapping[str, Any]) -> None:
        settle(self._lab, request, node)

    def _put_down(self, node: str) -> None:
        """A move leaves behind what was carried; undone later, it would take down the link moved to."""
        for carried in self._carried.pop(node, ()):
            self._lab.shell(node, _PUT_DOWN.format(**carried))
        self._undo = [one for one in self._undo if one[0] != f"{CARRY} {node}"]

    def _ipsec(self, part: Ipsec) -> str:
        node = self._who(part)
        _, settled = settle(self._lab, {"op": Op.IPSEC, "action": part.state}, node)
        if part.state == "down":
            self._undo.append(("ipsec up", lambda: self._ipsec_up_again(node)))
        return f"{settled.get('state')} ({settled.get('detail')})"

    def _ipsec_up_again(self, node: str) -> None:
        """Allow it again at home or inside, where that costs no negotiation; else it takes its time."""
        state = self._lab.state(node, ROAM).get("ipsec")
        if not isinstance(state, dict) or not state.get("enabled"):
            settle(self._lab, {"op": Op.IPSEC, "action": "up"}, node)

    def _bypass(self, part: Bypass) -> str:
        lab, node = self._lab, self._who(part)
        networks = lab.topology.topology.networks
        outside = [name for name in lab.topology.node(node).attaches if networks[name].domain != "intranet"]
        delete = "nft delete table netdev testbed-bypass 2>/dev/null || :"
        if part.state == "on":
            lab.shell(node, delete)
            return "everything is taken in"
        rules = _DEAF.format(devices=", ".join(outside))
        self._undo.append(("bypass on", lambda: self._shell(node, delete)))
        lab.shell(node, f"nft -f - <<'END'\n{rules}END\n")
        note = f"emulated by nftables: {node} takes in IKE, ESP, DHCP and ARP on {', '.join(outside)}"
        self.notes.append(note)
        return note

    def _shell(self, node: str, script: str) -> None:
        self._lab.shell(node, script)

    def _register(self, part: Register) -> str:
        lab, node = self._lab, self._who(part)
        if part.through == "ipsec":
            state = lab.state(node, ROAM).get("ipsec")
            inner = state.get("inner") if isinstance(state, dict) else None
            if not inner:
                raise StepError("there is no IPsec session to register through")
            request = {"op": "attach", "interface": IPSEC_DEVICE, "care_of": inner}
        else:
            self._refuse_bypass(node, part.through)
            request = {"op": "discover", "interface": part.through, "register": True}
        lab.control(node, Function.MOBILE_NODE, {"op": "detach"})
        mark = lab.log.mark()
        lab.control(node, Function.MOBILE_NODE, request)
        answer = lab.log.wait(
            mark,
            lambda one: (
                one.node == node
                and one.event.source == Function.MOBILE_NODE
                and one.event.name in ("registered", "registration-failed")
            ),
            part.within / 1000,
        )
        sent = sum(one.node == node and one.event.name == "request-sent" for one in lab.log.since(mark))
        if answer is None:
            return f"{sent} requests sent, no answer"
        reason = answer.event.fields.get("reason")
        return f"{sent} requests sent, {answer.event.name}" + (f": {reason}" if reason else "")

    def _refuse_bypass(self, node: str, network: str) -> None:
        """Keep the IPsec policy: to an agent the daemon sends frames, which no rule of nftables sees."""
        topology = self._lab.topology
        outside = topology.topology.networks[network].domain != "intranet"
        protects = topology.meant(node, Meaning.PASSES) == "ipsec"
        if outside and protects and topology.options.get("stack") == "mip-in-ipsec":
            raise StepError(
                f"the IPsec policy of {node} lets no registration past ({node}.passes=registrations would)"
            )

    # Traffic

    def _correspondent(self, given: str | None) -> tuple[str, str, str]:
        """The correspondent node, its address, and the mobile node's home address."""
        topology, node = self._lab.topology, self._lab.mobile_node
        name = given or topology.correspondent(node)
        if name is None:
            raise StepError(f"{node} has no `probe` node; say `to:`")
        address = topology.primary_address(name)
        if not isinstance(address, IPv4Address):
            raise StepError(f"{name} has no address")
        return name, str(address), str(topology.home_address(node))

    def _session(self, part: Session) -> str:
        traffic = self.observer.traffic
        if part.action == "stop" or traffic.session:
            if traffic.session:
                traffic.session.stop()
            traffic.session = None
            if part.action == "stop":
                return "closed"
        _, address, source = self._correspondent(part.to)
        session = TcpSession(self._lab, source, address)
        session.start()
        traffic.session, traffic.marked = session, True
        self._undo.append(("session stop", session.stop))
        return f"connected from {source} to {address}"

    def _probe(self, part: ProbeStep) -> str:
        traffic = self.observer.traffic
        if part.action == "stop":
            if traffic.probe is None:
                raise StepError("no probe was started")
            return str(traffic.probe.stop())
        name, address, source = self._correspondent(part.to)
        probe = Probe(self._lab, source, name, address, next(_ports), part.every)
        self._undo.append(("probe stop", lambda: self._stop_quietly(probe)))
        probe.start()
        traffic.probe, traffic.marked = probe, True
        return f"every {part.every:g} ms from {source} to {address}"

    @staticmethod
    def _stop_quietly(probe: Probe) -> None:
        with suppress(StepError):
            probe.stop()

    def _send(self, part: Send) -> str:
        topology = self._lab.topology
        to = topology.node(part.to).links
        target = to.get(part.network) if part.network else topology.primary_address(part.to)
        if target is None:
            raise StepError(f"{part.to} has no address" + (f" on {part.network}" if part.network else ""))
        links = topology.node(part.from_).links
        source = links.get(part.network or "") or topology.primary_address(part.from_)
        command = ["python3", "-m", "testbed.node.inject", part.protocol, str(source), str(target)]
        if part.inner:
            _, correspondent, _ = self._correspondent(None)
            command += ["--inner", correspondent, str(topology.primary_address(part.inner))]
        done = self._lab.execute(part.from_, [*command, "--count", str(part.count)])
        if done.code != 0:
            raise StepError(f"{part.from_}: {done.complaint}")
        self.notes.append(f"made up: {part.count} {part.protocol} packets from {source} to {target}")
        return f"{part.count} packets from {source} to {target}"

    # Nodes

    def _service(self, part: Service) -> str:
        if part.state == "down":
            self._undo.append((f"{part.name} up", lambda: set_service(self._lab, part.node, part.name, "up")))
        set_service(self._lab, part.node, part.name, part.state)
        return part.state

    def _run(self, part: Run) -> str:
        done = self._lab.execute(part.node, ["sh", "-c", part.command], within=part.within / 1000)
        if done.code != 0:
            raise StepError(f"{part.node}: {part.command!r}: {done.complaint}")
        return done.text.strip()[-400:]


def settle(
    lab: LabAccess, request: Mapping[str, Any], node: str | None = None
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Ask a mobile node's connection manager for something that ends in `settled`, and wait for that.

    Without `node` the lab's first is asked. Returns the fields of its `move-started` and of its `settled`.
    Raises `StepError`.
    """
    node = node or lab.mobile_node
    mark = lab.log.mark()
    lab.control(node, ROAM, request)
    started = lab.log.wait(
        mark, lambda one: one.node == node and one.event.name == MOVE_STARTED, RESTART_WITHIN
    )
    if started is None:
        raise StepError(f"{node}: {request['op']} was accepted but did not begin")
    begun = started.event.fields["monotonic"]
    settled = lab.log.wait(
        mark,
        lambda one: (
            one.node == node
            and one.event.name == SETTLED
            and one.event.source == ROAM
            and one.event.fields["monotonic"] >= begun
        ),
        MOVE_WITHIN,
    )
    if settled is None:
        raise StepError(f"{node}: {request['op']} did not settle in {MOVE_WITHIN:g} s")
    return started.event.fields, settled.event.fields


def set_service(lab: LabAccess, node: str, name: str, state: str) -> None:
    """Stop a service, or start it and wait until it says that it is ready. Raises `StepError`."""
    mark = lab.log.mark()
    lab.shell(node, f"sv -w 8 {state} /etc/testbed/services/{name}", within=RESTART_WITHIN)
    if state == "up":
        ready = lab.log.wait(
            mark,
            lambda one: one.node == node and one.event.source == name and one.event.name == READY,
            RESTART_WITHIN,
        )
        facts = json.loads(lab.shell(node, "cat /etc/testbed/node.json").text)
        if ready is None and name in facts.get("ready", ()):
            raise StepError(f"{name} of {node} does not come up again")
