"""Classic BPF (linux/filter.h): programs by which the kernel hands a socket only what it asked for."""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Sequence

_SO_ATTACH_FILTER = 26
_SO_ATTACH_REUSEPORT_CBPF = 51

Instruction = tuple[int, int, int, int]
"""Operation, jump if true, jump if false, operand."""
# Load byte, half word, word; X: 4 × header length; both from X on; jump always, if equal, if not less, if any
# bit; return; and.
LDB, LDH, LDW, LDX_IHL, LDH_X, LDB_X = 0x30, 0x28, 0x20, 0xB1, 0x48, 0x50
JA, JEQ, JGE, JSET, RET, AND = 0x05, 0x15, 0x35, 0x45, 0x06, 0x54
# Jump if greater; X: becomes what was loaded, is added to it; less, xor and remainder of an operand.
JGT, TAX, ADD_X, SUB, XOR, MOD = 0x25, 0x07, 0x0C, 0x14, 0xA4, 0x94
# Load word from X on; load the operand, or the length of what has arrived; less X; return what was loaded.
LDW_X, LD, LENGTH, SUB_X, RET_LOADED = 0x40, 0x00, 0x80, 0x1C, 0x16
NETWORK_HEADER = 0xFFF00000
"""Added to a place in the IP header, which may be in front of what a program is given (SKF_NET_OFF)."""


def attach_filter(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel hand `sock` only what `program` accepts."""
    _attach(sock, _SO_ATTACH_FILTER, program)


def attach_choice(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Let `program` return the number of the socket that gets a datagram, of those that share a port.

    Sockets of one port (SO_REUSEPORT) are numbered in the order in which they were bound. The program is
    given the UDP payload.
    """
    _attach(sock, _SO_ATTACH_REUSEPORT_CBPF, program)


def _attach(sock: socket.socket, option: int, program: Sequence[Instruction]) -> None:
    code = array.array("B", b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@HP", len(program), code.buffer_info()[0]))
