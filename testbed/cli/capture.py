"""`testbed capture`: what is on the wires of a running lab."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, complete_place, engine_connection
from testbed.cli.output import console, note
from testbed.errors import UsageError, cannot_write

if TYPE_CHECKING:
    from testbed.packet.names import Names
    from testbed.packet.pcap import Frame

_STYLES = {
    "ip": "",
    "udp": "dim",
    "tcp": "blue",
    "icmp": "green",
    "icmp-error": "red",
    "esp": "bold magenta",
    "ike": "bold blue",
    "mobileip": "bold yellow",
    "dhcp": "yellow",
    "malformed": "red",
}


@command("capture", panel=LABS)
def capture(
    lab: LabName,
    where: Annotated[
        str,
        typer.Argument(
            metavar="NODE[/NETWORK]|NETWORK",
            help="A node (with its tunnels), one of its links, or all that is sent on a network.",
            autocompletion=complete_place,
        ),
    ],
    expression: Annotated[
        list[str] | None, typer.Argument(metavar="FILTER", help="A pcap filter: udp port 434 or esp.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", "-w", metavar="FILE", dir_okay=False, help="Write pcapng (- is stdout)."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show packets also while they are written to a file.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", "-c", min=1, metavar="N", help="End after N packets.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, metavar="S", help="End after S seconds.")
    ] = None,
) -> None:
    """Show the packets of a lab decoded, every header with the nodes' names, or write them for Wireshark.

    Ends with --count, --seconds or Ctrl-C.
    """
    from testbed.lab.state import find_lab
    from testbed.lab.tap import find_taps, lab_names, watch
    from testbed.packet.pcap import CaptureWriter

    to_stdout = str(write) == "-"
    if to_stdout and follow:
        raise UsageError("--follow needs stdout, and so does -w -", hint="write to a file instead")
    with engine_connection() as engine:
        found = find_lab(engine, lab)
        taps = find_taps(found, where)
        names = lab_names(engine, found) if follow or write is None else None
        at = ", ".join(tap.name for tap in taps)
        frames = watch(
            engine,
            taps,
            " ".join(expression or ()),
            count=count,
            seconds=seconds,
            ready=lambda: note(f"capturing at {at}; Ctrl-C ends it"),
        )
        file = None if write is None else sys.stdout.buffer if to_stdout else _opened(write)
        writer, seen = CaptureWriter(), 0
        try:
            with closing(frames):  # which ends every tcpdump
                _put(file, writer.header())
                for frame in frames:
                    seen += 1
                    _put(file, writer.frame(frame))
                    if names is not None:
                        _show(frame, names)
        except KeyboardInterrupt:
            pass  # the usual way to end a capture
        finally:
            if file is not None and not to_stdout:
                file.close()
        note(f"{seen} packet{'s' * (seen != 1)}" + (f" written to {write}" if file and not to_stdout else ""))


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise cannot_write(path, error) from error


def _put(file: BinaryIO | None, data: bytes) -> None:
    if file is not None:
        file.write(data)
        file.flush()


def _show(frame: Frame, names: Names) -> None:
    from rich.text import Text

    from testbed.packet.decode import decode
    from testbed.packet.layers import Ipv4

    packet = decode(frame.data, frame.linktype, frame.length)
    stamp = datetime.fromtimestamp(frame.time / 1e9).strftime("%H:%M:%S.%f")[:-3]
    parts: list[tuple[str, str]] = [(stamp, "dim"), ("  ", ""), (frame.interface, "cyan"), ("  ", "")]
    inside = False
    for layer in packet.above_link:
        style = "bold cyan" if inside and isinstance(layer, Ipv4) else _STYLES.get(layer.kind, "")
        inside = inside or isinstance(layer, Ipv4)
        parts += [(" | ", "dim")] * (layer is not packet.above_link[0]) + [(layer.text(names), style)]
    console().print(Text.assemble(*parts), soft_wrap=True)
