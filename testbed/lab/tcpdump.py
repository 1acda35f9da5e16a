"""The one way to run tcpdump in a node: from "listening on" to its last word, into a file or as a stream."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final

from testbed.engine.api import MEMORY_LIMIT, EngineError, ExecSession
from testbed.errors import TestbedError

SCRIPT: Final = """\
file=$1 network=$2 filter=$3
shift 3
[ "$file" = - ] || mkdir -p "${file%/*}"
exec 3<&0
(
    cat <&3
    before=-1
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ "$file" != - ] || break
        size=$(stat -c %s "$file")
        [ "$size" != "$before" ] || break
        before=$size
        sleep 0.03
    done
    kill -INT $$
) >/dev/null 2>&1 &
here=""
[ -z "$network" ] || here="ifindex $(cat "/sys/class/net/$network/ifindex")"
[ -z "$filter" ] || here="${here}${here:+ and }($filter)"
exec tcpdump -n -U --immediate-mode -Z root "$@" -w "$file" "$here" 3<&-
"""
# It ends when its standard input does: closing the connection alone would leave tcpdump running in the node.
# A file then has to stop growing for a moment: a packet in the kernel's buffer would be lost.
# The command is tcpdump itself: if that ends before it is to, so does the command.

BUFFER: Final = MEMORY_LIMIT // 32
"""Octets of the kernel's buffer of a capture, 16 MiB: a small part of what a node may use. The usual 2 MiB
hold 8 packets of all interfaces, as each takes the room of the longest."""
HEADERS: Final = 4096
"""Octets captured of each packet where its headers count: the buffer then holds 4,000 packets."""
WHOLE: Final = 65535 + 20
"""Octets of the longest IP packet, and of the header that LINUX_SLL2 puts before it."""
INTERFACES: Final = 'cd /sys/class/net; for i in *; do echo "$(cat "$i/ifindex") $i"; done'
"""Prints each interface of a node: its number, as captures of all interfaces have it, and its name."""


def interface_names(listing: str) -> dict[int, str]:
    """Read what `INTERFACES` prints; an interface that went meanwhile has no number, and is left out."""
    pairs = (line.split() for line in listing.splitlines())
    return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2}


class Tcpdump:
    """One tcpdump in a node, read by a thread of its own.

    `open_session` runs a command in the node, with an open standard input. Without a file, `take` gets what
    tcpdump writes. `network` narrows a capture of all interfaces to one; `octets` of a packet are captured.
    `ended` is called last.
    """

    def __init__(
        self,
        open_session: Callable[[Sequence[str]], AbstractContextManager[ExecSession]],
        arguments: Sequence[str],
        *,
        file: str = "-",
        network: str = "",
        expression: str = "",
        octets: int = HEADERS,
        take: Callable[[bytes], None] = lambda data: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_session = open_session
        room = ["-B", str(BUFFER // 1024), "-s", str(octets)]
        self._command = ["sh", "-c", SCRIPT, "sh", file, network, expression, *room, *arguments]
        self._take = take
        self._tell_ended = ended
        self._said = ""
        self._session: ExecSession | None = None
        self._lock = threading.Lock()
        self._to_end = False
        self._settled = threading.Event()  # it captures, or never will
        self._ended = threading.Event()
        self.alive = False
        """Whether it captures; once it has ended, whether it did so when it was to, and without an error."""
        self.failed = False
        """Whether it ended of itself with an error."""

    def start(self) -> None:
        """Start it; `wait` returns once it runs."""
        threading.Thread(target=self._run, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Return whether it captures, as soon as that is known, after so many seconds at the latest."""
        return self._settled.wait(max(0.0, seconds)) and self.alive

    def end(self) -> None:
        """Let it end; `wait_for_end` waits for that. Twice is fine."""
        with self._lock:
            first, self._to_end = not self._to_end, True
            if first and self._session is not None:
                _end_input(self._session)

    def wait_for_end(self, seconds: float) -> bool:
        """Return whether it ended within so many seconds."""
        return self._ended.wait(seconds)

    def leave(self) -> None:
        """Let it end and wait for nothing."""
        self.end()
        if self._session is not None:
            with suppress(EngineError):
                self._session.close()

    @property
    def dropped(self) -> int:
        """Packets that the kernel could not hand over, which tcpdump says when it ends."""
        found = re.search(r"(\d+) packets? dropped by kernel", self._said)
        return int(found[1]) if found else 0

    @property
    def complaint(self) -> str:
        """What tcpdump did not like, without what it always says."""
        lines = [line for line in self._said.splitlines() if not re.search(r"listening on|data link", line)]
        if lines:
            return lines[-1].removeprefix("tcpdump: ")
        return "tcpdump ended" if self._ended.is_set() else "tcpdump does not start"

    def _run(self) -> None:
        code = None
        try:
            code = self._read()
        except TestbedError as error:
            self._said += f"\n{error.message}"
        except Exception as error:  # of the connection: whoever waits has to hear of it
            self._said += f"\n{error}"
        self.failed = code != 0 and not self._to_end
        self.alive = self.alive and self._to_end and code == 0
        self._ended.set()
        self._settled.set()
        self._tell_ended()

    def _read(self) -> int:
        with self._open_session(self._command) as session:
            with self._lock:
                self._session = session
                if self._to_end:
                    _end_input(session)
            for stream, data in session:
                if stream == "stdout":
                    self._take(data)
                    continue
                self._said += data.decode(errors="replace")
                if not self._settled.is_set() and "listening on" in self._said:
                    self.alive = True
                    self._settled.set()
            return session.exit_code()


def _end_input(session: ExecSession) -> None:
    with suppress(EngineError):  # the connection is gone, and the command with it
        session.end_input()
