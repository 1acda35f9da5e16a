"""The node image: a base with Debian packages, and a thin layer with the testbed's own programs.

Both are tagged with a hash of what goes in, so that each is built when that changes and only then. The base
is made in one of two ways from one package list: `FROM` Debian's public image, or bootstrapped from a Debian
mirror where no registry answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import testbed
from testbed.data import data_dir
from testbed.engine import bootstrap
from testbed.engine.api import EngineError
from testbed.engine.channel import ChannelEngine
from testbed.engine.joined import JoinedEngine
from testbed.errors import MachineError, UsageError

PUBLIC_BASE: Final = f"debian:{bootstrap.SUITE}-slim"
OTHER_SUITES: Final = ("bookworm",)
VARIANTS: Final = {f"testbed-node:{one}": one for one in (*OTHER_SUITES, "libreswan", "openiked")}
"""What `image` of a node in a topology may name: the node image of another Debian release, or with another
vendor's IPsec in the place of strongSwan, as `images/packages.VARIANT.txt` says.

Daemons of another release are that release's, such as strongSwan 5.9.8; the testbed's own are the same.
"""
BASE_LABEL: Final = "org.testbed.base"  # on both images: what the base was made from

Say = Callable[[str], None]


@runtime_checkable
class Builder(Protocol):
    """What building takes from an engine; all raise `EngineError`."""

    def has_image(self, name: str) -> bool:
        """Say whether the engine has this image; never pulls."""
        ...

    def image_labels(self, name: str) -> dict[str, str]:
        """Return an image's labels."""
        ...

    def pull_image(self, name: str) -> None:
        """Fetch an image from its registry."""
        ...

    def build_image(
        self,
        context: Path,
        *,
        tag: str,
        dockerfile: str,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        say: Say,
    ) -> None:
        """Build from a tar file that holds the context."""
        ...

    def import_image(self, archive: Path, *, tag: str, changes: Sequence[str]) -> None:
        """Make an image of a root file system in a tar file; `changes` are Dockerfile instructions."""
        ...


class Loader(Protocol):
    """What loading takes from an engine; all raise `EngineError`."""

    def has_image(self, name: str) -> bool:
        """Say whether the engine has this image; never pulls."""
        ...

    def load_image(self, file: Path) -> None:
        """Take the images of a tar file."""
        ...


@dataclass(frozen=True, slots=True)
class NodeImage:
    """The image that nodes run."""

    name: str
    base: str  # what its base was made from: a public image's name, or "mirror URL"
    built: bool  # False: it was there already


def node_image_name(variant: str = bootstrap.SUITE) -> str:
    """Return the name that the node image has for the inputs as they are now, whether it exists or not."""
    return _node_name(_node_files(), variant)


def resolve(image: str) -> str:
    """What a topology names, by the name that it has in the engine."""
    return node_image_name(VARIANTS[image]) if image in VARIANTS else image


def ensure_others(engine: object, images: Iterable[str | None], say: Say) -> None:
    """Build those of `VARIANTS` that nodes are to run, where the engine can build. Raises as the next."""
    builder = engine
    while isinstance(builder, ChannelEngine | JoinedEngine):
        builder = builder.bare
    for image in sorted(VARIANTS.keys() & set(images)):
        if isinstance(builder, Builder):
            ensure_node_image(builder, say, variant=VARIANTS[image])


def base_image_name(variant: str = bootstrap.SUITE) -> str:
    """Return the name that the base has for the package list and recipe as they are now."""
    files = _image_files("base.Dockerfile", "dpkg.cfg")
    packages = ContextFile("packages", "\n".join(_packages(variant)).encode())
    recipe = bootstrap.RECIPE.replace(bootstrap.SUITE, _suite(variant))
    return f"testbed-base:{_hash([*files, packages], recipe)}"


def ensure_node_image(
    builder: Builder,
    say: Say,
    *,
    base: str | None = None,
    mirror: str | None = None,
    force: bool = False,
    variant: str = bootstrap.SUITE,
    detail: Say = lambda _: None,
) -> NodeImage:
    """Build the node image unless it is there; the base first unless that is there.

    `base` names the Debian image to start from, `variant` is one of `VARIANTS`, `mirror` the URL of a Debian
    mirror to bootstrap from. With neither base nor mirror, whatever base exists will do, and a new one
    is made from Debian's public image, or else from the mirror of this machine's apt. `force` builds both
    anew. `say` gets each thing that takes time, `detail` the output of the tools. Raises `EngineError`,
    `MachineError`, `UsageError`.
    """
    if base and mirror:
        raise UsageError(
            "--base and --mirror exclude each other", hint="a base comes from an image or a mirror"
        )
    files = _node_files()
    name, base_name = _node_name(files, variant), base_image_name(variant)
    wanted = base or (mirror and f"mirror {mirror}")

    def present(image: str) -> NodeImage | None:
        if force or not builder.has_image(image):
            return None
        origin = builder.image_labels(image).get(BASE_LABEL, "")
        return NodeImage(image, origin, built=False) if wanted in (None, origin) else None

    if image := present(name):
        return image
    with _one_at_a_time(say):
        if image := present(name):  # built while this one waited
            return image
        if there := present(base_name):
            origin = there.base
        else:
            origin = _build_base(builder, base_name, variant, base, mirror, say, detail)
        say(f"building {name} on {base_name}")
        with _context(files) as context:
            builder.build_image(
                context,
                tag=name,
                dockerfile="Dockerfile",
                arguments={"BASE": base_name},
                labels={BASE_LABEL: origin},
                say=detail,
            )
    return NodeImage(name, origin, built=True)


def load_node_image(engine: Loader, file: Path) -> str:
    """Take the node image out of a file that `save_image` wrote; return its name.

    Raises `UsageError` where the file does not have the image that nodes would run now.
    """
    name = node_image_name()
    if not file.is_file():
        raise UsageError(f"there is no file {file}", hint="testbed build --save FILE writes it")
    if not engine.has_image(name):
        engine.load_image(file)
        if not engine.has_image(name):
            raise UsageError(
                f"{file} does not hold {name}",
                hint="it was saved by another version; testbed build --save FILE",
            )
    return name


def standalone_context() -> list[ContextFile]:
    """The context that builds the node image in one go, from Debian's public image."""
    files = {file.path: file for file in (*_node_files(), *_image_files("dpkg.cfg", "packages.txt"))}
    recipes = [file.content.decode() for file in _image_files("base.Dockerfile", "Dockerfile")]
    base = recipes[0].replace("ARG DEBIAN\nFROM ${DEBIAN}", f"FROM {PUBLIC_BASE} AS base")
    node = recipes[1].replace("ARG BASE\nFROM ${BASE}", "FROM base")
    whole = ContextFile("Dockerfile", f"{base}\n{node}".encode())
    return [*(files | {"Dockerfile": whole}).values()]


def _build_base(
    builder: Builder,
    name: str,
    variant: str,
    base: str | None,
    mirror: str | None,
    say: Say,
    detail: Say,
) -> str:
    """Make the base and return what it was made from."""
    suite = _suite(variant)
    public = base or PUBLIC_BASE.replace(bootstrap.SUITE, suite)
    if mirror is None:
        refusal = _fetch(builder, public, say)
        if refusal is None:
            say(f"building {name} from {public} (packages of images/packages.txt)")
            packages = ContextFile("packages.txt", "".join(f"{one}\n" for one in _packages(variant)).encode())
            with _context([*_image_files("base.Dockerfile", "dpkg.cfg"), packages]) as context:
                builder.build_image(
                    context,
                    tag=name,
                    dockerfile="base.Dockerfile",
                    arguments={"DEBIAN": public},
                    labels={BASE_LABEL: public},
                    say=detail,
                )
            return public
        if base:
            raise refusal
        say(f"no registry: {refusal.message}")
        mirror = bootstrap.host_mirror(suite=suite)
        if mirror is None:
            raise MachineError(
                f"no base for the node image: no registry gives {public}, and apt here uses no Debian mirror",
                hint=f"testbed build --mirror URL (a Debian mirror), or --base IMAGE (a Debian {suite})",
            )
    say(f"bootstrapping {name} from the Debian mirror {mirror} (about half a minute)")
    with tempfile.TemporaryDirectory(dir=_cache(), prefix="base-") as folder:
        archive = Path(folder) / "base.tar"
        dpkg_options = data_dir("images") / "dpkg.cfg"
        bootstrap.bootstrap(
            mirror,
            _packages(variant),
            archive,
            suite=suite,
            dpkg_options=dpkg_options,
            say=say,
            detail=detail,
        )
        origin = f"mirror {mirror}"
        builder.import_image(archive, tag=name, changes=[f'LABEL {BASE_LABEL}="{origin}"'])
    return origin


def _fetch(builder: Builder, image: str, say: Say) -> EngineError | None:
    """Make sure that the engine has an image; return why it cannot."""
    if builder.has_image(image):
        return None
    say(f"asking the registry for {image}")
    try:
        builder.pull_image(image)
    except EngineError as error:
        return error
    return None


# What goes in


@dataclass(frozen=True, slots=True)
class ContextFile:
    """A file of a build context."""

    path: str  # in the context
    content: bytes
    mode: int = 0o644


def _image_files(*names: str) -> list[ContextFile]:
    folder = data_dir("images")
    return [ContextFile(name, (folder / name).read_bytes()) for name in names]


def _node_files() -> list[ContextFile]:
    programs = [
        ContextFile(name, (data_dir("images") / name).read_bytes(), 0o755) for name in ("init", "drift")
    ]
    files = [*_image_files("Dockerfile", "bashrc"), *programs]
    package = Path(testbed.__file__).parent
    for module in ("__init__.py", "agreed.py", "frames.py"):
        files.append(ContextFile(f"python/testbed/{module}", (package / module).read_bytes()))
    for part in ("mobileip", "node"):
        files += _tree(package / part, f"python/testbed/{part}")
    spec = importlib.util.find_spec("vici")
    if spec is None or not spec.submodule_search_locations:
        raise MachineError("the Python package vici is missing", hint="pip install vici")
    files += _tree(Path(spec.submodule_search_locations[0]), "python/vici")
    return files


def _tree(folder: Path, prefix: str) -> list[ContextFile]:
    return [
        ContextFile(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def _suite(variant: str) -> str:
    return variant if variant in OTHER_SUITES else bootstrap.SUITE


def _packages(variant: str) -> list[str]:
    """Those of every variant, those that one needs beside them, and without what it names with a hyphen."""
    files = [data_dir("images") / name for name in ("packages.txt", f"packages.{variant}.txt")]
    lines = [line for file in files if file.exists() for line in file.read_text("utf-8").splitlines()]
    left_out = {line[1:] for line in lines if line.startswith("-")}
    return [line for line in lines if line and line[0] not in "#-" and line not in left_out]


def _node_name(files: Sequence[ContextFile], variant: str) -> str:
    return f"testbed-node:{_hash(files, base_image_name(variant))}"


def _hash(files: Sequence[ContextFile], *more: str) -> str:
    digest = hashlib.sha256()
    for part in (*more, *(f"{file.path} {file.mode:o} {len(file.content)}" for file in files)):
        digest.update(part.encode() + b"\0")
    for file in files:
        digest.update(file.content)
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def _context(files: Sequence[ContextFile]) -> Iterator[Path]:
    """Put a build context into a tar file; the same files give the same bytes, for the engine's cache."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for each in files:
                entry = tarfile.TarInfo(each.path)
                entry.size, entry.mode = len(each.content), each.mode
                archive.addfile(entry, io.BytesIO(each.content))
        file.flush()
        yield Path(file.name)


# Two builds at once


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "testbed"


@contextlib.contextmanager
def _one_at_a_time(say: Say) -> Iterator[None]:
    """Let one process of this user build, the others wait for it and then find its image."""
    folder = _cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "image.lock").open("w")
    except OSError as error:  # such as a folder that was made with sudo
        raise MachineError(
            f"cannot keep files in {folder}: {error.strerror}", hint="set XDG_CACHE_HOME"
        ) from error
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another testbed builds the node image: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
