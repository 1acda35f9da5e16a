"""What a verification came to, and topologies with pieces exchanged."""

import shutil

from testbed.data import data_dir


def verdicts(result):
    return {one["id"]: one["verdict"] for one in result[0]["claims"]}


def reasons(result):
    return "\n".join(f"{one['id']}: {one['verdict']}: {one['reason']}" for one in result[0]["claims"])


def scenario(tmp_path, *changes):
    """A copy of scenario 2.1 (and the figures it uses) with pieces of text exchanged."""
    for name in ("figure-7", "figure-10"):
        shutil.copy(data_dir("topologies") / f"{name}.yaml", tmp_path)
    text = (data_dir("topologies") / "scenario-2.1.yaml").read_text()
    for name in ("figure-7", "figure-10"):
        text = text.replace(f"topology: {name}\n", f"topology: ./{name}.yaml\n")
    return exchange(tmp_path / "scenario-2.1.yaml", *changes, text=text)


def exchange(file, *changes, text=None):
    text = text or file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return file
