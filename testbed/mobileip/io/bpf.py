"""Classic BPF (linux/filter.h): programs by which the kernel hands a socket only what it asked for."""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Sequence

_SO_ATTACH_FILTER = 26

Instruction = tuple[int, int, int, int]
"""Operation, jump if true, jump if false, operand."""
# Load byte, half word, word; X: 4 × header length; both from X on; jump always, if equal, if not less, if any
# bit; return; and.
LDB, LDH, LDW, LDX_IHL, LDH_X, LDB_X = 0x30, 0x28, 0x20, 0xB1, 0x48, 0x50
JA, JEQ, JGE, JSET, RET, AND = 0x05, 0x15, 0x35, 0x45, 0x06, 0x54
# Jump if greater; X: becomes what was loaded, is added to it; less, xor and remainder of an operand.
JGT, TAX, ADD_X, SUB, XOR, MOD = 0x25, 0x07, 0x0C, 0x14, 0xA4, 0x94


def attach_filter(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel hand `sock` only what `program` accepts."""
    code = array.array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), code.buffer_info()[0])
    )
