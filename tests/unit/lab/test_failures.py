"""Links that fail and are healed: which, what `status` and `up` say of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from lab_world import MIP, Manager, Run

from testbed.agreed import FAILED
from testbed.cli.labs import complete_link
from testbed.engine.fake import FakeContainer, FakeEngine
from testbed.lab import failures
from testbed.lab.daemons import CUT


class Failing(Manager):
    """A lab whose nodes remember what was cut, as their kernels do."""

    def __init__(self, *, lacking: bool = False) -> None:
        super().__init__()
        self.cut: dict[str, list[str]] = {}
        self.lacking = lacking

    def __call__(self, box: FakeContainer, command: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        cut = self.cut.setdefault(box.spec.hostname, [])
        script, links = (command[2], command[4:]) if command[0] == "sh" else ("", ())
        if script == failures._LIST:
            return "\n".join(cut).encode(), b"", 0 if cut else 1
        if script == failures._CUT:
            cut += [] if self.lacking else links
            return b"", b"Error: TC classifier not found.\n" * self.lacking, int(self.lacking)
        if script == failures._MEND:
            for link in links:
                cut.remove(link)
            return b"", b"", 0
        if command[0].endswith("testbed-drift"):
            self.drift[box.spec.hostname] = "".join(f"failed {link}\n" for link in cut)
        out, err, code = super().__call__(box, command, stdin)
        if ".sock" in script:
            notes = [{"service": f"{CUT}{link}", "reply": {"ok": True, "failed": True}} for link in cut]
            out += b"".join(json.dumps(note).encode() + b"\n" for note in notes)
        return out, err, code


@pytest.fixture
def lab(run: Run, engine: FakeEngine) -> Callable[..., tuple[int, str, str]]:
    """Commands on a lab that is up: `lab("fail", "ha")` is `fail plain-mip ha`."""
    run("up", MIP)
    engine.command = Failing()
    return lambda command, *rest: run(command, "plain-mip", *rest)


def test_a_link_fails_and_is_healed(lab: Run) -> None:
    assert lab("fail", "ha/home") == (
        0,
        "failed: ha/home\n",
        "testbed heal plain-mip ha/home mends it\n",
    )
    out = lab("status")[1]
    assert "running; failed: home" in out and "cut by testbed fail; testbed heal mends it" in out
    code, out, err = lab("heal", "ha/home")
    assert (code, out, err) == (0, "healed: ha/home\n", "")
    assert "failed" not in lab("status")[1]


def test_a_node_fails_with_what_is_left_of_its_links(lab: Run) -> None:
    lab("fail", "ha/home")
    assert lab("fail", "ha")[1] == "failed: ha/internet\n"
    assert "failed: all links cut" in lab("status")[1]
    assert json.loads(lab("fail", "mn", "-o", "json")[1])["failed"] == ["mn/hotspot", "mn/hotel", "mn/home"]
    assert json.loads(lab("heal", "-o", "json")[1])["healed"] == [
        *("ha/home", "ha/internet"),
        *("mn/hotspot", "mn/hotel", "mn/home"),
    ]


@pytest.mark.parametrize(
    ("command", "place", "words"),
    [
        ("fail", "h", "lab plain-mip has no node h"),
        ("fail", "haa", "did you mean ha?"),
        ("fail", "ha/hotel", "ha is not on a network hotel"),
        ("fail", "internet", "internet is a network: links fail at a node"),
        ("fail", "internet", "name one of core/internet, fa-hotspot/internet,"),
        ("fail", "cn", "cn has failed already"),
        ("fail", "cn/home", "hint: testbed heal plain-mip cn/home"),
        ("heal", "ha", "ha has not failed\n  hint: failed: cn/home"),
        ("heal", "internet", "internet is a network"),
        ("heal", "h", "has no node h"),
    ],
)
def test_what_is_refused(lab: Run, command: str, place: str, words: str) -> None:
    lab("fail", "cn")
    code, out, err = lab(command, place)
    assert (code, out) == (2, "") and words in err and "Traceback" not in err


def test_where_nothing_has_failed(lab: Run) -> None:
    assert lab("heal")[2] == "error: nothing of lab plain-mip has failed\n"


def test_a_kernel_that_cannot(lab: Run, engine: FakeEngine) -> None:
    engine.command = Failing(lacking=True)
    code, _, err = lab("fail", "ha/home")
    assert code == 3 and "the kernel of ha cannot cut ha/home: Error: TC classifier not found." in err
    assert "load the modules sch_ingress and cls_bpf" in err


def test_up_mends_what_failed_and_says_so(lab: Run, run: Run, engine: FakeEngine) -> None:
    lab("fail", "ha")
    before = {box.id for box in engine.boxes.values()}
    code, _, err = run("up", MIP)
    assert code == 0 and "ha: mending its link to internet, home, which testbed fail cut" in err
    assert "ready in" in err and {box.id for box in engine.boxes.values()} == before
    assert "nothing to do" in run("up", MIP)[2]


def test_a_mobile_node_that_was_lost_is_named(lab: Run, engine: FakeEngine) -> None:
    lab("fail", "ha")
    manager = engine.command
    assert isinstance(manager, Failing)
    manager.lost = True
    assert "mn is unregistered on hotspot: testbed move plain-mip mn hotspot tries again" in lab("heal")[2]


def test_completion(lab: Run) -> None:
    context = SimpleNamespace(params={"lab": "plain-mip"})
    assert complete_link(context, "h") == ["ha", "hotel-router"]  # type: ignore[arg-type]
    assert complete_link(context, "ha/") == ["ha/internet", "ha/home"]  # type: ignore[arg-type]
    assert complete_link(SimpleNamespace(params={"lab": "none"}), "") == []  # type: ignore[arg-type]


def test_the_notes_lie_where_the_image_looks_for_them() -> None:
    from testbed.data import data_dir

    assert f"{FAILED}/*" in (data_dir("images") / "drift").read_text()
