"""Verifications of single claims: in a lab that is up, and interrupted."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from claims_world import reasons, verdicts

from testbed.engine import names
from testbed.errors import UsageError
from testbed.lab.state import read_labs

AT_HOME = """\
name: at-home
title: The least that a claim can be tried in
options: {stack: {default: mip-only}}
networks:
  home: {subnet: 192.0.2.0/24, domain: operator}
  away: {subnet: 198.51.100.0/24, domain: internet}
nodes:
  ha:
    roles: [router, home-agent]
    links: {home: 192.0.2.1, away: 198.51.100.1}
    settings: {home-network: home}
  mn:
    roles: [mobile-node]
    attaches: [home, away]
    settings: {home-agent: ha, home-address: 192.0.2.100}
claims:
  at-home:
    says: At home the mobile node needs no binding
    source: RFC 5944 §1.1
    run: {steps: [{move: {to: home}}], expect: [{mobile-node: home}]}
    control: {steps: [{move: {to: home}}], expect: [{daemons: {node: ha, running: [home-agent]}}]}
"""


def test_a_lab_that_is_up_is_used_and_stays(verify, engine, testbed_lab, tmp_path):
    file = tmp_path / "at-home.yaml"
    file.write_text(AT_HOME)
    lab = testbed_lab(file)
    result = verify(file, existing=lab.name)
    assert verdicts(result) == {"at-home": "reproduced"}, reasons(result)
    assert list(result[0].backends) == [lab.name]
    assert lab.name in read_labs(engine)
    with pytest.raises(UsageError, match="no run can take place"):
        verify("scenario-2.1", ["fig10-trusted-fa"], existing=lab.name)


def test_interrupted_nothing_is_left(engine, node_image, tmp_path):
    name = f"interrupted-{os.getpid()}"
    file = tmp_path / f"{name}.yaml"
    text = AT_HOME.replace("name: at-home\n", f"name: {name}\n")
    file.write_text(text.replace("steps: [", "steps: [{run: {node: ha, command: sleep 30, within: 40s}}, "))
    program = "import sys; from testbed.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "verify", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not engine.containers({names.TOPOLOGY: name}) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(random.uniform(0.0, 4.0))  # anywhere between the first container and the first run
        for _ in range(2):  # as timeout(1) does: the process, and its group
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "taking down the labs" in err, out + err
    assert not engine.containers({names.TOPOLOGY: name}) and not engine.networks({names.TOPOLOGY: name})
