"""The report of an evidence folder with real captures: ladders, plots, the page and JUnit XML."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample_evidence import START, Wire, colocated, pcap, registration, udp, write_run, write_sample

from testbed.errors import TestbedError, UsageError
from testbed.evidence.folder import RunFolder
from testbed.evidence.verdicts import Verdicts
from testbed.packet.pcap import ETHERNET
from testbed.report.evidence import read_evidence
from testbed.report.junit import junit
from testbed.report.ladder import Header, Ladder, Row, arrow_ends, build_ladder
from testbed.report.page import render_report
from testbed.report.plots import distributions, percentile, plot, ticks, timelines
from testbed.topology.load import load_topology


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("evidence") / "evidence")


def texts(header: Header | None) -> list[str]:
    return [] if header is None else [header.text, *texts(header.inside)]


def ladder(folder: Path, claim: str, side: str = "main") -> Ladder:
    evidence = read_evidence(folder)
    assert evidence.verdicts is not None
    facts = next(c for c in evidence.verdicts.claims if c.id == claim).facts(side)  # type: ignore[arg-type]
    return build_ladder(
        evidence.run(claim, side),  # type: ignore[arg-type]
        evidence.topology_of(facts.lab if facts else ""),
    )


def rows(found: Ladder, kind: str) -> list[Row]:
    return [row for row in found.rows if row.kind == kind]


def test_the_health_of_a_run_and_what_it_excuses_are_on_the_page(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "evidence")
    document = json.loads((folder / "verdicts.json").read_text())
    (claim,) = [one for one in document["claims"] if one["id"] == "2.1-colocated-registers"]
    claim["run"]["health"] = {
        "late_ms": 380.4,
        "cpu_pressure_percent": 93.2,
        "clock_step_ms": -3200.0,
        "dropped": 2,
    }
    finding = claim["evidence"][0]
    finding |= {"held": None, "excuse": "the machine was busy: timers up to 380 ms late"}
    (folder / "verdicts.json").write_text(json.dumps(document))
    page = render_report(read_evidence(folder))
    assert (
        "The machine: timers at most 380 ms late, CPU pressure 93 %, time of day set by -3200 ms, "
        "2 packets not captured." in page
    )
    assert f"{finding['observed']} (the machine was busy: timers up to 380 ms late)" in page


def test_who_sent_what_to_whom(folder: Path) -> None:
    found = ladder(folder, "2.1-colocated-registers")
    assert found.nodes == ("mn", "airport-router", "gw", "ha")
    assert [(row.sender, row.receiver) for row in rows(found, "ike")] == [("mn", "gw"), ("gw", "mn")] * 2
    assert [texts(row.headers)[-1][:20] for row in rows(found, "ike")] == [
        "IKE_SA_INIT request ",
        "IKE_SA_INIT response",
        "IKE_AUTH request #1 ",
        "IKE_AUTH response #1",
    ]
    assert all(set(row.seen) == {"mn", "gw"} for row in rows(found, "ike"))  # one message, two taps
    request, reply = rows(found, "mobileip")
    assert texts(request.headers) == [
        "IP mn@vpn→ha",
        "UDP 434",
        "registration request mn at mn@vpn, lifetime 600 s [DT]",
    ]
    assert (reply.sender, reply.receiver, reply.seen) == ("ha", "mn", ("ha",))
    discover = rows(found, "dhcp")[0]
    assert (discover.sender, discover.receiver) == ("mn", "")  # known by its hardware address; to everybody


def test_streams_are_one_row_with_nested_headers(folder: Path) -> None:
    found = ladder(folder, "2.1-colocated-registers")
    there, back = rows(found, "data")
    assert there.count == back.count == 100
    assert texts(there.headers) == ["IP mn@vpn→ha", "IP mn→cn", "UDP 40000→7", "data"]
    assert there.headers and there.headers.inside and there.headers.inside.kind == "inner"
    assert sum(row.count for row in rows(found, "esp")) == 202
    assert found.skipped == 1  # ARP
    assert [row.time for row in found.rows] == sorted(row.time for row in found.rows)


def test_a_step_begins_streams_anew(tmp_path: Path) -> None:
    wire = Wire()
    colocated(wire)
    step = {"text": "probe", "began": START + 0.45, "ended": START + 0.5, "result": ""}
    run = tmp_path / "claims/it/main"
    write_run(run, wire, [], [step])
    found = build_ladder(RunFolder(run), None)
    assert [row.count for row in rows(found, "data")] == [
        48,
        47,
        53,
        52,
    ]  # the way back is met first after the step


def test_what_did_not_arrive_says_so(folder: Path) -> None:
    found = ladder(folder, "2.1-fa-blocks-ipsec")
    lost = rows(found, "ike")
    assert len(lost) == 4 and all(row.lost == 1 and row.missing == "gw/internet" for row in lost)
    assert all(row.seen == ("mn", "fa-hotspot") for row in lost)
    begin, end = arrow_ends(lost[0], found.nodes)
    assert found.nodes == ("mn", "fa-hotspot", "gw")
    assert begin == 0 and 1 < end < 2  # after the foreign agent, before the gateway


def test_what_arrived_at_another_tap_of_the_receiver_is_not_lost(tmp_path: Path, folder: Path) -> None:
    wire = Wire()
    wire.tap("mn-home")
    wire.send(0.1, udp("10.0.4.10", "10.0.1.100", 9, b"x"), "ha-home", sender="r1", receiver="ha")
    wire.send(0.2, udp("198.51.100.65", "198.51.100.70", 9, b"x"), "mn-hotel", sender="gw", receiver="mn")
    run = tmp_path / "claims/it/main"
    write_run(run, wire, [], [])
    found = build_ladder(RunFolder(run), read_evidence(folder).topology)
    assert not any(row.lost for row in found.rows)


def test_checksums_filled_in_later_do_not_make_two_messages(tmp_path: Path, folder: Path) -> None:
    wire = Wire()
    packet = udp("198.51.100.134", "10.0.1.2", 434, registration(None, "198.51.100.134"))
    wire.send(0.0, packet, "mn-airport")
    packet["UDP"].chksum = 0x1234
    packet["IP"].ttl -= 2
    frame = bytes.fromhex("020000000003 020000000002 0800") + bytes(packet) + bytes(6)
    wire.taps["gw-internet"] = [(START + 0.01, frame)]
    run = tmp_path / "claims/it/main"
    write_run(run, wire, [], [])
    (row,) = build_ladder(RunFolder(run), read_evidence(folder).topology).rows
    assert row.seen == ("mn", "gw")


def test_the_arrow_of_a_message_to_nobody_is_a_stub() -> None:
    row = Row("message", 0.0, sender="b", receiver="", count=1)
    assert arrow_ends(row, ("a", "b", "c")) == (1.0, 1.35)
    back = Row("message", 0.0, sender="c", receiver="a", count=1, lost=1, seen=("c", "b"))
    assert arrow_ends(back, ("a", "b", "c")) == pytest.approx((2.0, 0.45))


def test_another_topology_names_its_own_nodes(folder: Path) -> None:
    evidence = read_evidence(folder)
    other = evidence.topology_of("verify-b")
    assert other is not None and other.name == "plain-mip"
    assert evidence.topology_of("unknown") is evidence.topology


def test_what_an_earlier_matrix_left_is_not_what_was_verified(tmp_path: Path) -> None:
    folder = write_sample(tmp_path)
    (folder / "topologies" / "scenario-2.1.yaml").write_text(load_topology("plain-mip").text())
    found = read_evidence(folder).topology_of("verify-a")
    assert found is not None and found.name == "scenario-2.1"


def test_what_is_verified_anew_into_the_same_folder_is_read_anew(tmp_path: Path) -> None:
    folder = write_sample(tmp_path)
    before = read_evidence(folder).topology_of("verify-b")
    assert before is not None and before.name == "plain-mip"
    text = load_topology("plain-mip", sets=["network.internet.delay=40ms"]).text()
    (folder / "topologies" / "plain-mip.yaml").write_text(text)
    evidence = read_evidence(folder)
    after = evidence.topology_of("verify-b")
    assert after is not None and after != before
    assert evidence.topology_of("verify-b") is after  # read once for each report


def test_steps_and_events_have_their_rows(folder: Path) -> None:
    found = ladder(folder, "2.1-colocated-registers")
    assert [row.text for row in found.rows if row.what == "step"] == ["move to airport", "probe start"]
    events = [row for row in found.rows if row.what == "event"]
    assert any(row.text == "home-agent binding" and row.sender == "ha" for row in events)
    assert not any("configured" in row.text for row in events)
    settled = next(row for row in events if row.text == "roam settled")
    assert texts(settled.headers) == ["airport, after 215 ms, registered"]


def test_what_each_tap_saw(folder: Path) -> None:
    taps = ladder(folder, "2.1-colocated-registers").taps
    assert {(" ".join(s.protocols), s.packets) for s in taps["mn/airport"]} == {
        ("IP UDP ESP", 202),
        ("IP UDP IKE", 4),
        ("IP UDP DHCP", 4),
    }
    tunnelled = next(s for s in taps["ha/home"] if s.protocols == ("IP", "IP", "UDP", "data"))
    assert tunnelled.mean == 20 + 20 + 8 + 32
    assert ladder(folder, "2.1-fa-blocks-ipsec").taps["gw/internet"] == ()


def test_the_path_of_the_mobile_node(folder: Path) -> None:
    evidence = read_evidence(folder)
    assert evidence.run("2.1-colocated-registers", "main").path == ["hotel", "airport"]
    assert evidence.run("no-such-claim", "main").path == []


class Checked(HTMLParser):
    """Every element closed, every reference inside the page, each number of a card named."""

    void = frozenset(("meta", "br", "link", "img", "hr", "input"))
    drawn = frozenset(("path", "rect", "circle", "line"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.refs: list[str] = []
        self.cards = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self.cards = "cards" in (given.get("class") or "")
        assert not (self.cards and tag == "td" and given.get("class") == "n") or given.get("data-head")
        if tag not in self.void:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                assert value not in self.ids
                self.ids.add(value or "")
            if name in ("href", "src"):
                self.refs.append(value or "")
        assert tag not in ("script", "link", "img", "iframe")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag


def test_captures_that_cannot_be_read_are_told_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "evidence")
    captures = folder / "claims/2.1-fa-blocks-ipsec/main/captures"
    (captures / "gw-internet.pcap").write_bytes(b"")
    (captures / "mn-hotspot.pcap").write_text("I was a capture once upon a time, and am none any more.")
    captures = folder / "claims/2.1-colocated-registers/main/captures"
    (captures / "mn-airport.pcap").write_text("Neither is this one, whose overhead nobody will measure.")
    found = ladder(folder, "2.1-fa-blocks-ipsec")
    assert found.unreadable == {
        "gw-internet.pcap": "not a capture: empty",
        "mn-hotspot.pcap": "not a capture: neither pcap nor pcapng",
    }
    assert list(found.taps) == ["fa-hotspot/hotspot"]
    assert rows(found, "ike") and not any(
        row.lost for row in found.rows
    )  # who knows what was to be seen there
    page = render_report(read_evidence(folder))
    assert "<code>gw-internet.pcap</code> cannot be read: not a capture: empty" in page
    assert "<code>mn-airport.pcap</code> cannot be read" in page


def test_the_page_stands_alone(folder: Path) -> None:
    page = render_report(read_evidence(folder))
    parser = Checked()
    parser.feed(page)
    assert not parser.open
    inside = {ref[1:] for ref in parser.refs if ref.startswith("#")}
    assert inside <= parser.ids and "2.1-fa-blocks-ipsec" in inside
    files = [ref for ref in parser.refs if not ref.startswith("#")]
    assert files and all((folder / file).is_file() for file in files)
    assert not re.search(r"https?://(?!www\.w3\.org)|@import|url\(", page)
    assert "prefers-color-scheme:dark" in page and "@media print" in page


def test_the_page_shows_what_decided(folder: Path) -> None:
    page = render_report(read_evidence(folder), links=False)
    for words in (
        "2.1-colocated-registers",
        "§2.1(2), §4.1, Fig. 8",
        "a binding &lt;10.0.1.100&gt; &amp; more",
        "the policy without bypass is emulated by nftables",
        "testbed verify scenario-2.1 --claim 2.1-fa-blocks-ipsec",
        "testbed measure handoff scenario-2.1 --stack mip-in-ipsec --between hotel,airport --moves 12 "
        "--rtt 0,40,100,200ms",
        "4 × RTT + 62 ms",
        "not seen at gw/internet",
        "relay: relay, tc",
        "strongswan-charon 6.0.1",
    ):
        assert words in page, words
    assert 'href="claims/' not in page


def test_the_page_of_a_measurement_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "handoff.json").write_bytes((folder / "handoff.json").read_bytes())
    evidence = read_evidence(tmp_path)
    (tmp_path / "report.html").write_text(render_report(evidence, links=True), encoding="utf-8")
    page = (tmp_path / "report.html").read_text()
    assert "Outage against round-trip time" in page and "Verdicts" not in page


def test_hand_offs_in_numbers(folder: Path) -> None:
    handoffs = read_evidence(folder).handoffs
    assert handoffs is not None
    drawn = plot(handoffs)
    assert drawn is not None and [s.name for s in drawn.series] == ["mip-in-ipsec", "mip-only"]
    for series in drawn.series:
        assert len(series.points) == 48 and series.line is not None
        for x, y in series.points:
            assert drawn.left - 6 <= x <= drawn.right and drawn.top <= y <= drawn.bottom
        assert drawn.top - 0.1 <= series.line[3] <= drawn.bottom
    table = distributions(handoffs)
    assert len(table) == 8
    assert all(d.least <= d.median <= d.p95 <= d.most for d in table)
    assert table[0].ike_messages == 4 and table[4].ike_messages == 0
    lines = timelines(handoffs)
    assert [s.step for s in lines[0].segments] == ["link", "address", "ike", "registration", "data"]
    assert [s.step for s in lines[4].segments] == ["link", "address", "registration", "data"]
    assert max(s.left + s.width for line in lines for s in line.segments) == pytest.approx(100)


def test_round_numbers() -> None:
    assert ticks(860) == [0, 200, 400, 600, 800, 1000]
    assert ticks(0.7) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert ticks(0)[0] == 0
    assert percentile([5, 1, 3], 0.95) == 5 and percentile([4], 0.5) == 4


def test_junit(folder: Path) -> None:
    verdicts = read_evidence(folder).verdicts
    assert verdicts is not None
    suite = ET.fromstring(junit(verdicts).encode()).find("testsuite")
    assert suite is not None
    counts = {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "time")}
    assert counts == {"name": "scenario-2.1", "tests": "4", "failures": "1", "errors": "1", "time": "29.470"}
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    failure = cases["2.1-fa-cleartext-no-help"].find("failure")
    assert failure is not None and "a binding <10.0.1.100> & more" in (failure.get("message") or "")
    assert cases["2.1-fa-blocks-ipsec"].find("error") is not None
    assert cases["2.1-colocated-registers"].find("failure") is None


def test_junit_without_control_characters() -> None:
    claim = {"id": "x", "verdict": "refuted", "reason": "bell \x07", "says": "\x00"}
    text = junit(Verdicts(schema_version=1, scenario="s", claims=[claim]))  # type: ignore[list-item]
    ET.fromstring(text.encode())


def test_folders_that_are_no_evidence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        read_evidence(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is no folder"):
        read_evidence(tmp_path / "file")
    with pytest.raises(UsageError, match="neither verdicts"):
        read_evidence(tmp_path)
    (tmp_path / "verdicts.json").write_text("{")
    with pytest.raises(TestbedError, match="not JSON") as caught:
        read_evidence(tmp_path)
    assert caught.value.source is not None and caught.value.source.file.endswith("verdicts.json")
    (tmp_path / "verdicts.json").write_text(
        json.dumps({"schema_version": 1, "scenario": "x", "claims": [{}]})
    )
    with pytest.raises(TestbedError, match=r"claims\.0\.id"):
        read_evidence(tmp_path)
    (tmp_path / "verdicts.json").write_text("[]")
    with pytest.raises(TestbedError, match="the whole: "):
        read_evidence(tmp_path)


def test_a_last_line_cut_short_is_passed_over_and_rubbish_is_not(tmp_path: Path) -> None:
    line = '{"node": "mn", "event": "ready", "source": "roam", "wall": 2}\n'
    (tmp_path / "events.jsonl").write_text(line + '{"eve')
    assert [(one.name, one.wall) for one in RunFolder(tmp_path).events] == [("ready", 2.0)]
    (tmp_path / "events.jsonl").write_text(line + "[]\n")
    with pytest.raises(TestbedError, match="valid dictionary") as caught:
        _ = RunFolder(tmp_path).events
    assert str(caught.value.source).endswith("events.jsonl:2")
    (tmp_path / "steps.jsonl").write_text('{"text": "move", "began": {}, "ended": 2}\n')
    with pytest.raises(TestbedError, match="began: "):
        _ = RunFolder(tmp_path).steps


def test_a_capture_cut_short_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "captures").mkdir()
    frame = bytes.fromhex("020000000003 020000000002 0800") + bytes(udp("10.0.0.1", "10.0.0.2", 9, b"x"))
    whole = pcap([(START, frame), (START + 1, frame)], ETHERNET)
    (tmp_path / "captures" / "a-b.pcap").write_bytes(whole[:-3])
    assert len(build_ladder(RunFolder(tmp_path), None).rows) == 1
