"""`testbed set`: change the delay, jitter, loss or rate of networks of a running lab."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, complete_impairment, engine_connection, narrated
from testbed.cli.options import Output
from testbed.cli.output import Format, emit_json, emit_rows


@command("set", panel=LABS)
def set_(
    lab: LabName,
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="network.NAME.KEY=VALUE…",
            help="KEY is delay, jitter, loss or rate: network.internet.delay=80ms, network.internet.loss=1%.",
            autocompletion=complete_impairment,
        ),
    ],
    output: Output = Format.table,
) -> None:
    """Change impairments of a running lab's networks at once; no node is replaced.

    The hub of a network impairs its packets. Without a hub each node's kernel does so, and requires netem
    (else exit code 3). A later `up` keeps the values.
    """
    from testbed.lab.impairments import change_lab

    with engine_connection(lab) as engine, narrated() as progress:
        now = change_lab(engine, lab, changes, progress)
    if output is Format.json:
        emit_json({"lab": lab, "networks": {name: asdict(one) for name, one in now.items()}})
    else:
        emit_rows(
            ("NETWORK", "DELAY (ms)", "JITTER (ms)", "LOSS (%)", "RATE (bit/s)"),
            [
                (
                    name,
                    f"{one.delay_ms:g}",
                    f"{one.jitter_ms:g}",
                    f"{one.loss:g}",
                    f"{one.rate:g}" if one.rate else "-",
                )
                for name, one in now.items()
            ],
        )
