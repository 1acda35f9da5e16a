"""The frames that try the way between engines, and when it is tried enough."""

from scapy.layers.l2 import Ether

from testbed.node.reach import ETHERTYPE, Hearing, frame, read_frame

MAC = bytes.fromhex("024200000001")


def test_frames_have_the_size_that_is_asked_for() -> None:
    data = frame(MAC, {"name": "a", "heard": ["b"], "sent": 1.5}, 1450)
    seen = Ether(data)
    assert (seen.dst, seen.src, seen.type) == ("ff:ff:ff:ff:ff:ff", "02:42:00:00:00:01", ETHERTYPE)
    assert len(seen.payload) == 1450
    assert read_frame(data) == ("02:42:00:00:00:01", {"name": "a", "heard": ["b"], "sent": 1.5})


def test_it_is_done_when_all_heard_each_other() -> None:
    a = Hearing("a", ["b", "c"])
    a.take("m-b", {"name": "b", "heard": [], "sent": 10.0}, 10.25)
    a.take("m-c", {"name": "c", "heard": ["a"], "sent": 10.0}, 10.25)
    assert not a.done and a.message(11.0) == {"name": "a", "heard": ["b", "c"], "sent": 11.0}
    a.take("m-b", {"name": "b", "heard": ["a"], "sent": 11.0}, 11.125)
    assert a.done
    assert a.heard["b"] == {"mac": "m-b", "heard": True, "ahead": -0.125}  # the frame that took least counts


def test_strangers_are_not_heard() -> None:
    a = Hearing("a", ["b"])
    a.take("m-a", {"name": "a", "heard": [], "sent": 0.0}, 0.0)  # its own, come back
    a.take("m-x", {"name": "x", "heard": ["a"], "sent": 0.0}, 0.0)
    assert not a.heard
