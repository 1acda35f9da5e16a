"""An event loop in which time passes only while nothing is to be done: a busy machine makes nothing late.

Both ends of every socket have to be in the process: what was sent is there at once.
"""

import asyncio
import selectors


class _Selector(selectors.DefaultSelector):
    """Instead of waiting it adds to `waited` the seconds that it would have waited."""

    waited = 0.0

    def select(self, timeout=None):
        ready = super().select(timeout and 0)
        if not ready and timeout is not None:
            self.waited += max(timeout, 0.0)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self):
        return self._virtual.waited

    def stall(self, seconds):
        self._virtual.waited += seconds


def now():
    """Seconds of the running loop's clock."""
    return asyncio.get_running_loop().time()


def stall(seconds):
    """Let time pass as if something else had the processor."""
    asyncio.get_running_loop().stall(seconds)


def run(coroutine, within=20):
    """Run a coroutine, which ends after `within` seconds at most."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(asyncio.wait_for(coroutine, within))
