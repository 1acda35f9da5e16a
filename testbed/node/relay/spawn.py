"""Running `ip` and `tc`: only when the relay starts, stops or changes, never per packet."""

from __future__ import annotations

import asyncio


class CommandError(Exception):
    """A command ended with an error; the message is what it said."""


async def run(*command: str, stdin: str = "") -> str:
    """Run a command and return its stdout; raises CommandError."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    output, errors = await process.communicate(stdin.encode())
    if process.returncode:
        raise CommandError(f"{' '.join(command)}: {errors.decode().strip()}")
    return output.decode()
