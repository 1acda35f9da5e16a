"""What goes over the wire: encoders, and decoders that check every bound and raise only `WireError`.

| text                               | module                 |
|------------------------------------|------------------------|
| RFC 5944 §1.8, §1.9, §2.1.3        | `extension`            |
| RFC 5944 §2.1, §2.1.1, §2.1.2      | `agent_advertisement`  |
| RFC 5944 §2.2, RFC 1256 §3         | `agent_solicitation`   |
| RFC 5944 §3.3                      | `registration_request` |
| RFC 5944 §3.4                      | `registration_reply`   |
| RFC 5944 §3.4, RFC 3024 §3.4       | `code`                 |
| RFC 5944 §3.5.1 to §3.5.4          | `authentication`       |
| RFC 3519 §3.1 to §3.3              | `udp_tunnel`           |
| RFC 5944 §5.7.1                    | `identification`       |
| RFC 791 §3.1, RFC 768              | `ipv4`                 |
| RFC 2236, RFC 3376                 | `igmp`                 |
| RFC 792, RFC 1071                  | `checksum`             |
| RFC 5944 §4.1                      | `encapsulation`        |
| RFC 2003                           | `ip_in_ip`             |
| RFC 2784                           | `gre`                  |
| RFC 2004                           | `minimal`              |
| RFC 3519 §4.1 to §4.3              | `in_udp`               |
"""

PORT = 434
"""The UDP port of the registration protocol (RFC 5944 §1.8)."""
