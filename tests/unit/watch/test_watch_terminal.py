"""The live picture in a terminal of 100 by 30: what it shows and what keys do."""

from __future__ import annotations

import asyncio

import pytest
from textual.widgets import Static
from watch_world import news, passage, ping, request

from testbed.errors import UsageError
from testbed.watch.terminal import WatchApp


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("2", [("move", "mn", "airport")]),
        ("9", []),
        ("i", [("ipsec", "mn", "down")]),
        ("f", [("fail", "mn/hotel", "")]),
        ("h", []),
    ],
)
def test_keys_act_on_the_mobile_node(key: str, wanted: list[tuple[str, str, str]]) -> None:
    acts: list[tuple[str, str, str]] = []

    def act(action: str, subject: str, how: str) -> str:
        acts.append((action, subject, how))
        return "done"

    async def look() -> None:
        told = news()
        with told.reading() as box:
            async with WatchApp(told, box, act).run_test(size=(100, 30)) as pilot:
                await pilot.press(key)
                await pilot.pause()

    asyncio.run(look())
    assert acts == wanted


def test_it_shows_what_comes() -> None:
    def act(action: str, subject: str, how: str) -> str:
        raise UsageError("mn has no network moon", hint="did you mean home?")

    async def look() -> None:
        told = news()
        with told.reading() as box:
            app = WatchApp(told, box, act)
            async with app.run_test(size=(100, 30)) as pilot:
                told.tell(told.rows.take(passage(request(), 1.0, "hotel", "mn", "hotel-router")))
                told.tell(told.rows.take(passage(ping(1), 1.0, "hotel", "mn", "hotel-router")))
                told.picture.failed = frozenset({"mn/hotel"})
                app.refresh_picture()
                await pilot.pause()
                shown = {
                    one: str(app.query_one(f"#{one}", Static).render())
                    for one in ("places", "about", "streams")
                }
                assert "✂ ●mn" in shown["places"] and "registered" in shown["about"]
                assert "1 × IP mn→cn | ICMP echo request" in shown["streams"]
                assert len(app.query_one("#ladder").lines) == 1  # type: ignore[attr-defined]
                await pilot.press("d")
                app.refresh_picture()
                assert str(app.query_one("#streams", Static).render()) == ""
                app.carry_out("move", "mn", "moon")
                for _ in range(100):
                    await pilot.pause(0.02)
                    if "moon (" in (said := str(app.query_one("#said", Static).render())):
                        break
                assert said == "mn has no network moon (did you mean home?)"
            app.refresh_picture()  # as a timer does while the screen is being closed

    asyncio.run(look())
