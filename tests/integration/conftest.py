"""Verification of a topology's claims, for the tests of claims and of sabotage."""

from dataclasses import replace
from uuid import uuid4

import pytest

from testbed.engine.api import ContainerSpec
from testbed.experiment.evidence import Evidence
from testbed.experiment.plan import balance, choose_claims, plan_labs
from testbed.experiment.verify import Verification
from testbed.lab.addresses import choose_pool
from testbed.topology.load import load_topology


@pytest.fixture(scope="module")
def verify(engine, node_image, tmp_path_factory):
    """Verify claims of a topology; returns what verdicts.json holds, and the evidence folder."""

    def run(ref, claims=(), sets=(), existing=None):
        chosen = choose_claims(load_topology(str(ref), sets=sets), claims)
        folder = tmp_path_factory.mktemp("evidence")
        verification = Verification(
            engine, node_image, choose_pool(), Evidence(folder), jobs=2, existing=existing
        )
        return verification.verify(chosen, plan_labs([chosen])), folder

    return run


@pytest.fixture(scope="module")
def verify_all(engine, node_image, tmp_path_factory):
    """Verify claims of several topologies as one, each with or without its control; returns the same."""

    def run(refs):
        chosen = [
            scenario if controls else without_controls(scenario)
            for ref, claims, sets, controls in refs
            for scenario in [choose_claims(load_topology(str(ref), sets=sets), claims)]
        ]
        folder = tmp_path_factory.mktemp("evidence")
        labs = balance(plan_labs(chosen), 3)
        verification = Verification(engine, node_image, choose_pool(), Evidence(folder), jobs=3)
        return verification.verify_all(chosen, labs), folder

    return run


def without_controls(scenario):
    """The same claims, without the runs in which the opposite has to come out."""
    claims = {name: claim.model_copy(update={"control": ()}) for name, claim in scenario.claims.items()}
    return replace(scenario, claims=claims)


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
