"""The SDK's and the transport's answers and errors, turned into those of `api`."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterable, Iterator

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from testbed.engine.api import (
    EngineError,
    InUseError,
    NameTakenError,
    NotFoundError,
    SubnetOverlapError,
    UnreachableError,
)


def raise_for_status(response: requests.Response) -> None:
    """Raise what the SDK would for a response that it did not fetch itself."""
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        docker.errors.create_api_error_from_http_exception(error)


@contextlib.contextmanager
def errors(doing: str) -> Iterator[None]:
    """Turn the SDK's and the transport's errors into the protocol's."""
    try:
        yield
    except (NotFound, ImageNotFound) as error:
        raise NotFoundError(f"cannot {doing}: {error.explanation}") from error
    except APIError as error:
        words = str(error.explanation or error)
        raise _class_of(error.status_code, words)(f"cannot {doing}: {words}") from error
    except requests.RequestException as error:
        raise UnreachableError(f"cannot {doing}: the engine does not answer ({error})") from error
    except DockerException as error:
        raise EngineError(f"cannot {doing}: {error}") from error


def _class_of(status: int | None, words: str) -> type[EngineError]:
    """Tell errors apart; networks have one status for several, so that the engine's words must decide.

    Podman has words of its own, and status 500 for most.
    """
    if "active endpoints" in words or "network is being used" in words:
        return InUseError
    if "overlap" in words or "already used on the host" in words:
        return SubnetOverlapError
    if status == 409 and ("already in use" in words or "already exists" in words):
        return NameTakenError
    if "name is already in use" in words:
        return NameTakenError
    if "network not found" in words:
        return NotFoundError
    return EngineError


def only_file(pieces: Iterable[bytes]) -> bytes:
    """Return the content of the one file that is in a tar. Raises `NotFoundError` where it is no file."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        member = archive.next()
        content = archive.extractfile(member) if member is not None else None
        if content is None:
            raise NotFoundError("it is not a file")
        return content.read()
