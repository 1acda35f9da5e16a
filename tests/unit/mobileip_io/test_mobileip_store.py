"""What agents keep beyond the end of their process."""

import json
from ipaddress import IPv4Address

import pytest

from testbed.mobileip.core.api import Remember
from testbed.mobileip.io import store as store_module
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.store import Store

A, B = IPv4Address("10.0.1.100"), IPv4Address("10.0.1.101")


def test_what_was_written_is_there_for_the_next_process(tmp_path):
    path = tmp_path / "lib" / "agent.state"
    store = Store(path)
    assert store.records == {}
    store.write([Remember(A, {"n": 1}), Remember(B, {"n": 2})])
    store.write([Remember(A, {"n": 3})])
    store.write([Remember(B, None)])
    # As after `kill -9`: nothing was closed.
    assert Store(path).records == {A: {"n": 3}}
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_is_written_anew_when_most_of_it_is_out_of_date(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SLACK", 10)
    path = tmp_path / "agent.state"
    store = Store(path)
    for number in range(1000):
        store.write([Remember(A, {"n": number}), Remember(B, {"n": number})])
        assert len(path.read_bytes().splitlines()) <= 14
    assert Store(path).records == {A: {"n": 999}, B: {"n": 999}}
    assert [file.name for file in tmp_path.iterdir()] == ["agent.state"]


def test_a_line_that_was_not_written_to_its_end_does_not_count(tmp_path):
    path = tmp_path / "agent.state"
    Store(path).write([Remember(A, {"n": 1}), Remember(A, {"n": 2})])
    path.write_bytes(path.read_bytes()[:-3])
    store = Store(path)
    assert store.records == {A: {"n": 1}}
    store.write([Remember(B, {"n": 3})])
    assert Store(path).records == {A: {"n": 1}, B: {"n": 3}}


def test_after_a_failed_write_everything_is_written_with_the_next(tmp_path, monkeypatch):
    path = tmp_path / "agent.state"
    store = Store(path)
    store.write([Remember(A, {"n": 1})])

    def full(descriptor, data):
        store_module.os.write(descriptor, bytes(data)[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_write", full)
        with pytest.raises(NodeError, match="No space left on device"):
            store.write([Remember(B, {"n": 2})])
    store.write([Remember(A, {"n": 3})])
    assert Store(path).records == {A: {"n": 3}, B: {"n": 2}}


@pytest.mark.parametrize("content", ["nonsense\n", "[1, 2, 3]\n", '["10.0.1", {}]\n', "7\n"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "agent.state"
    path.write_text(content)
    with pytest.raises(NodeError, match="remove the file"):
        Store(path)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeError, match=r"state .*file/agent\.state: "):
        Store(tmp_path / "file" / "agent.state")


def test_a_line_is_json(tmp_path):
    Store(tmp_path / "s").write([Remember(A, {"bindings": []})])
    assert json.loads((tmp_path / "s").read_text()) == ["10.0.1.100", {"bindings": []}]
