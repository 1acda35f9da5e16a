"""A service that is asked and says nothing: the run concerned is undecided, and the verification goes on."""

import json
import re
import time
from functools import partialmethod
from pathlib import PurePosixPath

import pytest

from testbed.engine.fake import FakeEngine
from testbed.experiment.claims import crew as crew_module
from testbed.experiment.claims.plan import choose_claims, plan_stages, share_labs
from testbed.experiment.claims.verdict import Finding, RunResult
from testbed.experiment.claims.verify import Verification
from testbed.experiment.evidence import Evidence
from testbed.lab.access import LabAccess
from testbed.lab.addresses import DEFAULT_POOL
from testbed.lab.state import read_labs
from testbed.topology.load import load_topology

BOUND = 0.5  # seconds
ANSWER = {"ok": True, "backend": "kernel", "state": "registered", "timeline": {"data": 9.0}, "delay_ms": 10}
ANSWER |= {"jitter_ms": 0, "loss": 0, "rate": 0}


class Nodes:
    """What runs in all nodes: every service answers at once, but the home agent has its own `says`."""

    def __init__(self, says):
        self.says = says

    def __call__(self, box, command, stdin):
        if command[0] != "socat":
            return b"rtt min/avg/max/mdev = 500/500/500/0.1 ms", b"", 0
        if PurePosixPath(command[-1]).stem == "home-agent" and self.says:
            return self.says.pop(0)()
        return json.dumps(ANSWER).encode() + b"\n", b"", 0


def silence():
    time.sleep(BOUND)
    return b"", b"", 0


def hanging_up():
    return b"", b"", 0


@pytest.fixture
def verified(monkeypatch, tmp_path):
    """Verify with a home agent that `says` this before it answers."""
    monkeypatch.setattr("testbed.lab.down._STRAGGLERS", 0.0)
    monkeypatch.setattr(LabAccess, "state", partialmethod(LabAccess.state, within=BOUND))
    monkeypatch.setattr(crew_module, "Pulse", lambda access: None)
    good = RunResult([Finding("it is so", True, "seen")])
    monkeypatch.setattr(crew_module, "carry_out", lambda *_: [good])

    def verify(*says):
        engine = FakeEngine(command=Nodes(list(says)))
        scenario = choose_claims(load_topology("scenario-2.1"), ["2.1-inside-mobility", "2.1-gateway-guards"])
        labs = share_labs(plan_stages([scenario]), 1)
        job = Verification(engine, "testbed-node:test", DEFAULT_POOL, Evidence(tmp_path), jobs=1)
        verdicts = job.verify(scenario, labs)
        assert read_labs(engine) == {}
        return verdicts

    return verify


def test_silence_leaves_one_run_undecided(verified):
    verdicts = verified(silence)
    first, *others = sorted(verdicts.claims, key=lambda claim: claim.verdict)
    assert [claim.verdict for claim in (first, *others)] == ["inconclusive", "reproduced"]
    assert re.search(r"home-agent of ha did not answer within \d", first.reason)
    assert "it hangs, or this machine is too busy" in first.reason
    assert any("ha/home-agent" in lab.carriers for lab in verdicts.backends.values())


def test_a_service_that_hangs_up_is_not_called_silent(verified):
    reasons = [claim.reason for claim in verified(hanging_up).claims if claim.reason]
    assert len(reasons) == 1 and "home-agent of ha does not answer: it hung up" in reasons[0]


def test_with_answers_everything_is_decided(verified):
    assert {claim.verdict for claim in verified().claims} == {"reproduced"}
