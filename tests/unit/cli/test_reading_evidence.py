"""Commands that read an archive of evidence leave nothing behind, however they end."""

import os
import subprocess
import sys

import pytest

from testbed.evidence.archive import packed

PROGRAM = """
import os, signal, sys
from pathlib import Path
from testbed.cli import main
from testbed.evidence import archive

unpack = archive.unpack

def signalled(path, folder):
    unpack(path, folder)
    os.kill(os.getpid(), signal.SIGTERM)

archive.unpack = signalled
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "command",
    [["judge", "FILE"], ["report", "FILE"], ["compare", "FILE", "FILE"],
     ["explain", "2.1-fa-mn-deaf", "--evidence", "FILE"]],
    ids=lambda command: command[0],
)  # fmt: skip
def test_an_archive_that_is_read_is_not_left_unpacked_by_a_signal(command, tmp_path):
    file, scratch = tmp_path / "evidence.zip", tmp_path / "scratch"
    scratch.mkdir()
    with packed(file) as folder:
        (folder / "verdicts.json").write_text("{}")
    arguments = [str(file) if word == "FILE" else word for word in command]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert list(scratch.iterdir()) == []
