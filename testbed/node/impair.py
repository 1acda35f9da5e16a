"""`python3 -m testbed.node.impair INTERFACE …`: the kernel's netem on one link of this node, set once.

For networks without a hub: every node on the network delays, drops or shapes what it sends there. What is in
force stands in `/run/testbed/impairments/INTERFACE.json` as the answer to a control request would.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from testbed.agreed import IMPAIRMENTS, Impairment
from testbed.node.relay.netem import Netem
from testbed.node.relay.spawn import CommandError

FOLDER = Path(IMPAIRMENTS)


async def impair(interface: str, impairment: Impairment) -> None:
    """Bring an impairment into force and note it; raises CommandError where the kernel has no netem."""
    await Netem(interface).apply(impairment)
    note = FOLDER / f"{interface}.json"
    if not impairment.active:
        note.unlink(missing_ok=True)
        return
    state = {"ok": True, "backend": Netem.name, "interface": interface, "active": True}
    FOLDER.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(state | dataclasses.asdict(impairment)))


def main() -> int:
    """Run the program; exit code 1 and a line on stderr where the kernel cannot do it."""
    parser = argparse.ArgumentParser(
        prog="testbed.node.impair", description="Delay or drop what a link sends"
    )
    parser.add_argument("interface")
    for field in dataclasses.fields(Impairment):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=float, default=0.0)
    arguments = vars(parser.parse_args())
    try:
        asyncio.run(impair(arguments.pop("interface"), Impairment(**arguments)))
    except (CommandError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
