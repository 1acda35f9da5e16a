"""Fixtures for tests that need a container engine: tests/integration, and what is marked `docker`.

Where no engine answers the plugin of testbed skips such tests, and says so. With CI=true a skip is a failure,
unless the kernel lacks what a test is marked with: `@pytest.mark.kernel("ipip")`.
"""

import gc
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path
from shutil import which  # tests put others in the place of shutil.which
from uuid import uuid4

import namespaces
import pytest
from hypothesis import settings

from testbed.engine.api import InUseError
from testbed.engine.image import ensure_node_image
from testbed.lab.doctor import TEST_PROGRAMS, try_in_container

CI = os.environ.get("CI") == "true"
collect_ignore = ["projects"]  # of other people, so to speak: tests/integration runs them
os.environ["COLUMNS"] = "200"  # tables wrap at the width of the terminal, which is nobody's business here
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests send it, to themselves and to others
# How long an example takes is the machine's affair. What fails with CI fails again; new examples are found
# by people.
settings.register_profile("testbed", deadline=None, derandomize=CI)
settings.load_profile("testbed")
# No Debian is without them; Python itself calls uname.
EVERYWHERE = {"sh", "bash", "apt-config", "uname"}
EVERYWHERE |= {"mount", "tar", "chroot", "unshare", "nsenter", "taskset", "setpriv"}
SYSTEM = {"/bin", "/sbin", "/usr/bin", "/usr/sbin"}
FIRST = [
    *("test_claims.py", "test_ordinary_kernel.py", "test_workflows.py", "test_lessons_gateway.py"),
    *("test_lessons.py", "test_attacks.py", "test_plugin.py", "test_mobileip_netns.py", "test_lab.py"),
    *("test_mobileip_letter.py", "test_recovery.py"),
    *("test_quality.py", "test_mip_agreement.py"),
]
"""The files that take longest, in the order in which they begin: the others fill the gaps behind them."""
KERNEL_LACKS = "this kernel lacks"  # the one reason to skip a test with CI=true


def _no_other_program(event, arguments):
    """Let tests run their own programs and those on the list, and none that merely happens to be here."""
    if event != "subprocess.Popen":
        return
    program, _, _, environment = arguments
    name = os.fsdecode(program)
    path = (os.environ if environment is None else environment).get("PATH", os.defpath)
    place = name if "/" in name else which(name, path=path)
    if name in TEST_PROGRAMS:
        if place is None:
            pytest.skip(f"{name} is missing: testbed doctor --fix --tests installs it")
    elif name not in (*EVERYWHERE, sys.executable) and (place is None or str(Path(place).parent) in SYSTEM):
        pytest.fail(
            f"tests run {name}, which a fresh machine may not have: run it in a node, "
            "or add it to TEST_PROGRAMS of testbed/lab/doctor.py"
        )


sys.addaudithook(_no_other_program)


def pytest_collection_modifyitems(items):
    for item in items:
        if not {"integration", "kernel"}.isdisjoint(item.path.parts):
            item.add_marker(pytest.mark.docker)
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


def pytest_collection_finish():
    gc.freeze()  # what was imported and collected stays: Python need not look for garbage in it


@pytest.fixture(scope="session")
def engine(request):
    """The engine that answers here: the plugin's, which labels what it makes."""
    if namespaces.ROOT in os.environ:
        yield namespaces.Namespaces()
        return
    yield request.getfixturevalue("testbed_engine")


@pytest.fixture(scope="session")
def node_image(engine):
    """The name of the node image, built if it is not there."""
    return ensure_node_image(engine, print).name


@pytest.fixture(scope="session")
def kernel(request, engine):
    """Why this kernel lacks a feature, by the name that `doctor` has for it; "" where it is there."""
    if namespaces.ROOT in os.environ:
        return defaultdict(str)  # what the ordinary kernel lacks is for the tests to find out
    return try_in_container(engine, request.getfixturevalue("node_image"))


@pytest.fixture(autouse=True)
def _kernel_has(request):
    if marker := request.node.get_closest_marker("kernel"):
        (feature,) = marker.args
        if reason := request.getfixturevalue("kernel")[feature]:
            pytest.skip(f"{KERNEL_LACKS} {feature}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _no_skip((yield))


def _no_skip(report):
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2]
        if KERNEL_LACKS not in reason:
            report.outcome = "failed"
            report.longrepr = f"with CI=true a skip is a failure: {reason}"
    return report


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
