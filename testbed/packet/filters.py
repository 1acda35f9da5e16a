"""pcap filters, checked when a topology is: without an engine, with the place of the fault and a hint.

The grammar is in pcap_filter.lark. What it accepts of Ethernet and IP is what libpcap compiles; tests ask
libpcap on the host and the node image's tcpdump. Names of hosts are for the caller to know. Names of ports
and protocols have their numbers here, so that a filter means the same on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from testbed.errors import did_you_mean

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

_PORTS: Final = {
    **{"ftp": 21, "ssh": 22, "telnet": 23, "domain": 53, "bootps": 67, "bootpc": 68, "http": 80, "ntp": 123},
    **{"https": 443, "isakmp": 500, "ipsec-nat-t": 4500},
}
_PROTOCOLS: Final = {
    **{"icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "ospf": 89},
    **{"pim": 103, "sctp": 132},
}
"""Names of ports and protocols that matter here, with the numbers that IANA gave them."""
_ETHER_TYPES: Final = frozenset(("ip", "ip6", "arp", "rarp"))
_INDEXED: Final = frozenset(
    (
        *("ether", "link", "ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp"),
        *("icmp", "icmp6", "igmp", "igrp", "pim", "vrrp", "carp"),
    )
)
_WORDS: Final = (
    *("host", "net", "port", "portrange", "proto", "src", "dst", "and", "or", "not"),
    *("ip", "ip6", "arp", "tcp", "udp", "icmp", "esp", "ah", "ether", "broadcast", "multicast"),
)


class FilterError(ValueError):
    """What is wrong with a filter, and a hint where there is one."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def filter_hosts(text: str) -> tuple[str, ...]:
    """Return the names of hosts in a filter, without addresses. Raises `FilterError` where libpcap would."""
    return tuple(dict.fromkeys(_text(name) for name, number in _names(text) if number is None))


def without_names(text: str, hosts: Mapping[str, IPv4Address]) -> str:
    """Return a filter with numbers for all its names: hosts by the addresses given, ports, protocols.

    Whoever compiles it asks no resolver. Raises `FilterError` for a bad filter and for an unknown host.
    """
    pieces, end = [], 0
    for name, number in _names(text):
        word = _text(name)
        if number is None and word not in hosts:
            raise FilterError(f"unknown host {word}", did_you_mean(word, hosts))
        pieces += [text[end : name.start_pos], str(hosts[word]) if number is None else number]
        end = name.end_pos or 0
    return "".join((*pieces, text[end:]))


_Name = tuple["Token", str | None]
"""A name in a filter, and the number it stands for; None for a host."""


def _text(name: Token) -> str:
    return name.lstrip("\\")


@cache
def _names(text: str) -> tuple[_Name, ...]:
    from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken

    try:
        tree = _parser().parse(text)
    except UnexpectedToken as error:
        if not error.token or error.token.type == "$END":
            raise FilterError("it ends too early") from error
        word = str(error.token)
        hint = did_you_mean(word, _WORDS) if word not in _WORDS else None
        near = hint if hint and hint.startswith("did") else None
        raise FilterError(f"{word!r} does not fit here (character {error.column})", near) from error
    except UnexpectedEOF as error:
        raise FilterError("it ends too early") from error
    except UnexpectedCharacters as error:
        raise FilterError(
            f"{text[error.pos_in_stream or 0]!r} does not fit here (character {error.column})"
        ) from error
    return tuple(_Check().names(tree))


@cache
def _parser() -> Lark:
    from lark import Lark

    grammar = Path(__file__).with_name("pcap_filter.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="basic")


class _Check:
    """Checks what the grammar leaves open; a value without a qualifier takes the qualifier before it."""

    def __init__(self) -> None:
        self._protocol = ""
        self._kind: str | None = None  # None: there is no qualifier to take

    def names(self, tree: Tree[Any]) -> Iterator[_Name]:
        """Yield the names below a tree, from left to right."""
        match tree.data:
            case "qualified":
                yield from self._qualified(tree)
            case "index":
                self._index(tree)
            case "cast":
                self._cast(tree)
            case "bare":
                yield from self._value(tree.children[0])
            case _:
                for child in tree.children:
                    if not isinstance(child, str):
                        yield from self.names(child)
                if tree.data in ("whole", "relation", "group"):
                    self._kind = None

    def _qualified(self, tree: Tree[Any]) -> Iterator[_Name]:
        from lark import Token

        self._protocol, self._kind = "", "host"
        *head, value = tree.children
        for one in head:
            if isinstance(one, Token):
                if one.type == "PROTOCOL":
                    self._protocol = str(one)
                else:
                    self._kind = str(one)
            elif one.data == "kind":
                self._kind = str(one.children[0])
        self._allowed()
        yield from self._values(value)

    def _allowed(self) -> None:
        kind, protocol = self._kind, self._protocol
        allowed = {
            "host": ("", "ip", "ip6", "arp", "rarp", "ether", "link"),
            "net": ("", "ip", "ip6", "arp", "rarp"),
            "port": ("", "tcp", "udp", "sctp"),
            "portrange": ("", "tcp", "udp", "sctp"),
            "proto": ("", "ip", "ip6", "ether", "link"),
            "protochain": ("", "ip", "ip6"),
        }[str(kind)]
        if protocol not in allowed:
            raise FilterError(f"`{protocol}` does not go with `{kind}`", f"{kind} alone, or with `and`")

    def _values(self, tree: Tree[Any]) -> Iterator[_Name]:
        if tree.data in ("values", "value_or_not"):
            for child in tree.children:
                if not isinstance(child, str):
                    yield from self._values(child)
        else:
            yield from self._value(tree)

    def _value(self, tree: Tree[Any]) -> Iterator[_Name]:
        text, name = _written(tree), cast("Token", tree.children[0])
        kind = self._kind
        if kind is None:
            raise FilterError(f"what is {text}?", "host, net, port or proto in front of it")
        if kind in ("port", "portrange"):
            if (number := _port(text, kind)) != text:
                yield name, number
        elif kind in ("proto", "protochain"):
            if tree.data not in ("number", "name", "escaped"):
                raise FilterError(f"{text} is no protocol")
            if tree.data != "number":
                yield from self._protocol_name(name)
        elif tree.data == "name" and kind == "net":
            raise FilterError(f"net {text}: networks have no names in filters", "net 192.0.2.0/24")
        elif tree.data in ("name", "escaped") and self._protocol not in ("ether", "link"):
            yield name, None
        else:
            self._address(tree, text)

    def _protocol_name(self, name: Token) -> Iterator[_Name]:
        word = _text(name)
        ether = self._protocol in ("ether", "link")  # libpcap has these names in itself
        if word not in (_ETHER_TYPES if ether else _PROTOCOLS):
            raise FilterError(
                f"unknown protocol {name}", did_you_mean(word, _ETHER_TYPES if ether else _PROTOCOLS)
            )
        if not ether:
            yield name, str(_PROTOCOLS[word])

    def _address(self, tree: Tree[Any], text: str) -> None:
        link = self._protocol in ("ether", "link")
        if link != (tree.data == "mac"):
            raise FilterError(f"{text} is no {'hardware address' if link else 'IP address'}")
        if tree.data in ("prefix", "masked") and self._kind != "net":
            raise FilterError(f"{text} is a network", f"net {text}")
        try:
            if ":" in text and tree.data != "mac":
                IPv6Network(text) if tree.data == "prefix" else IPv6Address(text)
            elif tree.data == "prefix":
                IPv4Network(_padded(text.partition("/")[0]) + "/" + text.partition("/")[2])
            elif tree.data == "quad":
                IPv4Address(_padded(text))
        except (AddressValueError, ValueError) as error:
            raise FilterError(f"{error}") from error

    def _index(self, tree: Tree[Any]) -> None:
        protocol, *inside = tree.children
        if str(protocol) not in _INDEXED:
            raise FilterError(f"{protocol} has no bytes to index", "ip[…] has")
        if len(inside) > 1 and str(inside[1]) not in ("1", "2", "4"):
            raise FilterError(f"{protocol}[…:{inside[1]}]: 1, 2 or 4 bytes")
        for child in inside:
            if not isinstance(child, str):
                list(self.names(child))

    def _cast(self, tree: Tree[Any]) -> None:
        protocol = str(tree.children[0]) if len(tree.children) > 1 else ""
        cast = str(tree.children[-1])
        allowed = ("", "ether", "link", "ip") + (("ip6",) if cast == "multicast" else ())
        if protocol not in allowed:
            raise FilterError(f"`{protocol}` does not go with `{cast}`")
        self._kind = None


def _written(tree: Tree[Any]) -> str:
    if tree.data == "number":
        inner = tree.children[0]
        return str(inner) if isinstance(inner, str) else _written(inner)
    return "/".join(str(child) for child in tree.children)


def _padded(quad: str) -> str:
    """`10.1` as libpcap takes it, a network of two octets."""
    return ".".join([*quad.split("."), "0", "0", "0"][:4])


def _port(text: str, kind: str) -> str:
    """The text with numbers for names. Raises `FilterError` for what is no port or range of ports."""
    ends = text.split("-") if kind == "portrange" and text not in _PORTS else [text]
    for end in ends:
        number = (
            int(end, 16 if "x" in end.lower() else 10)
            if re.fullmatch(r"0[xX][0-9a-fA-F]+|\d+", end)
            else None
        )
        if end not in _PORTS and (number is None or number > 0xFFFF):
            raise FilterError(
                f"{text} is no {'range of ports' if kind == 'portrange' else 'port'}", "0 to 65535"
            )
    return "-".join(str(_PORTS.get(end, end)) for end in ends)
