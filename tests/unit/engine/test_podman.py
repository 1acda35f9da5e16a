"""What is done in another way where Podman answers."""

import pytest
import requests
from docker.errors import APIError

from testbed.engine.api import EngineError, EngineFacts, InUseError, Line, NetworkSpec
from testbed.engine.docker import DockerEngine
from testbed.engine.podman import PodmanEngine, is_podman
from testbed.lab import doctor


class Api:
    """As much of the SDK's client as is called; `fails` has the words of calls that fail."""

    base_url = "http+docker://localhost"
    api_version = "1.41"

    def __init__(self):
        self.calls = []
        self.fails = {}

    def _call(self, *call):
        self.calls.append(call)
        if words := self.fails.get(call[0], []):
            response = requests.Response()
            response.status_code = 500
            raise APIError("500", response=response, explanation=words.pop(0))

    def post(self, url, json):
        self._call("post", url, json)
        response = requests.Response()
        response.status_code, response._content = 200, b'{"id": "f00"}'
        return response

    def inspect_network(self, id):
        self._call("inspect_network", id)
        return {"Name": "testbed-lab-home"}

    def remove_network(self, name):
        self._call("remove_network", name)

    def kill(self, id):
        self._call("kill", id)

    def remove_container(self, id, **_):
        self._call("remove_container", id)

    def info(self):
        version = {"ServerVersion": "4.3.1", "KernelVersion": "6.1", "Architecture": "amd64"}
        return version | {"Name": "a-host", "NCPU": 2, "MemTotal": 1 << 32}


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def engine(api):
    return PodmanEngine(api, "unix:///run/podman/podman.sock")


def test_it_is_known_by_what_answers():
    assert is_podman({"Components": [{"Name": "Podman Engine", "Version": "4.3.1"}, {"Name": "Conmon"}]})
    assert not is_podman({"Components": [{"Name": "Engine"}, {"Name": "containerd"}]})
    assert not is_podman({"Version": "20.10.24"})


def test_a_network_is_internal_without_a_name_service(engine, api):
    assert engine.create_network(NetworkSpec("n", "198.18.0.0/29", {"a": "b"})) == "f00"
    ((_, url, asked),) = api.calls
    assert url.endswith("/libpod/networks/create")
    assert asked["internal"] is True and asked["dns_enabled"] is False
    assert asked["subnets"] == [{"subnet": "198.18.0.0/29"}] and asked["labels"] == {"a": "b"}


def test_a_network_is_removed_by_its_name(engine, api):
    engine.remove_network("f00")
    assert api.calls == [("inspect_network", "f00"), ("remove_network", "testbed-lab-home")]
    api.fails["remove_network"] = ['"x" has associated containers with it: network is being used']
    with pytest.raises(InUseError):
        engine.remove_network("f00")
    api.fails["inspect_network"] = ["unable to find network with name or ID f00: network not found"]
    engine.remove_network("f00")


def test_a_container_is_killed_first(engine, api):
    api.fails["kill"] = ["can only kill running containers"]
    engine.remove_container("c")
    assert api.calls == [("kill", "c"), ("remove_container", "c")]


def test_a_link_that_the_node_renamed_keeps_no_container(engine, api):
    words = "cleaning up container c: netavark: failed to delete container veth eth0: No such device"
    api.fails["remove_container"] = [words]
    engine.remove_container("c")
    assert [call[0] for call in api.calls].count("remove_container") == 2
    api.fails["remove_container"] = [words, words]
    with pytest.raises(EngineError, match="No such device"):
        engine.remove_container("c")
    api.fails["remove_container"] = ["device or resource busy", words]
    with pytest.raises(EngineError, match="busy"):
        engine.remove_container("c")


def test_news_of_a_log_are_what_follows_its_last_line(engine, monkeypatch):
    asked = {}

    def logs(self, id, **options):
        asked.update(options)
        return [Line("stderr", 1.0, "last"), Line("stdout", 2.0, "news"), Line("stderr", 3.0, "noise")]

    monkeypatch.setattr(DockerEngine, "logs", logs)
    assert [line.text for line in engine.logs("c", follow=True, tail=0, stderr=False)] == ["news"]
    assert asked == {"follow": True, "tail": 1}
    assert len(list(engine.logs("c", stdout=False))) == 3 and asked["stdout"] is False


def test_whole_seconds_are_a_warning(engine):
    facts = engine.facts()
    assert facts.name == "Podman"
    (check,) = doctor._times(facts)
    assert check.level is doctor.Level.WARN and "whole seconds" in check.detail
    newer = EngineFacts("Podman", "5.4.2", "1.41", "", "", 1, 1)
    assert not list(doctor._times(newer))
    assert not list(doctor._times(EngineFacts("Docker Engine", "20.10.24", "1.41", "", "", 1, 1)))
