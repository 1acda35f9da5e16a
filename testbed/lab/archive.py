"""The one archive that makes a container a node."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from testbed.render import RenderedFile


def node_archive(files: Mapping[str, RenderedFile]) -> bytes:
    """Pack files into a tar to be unpacked at /, with their folders, owned by root.

    Folders are listed before what is in them, because the engine makes missing ones with a mode of its own.
    """
    buffer = io.BytesIO()
    folders: set[PurePosixPath] = set()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, file in sorted(files.items()):
            path = PurePosixPath(name.lstrip("/"))
            for folder in reversed(path.parents[:-1]):
                # /etc and the like exist in every image and keep what they are.
                if len(folder.parts) > 1 and folder not in folders:
                    folders.add(folder)
                    entry = tarfile.TarInfo(str(folder))
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(entry)
            content = file.content.encode()
            entry = tarfile.TarInfo(str(path))
            entry.size, entry.mode = len(content), file.mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
