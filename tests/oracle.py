"""Reads the registration messages of captures by tshark and by the decoder that claims use, and compares.

    python tests/oracle.py EVIDENCE [PATTERN]

EVIDENCE is a folder or an archive of `--evidence`; PATTERN chooses runs, such as '*.5.[1-9]-*/main': controls
and attacks send what nobody can read. Prints how many messages there are of each type, and their extensions.
Exit code 1 if the two differ, or tshark calls one malformed. The suite does the same with the captures of all
scenarios.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from itertools import chain, zip_longest
from pathlib import Path

from testbed.evidence.archive import unpack
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.packet.decode import decode
from testbed.packet.layers import MipUdp, MobileIp
from testbed.packet.pcap import read_capture

QUOTED_NOWHERE = "mip && !(icmp.type == 3)"  # an ICMP error quotes what it is about
FIELDS = ("type", "life", "homeaddr", "haaddr", "coa", "flags", "code", "ext.type")

Message = tuple[int, dict[str, str]]
"""The number of a frame in captures one after the other, and the fields of its message by tshark's names.

The type stands alone for tunnel data (RFC 3519 §3.3).
"""


def read_by_tshark(files: Sequence[Path], merged: Path) -> Iterator[Message]:
    """Every message of Mobile IP in captures, which are put together in a file `merged`."""
    subprocess.run(["mergecap", "-a", "-w", merged, *files], check=True)
    fields = [option for field in FIELDS for option in ("-e", f"mip.{field}")]
    command = [
        "tshark",
        "-n",
        "-r",
        merged,
        "-Y",
        QUOTED_NOWHERE,
        "-T",
        "fields",
        "-e",
        "frame.number",
        *fields,
    ]
    out = subprocess.run([*command, "-e", "_ws.malformed"], capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        number, *values, malformed = line.split("\t")
        assert not malformed, line
        found = dict(zip(FIELDS, values, strict=True))
        yield int(number), {"type": "4"} if found["type"] == "4" else found


def read_by_us(files: Sequence[Path]) -> Iterator[Message]:
    """The same, as claims and the report read them."""
    for number, frame in enumerate(chain.from_iterable(map(read_capture, files)), 1):
        packet = decode(frame.data, frame.linktype)
        if packet.first(MipUdp):
            yield number, {"type": "4"}
        layer = packet.first(MobileIp)
        if layer is None:
            continue
        message = layer.message
        found = dict.fromkeys(FIELDS, "") | {
            "life": str(message.lifetime),
            "homeaddr": str(message.home_address),
            "haaddr": str(message.home_agent),
            "ext.type": ",".join(str(each.type) for each in message.extensions),
        }
        if isinstance(message, RegistrationRequest):
            found |= {"type": "1", "coa": str(message.care_of_address), "flags": f"0x{message.flags:02x}"}
        else:
            found |= {"type": "3", "code": str(message.code)}
        yield number, found


def main() -> int:
    """Compare, and print what there is."""
    evidence, pattern = Path(sys.argv[1]), (sys.argv[2:] or ["*"])[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = evidence if evidence.is_dir() else Path(scratch, "evidence")
        if folder is not evidence:
            unpack(evidence, folder)
        runs = [
            each for each in (folder / "claims").glob("*/*") if fnmatch("/".join(each.parts[-2:]), pattern)
        ]
        files = sorted(chain.from_iterable(each.rglob("*.pcap") for each in runs))
        ours = list(read_by_us(files))
        theirs = list(read_by_tshark(files, Path(scratch, "merged.pcapng")))
    print(f"{len(runs)} runs, {len(files)} captures, {len(ours)} messages")
    for (kind, extensions), count in sorted(
        Counter((m["type"], m.get("ext.type", "")) for _, m in ours).items()
    ):
        print(f"{count:6} of type {kind}, extensions {extensions or 'none'}")
    for mine, other in zip_longest(ours, theirs):
        if mine != other:
            print(f"they differ: {mine}, and by tshark {other}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
