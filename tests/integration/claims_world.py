"""What a verification came to, and topologies with pieces exchanged."""

import shutil
from dataclasses import dataclass

from testbed.data import data_dir


@dataclass(frozen=True)
class Sabotage:
    """Pieces of text exchanged in a scenario's files, `--set` texts, and the claims that this contradicts."""

    claims: tuple[str, ...]
    changes: tuple[tuple[str, str], ...] = ()
    sets: tuple[str, ...] = ()
    verdict: str = "refuted"

    @property
    def scenario(self):
        """The scenario whose files are changed; the figures' claims are those of 2.1."""
        return f"scenario-{'2.1' if self.claims[0].startswith('fig') else self.claims[0][:3]}.yaml"


def sabotaged(verify_all, folders, sabotages):
    """Verify all of them as one, each in a copy of the topologies.

    Controls take place only where they are sabotaged too: the others are those of `test_claims`, where they
    hold. With a control that holds a run that failed refutes its claim (`decide`).
    """
    return verify_all(
        [
            (
                scenario(folders.mktemp("topologies"), *one.changes).parent / one.scenario,
                one.claims,
                one.sets,
                one.verdict != "refuted",
            )
            for one in sabotages
        ]
    )


def assert_verdicts(result, sabotage):
    """A busy machine may have spoiled what would refute: then nothing is decided, and the finding says so."""
    found = {one.id: one for one in result[0].claims}
    for claim in sabotage.claims:
        if sabotage.verdict == "refuted":
            busy = any(one.excuse for one in found[claim].evidence) or _too_slow(found[claim].run)
            assert found[claim].run.verdict == "failed" or busy, findings(found[claim])
        else:
            assert found[claim].verdict == sabotage.verdict, reasons(result)


def _too_slow(run):
    """Whether a step could not be carried out, on a machine that may be why."""
    return run.error and run.health and run.health.late_ms >= 100


def findings(claim):
    """What was seen in the place of what was expected, and why a run could not be carried out."""
    seen = [f"{one.held}: {one.expectation}: {one.observed}" for one in claim.evidence]
    return "\n".join([f"{claim.id}: {claim.run.verdict}: {claim.run.error}", *seen])


def verdicts(result):
    return {one.id: one.verdict for one in result[0].claims}


def reasons(result):
    return "\n".join(f"{one.id}: {one.verdict}: {one.reason}" for one in result[0].claims)


def scenario(tmp_path, *changes):
    """A copy of all topologies in which scenario 2.1 uses the copies, with pieces of text exchanged."""
    shutil.copytree(data_dir("topologies"), tmp_path, dirs_exist_ok=True)
    figures = [(f"topology: {name}\n", f"topology: ../{name}.yaml\n") for name in ("figure-7", "figure-10")]
    exchange(tmp_path, *figures, *changes)
    return tmp_path / "scenario-2.1.yaml"


def exchange(folder, *changes):
    """Exchange pieces of text in whichever files have them."""
    files = {file: file.read_text() for file in folder.rglob("*.yaml")}
    for old, new in changes:
        having = [file for file, text in files.items() if old in text]
        assert having, old
        for file in having:
            files[file] = files[file].replace(old, new)
    for file, text in files.items():
        file.write_text(text)
