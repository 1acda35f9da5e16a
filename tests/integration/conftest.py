"""Verification of claims, for the tests of claims and of sabotage; nodes to start daemons on."""

import os
import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import namespaces
import pytest
from claims_world import CLAIMS, scenario
from mobileip_world import DAEMONS, World, topology
from sabotages import SABOTAGES

from testbed.engine.api import ContainerSpec
from testbed.engine.channel import ChannelEngine
from testbed.evidence.record import write_record
from testbed.experiment.claims.plan import choose_claims, plan_stages, share_labs
from testbed.experiment.claims.verify import Verification
from testbed.experiment.evidence import Evidence
from testbed.lab.addresses import choose_pool
from testbed.render.lab import REDACTED, render_lab
from testbed.topology.load import load_topology

JOBS = 4  # labs at once: most of what they do is waiting


@pytest.fixture(scope="session")
def connected(engine):
    """The engine, with one connection a node for all commands in it, as experiments have it."""
    if namespaces.ROOT in os.environ:
        yield engine
        return
    with closing(ChannelEngine(engine)) as connected:
        yield connected


@pytest.fixture(scope="module")
def verify(connected, node_image, tmp_path_factory):
    """Verify claims of a topology in few labs; returns what verdicts.json holds, and the evidence folder."""

    def run(ref, claims=(), sets=(), existing=None, keys=False):
        chosen = choose_claims(load_topology(str(ref), sets=sets), claims)
        folder = tmp_path_factory.mktemp("evidence")
        evidence = Evidence(folder, keys=keys)
        verification = Verification(connected, node_image, choose_pool(), evidence, jobs=1, existing=existing)
        return verification.verify(chosen, share_labs(plan_stages([chosen], share=True), 1)), folder

    return run


@dataclass(frozen=True)
class Verified:
    """What the one verification of all claims and all sabotages came to."""

    claims: tuple  # what verdicts.json has of the document's claims, and the evidence folder
    sabotages: dict  # what was done → claim → what verdicts.json has of it


@pytest.fixture(scope="module")
def verified(connected, node_image, tmp_path_factory):
    """Verify everything as one: sabotages take turns in the labs of the claims, and cost few of their own.

    What takes the same steps in the same lab is carried out once, such as a control and what a sabotage makes
    of a run. The recordings are the claims', which come first.
    """
    prefixes = {what: f"sabotage-{number}." for number, what in enumerate(SABOTAGES, 1)}
    folder = tmp_path_factory.mktemp("evidence")
    scenarios = [choose_claims(load_topology(name)) for name in CLAIMS]
    scenarios += [
        sabotaged(one, prefixes[what], tmp_path_factory.mktemp("topologies"))
        for what, one in SABOTAGES.items()
    ]
    verification = Verification(connected, node_image, choose_pool(), Evidence(folder), jobs=JOBS)
    document = verification.verify_all(scenarios, share_labs(plan_stages(scenarios, share=True), JOBS))
    claims = document.claims
    own = [one for one in claims if not one.id.startswith("sabotage-")]
    document = document.model_copy(update={"claims": own})
    write_record(folder / "verdicts.json", document)  # the document's own, for a report
    for place in folder.glob("claims/sabotage-*"):
        shutil.rmtree(place)
    return Verified(
        (document, folder),
        {
            what: {one.id.removeprefix(prefix): one for one in claims if one.id.startswith(prefix)}
            for what, prefix in prefixes.items()
        },
    )


def sabotaged(sabotage, prefix, folder):
    """The claims of a sabotage in a copy of the topologies, under names of their own.

    Controls take place only where they are sabotaged too: the others are those of the claims themselves. With
    a control that holds, a run that failed refutes its claim (`decide`).
    """
    file = scenario(folder, *sabotage.changes).parent / sabotage.scenario
    chosen = choose_claims(load_topology(str(file), sets=sabotage.sets), sabotage.claims)
    without = {"control": ()} if sabotage.verdict == "refuted" else {}
    return replace(
        chosen,
        claims={f"{prefix}{name}": claim.model_copy(update=without) for name, claim in chosen.claims.items()},
    )


@pytest.fixture(scope="module")
def bare_node(engine, node_image):
    """A container of the node image with loopback alone; its id."""
    name = f"testbed-test-{uuid4().hex[:12]}"
    labels = {"org.testbed.test": name}
    spec = ContainerSpec(name, "ha", node_image, labels, (), b"", command=("sleep", "infinity"))
    id = engine.create_container(spec)
    try:
        engine.start_container(id)
        yield id
    finally:
        engine.remove_container(id)


@pytest.fixture(scope="module")
def nodes(request):
    """Nodes without daemons, for all tests of a file: a lab's, or namespaces where there is no engine."""
    if root := os.environ.get(namespaces.ROOT):
        rendered = render_lab(topology(), lab="test", secrets=REDACTED)
        with namespaces.nodes(rendered, Path(root)) as made:
            yield made
        return
    lab = request.getfixturevalue("testbed_lab")(DAEMONS, templates=DAEMONS.parent)
    yield {name: node.id for name, node in lab.actual.nodes.items()}


@pytest.fixture
def world(connected, nodes, tmp_path):
    """The nodes as they were when they started, without a daemon."""
    made = World(connected, nodes, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def learner(tmp_path, monkeypatch):
    """A learner who has done nothing yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
