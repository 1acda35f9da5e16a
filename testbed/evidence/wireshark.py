"""The keys of a run as Wireshark reads them: the tables `esp_sa` and `ikev2_decryption_table`.

Each line of a table is a record, its values in the order of the columns that Wireshark's preferences of ESP
and ISAKMP show: texts in quotes, octets in hexadecimal. The folder that holds both is a configuration folder
of Wireshark (`WIRESHARK_CONFIG_DIR`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

FOLDER: Final = "wireshark"
"""The folder of the tables, beside that of the captures."""
ESP: Final = "esp_sa"
IKE: Final = "ikev2_decryption_table"

PREFERENCES: Final = "preferences"
_DECRYPTS: Final = "esp.enable_encryption_decode: TRUE\n"
"""Without it Wireshark leaves ESP encrypted; it decrypts IKE whenever it has the keys."""

SALT: Final = 4
"""Octets of salt at the end of a key of AES-GCM (RFC 4106 §8.1, RFC 5282 §7.1)."""
AES: Final = (16, 24, 32)
"""Octets of a key of AES without its salt."""


@dataclass(frozen=True, slots=True)
class EspSa:
    """An ESP security association with AES-GCM and an ICV of 16 octets; it is one-way (RFC 4301 §4.1)."""

    source: IPv4Address
    destination: IPv4Address
    spi: int
    key: bytes = field(repr=False)
    """The key, and the salt behind it."""

    def line(self) -> str:
        """Its line in `esp_sa`."""
        texts = (
            *("IPv4", self.source, self.destination, f"0x{self.spi:08x}"),
            *("AES-GCM with 16 octet ICV [RFC4106]", f"0x{self.key.hex()}", "NULL", ""),
        )
        return ",".join(f'"{text}"' for text in texts) + "\n"


@dataclass(frozen=True, slots=True)
class IkeSa:
    """An IKE security association with AES-GCM and an ICV of 16 octets."""

    initiator_spi: bytes
    responder_spi: bytes
    initiator_key: bytes = field(repr=False)
    """SK_ei, and the salt behind it (RFC 7296 §2.14)."""
    responder_key: bytes = field(repr=False)
    """SK_er, and the salt behind it."""

    def line(self) -> str:
        """Its line in `ikev2_decryption_table`: an AEAD has no SK_ai and SK_ar (RFC 5282 §7)."""
        bits = (len(self.initiator_key) - SALT) * 8
        octets = (self.initiator_spi, self.responder_spi, self.initiator_key, self.responder_key)
        encryption = f'"AES-GCM-{bits} with 16 octet ICV [RFC5282]"'
        return ",".join((*(one.hex() for one in octets), encryption, "", "", '"NONE [RFC4306]"')) + "\n"


def write_tables(folder: Path, associations: Iterable[EspSa | IkeSa]) -> None:
    """Write the tables that have a line into a folder; nobody else can read them at any moment.

    With a table of ESP the folder also has the preference by which Wireshark uses it.
    """
    lines: dict[str, dict[str, None]] = {}
    for one in associations:
        lines.setdefault(ESP if isinstance(one, EspSa) else IKE, {})[one.line()] = None
    if ESP in lines:
        lines[PREFERENCES] = {_DECRYPTS: None}
    for name, those in lines.items():
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / name
        file.unlink(missing_ok=True)
        file.touch(0o600)
        file.write_text("".join(those), encoding="utf-8")
