"""What the plugin knows of a session of pytest; most of testbed is imported when a test needs it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import pytest

from testbed.lab.processes import Process

if TYPE_CHECKING:
    from testbed.pytest_plugin.laboratory import Lab
    from testbed.pytest_plugin.pool import Pool
    from testbed.topology.loaded import LoadedTopology

NO_ENGINE: Final = "NO CONTAINER ENGINE"
SESSION_INPUT: Final = "testbed_session"
"""What a worker of pytest-xdist is given: the process that its labs must not outlive."""
_LONGEST_NAME: Final = 100


class Asker(Protocol):
    """A test or fixture, which has a lab until it ends."""

    def addfinalizer(self, finalizer: Callable[[], object]) -> None:
        """Call something at its end."""


class Session:
    """One process of a session; the controller of pytest-xdist has one too."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._pool: Pool | None = None
        self._missing: str | None = None
        self._topologies: dict[tuple[str, ...], LoadedTopology] = {}
        self._setups: list[Asker] = []  # fixtures that are being set up, the innermost last
        self.item: pytest.Item | None = None
        """The present test."""
        self.has_workers = False
        """Whether other processes carry out the tests."""

    @property
    def keep(self) -> bool:
        """Whether labs stay up."""
        return bool(self._config.option.testbed_keep)

    @property
    def folder(self) -> Path:
        """For what processes of this session have to know of each other; no other session has it."""
        base: Path = self._config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        return (base.parent if self._is_worker else base) / "testbed"

    @property
    def _is_worker(self) -> bool:
        return hasattr(self._config, "workerinput")

    def evidence(self, test: str | None = None) -> Path:
        """The folder for the evidence of a test, by its node id; without, of the present test."""
        test = test or (self.item.nodeid if self.item else "session")
        given = self._config.option.testbed_evidence
        root = self._config.invocation_params.dir / given if given else self.folder / "evidence"
        name = re.sub(r"[^\w.-]+", "-", test).strip("-.")
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}-{sha256(test.encode()).hexdigest()[:8]}"
        return Path(root, name)

    @property
    def lent(self) -> Sequence[Lab]:
        """The labs that tests have at present."""
        return tuple(self._pool.lent) if self._pool else ()

    def reached(self) -> Pool:
        """The labs of this session. Where no engine answers, the test is skipped; with CI=true it fails."""
        from testbed.engine.api import EngineError

        if self._missing is None:
            try:
                pool = self._made()
                pool.engine  # noqa: B018
            except EngineError as error:
                self._missing = f"{NO_ENGINE}: {error.message}" + (f" ({error.hint})" if error.hint else "")
        if self._missing is None:
            return pool
        if os.environ.get("CI") == "true":
            pytest.fail(f"{self._missing}; with CI=true that is a failure", pytrace=False)
        pytest.skip(self._missing)

    def lab(self, topology: str | Path, sets: Sequence[str], templates: str | Path | None) -> Lab:
        """A lab that the test or fixture that asks for it has until it ends. Raises `TestbedError`."""
        from testbed.errors import UsageError

        asker = self._setups[-1] if self._setups else self.item
        if asker is None:
            raise UsageError("a lab is for a test or a fixture")
        pool = self.reached()
        lab = pool.take(self._load(str(topology), sets, templates))
        asker.addfinalizer(lambda: pool.give_back(lab))
        return lab

    @contextmanager
    def setting_up(self, fixture: Asker) -> Iterator[None]:
        """What asks for a lab meanwhile is this fixture."""
        self._setups.append(fixture)
        try:
            yield
        finally:
            self._setups.pop()

    def close(self) -> list[str]:
        """Remove the labs, unless other processes go on using them; return what could not be removed."""
        if self._pool is None and not self.has_workers:
            return []
        from testbed.engine.api import EngineError

        pool = self._made()
        try:
            return pool.close() + pool.problems
        except EngineError:  # which no test has reached either
            return []

    def kept(self) -> list[str]:
        """The labs that are up, by their names."""
        texts = [file.read_text(encoding="utf-8") for file in sorted(self.folder.glob("slot-*"))]
        return [lab for text in texts if text and (lab := json.loads(text)["lab"])]

    def _made(self) -> Pool:
        if self._pool is None:
            from testbed.lab.leftovers import Owner
            from testbed.pytest_plugin.pool import Pool

            here = Process.here()
            given = Process.parse(getattr(self._config, "workerinput", {}).get(SESSION_INPUT, ""))
            self._pool = Pool(
                self.folder,
                Owner(given or here, here),
                jobs=self._config.option.testbed_jobs,
                keep=self.keep,
                evidence=self.evidence,
            )
        return self._pool

    def _load(self, ref: str, sets: Sequence[str], templates: str | Path | None) -> LoadedTopology:
        """Read a topology once; a file is relative to the root folder of the tests."""
        from testbed.topology.load import load_topology, relative_to

        root = self._config.rootpath
        ref = relative_to(root, ref)
        key = (ref, str(templates), *sets)
        if key not in self._topologies:
            folder = root / templates if templates else None
            self._topologies[key] = load_topology(ref, sets=sets, templates=folder)
        return self._topologies[key]


class LabFactory:
    """Gives labs to tests and fixtures."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(
        self, topology: str | Path, *sets: str, templates: str | Path | None = None, **options: object
    ) -> Lab:
        """A lab of a topology, by its name or the path of its file, as `testbed up` makes it.

        The test or fixture that asks for it has it until its end. `sets` are texts of `--set`, `options`
        those of the topology (`stack="mip-only"`), `templates` a folder of the user's own. Paths are relative
        to pytest's rootdir. Raises `TestbedError` where the topology is invalid or the lab does not come up.
        """
        __tracebackhide__ = True
        from testbed.pytest_plugin.laboratory import for_people
        from testbed.topology.overrides import option_texts

        chosen = option_texts({name.replace("_", "-"): value for name, value in options.items()})
        return for_people(self._session.lab)(topology, [*sets, *chosen], templates)


_SESSION: Final = pytest.StashKey[Session]()


def session_of(config: pytest.Config) -> Session:
    """What the plugin knows of this session."""
    return config.stash.setdefault(_SESSION, Session(config))
