"""Filters of what comes in by a device: from some addresses alone, before anything is done with it (tc(8)).

Rules of the routing policy are too late for what is to this node itself: the table of local addresses comes
first. The filters need the kernel's modules sch_ingress, cls_flower and act_gact.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from testbed.mobileip.io.changes import GONE, Changes
from testbed.mobileip.io.rtnetlink import CREATE, EXCLUSIVE, Values, packed

_NEW_QDISC, _NEW_FILTER, _DELETE_FILTER = 36, 44, 45
_TC = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, index, handle, parent; preference and protocol of a filter."""
_INGRESS, _FILTERS = 0xFFFFFFF1, 0xFFFF0000
_ETH_P_IP = 0x0800
_ADMIT, _REFUSE = 1, 2
"""Preferences: the lowest that matches decides."""
_REST = 1
"""Handle of the filter for the rest; those of addresses are the addresses."""
# Attributes, from linux/rtnetlink.h, pkt_cls.h and tc_act/tc_gact.h.
_TCA_KIND, _TCA_OPTIONS = 1, 2
_FLOWER_ACT, _FLOWER_ETH_TYPE, _FLOWER_SOURCE, _FLOWER_SOURCE_MASK = 3, 8, 10, 11
_ACT_KIND, _ACT_OPTIONS, _GACT_PARMS = 1, 2, 2
_PASS, _DROP = 0, 2


def _action(verdict: int) -> Values:
    parameters = struct.pack("=IIiii", 0, 0, verdict, 0, 0)
    action: Values = {_ACT_KIND: "gact", _ACT_OPTIONS: packed({_GACT_PARMS: parameters})}
    return {_FLOWER_ACT: packed({1: packed(action)})}


class SourceFilters(Changes):
    """The filters of devices; with a device they go."""

    def accept_sources(self, interface: str, addresses: Iterable[IPv4Address]) -> None:
        """Drop from now on what comes in by `interface` but from these, and from those admitted later."""
        body = _TC.pack(0, self._index(interface), _FILTERS, _INGRESS, 0) + packed({_TCA_KIND: "ingress"})
        self._change(f"filters of {interface}", _NEW_QDISC, CREATE | EXCLUSIVE, body)
        for address in addresses:
            self.admit_source(interface, address)
        self._filter(_NEW_FILTER, CREATE | EXCLUSIVE, interface, _REST, _REFUSE, _action(_DROP))

    def admit_source(self, interface: str, address: IPv4Address) -> None:
        """Let what comes from `address` in by `interface`."""
        keys: Values = {_FLOWER_SOURCE: address, _FLOWER_SOURCE_MASK: IPv4Address(0xFFFFFFFF)}
        keys |= _action(_PASS)
        self._filter(_NEW_FILTER, CREATE, interface, int(address), _ADMIT, keys)

    def expel_source(self, interface: str, address: IPv4Address) -> None:
        """Cease to let what comes from `address` in by `interface`."""
        self._filter(_DELETE_FILTER, 0, interface, int(address), _ADMIT, {})

    def _filter(
        self, kind: int, flags: int, interface: str, handle: int, preference: int, values: Values
    ) -> None:
        protocol = socket.htons(_ETH_P_IP)
        body = _TC.pack(0, self._index(interface), handle, _FILTERS, preference << 16 | protocol)
        options: Values = {_FLOWER_ETH_TYPE: struct.pack("!H", _ETH_P_IP), **values} if values else {}
        body += packed({_TCA_KIND: "flower", _TCA_OPTIONS: packed(options)})
        self._change(
            f"filter of {interface}", kind, flags, body, GONE if kind == _DELETE_FILTER else frozenset()
        )
