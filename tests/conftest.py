"""Fixtures for tests that need a container engine: tests/integration, and what is marked `docker`.

Where no engine answers such tests are skipped, and the summary says so; with CI=true they fail instead.
"""

import os
import signal
from uuid import uuid4

import pytest

from testbed.engine import provision
from testbed.engine.api import EngineError, InUseError
from testbed.engine.image import ensure_node_image

CI = os.environ.get("CI") == "true"
os.environ["COLUMNS"] = "200"  # tables wrap at the width of the terminal, which is nobody's business here
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests send it, to themselves and to others
_missing = pytest.StashKey[str]()


def pytest_collection_modifyitems(items):
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.docker)
    # The longest files first, so that the processors are busy to the end.
    longest = ("test_claims.py", "test_sabotage_border.py", "test_sabotage.py")
    items.sort(key=lambda item: longest.index(item.path.name) if item.path.name in longest else len(longest))


@pytest.fixture(scope="session")
def engine(request):
    """The engine that answers here."""
    try:
        engine = provision.reach_engine(print)
    except EngineError as error:
        if CI:
            pytest.fail(f"CI needs a container engine: {error}", pytrace=False)
        request.config.stash[_missing] = str(error)
        pytest.skip(f"NO CONTAINER ENGINE: {error.message}")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def node_image(engine):
    """The name of the node image, built if it is not there."""
    return ensure_node_image(engine, print).name


@pytest.fixture
def owned(engine):
    """Labels for a test's own containers and networks; whatever carries them is removed afterwards."""
    labels = {"org.testbed.test": uuid4().hex[:12]}
    yield labels
    for container in engine.containers(labels):
        engine.remove_container(container.id)
    for network in engine.networks(labels):
        try:
            engine.remove_network(network.id)
        except InUseError as error:
            pytest.fail(f"a test left a container without its labels: {error}")


def pytest_terminal_summary(terminalreporter, config):
    reason = config.stash.get(_missing, None)
    if reason:
        terminalreporter.section("NO CONTAINER ENGINE: the integration tests did not run", red=True)
        terminalreporter.line(reason)
