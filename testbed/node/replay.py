"""Packets that were captured, sent once more.

    python3 -m testbed.node.replay 4500003c… 4500003c… --as 203.0.113.66

Each packet is given in hexadecimal digits, from the IP header on. With `--as` they come from another address,
with `--to` they go to another.
"""

from __future__ import annotations

import argparse
from ipaddress import IPv4Address

from testbed.node.whole import mended, send


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="testbed.node.replay")
    parser.add_argument("packets", nargs="+", metavar="HEX", type=bytes.fromhex)
    parser.add_argument("--as", dest="source", type=IPv4Address, help="another source address")
    parser.add_argument("--to", dest="destination", type=IPv4Address, help="another destination")
    parser.add_argument("--device", help="the interface that they leave by")
    options = parser.parse_args(arguments)
    try:
        send(
            [mended(packet, options.source, options.destination) for packet in options.packets],
            options.device,
        )
    except (OSError, ValueError) as error:
        parser.exit(1, f"cannot send: {error}\n")


if __name__ == "__main__":
    main()
