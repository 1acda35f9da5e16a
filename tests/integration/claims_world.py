"""The claims of all scenarios, what a verification came to, and topologies with pieces exchanged."""

import shutil

from testbed.data import data_dir

CLAIMS = {
    "scenario-2.1": [
        "2.1-inside-mobility",
        "2.1-gateway-guards",
        "2.1-colocated-registers",
        "2.1-colocated-renegotiates",
        "2.1-fa-registration-impossible",
        "2.1-fa-mn-deaf",
        "2.1-fa-blocks-ipsec",
        "2.1-fa-sees-ciphertext",
        "2.1-fa-cleartext-no-help",
        "2.1-fa-data-dropped",
        "2.1-wlan-outside",
        "fig10-trusted-fa",
        "2.1-fa-no-cleartext",
        "2.1-exit-no-cleartext",
    ],
    "scenario-2.2": [
        "2.2-ha-reachable",
        "2.2-always-away",
        "2.2-dmz-hairpin",
        "2.2-mip-in-ipsec-fa",
        "2.2-mip-in-ipsec-renegotiates",
        "2.2-ipsec-in-mip-mobile",
        "2.2-ipsec-in-mip-needs-routing",
    ],
    "scenario-2.3": ["2.3-routing-resolved", "2.3-single-box"],
    "scenario-2.4": ["2.4-registers-without-ipsec", "2.4-ipsec-in-mip-mobile", "2.4-no-mobility-inside"],
    "scenario-2.5": [
        "2.5-ipsec-in-mip-works",
        "2.5-mip-in-ipsec-fa",
        "2.5-mip-in-ipsec-renegotiates",
        "2.5-perimeter-grows",
    ],
    "nat": ["3519-nat-needs-udp", "3519-between-nats", "3519-keepalive"],
}


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
