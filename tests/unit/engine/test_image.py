import json
import tarfile
import threading
from pathlib import Path

import pytest

from testbed.cli import main
from testbed.engine import bootstrap, image
from testbed.engine.api import EngineError
from testbed.engine.channel import ChannelEngine
from testbed.errors import MachineError, UsageError


class Builder:
    """Keeps images by name, and what was asked of it."""

    def __init__(self, registry=()):
        self.images: dict[str, dict[str, str]] = {}
        self.registry = registry
        self.did: list[str] = []
        self.contexts: dict[str, list[tuple[str, int]]] = {}

    def has_image(self, name):
        return name in self.images

    def image_labels(self, name):
        return self.images[name]

    def pull_image(self, name):
        if name not in self.registry:
            raise EngineError(f"cannot pull {name}: no such host")
        self.did.append(f"pull {name}")
        self.images[name] = {}

    def build_image(self, context: Path, *, tag, dockerfile, arguments, labels, say):
        assert set(arguments.values()) <= set(self.images), "FROM an image that is not there"
        with tarfile.open(context) as archive:
            self.contexts[dockerfile] = [(entry.name, entry.mode) for entry in archive]
        say("Step 1/1 : FROM")
        self.did.append(f"build {tag.partition(':')[0]}")
        self.images[tag] = dict(labels)

    def import_image(self, archive: Path, *, tag, changes):
        assert archive.read_bytes() == b"root"
        self.did.append("import")
        key, _, value = changes[0].removeprefix("LABEL ").partition("=")
        self.images[tag] = {key: json.loads(value)}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bootstrap, "host_mirror", lambda **_: "http://mirror.example/debian")

    def make(mirror, packages, archive, **_):
        assert "bird2" in packages and all(not name.startswith("#") for name in packages)
        archive.write_bytes(b"root")

    monkeypatch.setattr(bootstrap, "bootstrap", make)


def quiet(_):
    pass


def test_where_a_registry_answers_it_is_used():
    builder = Builder(registry=[image.PUBLIC_BASE])
    said = []
    built = image.ensure_node_image(builder, said.append)
    assert builder.did == [f"pull {image.PUBLIC_BASE}", "build testbed-base", "build testbed-node"]
    assert built == image.NodeImage(image.node_image_name(), image.PUBLIC_BASE, built=True)
    assert any(image.PUBLIC_BASE in line for line in said)


def test_where_none_answers_the_host_mirror_is_used_and_said():
    builder, said = Builder(), []
    built = image.ensure_node_image(builder, said.append)
    assert builder.did == ["import", "build testbed-node"]
    assert built.base == "mirror http://mirror.example/debian"
    assert any("mirror.example" in line for line in said)


def test_the_second_time_nothing_is_built_or_said():
    builder, said = Builder(), []
    first = image.ensure_node_image(builder, quiet)
    builder.did.clear()
    second = image.ensure_node_image(builder, said.append)
    assert (second.name, second.base, second.built) == (first.name, first.base, False)
    assert builder.did == said == []


def test_changed_code_rebuilds_the_thin_layer_alone(monkeypatch):
    builder = Builder()
    before = image.ensure_node_image(builder, quiet)
    builder.did.clear()
    files = image._node_files()
    monkeypatch.setattr(
        image, "_node_files", lambda: [*files, image.ContextFile("python/testbed/new.py", b"")]
    )
    after = image.ensure_node_image(builder, quiet)
    assert builder.did == ["build testbed-node"] and after.name != before.name


@pytest.mark.parametrize("file", ["packages.txt", "dpkg.cfg", "base.Dockerfile"])
def test_a_changed_package_list_or_recipe_changes_both_names(tmp_path, monkeypatch, file):
    before = image.base_image_name(), image.node_image_name()
    for each in image.data_dir("images").iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes() + (b"more\n" if each.name == file else b""))
    monkeypatch.setattr(image, "data_dir", lambda _: tmp_path)
    assert set(before).isdisjoint((image.base_image_name(), image.node_image_name()))


def test_a_choice_replaces_a_base_made_otherwise():
    builder = Builder(registry=["corp/debian:13"])
    image.ensure_node_image(builder, quiet)
    builder.did.clear()
    built = image.ensure_node_image(builder, quiet, base="corp/debian:13")
    assert built.base == "corp/debian:13"
    assert builder.did == ["pull corp/debian:13", "build testbed-base", "build testbed-node"]
    builder.did.clear()
    assert not image.ensure_node_image(builder, quiet, base="corp/debian:13").built
    assert not image.ensure_node_image(builder, quiet).built  # without a choice any base will do
    other = image.ensure_node_image(builder, quiet, mirror="http://corp.example/debian")
    assert other.base == "mirror http://corp.example/debian" and builder.did == [
        "import",
        "build testbed-node",
    ]


def test_force_builds_both():
    builder = Builder()
    image.ensure_node_image(builder, quiet)
    builder.did.clear()
    assert image.ensure_node_image(builder, quiet, force=True).built
    assert builder.did == ["import", "build testbed-node"]


def test_a_chosen_base_that_no_registry_has_is_an_error():
    with pytest.raises(EngineError, match="corp/debian"):
        image.ensure_node_image(Builder(), quiet, base="corp/debian:13")


def test_neither_registry_nor_mirror(monkeypatch):
    monkeypatch.setattr(bootstrap, "host_mirror", lambda **_: None)
    with pytest.raises(MachineError) as caught:
        image.ensure_node_image(Builder(), quiet)
    assert "--mirror" in caught.value.hint and "--base" in caught.value.hint


def test_both_choices_at_once():
    with pytest.raises(UsageError):
        image.ensure_node_image(Builder(), quiet, base="a", mirror="b")


def test_the_context_holds_init_the_programs_and_nothing_compiled_here():
    builder = Builder()
    image.ensure_node_image(builder, quiet)
    context = builder.contexts["Dockerfile"]
    names = {name for name, _ in context}
    assert ("init", 0o755) in context
    assert {"Dockerfile", "python/testbed/__init__.py", "python/vici/__init__.py"} <= names
    assert "python/testbed/mobileip/__init__.py" in names and "python/testbed/node/__init__.py" in names
    assert not any("__pycache__" in name or "testbed/engine" in name for name in names)


def test_two_at_once_build_once():
    builder = Builder()
    entered, go_on = threading.Event(), threading.Event()
    build = builder.build_image

    def slow(*args, **kwargs):
        entered.set()
        go_on.wait(10)
        build(*args, **kwargs)

    builder.build_image = slow
    results, said = [], []

    def waiting(line):
        said.append(line)
        go_on.set()

    first = threading.Thread(target=lambda: results.append(image.ensure_node_image(builder, quiet)))
    first.start()
    assert entered.wait(10)
    results.append(image.ensure_node_image(builder, waiting))
    first.join()
    assert sorted(each.built for each in results) == [False, True]
    assert builder.did.count("build testbed-node") == 1
    assert "waiting" in said[0]


def test_the_name_changes_with_what_goes_in_and_needs_no_engine(capsys):
    assert main(["build", "--name"]) == 0
    assert capsys.readouterr().out.strip() == image.node_image_name()


class Loading(Builder):
    """An engine, and a file that holds an image."""

    def __init__(self, holds):
        super().__init__()
        self.holds = holds

    def load_image(self, file):
        self.did.append("load")
        self.images[self.holds] = {}


def test_an_image_out_of_a_file(tmp_path):
    file = tmp_path / "image.tar"
    file.touch()
    name = image.node_image_name()
    engine = Loading(name)
    assert image.load_node_image(engine, file) == image.load_node_image(engine, file) == name
    assert engine.did == ["load"]  # once is enough
    with pytest.raises(UsageError, match=f"does not hold {name}"):
        image.load_node_image(Loading("testbed-node:of-another-version"), file)
    with pytest.raises(UsageError, match="there is no file"):
        image.load_node_image(engine, tmp_path / "none.tar")


def test_loading_and_building_are_not_asked_for_at_once(capsys):
    assert main(["build", "--load", "image.tar", "--force"]) == 2
    assert "no other option goes with it" in capsys.readouterr().err


def test_another_release_has_an_image_of_its_own():
    builder = Builder(registry=["debian:bookworm-slim"])
    wrapped = ChannelEngine(builder)
    for engine in (wrapped, wrapped, object()):  # the last cannot build
        image.ensure_others(engine, [None, "testbed-node:bookworm", "other:1"], quiet)
    assert builder.did == ["pull debian:bookworm-slim", "build testbed-base", "build testbed-node"]
    name = image.resolve("testbed-node:bookworm")
    assert name in builder.images and name != image.node_image_name()
    assert image.base_image_name("bookworm") != image.base_image_name()
    assert image.resolve("other:1") == "other:1"
    more = set(image._packages("bookworm")) - set(image._packages("trixie"))
    assert more == {"libstrongswan-standard-plugins"}


def test_a_cache_that_is_not_writable_is_said(tmp_path):
    (tmp_path / "cache" / "testbed" / "image.lock").mkdir(parents=True)  # in the place of the file
    with pytest.raises(MachineError, match=r"cannot keep files in .*cache/testbed") as caught:
        image.ensure_node_image(Builder(), quiet)
    assert caught.value.hint == "set XDG_CACHE_HOME"
