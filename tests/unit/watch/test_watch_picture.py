"""What is made of daemons' answers, events and packets, and how it reads."""

from __future__ import annotations

import pytest
from watch_world import FOREIGN_AGENT, HOME_AGENT, NAMES, ROAM, news, passage, ping, request

from testbed.lab.access import Entry
from testbed.lab.events import NodeEvent
from testbed.watch import panels
from testbed.watch.rows import KEPT, PAUSE, Rows


def event(name: str, source: str = "roam", **fields: object) -> Entry:
    return Entry("mn", NodeEvent(name, source, 0.0, fields))


def test_lifetimes_count_down_between_two_looks() -> None:
    picture = news().picture
    assert "600 s left" in panels.about(picture.mobiles["mn"], 100.0).plain
    assert "570 s left" in panels.about(picture.mobiles["mn"], 130.0).plain
    assert "binding 10.0.1.100 at 10.0.250.1 (569 s)" in panels.knows(picture, 130.4).plain
    assert picture.to_dict(1000.0)["mobiles"][0]["left"] == 0.0


def test_a_hand_off_as_it_happens() -> None:
    picture = news().picture
    mobile = picture.mobiles["mn"]
    assert picture.happened(event("move-started", network="airport"))
    assert panels.handoff(mobile.handoff).plain.endswith("to airport: begun …")  # type: ignore[arg-type]
    assert mobile.network == "" and "on its way" in panels.about(mobile, 100.0).plain
    assert picture.happened(event("link", network="airport", ms=5.2))
    assert picture.happened(event("ike", network="airport", ms=59.4))
    assert not picture.happened(event("ike", network="hotel", ms=1.0)), "of a move before this one"
    assert not picture.happened(event("ike-started", network="airport", ms=10.0))
    assert not picture.happened(event("registered", "mobile-node", lifetime=600))
    assert "link 5 · ike 59 …" in panels.handoff(mobile.handoff).plain  # type: ignore[arg-type]
    timeline = {"link": 5.2, "ike": 59.4, "registration": 84.9, "data": None}
    assert picture.happened(
        event("settled", network="airport", state="registered", ms=107.2, timeline=timeline)
    )
    assert mobile.network == "airport"
    assert panels.handoff(mobile.handoff).plain.endswith(  # type: ignore[arg-type]
        "to airport: link 5 · ike 59 · registration 85 ms: registered"
    )


@pytest.mark.parametrize(
    ("ipsec", "inside", "words"),
    [
        ({"enabled": True, "up": True, "inner": "10.0.250.1"}, False, "up, inner address 10.0.250.1"),
        ({"enabled": True, "up": False}, True, "not needed inside"),
        ({"enabled": True, "up": False}, False, "down"),
        ({"enabled": False, "up": False}, False, "off"),
        (None, False, ""),
    ],
)
def test_what_ipsec_is(ipsec: dict[str, object] | None, inside: bool, words: str) -> None:
    picture = news().picture
    picture.daemon("mn", "roam", {**ROAM, "ipsec": ipsec, "inside": inside}, 0.0)
    assert picture.mobiles["mn"].ipsec == words


def test_where_there_is_no_ipsec_nothing_is_said_of_it() -> None:
    picture = news().picture
    off = {"enabled": False, "up": False}
    picture.daemon("mn", "roam", {**ROAM, "ipsec": off, "stack": "mip-only"}, 0.0)
    assert picture.mobiles["mn"].ipsec == ""


def test_who_does_not_answer_is_named_until_it_does() -> None:
    picture = news().picture
    picture.daemon("ha", "home-agent", None, 0.0)
    assert "ha/home-agent does not answer" in panels.knows(picture, 0.0).plain
    picture.daemon("ha", "home-agent", {**HOME_AGENT, "bindings": []}, 0.0)
    assert panels.knows(picture, 0.0).plain == "ha            no binding\n"
    picture.daemon("fa-office", "foreign-agent", FOREIGN_AGENT, 0.0)
    assert "visitor 10.0.1.100 (mn@x) at office (9 s)" in panels.knows(picture, 0.0).plain


def test_the_probe_shows_what_was_lost() -> None:
    mobile = news().picture.mobiles["mn"]
    assert panels.echoes(mobile, 30).plain == "none"
    for echo in (10.0, None, 20.0):
        mobile.echoes.append(echo)
    assert panels.echoes(mobile, 40).plain == "▅╳█ 20.0 ms, 1 of 3 lost"
    mobile.echoes.append(None)
    assert panels.echoes(mobile, 40).plain == "▅╳█╳ no answer, 2 of 4 lost"


def test_an_answer_that_comes_late_is_no_loss() -> None:
    """Probes follow each other faster than a round trip."""
    picture = news().picture
    mobile = picture.mobiles["mn"]
    for number in (1, 2, 3):
        picture.echo("mn", number, None)
    picture.echo("mn", 2, 28.0)
    picture.echo("mn", 1, 27.0)
    assert list(mobile.echoes) == [27.0, 28.0, None]
    picture.probe_begins("mn")
    picture.echo("mn", 1, 5.0)
    assert list(mobile.echoes) == [27.0, 28.0, None, 5.0]


def test_places_say_where_the_mobile_node_is_and_what_is_cut() -> None:
    told = news()
    lines = panels.places(told.topology, told.picture).plain.splitlines()
    assert next(line for line in lines if "hotel " in line) == " 1  hotel      hotel-router ●mn"
    told.picture.failed = frozenset({"mn/hotel"})
    cut = panels.places(told.topology, told.picture).plain.splitlines()
    assert next(line for line in cut if "✂" in line) == " 1  hotel      hotel-router ✂ ●mn"
    assert max(map(len, lines)) <= panels.PLACES_WIDTH + 4


def test_a_message_is_one_row_however_many_networks_it_crosses() -> None:
    rows = Rows(NAMES)
    first = rows.take(passage(request(), 1.0, "hotel", "mn", "hotel-router"))
    again = rows.take(passage(request(254), 1.01, "internet", "hotel-router", "gw"))
    assert first is again and first is not None and first.turning
    assert [hop[0] for hop in first.hops] == ["hotel", "internet"]
    assert (first.sender, first.receiver) == ("mn", "ha")
    assert panels.line(first).plain.endswith(
        "mn → ha         IP mn@hotel→ha | UDP 434 | registration request mn at mn@hotel, lifetime 600 s [DT]"
    )
    assert rows.take(passage(request(), 5.0, "hotel", "mn", "hotel-router")) is not first, "sent again"


def test_data_is_a_row_for_each_stream() -> None:
    rows = Rows(NAMES)
    for number in range(5):
        when = 1 + number / 5
        row = rows.take(passage(ping(number), when, "hotel", "mn", "hotel-router"))
        assert (
            rows.take(passage(ping(number, 63), 1 + number / 5 + 0.01, "internet", "hotel-router", "gw"))
            is row
        )
    assert row is not None and (row.count, len(rows.rows)) == (5, 1)
    assert [hop[0] for hop in row.hops] == ["hotel", "internet"], "the networks of the last packet"
    assert "5 × IP mn→cn | ICMP echo request" in panels.streams([row]).plain
    later = rows.take(passage(ping(9), row.until + PAUSE + 1, "hotel", "mn"))
    assert later is not None and later.count == 1, "after a pause it begins anew"


def test_what_is_remembered_is_bounded() -> None:
    rows = Rows(NAMES)
    for number in range(3 * KEPT):
        rows.take(passage(request(), 10.0 * number, "hotel", "mn"))
    assert len(rows.rows) == KEPT and min(rows.rows) == 2 * KEPT + 1
