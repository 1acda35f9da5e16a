"""What is counted by name: told from zero on, or nobody could tell a zero from a counter that there is not.

Those of single reasons and codes, such as denied-78, are told from the first one on.
"""

from __future__ import annotations

AGENT = (
    "advertisements-sent",
    "advertisements-sent-unicast",
    "agent-messages-ignored",
    "requests-received",
    "solicitations-discarded-not-from-link",
    "solicitations-not-answered-rate",
    "solicitations-received",
)
FOREIGN_AGENT = (
    *AGENT,
    "denials-withheld",
    "replies-received",
    "replies-relayed",
    "requests-relayed",
    "visitors-expired",
)
HOME_AGENT = (*AGENT, "bindings-expired", "gratuitous-arps-omitted", "requests-accepted")
MOBILE_NODE = (
    "advertisements-received",
    "agent-messages-ignored",
    "agents-lost",
    "agents-without-reverse-tunnel",
    "registrations-expired",
    "replies-received",
    "requests-sent",
    "requests-timed-out",
    "resynchronisations",
    "solicitations-sent",
)
