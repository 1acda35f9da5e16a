"""The frames of the channel to a node (`testbed.node.channel`): host and node read this file.

It needs `struct` alone: each import would be paid for in every node.
"""

from struct import Struct

HEADER = Struct("!BIL")
"""Of a frame: its kind, the number of its command, and the length of the data that follow."""

HELLO = 0
"""Node → host, once: commands are taken from now on."""
RUN = 1
"""Host → node: begin a command, whose words are separated by NUL."""
INPUT = 2
"""Host → node: for its standard input. Without data: that input ends here."""
STDOUT = 3
STDERR = 4
"""Node → host: what it wrote."""
EXIT = 5
"""Node → host: it has ended, and all that it wrote was sent. Its exit code, 128 + N by signal N."""
