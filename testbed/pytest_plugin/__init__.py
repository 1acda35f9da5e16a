"""The pytest plugin: labs as fixtures, claims as tests, and a report of what a lab saw before a test failed.

docs/pytest.md describes it for authors of tests. A project that does not use it pays for this file alone.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.lab.processes import Process
from testbed.pytest_plugin.state import NO_ENGINE, SESSION_INPUT, LabFactory, session_of

if TYPE_CHECKING:
    from testbed.engine.api import Engine
    from testbed.pytest_plugin.laboratory import Lab, Packets, Timeline

__all__ = ("Lab", "LabFactory", "Packets", "Timeline", "lab", "testbed_engine", "testbed_lab")


def __getattr__(name: str) -> Any:
    """The types of what tests get, for their annotations."""
    if name in ("Lab", "Packets", "Timeline"):
        from testbed.pytest_plugin import laboratory

        return getattr(laboratory, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    group = parser.getgroup("testbed", "labs of testbed")
    group.addoption(
        "--testbed-jobs",
        type=_positive,
        default=2,
        metavar="N",
        help="Labs up at the same time, over all processes of pytest-xdist (default: 2).",
    )
    group.addoption(
        "--testbed-keep", action="store_true", help="Leave the labs up, under names that the summary has."
    )
    group.addoption(
        "--testbed-evidence",
        metavar="DIR",
        help="Save the evidence of tests that fail and of claims in this folder (default: a temporary one).",
    )
    group.addoption(
        "--testbed-claims",
        action="append",
        default=[],
        metavar="FILE",
        help="Also collect the claims of this topology file as tests; may be given several times.",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and have the files of claims collected."""
    config.addinivalue_line(
        "markers",
        "testbed(topology, *sets, templates=None, **options): the fixture `lab` is a lab of this topology",
    )
    config.addinivalue_line("markers", "testbed_claim: a claim of a topology file (--testbed-claims)")
    for file in config.option.testbed_claims:
        if not any(argument.partition("::")[0] == file for argument in config.args):
            config.args.append(file)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of pytest-xdist the process that its labs must not outlive: this one."""
    session_of(node.config).has_workers = True
    node.workerinput[SESSION_INPUT] = str(Process.here())


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The claims of a file that --testbed-claims names."""
    here, named = parent.config.invocation_params.dir, parent.config.option.testbed_claims
    if not any((here / file).resolve() == file_path.resolve() for file in named):
        return None
    from testbed.pytest_plugin.claims import ClaimsFile

    collector: pytest.Collector = ClaimsFile.from_parent(parent, path=file_path)
    return collector


# Fixtures


@pytest.fixture(scope="session")
def testbed_engine(pytestconfig: pytest.Config) -> Engine:
    """The container engine; whatever it makes does not outlive the session.

    Where none answers the test is skipped, and with CI=true it fails.
    """
    return session_of(pytestconfig).reached().engine


@pytest.fixture(scope="session")
def testbed_lab(pytestconfig: pytest.Config) -> LabFactory:
    """Labs for tests, and for fixtures of any scope: `testbed_lab("scenario-2.1", stack="mip-only")`."""
    return LabFactory(session_of(pytestconfig))


@pytest.fixture
def lab(request: pytest.FixtureRequest, testbed_lab: LabFactory) -> Lab:
    """The lab of the marker: `@pytest.mark.testbed("scenario-2.1", stack="mip-only")`."""
    __tracebackhide__ = True
    marker = request.node.get_closest_marker("testbed")
    if marker is None or not marker.args:
        pytest.fail(
            'the fixture `lab` needs a topology: @pytest.mark.testbed("plain-mip") on the test, its class, '
            'or as pytestmark of the module; or the fixture `testbed_lab`: testbed_lab("plain-mip")',
            pytrace=False,
        )
    found: Lab = testbed_lab(*marker.args, **marker.kwargs)
    return found


# What happens meanwhile


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """A lab that is asked for now is the fixture's, and is given back when that ends."""
    with session_of(request.config).setting_up(request):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test begins: what labs report from now on belongs to it."""
    session = session_of(item.config)
    session.item = item
    for each in session.lent:
        each.begin_test()
    try:
        return (yield)
    finally:
        session.item = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of a test that fails: evidence, the last events and the ladder of the last seconds."""
    report = yield
    session = session_of(item.config)
    if report.failed and report.when != "teardown" and session.lent:
        from testbed.pytest_plugin.failures import keep_evidence

        folder = session.evidence()
        for number, each in enumerate(session.lent, 1):
            place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            report.sections += keep_evidence(each, place)
            report.user_properties.append(("evidence", str(place)))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """Remove the labs, once no worker uses them any more."""
    mine = session_of(session.config)
    mine.has_workers = mine.has_workers and mine.folder.is_dir()  # before pytest removes it
    yield
    for problem in mine.close():
        session.config.issue_config_time_warning(pytest.PytestWarning(f"testbed: {problem}"), stacklevel=2)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say loudly that tests did not run for want of an engine, and name the labs that are left up."""
    outcomes = ("skipped", "failed", "error")
    for report in [one for outcome in outcomes for one in terminalreporter.getreports(outcome)]:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if NO_ENGINE in reason:
            terminalreporter.section(f"{NO_ENGINE}: tests that need a lab did not run", red=True)
            terminalreporter.line(reason[reason.index(NO_ENGINE) :])
            break
    session = session_of(config)
    if session.keep and (labs := session.kept()):
        terminalreporter.section("labs of testbed that are left up")
        for name in labs:
            terminalreporter.line(f"{name}: testbed status {name}; testbed down {name} removes it")
