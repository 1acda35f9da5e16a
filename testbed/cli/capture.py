"""`testbed capture`: what is on the wires of a running lab."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, complete_place, engine_connection
from testbed.cli.output import console, note
from testbed.errors import UsageError, cannot_write

if TYPE_CHECKING:
    from testbed.lab.passages import Passage
    from testbed.packet.names import Names


@command("capture", panel=LABS)
def capture(
    lab: LabName,
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="NODE[/NETWORK]|NETWORK",
            help="A node (with its tunnels), one of its links, or all that is sent on a network. "
            "Default: all nodes.",
            autocompletion=complete_place,
        ),
    ] = None,
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
    no_routing: Annotated[
        bool, typer.Option("--no-routing", help="Leave out OSPF and ARP, and with them IGMP and IPv6.")
    ] = False,
    decrypt: Annotated[
        bool,
        typer.Option(
            "--decrypt",
            help="Renew the keys of IPsec, and write them beside FILE: Wireshark then decrypts ESP and IKE.",
        ),
    ] = False,
) -> None:
    """Show the packets of a lab decoded, every header with the nodes' names, or write them for Wireshark.

    Without a node or network all nodes are captured, and every packet is shown once for each network that it
    crosses, with the node that sent it and those that received it: `hotel mn→hotel-router`. Ends with
    --count, --seconds or Ctrl-C.
    """
    from testbed.lab.decrypting import logged_keys
    from testbed.lab.state import find_lab
    from testbed.lab.tap import Wanted, lab_names, read_target, see
    from testbed.lab.tcpdump import HEADERS, WHOLE
    from testbed.packet.pcap import CaptureWriter

    to_stdout = str(write) == "-"
    if to_stdout and follow:
        raise UsageError("--follow needs stdout, and so does -w -", hint="write to a file instead")
    if decrypt and (write is None or to_stdout):
        raise UsageError("--decrypt writes keys beside the file of a capture", hint="add -w FILE.pcapng")
    with ExitStack() as ending:
        engine = ending.enter_context(engine_connection(lab))
        found = find_lab(engine, lab)
        target = read_target(found, where, expression or (), no_routing=no_routing)
        names = lab_names(engine, found) if follow or write is None else None
        file = None if write is None else sys.stdout.buffer if to_stdout else _opened(write)
        if file is not None and not to_stdout:
            ending.callback(file.close)
        keys = ending.enter_context(logged_keys(engine, found, note)) if decrypt else None
        writer, seen = CaptureWriter(), 0
        wanted = Wanted(
            count,
            seconds,
            octets=HEADERS if file is None else WHOLE,
            ready=lambda: note(f"capturing at {target}; Ctrl-C ends it"),
            lacking=lambda number: note(
                f"not captured: {number} packets, which came faster than they were read"
            ),
        )
        try:
            passages = see(engine, found, target, wanted)
            with closing(passages):  # which ends every tcpdump
                _put(file, writer.header())
                for passage in passages:
                    seen += 1
                    _put(file, writer.frame(passage.frame, passage.seen if target.everywhere else ""))
                    if names is not None:
                        _show(passage, names, everywhere=target.everywhere)
        except KeyboardInterrupt:
            pass  # the usual way to end a capture
        note(f"{seen} packet{'s' * (seen != 1)}" + (f" written to {write}" if file and not to_stdout else ""))
        if keys is not None and write is not None:
            folder = write.with_suffix(".wireshark")
            if number := keys.write(folder):
                opens = f"WIRESHARK_CONFIG_DIR={shlex.quote(str(folder))} wireshark {shlex.quote(str(write))}"
                note(f"{number} keys written to {folder}; decrypted: {opens}")
            else:
                note("no keys: the lab negotiated no IPsec with AES-GCM meanwhile")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise cannot_write(path, error) from error


def _put(file: BinaryIO | None, data: bytes) -> None:
    if file is not None:
        file.write(data)
        file.flush()


def _show(passage: Passage, names: Names, *, everywhere: bool) -> None:
    from rich.text import Text

    stamp = datetime.fromtimestamp(passage.frame.time / 1e9).strftime("%H:%M:%S.%f")[:-3]
    place = passage.seen if everywhere else passage.frame.interface
    console().print(
        Text.assemble((stamp, "dim"), "  ", (place, "cyan"), "  ", *_layers(passage, names)), soft_wrap=True
    )


def _layers(passage: Passage, names: Names) -> Iterator[tuple[str, str]]:
    from testbed.packet.decode import decode
    from testbed.packet.layers import Ipv4
    from testbed.report.ladder_text import STYLES

    frame, inside = passage.frame, False
    layers = decode(frame.data, frame.linktype, frame.length).above_link
    for layer in layers:
        style = STYLES.get("inner" if inside and isinstance(layer, Ipv4) else layer.kind, "")
        inside = inside or isinstance(layer, Ipv4)
        if layer is not layers[0]:
            yield " | ", "dim"
        yield layer.text(names), style
