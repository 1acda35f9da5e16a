"""The counters by name: always reported, so that zero differs from absent.

The counters of single reasons and codes, such as denied-78, appear after their first increment.
"""

from __future__ import annotations

AGENT = (
    "advertisements-sent",
    "advertisements-sent-unicast",
    "agent-messages-ignored",
    "discards-not-reported",
    "requests-received",
    "solicitations-not-answered-rate",
    "solicitations-received",
)
REVOCATION = (
    "revocations-acknowledged",
    "revocations-received",
    "revocations-sent",
    "revocations-unacknowledged",
)
UDP_TUNNEL = ("keepalives-answered", "keepalives-sent", "mappings-lost")
FOREIGN_AGENT = (
    *AGENT,
    *UDP_TUNNEL,
    *REVOCATION,
    "denials-withheld",
    "replies-received",
    "replies-relayed",
    "requests-relayed",
    "visitors-expired",
)
HOME_AGENT = (
    *AGENT,
    *REVOCATION,
    "bindings-expired",
    "broadcasts-forwarded",
    "broadcasts-not-forwarded-rate",
    "gratuitous-arps-omitted",
    "requests-accepted",
    "requests-shed",
)
MOBILE_NODE = (
    "advertisements-received",
    "agent-messages-ignored",
    "agents-lost",
    "agents-without-reverse-tunnel",
    "discards-not-reported",
    *UDP_TUNNEL,
    "registrations-expired",
    "replies-received",
    "requests-sent",
    "requests-timed-out",
    "resynchronisations",
    "revocations-received",
    "solicitations-sent",
)
