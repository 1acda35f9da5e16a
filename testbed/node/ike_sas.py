"""The IKE SAs of this node's charon, read over vici, its control protocol.

    python3 -m testbed.node.ike_sas
    [{"state": "ESTABLISHED", "remote-id": "mn", "initiator-spi": "0f1e…", "responder-spi": "8796…"}]

Exit code 1 and a line on standard error where charon cannot be asked.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import vici

KEYS = ("state", "remote-id", "initiator-spi", "responder-spi")


def read(sections: list[dict[str, Any]]) -> list[dict[str, str]]:
    """What `list-sas` answers: an IKE SA a section, whose key is the connection's name."""
    return [
        {key: sa.get(key, b"").decode(errors="replace") for key in KEYS}
        for section in sections
        for sa in section.values()
    ]


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="testbed.node.ike_sas")
    parser.parse_args(arguments)
    try:
        print(json.dumps(read(list(vici.Session().list_sas()))))
    except OSError as error:
        parser.exit(1, f"charon does not answer: {error}\n")


if __name__ == "__main__":
    main()
