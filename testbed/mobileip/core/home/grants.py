"""What a home agent grants, and what follows from it: tunnels, ARP, and what is to be remembered.

RFC 5944 §3.8.2.2, §4.6.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address
from typing import Any

from testbed.mobileip.core.api import Clock, Datagram, GratuitousArp, Records, Remember
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.gratuitous_arp import GratuitousArps
from testbed.mobileip.core.home.addresses import HomeAddresses
from testbed.mobileip.core.home.answers import returned_home
from testbed.mobileip.core.home.bindings import Binding, BindingTable, tunnels
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home.effects import ClearBinding, ProxyArp, SetBinding
from testbed.mobileip.core.home.multicast import HomeMulticast
from testbed.mobileip.core.home.udp_tunnel import udp_end
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.replay import ReplayGuard
from testbed.mobileip.core.revocation import Terms
from testbed.mobileip.core.security import Peer
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.udp_tunnel import UdpTunnelReply


class Grants:
    """Adds, renews and deletes bindings of the table, and asks the shell for what follows."""

    def __init__(
        self,
        config: HomeAgentConfig,
        clock: Clock,
        bindings: BindingTable,
        homes: HomeAddresses,
        replay: ReplayGuard,
        multicast: HomeMulticast,
        out: Outbox,
        counters: Counter[str],
    ) -> None:
        self.arps = GratuitousArps(out)
        self._config = config
        self._clock = clock
        self._bindings = bindings
        self._homes = homes
        self._replay = replay
        self._multicast = multicast
        self._out = out
        self._counters = counters

    def grant(
        self,
        datagram: Datagram,
        request: RegistrationRequest,
        answer: UdpTunnelReply | None,
        terms: Terms | None,
        now: float,
    ) -> tuple[Code, int]:
        """§3.8.2.2: update the bindings; the code and lifetime of the reply. Raises Deny.

        A duplicate never comes here: its timestamp is not fresh.
        """
        home_address, care_of = request.home_address, request.care_of_address
        code = Code.ACCEPTED if self._config.simultaneous > 1 else Code.ACCEPTED_NO_SIMULTANEOUS
        if request.lifetime == 0:
            self._deregister(datagram, request, now)
            return code, 0
        before = self._bindings.of(home_address)
        retain = bool(request.flags & RequestFlag.SIMULTANEOUS) and self._config.simultaneous > 1
        if not before and len(self._bindings) >= self._config.bindings:
            raise Deny(Code.HA_INSUFFICIENT_RESOURCES)
        lifetime, udp = min(request.lifetime, self._config.lifetime), None
        if answer is not None and answer.assents and self._config.udp_tunnel is not None:
            care_of, udp = datagram.source, udp_end(datagram, request, before)
            lifetime = min(lifetime, self._config.udp_tunnel.lifetime)
        if retain and sum(each.care_of_address != care_of for each in before) >= self._config.simultaneous:
            raise Deny(Code.HA_TOO_MANY_BINDINGS)
        binding = Binding(care_of, request.identification, request.flags, lifetime, now, udp, terms)
        self._bindings.add(home_address, binding, retain)
        also = {"port": udp.port} if udp is not None else {}
        self._out.event(
            "binding", home_address=str(home_address), care_of=str(care_of), lifetime=lifetime, **also
        )
        after = self._bindings.of(home_address)
        renewed = [each.way for each in before] == [each.way for each in after]
        if not renewed and (wanted := tunnels(after)) != tunnels(before):
            self._multicast.changed(home_address)
            self._out.add(SetBinding(home_address, *wanted))
        if not before:
            self._stand_in(home_address, now)
        return code, lifetime

    def _stand_in(self, home_address: IPv4Address, now: float) -> None:
        """Receive on the home link, where there is one, what is for a mobile node that is away (§4.6)."""
        if (interface := self._config.home_interface) is not None:
            self._out.add(ProxyArp(home_address, True))
            self.arps.announce(GratuitousArp(home_address, interface), now)

    def _deregister(self, datagram: Datagram, request: RegistrationRequest, now: float) -> None:
        home_address, care_of = request.home_address, request.care_of_address
        had_bindings = home_address in self._bindings
        self._bindings.remove(home_address, None if care_of == home_address else care_of)
        if had_bindings:
            self._out.event("binding-removed", home_address=str(home_address), care_of=str(care_of))
            self._changed(home_address)
        interface = self._config.home_interface
        if returned_home(datagram, request) and interface is not None:
            if datagram.link_address is None:
                self._counters["gratuitous-arps-omitted"] += 1  # the mobile node has sent its own
            else:  # §4.6: our own, with the mobile node's link address
                arp = GratuitousArp(home_address, interface, datagram.link_address)
                self.arps.announce(arp, now)

    def withdraw(self, home_address: IPv4Address, before: tuple[Binding, ...], undo: bool) -> None:
        """A grant has failed: bindings are what they were `before`; `undo` what the kernel did for it."""
        self._bindings.replace(home_address, before)
        self.arps.cancel(home_address)
        if undo:
            self._changed(home_address)
            if before and self._config.home_interface is not None:
                self._out.add(ProxyArp(home_address, True))

    def flush(self) -> None:
        """Forget every binding, without a message to anybody."""
        for home_address in tuple(self._bindings):
            care_of_addresses = self._bindings.care_of_addresses(home_address)
            self._bindings.remove(home_address)
            for care_of in care_of_addresses:
                self._out.event("binding-removed", home_address=str(home_address), care_of=str(care_of))
            self.moved(home_address)

    def expire(self, now: float) -> None:
        """Delete what was not renewed in time (§3.8.2.2)."""
        for home_address, care_of in self._bindings.expire(now):
            self._counters["bindings-expired"] += 1
            self._out.event("binding-expired", home_address=str(home_address), care_of=str(care_of))
            self.moved(home_address)

    # What follows from a change of bindings.

    def moved(self, home_address: IPv4Address) -> None:
        """The bindings of a mobile node have changed without a request of it."""
        self._changed(home_address)
        self.remember(self._homes.owner(home_address))

    def _changed(self, home_address: IPv4Address) -> None:
        self._multicast.changed(home_address)
        if home_address in self._bindings:
            self._out.add(SetBinding(home_address, *tunnels(self._bindings.of(home_address))))
            return
        self._out.add(ClearBinding(home_address))
        if self._config.home_interface is not None:
            self._out.add(ProxyArp(home_address, False))
        self.arps.cancel(home_address)

    # What outlives this process.

    def remember(self, node: Peer) -> None:
        """Keep what was accepted last from a mobile node, and its bindings."""
        home_address = self._homes.of(node)
        bindings = self._bindings.of(home_address) if home_address is not None else ()
        record: dict[str, Any] = dict(self._replay.record(node))
        record["bindings"] = [each.record(self._clock) for each in bindings]
        if isinstance(node, str):
            record["home_address"] = None if home_address is None else str(home_address)
        if home_address is not None:
            record.update(self._multicast.record(home_address))
        self._out.add(Remember(node, record))

    def restore(self, records: Records, now: float) -> None:
        """Take up what a predecessor asked to remember; see `HomeAgent.restore`."""
        for node, record in records.items():
            if not self._homes.serves(node):  # the configuration has changed
                self._out.add(Remember(node, None))
                continue
            bindings = [Binding.from_record(each, self._clock, now) for each in record["bindings"]]
            self._replay.restore(node, record)
            if (home_address := self._homes.restore(node, record.get("home_address"))) is None:
                continue
            for binding in bindings:
                if binding.expires is None or binding.expires > now:
                    self._bindings.add(home_address, binding, retain=True)
            if home_address in self._bindings:
                self._changed(home_address)
                self._multicast.restore(home_address, record, now)
                self._stand_in(home_address, now)
                care_of = ", ".join(map(str, self._bindings.care_of_addresses(home_address)))
                self._out.event("binding-restored", home_address=str(home_address), care_of=care_of)
