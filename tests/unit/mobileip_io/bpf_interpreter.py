"""Runs classic BPF as the kernel does, for what no socket of a test can show: a packet with its IP header."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.mobileip.io import bpf

_WIDTHS = {bpf.LDB: 1, bpf.LDH: 2, bpf.LDW: 4, bpf.LDB_X: 1, bpf.LDH_X: 2, bpf.LDW_X: 4}
_FROM_X = {bpf.LDB_X, bpf.LDH_X, bpf.LDW_X}
_TESTS = {
    bpf.JEQ: lambda loaded, operand: loaded == operand,
    bpf.JGE: lambda loaded, operand: loaded >= operand,
    bpf.JGT: lambda loaded, operand: loaded > operand,
    bpf.JSET: lambda loaded, operand: loaded & operand,
}


def run(program: Sequence[bpf.Instruction], packet: bytes, begin: int = 0) -> int:
    """What `program` returns for a packet whose first `begin` bytes are in front of what it is given."""
    data, at, loaded, index = packet[begin:], 0, 0, 0
    while True:
        operation, yes, no, operand = program[at]
        at += 1
        if operation in _WIDTHS:
            source, place = data, operand + (index if operation in _FROM_X else 0)
            if operand >= bpf.NETWORK_HEADER:
                source, place = packet, operand - bpf.NETWORK_HEADER
            taken = source[place : place + _WIDTHS[operation]]
            if len(taken) < _WIDTHS[operation]:
                return 0
            loaded = int.from_bytes(taken, "big")
        elif operation == bpf.LDX_IHL:
            if operand >= len(data):
                return 0
            index = (data[operand] & 15) * 4
        elif operation in _TESTS:
            at += yes if _TESTS[operation](loaded, operand) else no
        elif operation == bpf.JA:
            at += operand
        elif operation == bpf.RET:
            return operand
        elif operation == bpf.RET_LOADED:
            return loaded
        elif operation == bpf.LD:
            loaded = operand
        elif operation == bpf.LENGTH:
            loaded = len(data)
        elif operation == bpf.SUB_X:
            loaded = (loaded - index) % 2**32
        elif operation == bpf.AND:
            loaded &= operand
        elif operation == bpf.MOD:
            loaded %= operand
        else:
            raise ValueError(f"operation {operation:#x}")
