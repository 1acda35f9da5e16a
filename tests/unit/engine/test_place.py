"""Which engine is meant: environment, docker's contexts, and what is wrong with them."""

import json
from hashlib import sha256

import pytest

from testbed.cli import main
from testbed.cli.output import as_called
from testbed.engine import place
from testbed.engine.api import EngineError
from testbed.engine.connect import connect
from testbed.engine.place import Place, choose_place, context_names


@pytest.fixture
def docker(monkeypatch, tmp_path):
    """The folder of docker's settings."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def context(folder, name, host, certificates=(), **more):
    key = sha256(name.encode()).hexdigest()
    file = folder / "contexts/meta" / key / "meta.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host, **more}}}))
    for each in certificates:
        (folder / "contexts/tls" / key / "docker").mkdir(parents=True, exist_ok=True)
        (folder / "contexts/tls" / key / "docker" / each).touch()
    return file


def test_without_any_setting_it_is_the_usual_socket(docker):
    assert choose_place() == Place(place.USUAL)


def test_what_is_said_first_counts(docker, monkeypatch):
    context(docker, "one", "unix:///one.sock")
    context(docker, "two", "tcp://127.0.0.1:1")
    (docker / "config.json").write_text('{"currentContext": "one"}')
    assert choose_place() == Place("unix:///one.sock", False, "the docker context one")
    monkeypatch.setenv("DOCKER_CONTEXT", "two")
    assert choose_place() == Place("tcp://127.0.0.1:1", False, "the docker context two")
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert choose_place() == Place(place.USUAL)
    monkeypatch.setenv("DOCKER_HOST", "unix:///host.sock")
    assert choose_place() == Place("unix:///host.sock", False, "DOCKER_HOST")


def test_a_context_needs_no_configuration_file(docker, monkeypatch, tmp_path):
    """docker writes one only with `docker context use`."""
    context(docker, "lab", "unix:///lab.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    assert not (docker / "config.json").exists()
    assert choose_place().address == "unix:///lab.sock"


def test_the_certificates_of_a_context(docker, monkeypatch):
    context(docker, "both", "tcp://h:1", ["ca.pem", "cert.pem", "key.pem"])
    context(docker, "server", "tcp://h:1", ["ca.pem"])
    context(docker, "any", "tcp://h:1", ["cert.pem", "key.pem"], SkipTLSVerify=True)
    found = {}
    for name in ("both", "server", "any"):
        monkeypatch.setenv("DOCKER_CONTEXT", name)
        found[name] = choose_place().tls
    assert found["both"].cert and found["both"].ca_cert.endswith("ca.pem") and found["both"].verify
    assert found["server"].cert is None and found["server"].ca_cert and found["server"].verify
    assert found["any"].cert and found["any"].verify is False


def test_a_context_that_does_not_exist(docker, monkeypatch):
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    with pytest.raises(EngineError, match="there is no docker context nowhere") as caught:
        choose_place()
    assert "docker context ls" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Endpoints": {"docker": {}}}', '{"Endpoints": []}'])
def test_a_context_that_cannot_be_read(docker, monkeypatch, text):
    context(docker, "odd", "x").write_text(text)
    monkeypatch.setenv("DOCKER_CONTEXT", "odd")
    with pytest.raises(EngineError, match="the docker context odd cannot be read"):
        choose_place()
    assert context_names() == ["default"]


def test_a_configuration_that_cannot_be_read(docker):
    (docker / "config.json").write_text("{")
    with pytest.raises(EngineError, match=r"config\.json cannot be read"):
        choose_place()


def test_certificates_that_are_missing(docker, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(docker))
    with pytest.raises(EngineError, match="DOCKER_HOST cannot be used") as caught:
        choose_place()
    assert "DOCKER_CERT_PATH" in caught.value.hint


def test_an_engine_of_a_context_that_does_not_answer(docker, monkeypatch):
    context(docker, "lab", f"unix://{docker}/lab.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    with pytest.raises(EngineError, match=r"no container engine answers at unix://.*lab\.sock") as caught:
        connect()
    hint = "the docker context lab says so; --context default chooses the engine of this machine"
    assert caught.value.hint == hint


def test_the_option_overrides_the_environment_and_hints_repeat_it(docker, monkeypatch, capsys):
    context(docker, "lab", f"unix://{docker}/lab.sock")
    monkeypatch.setenv("DOCKER_HOST", "unix:///host.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    monkeypatch.setenv("TESTBED_COMMAND", "./tb")
    assert main(["--context", "lab", "status"]) == 3
    assert "lab.sock" in capsys.readouterr().err
    assert as_called("testbed status") == "./tb --context lab status"


def test_the_option_is_completed(docker, monkeypatch, capsys):
    context(docker, "lab", "unix:///lab.sock")
    monkeypatch.setenv("_TESTBED_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "testbed --context ")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert main([]) == 0
    assert capsys.readouterr().out.split() == ["default", "lab"]
