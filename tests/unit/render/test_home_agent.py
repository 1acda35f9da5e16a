"""Where a home agent answers, by its settings and the stack."""

import tomllib

import pytest

from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology


def address(ref, *sets):
    lab = render_lab(load_topology(ref, sets=sets), lab="lab", secrets=Secrets("psk", "00" * 16))
    ours = tomllib.loads(lab.nodes["ha"].files["/etc/mobileip/home-agent.toml"].content)
    theirs = tomllib.loads(lab.nodes["mn"].files["/etc/mobileip/mobile-node.toml"].content)
    assert theirs["home-agent"] == ours["address"]
    return ours["address"]


@pytest.mark.parametrize(
    ("stack", "expected"),
    [("mip-only", "203.0.113.3"), ("ipsec-in-mip", "203.0.113.3"), ("mip-in-ipsec", "10.0.0.5")],
)
def test_on_the_border_the_stack_says_which_side(stack, expected):
    assert address("scenario-2.2", f"stack={stack}") == expected


@pytest.mark.parametrize("stack", ["mip-only", "mip-in-ipsec"])
def test_inside_it_is_the_link_that_was_chosen(tmp_path, stack):
    file = tmp_path / "two-links.yaml"
    file.write_text(
        "name: two-links\ninclude: [scenario-2.1.yaml]\n"
        "nodes: {ha: {links: {servers: 10.0.4.2}, settings: {agent: servers}}}\n"
    )
    assert address(str(file), f"stack={stack}") == "10.0.4.2"
