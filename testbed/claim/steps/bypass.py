"""What agents send, past a mobile node's IPsec policy."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from testbed.claim.action import Actor, OfMobileNode

_DEAF: Final = """\
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
_DELETE: Final = "nft delete table netdev testbed-bypass 2>/dev/null || :"


class Bypass(OfMobileNode):
    """Let what agents send past the mobile node's IPsec policy, or not (BYPASS of RFC 4301 §4.4.1, inbound).

    `off`: from its access links outside the mobile node accepts IKE, ESP, DHCP and ARP, nothing else. No
    kernel's IPsec judges what a daemon reads off the link itself, so nftables does, and the evidence says
    `emulated`. `on`: the mobile node
    accepts everything. What a VPN client may send in clear is its setting `passes`.
    """

    word = "bypass"
    title = "Let what agents send past the mobile node's IPsec policy, or not"
    order = 70

    SHORT = "state"
    state: Literal["on", "off"] = Field(description="`on`: it passes; `off`: it does not")

    def act(self, lab: Actor) -> str:
        """Add or delete the rules."""
        node, networks = self.who(lab.facts), lab.facts.networks
        outside = [name for name in lab.facts.nodes[node].attaches if networks[name].domain != "intranet"]
        if self.state == "on":
            lab.shell(node, _DELETE)
            return "everything is taken in"
        rules = _DEAF.format(devices=", ".join(outside))
        lab.at_end("bypass on", lambda: lab.shell(node, _DELETE))
        lab.shell(node, f"nft -f - <<'END'\n{rules}END\n")
        note = f"emulated by nftables: {node} takes in IKE, ESP, DHCP and ARP on {', '.join(outside)}"
        lab.note(note)
        return note
