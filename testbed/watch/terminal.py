"""The live picture in a terminal, with keys to act on the lab."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer, RichLog, Static

from testbed.errors import TestbedError
from testbed.watch import panels
from testbed.watch.news import Mailbox, News
from testbed.watch.rows import KEPT, LiveRow

Act = Callable[[str, str, str], str]
"""Carries out an action on the lab, and returns what came of it in a line."""
REFRESH: Final = 0.2
"""Seconds between two looks at the news; lifetimes count down meanwhile."""


class WatchApp(App[None]):
    """One lab: places, the mobile node, what agents know, the last messages and the streams of data."""

    CSS = """
    #top { height: auto; max-height: 60%; }
    #places { width: 46; height: auto; padding: 0 1; border-right: solid $primary; }
    #right { height: auto; padding: 0 1; }
    #said { height: 1; background: $surface; padding: 0 1; }
    #ladder { height: 1fr; min-height: 5; padding: 0 1; border-top: solid $primary; scrollbar-size: 1 1; }
    #streams { height: auto; max-height: 8; padding: 0 1; border-top: dashed $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("i", "ipsec", "IPsec up/down"),
        ("f", "fail", "fail its link"),
        ("h", "heal", "heal"),
        ("d", "streams", "data on/off"),
        ("space", "hold", "hold"),
        ("q", "quit", "quit"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, news: News, mailbox: Mailbox, act: Act) -> None:
        super().__init__()
        self.news = news
        self._act = act
        self._mailbox = mailbox
        self._rows: dict[int, LiveRow] = {}
        self._streams, self._held = True, False

    def compose(self) -> ComposeResult:
        """Lay the parts out."""
        with Horizontal(id="top"):
            yield Static(id="places")
            with Vertical(id="right"):
                yield Static(id="about")
                yield Static(id="knows")
        yield Static(id="said")
        yield RichLog(id="ladder", wrap=False, max_lines=400)
        yield Static(id="streams")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to show what comes."""
        self.title = self.news.picture.lab
        title = self.news.topology.topology.title
        self.say(f"{self.news.picture.lab}: {title}. 1 to 9 move the mobile node.")
        self.set_interval(REFRESH, self.refresh_picture)
        self.refresh_picture()

    def say(self, text: str, style: str = "") -> None:
        """Show a line between the picture and the ladder."""
        self.query_one("#said", Static).update(Text(text, style))

    def refresh_picture(self) -> None:
        """Show the news, unless they are held, or the screen is being closed."""
        if self._held or not self.is_running:
            return
        new = self.news.wait(self._mailbox, 0)
        now = time.monotonic()
        picture = self.news.picture
        for problem in new.problems:
            self.say(problem, "red")
        self.query_one("#places", Static).update(panels.places(self.news.topology, picture))
        width = max(self.size.width - 48, 30)
        texts = [panels.about(mobile, now, width) for mobile in picture.mobiles.values()]
        self.query_one("#about", Static).update(Text("\n").join(texts))
        self.query_one("#knows", Static).update(panels.knows(picture, now))
        log = self.query_one("#ladder", RichLog)
        for number, row in sorted(new.rows.items()):
            if row.turning and number not in self._rows:
                log.write(panels.line(row))
        self._rows = dict(sorted((self._rows | new.rows).items())[-KEPT:])
        shown = panels.streams(list(self._rows.values())) if self._streams else ""
        self.query_one("#streams", Static).update(shown)

    def on_key(self, event: object) -> None:
        """A digit moves the mobile node to the network of that number."""
        key = str(getattr(event, "key", ""))
        mobile = next(iter(self.news.picture.mobiles.values()), None)
        if mobile and key.isdigit() and 0 < int(key) <= len(mobile.networks):
            self.carry_out("move", mobile.node, mobile.networks[int(key) - 1])

    def action_ipsec(self) -> None:
        """Take IPsec of the mobile node down, or allow it again."""
        for mobile in list(self.news.picture.mobiles.values())[:1]:
            self.carry_out("ipsec", mobile.node, "up" if mobile.ipsec == "off" else "down")

    def action_fail(self) -> None:
        """Cut the link of the mobile node."""
        for mobile in list(self.news.picture.mobiles.values())[:1]:
            if mobile.network:
                self.carry_out("fail", f"{mobile.node}/{mobile.network}")

    def action_heal(self) -> None:
        """Mend every link that was cut."""
        for place in sorted(self.news.picture.failed):
            self.carry_out("heal", place)

    def action_streams(self) -> None:
        """Show or hide streams of data."""
        self._streams = not self._streams

    def action_hold(self) -> None:
        """Hold the picture, and go on."""
        self._held = not self._held
        self.say("held; space goes on" if self._held else "", "reverse" if self._held else "")

    def carry_out(self, action: str, subject: str, how: str = "") -> None:
        """Do it beside the picture, which shows what becomes of it."""
        self.say(f"{action} {subject} {how}".rstrip() + " …", "yellow")

        def work() -> None:
            try:
                said, style = self._act(action, subject, how), ""
            except TestbedError as error:
                said, style = error.message + (f" ({error.hint})" if error.hint else ""), "red"
            if self.is_running:  # it may have been left meanwhile
                self.call_from_thread(self.say, said, style)

        threading.Thread(target=work, daemon=True).start()
