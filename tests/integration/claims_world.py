"""What a verification came to, and topologies with pieces exchanged."""

import shutil

from testbed.data import data_dir


def verdicts(result):
    return {one["id"]: one["verdict"] for one in result[0]["claims"]}


def reasons(result):
    return "\n".join(f"{one['id']}: {one['verdict']}: {one['reason']}" for one in result[0]["claims"])


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
