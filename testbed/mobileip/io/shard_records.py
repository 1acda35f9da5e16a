"""The state files of a home agent in several processes: each has the records of its own mobile nodes."""

from __future__ import annotations

from contextlib import ExitStack, closing
from ipaddress import IPv4Address
from pathlib import Path

from testbed.mobileip.core.api import Record, Remember
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.steering import Steering
from testbed.mobileip.io.store import Store


def file_of(state: Path, number: int) -> Path:
    """The file of a process: `state` itself, then `state`.1 and so on."""
    return state.with_name(f"{state.name}.{number}") if number else state


def share_records(state: Path, steering: Steering) -> None:
    """Move every record to the file of the process that serves its mobile node now; raises NodeError.

    The processes may have been more or fewer before. A record is in its new file before it leaves the old
    one, so that none is lost when this process is killed meanwhile.
    """
    further = [each for each in state.parent.glob(f"{state.name}.*") if each.suffix[1:].isdecimal()]
    if steering.processes == 1 and not further:
        return
    numbers = {0, *range(steering.processes), *(int(each.suffix[1:]) for each in further)}
    with ExitStack() as stack:
        stores = {
            number: stack.enter_context(closing(Store(file_of(state, number)))) for number in sorted(numbers)
        }
        moved: dict[int, dict[IPv4Address | str, Record]] = {number: {} for number in stores}
        for number, store in stores.items():
            for node, record in store.records.items():
                there = _serves(steering, node)
                if there != number and node not in stores[there].records:
                    moved[there].setdefault(node, record)
        for number, records in moved.items():
            stores[number].write(Remember(node, record) for node, record in records.items())
        for number, store in stores.items():
            if number < steering.processes:
                left = (node for node in store.records if _serves(steering, node) != number)
                store.write(Remember(node, None) for node in left)
    for number in numbers:
        if number >= steering.processes:
            try:
                file_of(state, number).unlink(missing_ok=True)
            except OSError as error:
                raise NodeError(f"state {file_of(state, number)}: {error.strerror}") from error


def _serves(steering: Steering, node: IPv4Address | str) -> int:
    return 0 if isinstance(node, str) else steering.number(node)
