"""Keys of WireGuard: X25519 (RFC 7748 §5), in base64 as wg(8) takes them."""

from __future__ import annotations

import hmac
from base64 import b64encode
from typing import Final

_P: Final = 2**255 - 19
_A24: Final = 121665
_BASE: Final = 9


def x25519(scalar: bytes, u: int = _BASE) -> bytes:
    """The function X25519 by the Montgomery ladder; not in constant time, for keys of a lab alone."""
    clamped = bytearray(scalar)
    clamped[0] &= 248
    clamped[31] = clamped[31] & 127 | 64
    k = int.from_bytes(clamped, "little")
    x2, z2, x3, z3 = 1, 0, u, 1
    swapped = 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swapped ^ bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb = a * a, b * b
        e = aa - bb
        da, cb = d * a, c * b
        x3, z3 = (da + cb) ** 2 % _P, u * (da - cb) ** 2 % _P
        x2, z2 = aa * bb % _P, e * (aa + _A24 * e) % _P
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, _P - 2, _P) % _P).to_bytes(32, "little")


def private_key(secret: str, node: str) -> str:
    """The private key of a node of a lab, which follows from a secret of the lab."""
    return b64encode(_scalar(secret, node)).decode()


def public_key(secret: str, node: str) -> str:
    """The public key that goes with it."""
    return b64encode(x25519(_scalar(secret, node))).decode()


def _scalar(secret: str, node: str) -> bytes:
    return hmac.digest(secret.encode(), f"wireguard {node}".encode(), "sha256")
