"""Sabotage: how a topology is changed, as a user would, so that a claim cannot hold in it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sabotage:
    """Pieces of text exchanged in a scenario's files, `--set` texts, and the claims that this contradicts."""

    claims: tuple[str, ...]
    changes: tuple[tuple[str, str], ...] = ()
    sets: tuple[str, ...] = ()
    verdict: str = "refuted"

    @property
    def scenario(self):
        """The scenario whose files are changed; the figures' claims are those of 2.1."""
        return f"scenario-{'2.1' if self.claims[0].startswith('fig') else self.claims[0][:3]}.yaml"


FA = "  fa-hotspot:\n    roles: [router, foreign-agent]"
DHCP = """  hotspot-router:
    roles: [router, dhcp-server]
    links: {internet: 203.0.113.11, hotspot: 198.51.100.2}
    settings: {dhcp-pool: 198.51.100.10-198.51.100.50}
"""
KEYS = (
    "settings: {visited: hotspot, care-of: hotspot, peer: gw, outside: internet, protects: 198.51.100.0/26}"
)
ROUTES = "links: {backbone: 10.0.0.2}\n    routes: {default: 10.0.0.1"
THROUGH_IPSEC = """\
      steps:
        - move: {to: hotel, reaches: registered}
        - carry: hotspot
        - register: {through: ipsec, within: 2s}
"""
PAST_IPSEC = "      sets: [node.mn.passes=registrations]\n" + THROUGH_IPSEC.replace(
    "through: ipsec", "through: hotspot"
)
REGISTERS = "        - move: airport\n      expect:\n        - mobile-node: {state: registered"

OPERATOR = "links: {internet: 203.0.113.40, operator: 198.51.100.193}"
NOWHERE = "\n    routes: {default: 198.51.100.222}"
ROAMS = "  roams:\n    options: {stack: %s, attach: hotel}"
BYPASSES = "options: {stack: ipsec-in-mip, routing: %s, attach: hotel}"
ROUND = "- move: {to: [%s], times: 2}"
BOXES = "settings: {outside: %s, protects: 10.0.0.0/8, inner-pool: 10.0.25$n.0/24"


SABOTAGES = {
    # Scenario 2.1
    "a gateway that forwards everything": Sabotage(
        ("2.1-gateway-guards", "2.1-fa-cleartext-no-help"), sets=("node.gw.passes=everything",)
    ),
    "IPsec off": Sabotage(
        ("2.1-colocated-registers", "2.1-colocated-renegotiates", "2.1-fa-no-cleartext"),
        (("options: {stack: mip-in-ipsec", "options: {stack: mip-only"),),
    ),
    "DHCP on the link of the foreign agent": Sabotage(
        ("2.1-fa-registration-impossible", "2.1-fa-blocks-ipsec"), ((FA, DHCP + FA),)
    ),
    "a bypass lets the mobile node hear": Sabotage(("2.1-fa-mn-deaf",), (('bypass: "off"', 'bypass: "on"'),)),
    "a request past IPsec is seen": Sabotage(("2.1-fa-sees-ciphertext",), ((THROUGH_IPSEC, PAST_IPSEC),)),
    "monitoring that is late": Sabotage(("2.1-exit-no-cleartext",), (("monitor=5s", "monitor=60s"),)),
    "data that the gateway forwards": Sabotage(
        ("2.1-fa-data-dropped",), (("node.gw.passes=registrations", "node.gw.passes=everything"),)
    ),
    "a WLAN that the gateway lets in": Sabotage(
        ("2.1-wlan-outside",), (("      outside: wlan\n", "      outside: wlan\n      passes: everything\n"),)
    ),
    "a trusted FA without its tunnel": Sabotage(("fig10-trusted-fa",), ((", peer: gw}", "}"),)),
    "an Intranet that loses a subnet": Sabotage(
        ("2.1-inside-mobility",), ((ROUTES, f"{ROUTES}, 10.0.3.0/24: 10.0.0.99"),)
    ),
    "a gateway that forwards registrations": Sabotage(
        ("2.1-fa-cleartext-no-help",), sets=("node.gw.passes=registrations",)
    ),
    # It has a tunnel of its own to the gateway: the home agent is in reach, the link counts as inside.
    "a foreign agent with the keys": Sabotage(
        ("2.1-fa-registration-impossible",),
        (
            (
                "hotspot: {subnet: 198.51.100.0/26, domain: internet",
                "hotspot: {subnet: 198.51.100.0/26, domain: intranet",
            ),
            (FA, FA.replace("]", ", vpn-gateway]")),
            ("settings: {visited: hotspot, care-of: internet}", KEYS),
        ),
    ),
    # Both runs see the same, because the control is sabotaged too: nobody can say anything.
    "a broken control is never success": Sabotage(
        ("2.1-colocated-registers",), sets=("node.gw.passes=everything",), verdict="inconclusive"
    ),
    # The binding list cannot be read: neither its absence nor its presence is evidence.
    "a dead daemon decides nothing": Sabotage(
        ("2.1-colocated-registers",),
        (
            (
                REGISTERS,
                REGISTERS.replace(
                    "airport\n", "airport\n        - service: {node: ha, name: home-agent, state: down}\n"
                ),
            ),
        ),
        verdict="inconclusive",
    ),
    # Scenarios 2.2 to 2.5
    "a home agent that answers on its private side only, and is not in the way of what is sent": Sabotage(
        ("2.2-ha-reachable", "2.2-always-away", "2.2-dmz-hairpin"),
        sets=("node.ha.agent=backbone", "node.mn.reverse-tunnel=false"),
    ),
    "DHCP beside the foreign agent": Sabotage(("2.2-mip-in-ipsec-fa",), ((FA, DHCP + FA),)),
    "DHCP beside the foreign agent, in 2.5": Sabotage(("2.5-mip-in-ipsec-fa",), ((FA, DHCP + FA),)),
    "moves inside only": Sabotage(
        ("2.2-mip-in-ipsec-renegotiates",), ((ROUND % "airport, hotel", ROUND % "campus, office"),)
    ),
    "moves inside only, in 2.5": Sabotage(
        ("2.5-mip-in-ipsec-renegotiates",), ((ROUND % "airport, hotel", ROUND % "campus, office"),)
    ),
    "routing that is not adapted": Sabotage(
        ("2.2-ipsec-in-mip-mobile",),
        ((ROAMS % "ipsec-in-mip", ROAMS % "ipsec-in-mip, routing: unmodified"),),
    ),
    "routing that is adapted": Sabotage(
        ("2.2-ipsec-in-mip-needs-routing",), ((BYPASSES % "unmodified", BYPASSES % "adapted"),)
    ),
    "no IPsec where one box wants it": Sabotage(
        ("2.3-routing-resolved",), ((ROAMS % "ipsec-in-mip", ROAMS % "mip-only"),)
    ),
    "two boxes": Sabotage(
        ("2.3-single-box",),
        (
            (
                "drawback: single-vendor\n    run:\n",
                "drawback: single-vendor\n    run:\n      topology: scenario-2.2\n",
            ),
        ),
    ),
    "an operator that loses its way to the Internet": Sabotage(
        ("2.4-registers-without-ipsec",),
        ((OPERATOR, OPERATOR + NOWHERE),),
    ),
    "no IPsec where the gateway wants it": Sabotage(
        ("2.4-ipsec-in-mip-mobile",), ((ROAMS % "ipsec-in-mip", ROAMS % "mip-only"),)
    ),
    "a gateway that lets the inside out": Sabotage(
        ("2.4-no-mobility-inside",), sets=("node.gw.passes=everything",)
    ),
    "IPsec outermost": Sabotage(
        ("2.5-ipsec-in-mip-works",), ((ROAMS % "ipsec-in-mip", ROAMS % "mip-in-ipsec"),)
    ),
    "gateways that turn their back to the outside": Sabotage(
        ("2.5-perimeter-grows",), ((BOXES % "public", BOXES % "link-$n"),)
    ),
}
