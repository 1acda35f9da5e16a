"""A terminal in which commands of testbed run as a learner types them, without a new interpreter for each."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """What a command printed, without colours, and its exit code."""

    text: str
    code: int

    @property
    def words(self):
        """The text with single blanks between words, however lines are broken."""
        return " ".join(self.text.split())


def typed(*words, rows=30, columns=100, waits_for=b""):
    """Run a command of testbed in a terminal of its own: a fork of this process, which has imported it.

    A key is pressed, again and again, while `waits_for` is the last that the command has printed.
    """
    child, master = pty.fork()
    if child == 0:
        code = 70
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            code = _command(words)
        finally:
            os._exit(code)
    output = bytearray()
    while True:
        if waits_for and not select.select([master], [], [], 0.3)[0]:
            if waits_for in output.rpartition(b"\n")[2]:
                os.write(master, b" ")
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        output += piece
    os.close(master)
    _, status = os.waitpid(child, 0)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode(errors="replace")).replace("\r", "")
    return Shown(text, os.waitstatus_to_exitcode(status))


def _command(words):
    from testbed.cli import main, output

    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    output.console.cache_clear()
    os.environ.pop("COLUMNS", None)
    os.environ["TERM"] = "xterm"
    code = main(list(words))
    sys.stdout.flush()
    sys.stderr.flush()
    return code
