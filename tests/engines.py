"""Try the engine that DOCKER_HOST, DOCKER_CONTEXT or docker's current context names.

Prints its row of the table in docs/engines.md:

    DOCKER_HOST=ssh://lab.example.net python tests/engines.py
    python tests/engines.py --engine a=ssh://lab-1.example.net --engine b=tcp://lab-2.example.net:2376

With --engine, given for each, one lab is on several engines. Takes some two minutes. What fails is printed to
standard error, whole.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAB = "engines-try"
TESTBED = (sys.executable, "-m", "testbed")
CLAIM = "2.1-fa-mn-deaf"
TESTS = "tests/integration/test_engine.py"
ENGINES = sys.argv[1:]


def run(*command):
    """Run a command; return its standard output, None where it fails."""
    environment = {**os.environ, "CI": "true"}  # for the tests: skipped is failed
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}", file=sys.stderr)
    return None if done.returncode else done.stdout


def doctor():
    """What `doctor` says: the engine's check, and the names of the checks that warn or fail."""
    command = [*TESTBED, "doctor", *ENGINES, "-o", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    checks = json.loads(done.stdout)["checks"]
    for check in checks:
        if check["level"] == "FAIL":
            print(f"doctor: {check['name']}: {check['detail']} ({check['fix']})", file=sys.stderr)
    bad = [f"{one['name']} {one['level']}" for one in checks if one["level"] != "OK"]
    return checks[0]["detail"], bad


def lab():
    """Whether plain Mobile IPv4 comes up, and data flows after a move."""
    try:
        return (
            run(*TESTBED, "up", "plain-mip", "--name", LAB, *ENGINES) is not None
            and run(*TESTBED, "move", LAB, "mn", "airport") is not None
            and run(*TESTBED, "exec", LAB, "mn", "--", "ping", "-c2", "-W2", "cn") is not None
        )
    finally:
        run(*TESTBED, "down", LAB)


def main():
    """Print the row; the exit code is 1 where something fails."""
    run(*TESTBED, *(["doctor", "--fix", *ENGINES] if ENGINES else ["build"]))
    engine, bad = doctor()
    tried = {
        "lab": lab(),
        "claim": run(*TESTBED, "verify", "scenario-2.1", "--claim", CLAIM, *ENGINES) is not None,
    }
    if not ENGINES:
        tried["tests"] = run(sys.executable, "-m", "pytest", "-q", "-n0", TESTS) is not None
    results = ["works" if worked else "**fails**" for worked in tried.values()] + ["–"] * bool(ENGINES)
    print(
        f"| {engine} | {', '.join(bad) or 'all OK'} | {' | '.join(results)} | {datetime.now(UTC):%Y-%m-%d} |"
    )
    return 0 if all(tried.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
