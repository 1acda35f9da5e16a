"""The images of a Docker Engine, behind the protocol `image.Builder`."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
from docker.utils import parse_repository_tag

from testbed.engine.api import EngineError, NotFoundError
from testbed.engine.translate import errors
from testbed.errors import writing


class DockerImages:
    """The calls of `image.Builder`; safe to share between threads."""

    def __init__(self, api: docker.APIClient) -> None:
        self._api = api

    def has_image(self, name: str) -> bool:
        """Say whether the engine has this image; never pulls."""
        try:
            with errors(f"look for image {name}"):
                self._inspect_image(name)
        except NotFoundError:
            return False
        return True

    def image_id(self, name: str) -> str:
        """Return the digest of an image: `sha256:…`. Raises `NotFoundError`."""
        with errors(f"look for image {name}"):
            digest = str(self._inspect_image(name)["Id"])
        return digest if ":" in digest else f"sha256:{digest}"  # as Podman has it

    def image_labels(self, name: str) -> dict[str, str]:
        """Return an image's labels. Raises `NotFoundError`."""
        with errors(f"look for image {name}"):
            return dict(self._inspect_image(name)["Config"]["Labels"] or {})

    def offers_image(self, name: str) -> bool:
        """Say whether a registry offers this image to the engine; fetches nothing."""
        try:
            with errors(f"ask the registry for {name}"):
                self._api.inspect_distribution(name)  # type: ignore[no-untyped-call]
        except EngineError:
            return False
        return True

    def pull_image(self, name: str) -> None:
        """Fetch an image from its registry. Raises `EngineError` when no registry answers or has it."""
        repository, tag = parse_repository_tag(name)
        with errors(f"pull {name}"):
            for message in self._api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in message:
                    raise EngineError(f"cannot pull {name}: {message['error']}")

    def build_image(
        self,
        context: Path,
        *,
        tag: str,
        dockerfile: str,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        """Build from a tar file that holds the context; each line of output goes to `say`."""
        with errors(f"build {tag}"), context.open("rb") as file:
            output = self._api.build(
                fileobj=file,
                custom_context=True,
                dockerfile=dockerfile,
                tag=tag,
                buildargs=dict(arguments),
                labels=dict(labels),
                rm=True,
                forcerm=True,
                decode=True,
            )
            last: deque[str] = deque(maxlen=10)  # what a step that fails has to say for itself
            for message in output:
                if "error" in message:
                    raise EngineError("\n  ".join([f"cannot build {tag}: {message['error'].strip()}", *last]))
                for line in message.get("stream", "").splitlines():
                    if line.strip():
                        last.append(line)
                        say(line)

    def import_image(self, archive: Path, *, tag: str, changes: Sequence[str]) -> None:
        """Make an image of a root file system in a tar file; `changes` are Dockerfile instructions."""
        with errors(f"import {tag}"):
            # In one piece: Podman 4 ignores a tag beside the name.
            answer = self._api.import_image_from_file(str(archive), repository=tag, changes=list(changes))
        for line in str(answer).splitlines():
            if "error" in (message := json.loads(line)):
                raise EngineError(f"cannot import {tag}: {message['error']}")

    def save_image(self, name: str, file: Path) -> None:
        """Write an image with all its layers to a tar file, whole or not at all.

        Raises `NotFoundError`, and `UsageError` where the file cannot be written.
        """
        part = file.with_name(f"{file.name}.part")
        with writing(file):
            try:
                with errors(f"save {name}"), part.open("wb") as out:
                    for chunk in self._api.get_image(name):
                        out.write(chunk)
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)

    def load_image(self, file: Path) -> None:
        """Take the images of a tar file that `save_image` wrote. Raises `EngineError`."""
        with errors(f"load {file}"), file.open("rb") as archive:
            for message in self._api.load_image(archive):  # type: ignore[no-untyped-call]
                if "error" in message:
                    raise EngineError(f"cannot load {file}: {message['error']}")

    def _inspect_image(self, name: str) -> dict[str, Any]:
        return dict(self._api.inspect_image(name))  # type: ignore[no-untyped-call]
