"""The hand-off measurement: fits, what belongs to which move, handoff.json, and the command."""

import json
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest
from experiment_world import PlayedLab

from testbed.claim.probe import ProbeReport
from testbed.cli import main
from testbed.cli.measure import parse_rtts
from testbed.engine import image, provision
from testbed.engine.fake import FakeEngine
from testbed.errors import StepError, TestbedError, UsageError
from testbed.evidence.handoff import Fit, HandOffRun, HandOffs
from testbed.evidence.health import Health
from testbed.experiment.evidence import Evidence
from testbed.experiment.handoff.fit import Line, Spread, fit_line, spread
from testbed.experiment.handoff.marks import line_marks
from testbed.experiment.handoff.measure import (
    Measurement,
    merged,
    plan_stacks,
    read_handoffs,
    run_record,
)
from testbed.experiment.handoff.moves import (
    HandOff,
    assign_outages,
    count_messages,
    measure_moves,
    taps,
    wall_offset,
)
from testbed.experiment.traffic import Probe, Program
from testbed.lab.access import Entry
from testbed.lab.events import NodeEvent
from testbed.lab.inside import Done
from testbed.packet.pcap import RAW_IP, Frame
from testbed.report.plots import plot

MS = 1_000_000


def move(began, target="airport", **timeline):
    return HandOff("hotel", target, began, timeline, "registered", "")


def test_a_line_through_points():
    line = fit_line([(0, 50), (100, 450), (200, 850)])
    assert line == Line(4, 50) and line.at(40) == 210
    assert fit_line([(100, 450), (100, 470)]) is None
    noisy = fit_line([(0, 48), (0, 52), (100, 455), (100, 445)])
    assert noisy == Line(pytest.approx(4), pytest.approx(50), pytest.approx(0.9996, abs=1e-4))


def test_a_spread_holds_measured_values():
    assert spread([]) is None
    assert spread([5]) == Spread(5, 5, 5, 5)
    assert spread(range(1, 101)) == Spread(50.5, 95, 1, 100)


def report(gaps, until=4000, delay=20):
    """A probe every 5 ms, sent back after `delay` ms except in the gaps (ms of sending)."""
    probe = ProbeReport(0.005)
    for number, at in enumerate(range(0, until, 5)):
        probe.sent[number] = at * MS
        if not any(start <= at < end for start, end in gaps):
            probe.returned[number] = (at + delay) * MS
    return probe


def test_the_outage_of_a_move_is_the_longest_gap_in_its_time():
    moves = [move(1.0), move(2.0), move(3.0)]
    assign_outages(moves, report([(985, 1200), (1500, 1505), (1990, 2080)]))
    # The last packet before was sent 5 ms before the gap began, and all come back equally late.
    assert [one.outage_ms for one in moves] == pytest.approx([220, 95, 0])
    assert [one.lost for one in moves] == [43, 18, 0]
    assert [one.rtt_ms for one in moves] == pytest.approx([20, 20, 20])


def test_a_gap_belongs_to_one_move():
    moves = [move(1.0), move(2.003)]  # the last packet before the second move comes back in the first's time
    assign_outages(moves, report([(1000, 1100), (1995, 3000)]))
    assert [one.outage_ms for one in moves] == pytest.approx([105, 1010])
    assert moves[0].lost == 20


def test_an_outage_that_does_not_end_has_no_length():
    moves = [move(1.0), move(2.0)]
    assign_outages(moves, report([(1000, 1100), (2000, 9000)]))
    assert moves[0].outage_ms == pytest.approx(105)
    assert moves[1].outage_ms is None and moves[1].lost == 400


def datagram(port, payload, source="198.51.100.70", target="203.0.113.2"):
    udp = port.to_bytes(2) * 2 + (8 + len(payload)).to_bytes(2) + b"\0\0"
    length = 20 + len(udp) + len(payload)
    head = b"\x45\0" + length.to_bytes(2) + b"\0\0\0\0\x40\x11\0\0"
    return head + IPv4Address(source).packed + IPv4Address(target).packed + udp + payload


def frame(at, data):
    return Frame(round(at * 1e9), RAW_IP, data, len(data))


def test_messages_count_for_the_move_in_whose_time_they_fall():
    ike = bytes(8) + bytes(8) + bytes([33, 0x20, 34, 8]) + bytes(4) + (28).to_bytes(4)
    request = bytes([1, 0]) + bytes(22)  # RFC 5944 §3.3: 24 octets
    moves = [move(10.0), move(20.0)]
    frames = [
        frame(1009.0, datagram(500, ike)),  # before the first move
        frame(1010.5, datagram(500, ike)),
        frame(1010.6, datagram(4500, bytes(4) + ike)),
        frame(1011.0, datagram(434, request)),
        frame(1021.0, datagram(434, request)),
        frame(1021.5, datagram(5005, b"neither")),
    ]
    count_messages(moves, frames, 1000.0)
    assert [(one.ike.number, one.ike.octets) for one in moves] == [(2, 56 + 60), (0, 0)]
    assert [(one.mip.number, one.mip.octets) for one in moves] == [(1, 52), (1, 52)]


def test_the_fastest_event_tells_the_time():
    lab = PlayedLab()
    with pytest.raises(StepError):
        wall_offset(lab.log, "mn", 0)
    lab.say("mn", "roam", "one")
    lab.say("mn", "roam", "two")
    times = [entry.event.time - entry.event.fields["monotonic"] for entry in lab.log.since(0)]
    lab.log.add(Entry("ha", NodeEvent("started", "init", 1e9, {"monotonic": 5e9})))  # of another host
    assert wall_offset(lab.log, "mn", 0) == min(times)


def test_the_tunnel_is_tapped_where_there_is_one():
    lab = PlayedLab()
    assert taps(lab, ("hotel", "airport")) == ["mn/hotel", "mn/airport", "mn/ipsec0"]
    lab.outputs["/sys/class/net/ipsec0"] = Done(1, b"", b"")
    assert taps(lab, ("hotel", "airport")) == ["mn/hotel", "mn/airport"]


@pytest.fixture
def played(monkeypatch):
    """Captures and probe without packets; the probe saw nothing missing."""
    used = []

    class Captures:
        def __init__(self, lab, taps):
            used.append("captures")

        start = lambda self: None  # noqa: E731
        dropped = 7

        def stop(self):
            used.append("captures stopped")

        def fetch(self, folder):
            return []

    class PlayedProbe:
        def __init__(self, *arguments):
            used.append(arguments[1:4])

        start = lambda self: None  # noqa: E731

        def stop(self):
            used.append("stopped")
            return report([])

        discard = Probe.discard

    monkeypatch.setattr("testbed.experiment.handoff.moves.Captures", Captures)
    monkeypatch.setattr("testbed.experiment.handoff.moves.Probe", PlayedProbe)
    return used


def test_moves_go_to_and_fro(played, tmp_path):
    lab = PlayedLab()
    told = []
    done, dropped = measure_moves(lab, ("hotel", "airport"), 3, tmp_path, told.append)
    walked = [request["network"] for _, _, request in lab.asked]
    assert walked == ["hotel", "airport", "hotel", "airport"]  # the first is no measurement
    assert [(one.origin, one.target) for one in done] == [
        ("hotel", "airport"),
        ("airport", "hotel"),
        ("hotel", "airport"),
    ]
    assert told == done and done[0].timeline["data"] == 9.0 and dropped == 7
    assert ("10.0.1.100", "cn", "10.0.4.10") in played and "stopped" in played


def test_without_traffic_there_is_nothing_to_interrupt(played, tmp_path):
    lab = PlayedLab()
    lab.outputs["ping"] = Done(1, b"", b"")
    with pytest.raises(StepError, match="nothing to interrupt"):
        measure_moves(lab, ("hotel", "airport"), 1, tmp_path)
    assert "stopped" in played


def test_a_probe_that_does_not_start_says_why(played, monkeypatch, tmp_path):
    def start(self, event, within):
        raise StepError("cn: testbed.node.probe reflect does not start: the port is in use")

    monkeypatch.setattr("testbed.experiment.handoff.moves.Probe", Probe)
    monkeypatch.setattr(Program, "start", start)
    monkeypatch.setattr(Program, "stop", lambda self: None)
    with pytest.raises(StepError, match="the port is in use"):
        measure_moves(PlayedLab(), ("hotel", "airport"), 1, tmp_path)
    assert "captures stopped" in played


# Plans


def test_by_default_where_the_topology_tries_its_stack():
    (plan,) = plan_stacks("scenario-2.1", (), (), ())
    assert (plan.stack, plan.between) == ("mip-in-ipsec", ("hotel", "airport"))
    assert plan.topology.options["attach"] == "hotel"
    both = plan_stacks("scenario-2.1", (), ["mip-only", "mip-in-ipsec"], ())
    assert [one.between for one in both] == [("campus", "office"), ("hotel", "airport")]
    assert both[0].topology.options == {"stack": "mip-only", "attach": "campus", "esp": "auto"}
    (plain,) = plan_stacks("plain-mip", (), (), ())
    assert (plain.stack, plain.between) == ("mip-only", ("hotel", "airport"))


@pytest.mark.parametrize("places", [("hotel",), ("hotel", "hotel"), ("hotel", "airpot")])
def test_places_that_cannot_be_moved_between(places):
    with pytest.raises(UsageError):
        plan_stacks("scenario-2.1", (), (), places)


def test_a_stack_that_is_tried_nowhere_needs_places():
    with pytest.raises(UsageError, match="does not try ipsec-in-mip"):
        plan_stacks("scenario-2.1", (), ["ipsec-in-mip"], ())


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0,40,100,200ms", [0, 40, 100, 200]),
        ("0.2s,40ms", [40, 200]),
        ("100ms, 100ms", [100]),
        ("0", [0]),
    ],
)
def test_round_trip_times(text, values):
    assert parse_rtts(text) == values


@pytest.mark.parametrize("text", ["", "40", "fast", "40ms,,50ms", "-1ms"])
def test_bad_round_trip_times(text):
    with pytest.raises(UsageError):
        parse_rtts(text)


# handoff.json


def run(stack, rtt, *outages, between=("hotel", "airport"), topology="scenario-2.1"):
    moves = []
    for number, outage in enumerate(outages):
        one = move(float(number), link=4.0, address=10.0, ike=None, registration=30.0, data=45.0)
        one.outage_ms = outage
        moves.append(one.record())
    return HandOffRun(stack=stack, topology=topology, between=list(between), rtt_ms=rtt, moves=moves)


def test_runs_replace_those_they_repeat():
    empty = HandOffs(scenario="scenario-2.1", runs=[])
    one = merged(empty, [run("mip-in-ipsec", 0, 50), run("mip-in-ipsec", 100, 450)])
    assert one.fit == {"mip-in-ipsec": Fit(k=4, constant_ms=50, r2=1)}
    two = merged(one, [run("mip-only", 100, 230, topology="plain-mip")])
    assert [(each.stack, each.rtt_ms) for each in two.runs] == [
        ("mip-in-ipsec", 0), ("mip-in-ipsec", 100), ("mip-only", 100),
    ]  # fmt: skip
    assert list(two.fit) == ["mip-in-ipsec"]  # one round-trip time makes no line
    again = merged(two, [run("mip-in-ipsec", 100, 250, 650)])
    assert again.fit["mip-in-ipsec"].k == pytest.approx(4)
    assert len(again.runs) == 3
    elsewhere = merged(again, [run("mip-only", 0, 30, between=("office", "campus"))])
    assert [each.rtt_ms for each in elsewhere.runs if each.stack == "mip-only"] == [0]


def test_what_is_written_is_what_the_report_reads():
    empty = HandOffs(scenario="scenario-2.1", runs=[])
    document = merged(empty, [run("a", 0, 50, None), run("a", 100, 450)]).document
    read = HandOffs.model_validate(json.loads(json.dumps(document)))
    assert read.runs[0].moves[0].from_ == "hotel" and read.runs[0].moves[1].outage_ms is None
    drawn = plot(read)
    assert drawn is not None and len(drawn.series[0].points) == 2 and drawn.series[0].line


def test_the_length_of_a_step_is_what_it_adds():
    assert run("a", 0, 50, 60).step_lengths == {"link": 4, "address": 6, "registration": 20, "data": 15}


def test_the_reaction_is_what_the_round_trips_leave():
    (plan,) = plan_stacks("scenario-2.1", (), (), ())
    moves = [move(float(number)) for number in range(3)]
    for one, outage, ike in zip(moves, (430, 450, None), (4, 4, 6), strict=True):
        one.outage_ms, one.rtt_ms = outage, 102.0
        one.ike.number, one.mip.number = ike, 2
    written = run_record(plan, 100.0, "relay", moves, Health(late_ms=2.0))
    # IKE two, registration one, data one, each as long as it was found to be and not as it was asked for.
    assert (written.round_trips, written.measured_rtt_ms) == (4, 102)
    assert (written.reaction_ms, written.budget_ms) == (440 - 4 * 102, 30)
    for one in moves:
        one.rtt_ms = None
    assert run_record(plan, 100.0, "relay", moves, Health(late_ms=2.0)).reaction_ms is None


def test_a_file_that_is_no_measurement(tmp_path):
    file = tmp_path / "handoff.json"
    assert read_handoffs(file, "x").scenario == "x"
    for text in ("{", "{}", "[1]"):
        file.write_text(text)
        with pytest.raises(TestbedError, match=r"handoff\.json"):
            read_handoffs(file, "x")
    Evidence(tmp_path)  # a folder with nothing but it is evidence


# The command


@pytest.fixture
def labs(monkeypatch):
    """Every stack is measured at once, with an outage of 4 RTT + 50 ms, or none."""
    made = SimpleNamespace(broken=False, stacks=[], outage=lambda rtt: 4 * rtt + 50)
    made.health = Health(late_ms=2.0)

    def stack(self, plan, lab, rtts, moves):
        made.stacks.append((plan.stack, lab))
        self.labs.append(lab)
        done = []
        for rtt in rtts:
            hand_offs = [move(float(n), link=4.0, data=9.0) for n in range(moves)]
            for one in hand_offs:
                one.outage_ms = None if made.broken else made.outage(rtt)
                one.ike.number, one.mip.number, one.rtt_ms = 4, 2, rtt + 6.0
            done.append(run_record(plan, rtt, "relay", hand_offs, made.health))
        return [one.model_copy(update={"carriers": {"gw/esp": "kernel (xfrm)"}}) for one in done]

    monkeypatch.setattr(Measurement, "_stack", stack)
    monkeypatch.setattr(provision, "reach_engine", lambda *_: FakeEngine())
    monkeypatch.setattr(image, "ensure_node_image", lambda *_, **__: SimpleNamespace(name="image"))
    return made


def test_measurements_gather_in_one_folder(labs, capsys, tmp_path):
    place = ["--evidence", str(tmp_path / "e"), "--rtt", "0,100ms", "--moves", "2"]
    assert main(["measure", "handoff", "scenario-2.1", *place, "--name", "mine"]) == 0
    out = capsys.readouterr().out
    assert "mip-in-ipsec: outage = 4.00 × RTT + 50 ms" in out and "hotel ↔ airport" in out
    assert "packets were carried by: esp kernel (xfrm)\n" in out
    assert main(["measure", "handoff", "plain-mip", *place, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "e/handoff.json").read_text())
    assert document["scenario"] == "scenario-2.1" and set(document["fit"]) == {"mip-in-ipsec", "mip-only"}
    assert labs.stacks[0] == ("mip-in-ipsec", "mine")
    assert (tmp_path / "e/topologies/plain-mip.yaml").is_file()
    assert main(["report", str(tmp_path / "e")]) == 0
    assert "esp: kernel (xfrm)" in (tmp_path / "e/report.html").read_text()


def test_several_stacks_have_a_lab_each(labs):
    arguments = ["--stack", "mip-only", "--stack", "mip-in-ipsec", "--name", "m", "--rtt", "0"]
    assert main(["measure", "handoff", "scenario-2.1", *arguments]) == 0
    assert [lab for _, lab in labs.stacks] == ["m-mip-only", "m-mip-in-ipsec"]


def test_traffic_that_does_not_come_back_is_a_failure(labs, capsys):
    labs.broken = True
    assert main(["measure", "handoff", "scenario-2.1", "--rtt", "0,40ms"]) == 1
    assert "–" in capsys.readouterr().out


STRICT = ["measure", "handoff", "scenario-2.1", "--rtt", "0,40,100ms", "--strict"]


def test_numbers_that_nothing_speaks_against_are_not_marked(labs, capsys):
    assert main(STRICT) == 0
    out = capsys.readouterr().out
    assert "outage = 4.00 × RTT + 50 ms" in out and "!" not in out and "EXCEEDED" not in out


def test_a_busy_machine_is_marked(labs, capsys):
    labs.health = Health(late_ms=105.0)
    assert main(STRICT) == 1
    out = capsys.readouterr().out
    assert "! mip-in-ipsec, RTT 40 ms: the machine was busy: timers up to 105 ms late" in out
    assert main(STRICT[:-1]) == 0
    assert main([*STRICT, "-o", "json"]) == 1
    out = capsys.readouterr().out
    document = json.loads(out[out.index("{") :])
    assert document["runs"][0]["health"]["late_ms"] == 105
    assert document["runs"][0]["marks"] == ["the machine was busy: timers up to 105 ms late"]


def test_a_reaction_over_its_budget_is_marked(labs, capsys):
    labs.outage = lambda rtt: 4 * rtt + 24 + 248
    assert main(STRICT) == 1
    out = capsys.readouterr().out
    assert "248 (budget 30) – EXCEEDED" in " ".join(out.split())
    assert "! mip-in-ipsec, RTT 100 ms: reaction 248 ms (budget 30 ms) – EXCEEDED" in out


@pytest.mark.parametrize(
    ("outages", "mark"),
    [
        ({0: 310, 40: 190, 100: 280}, "line: R² 0.02, below 0.98"),
        ({0: 266, 40: 256, 100: 241}, "line: slope -0.25, but 4 round trips were counted"),
    ],
)
def test_outages_that_fit_no_line_are_given_none(labs, capsys, tmp_path, outages, mark):
    labs.outage = outages.__getitem__
    assert main([*STRICT, "--evidence", str(tmp_path / "e")]) == 1
    out = capsys.readouterr().out
    assert f"! mip-in-ipsec, {mark}" in out and "× RTT" not in out
    drawn = plot(HandOffs.model_validate_json((tmp_path / "e/handoff.json").read_text()))
    assert drawn.series[0].line is None and drawn.series[0].model.startswith("no line (")


def test_usage(capsys):
    assert main(["measure", "handoff", "scenario-2.1", "--rtt", "40"]) == 2
    assert "the units are" in capsys.readouterr().err
    assert main(["measure", "nothing", "scenario-2.1"]) == 2


@pytest.mark.parametrize("places", [(), ("hotel", "airport")])
def test_a_stack_that_is_not_there(places):
    with pytest.raises(UsageError, match="there is no stack mip-onyl") as caught:
        plan_stacks("scenario-2.1", (), ["mip-onyl"], places)
    assert caught.value.hint == "did you mean mip-only?"


@pytest.mark.parametrize(
    ("slope", "serial", "marked"),
    [(4.02, True, True), (4.02, False, False), (7.02, True, False), (0.3, False, True), (8.0, False, True)],
)
def test_messages_of_a_solution_need_not_wait_for_one_another(slope, serial, marked):
    assert bool(line_marks(Line(slope, 113.0, 1.0), [7, 7, 5], serial=serial)) is marked
