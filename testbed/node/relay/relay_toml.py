"""The configuration of the delay relay, `/etc/testbed/relay.toml`.

```toml
control = "/run/testbed/relay.sock"  # default: this
state = "/run/testbed/relay.json"    # what `set` changed, for a relay that is restarted; default: this
interface = "internet"               # the hub network's interface on the hub node
backend = "auto"                     # auto (default): netem where the kernel has it, else relay; netem; relay
delay-ms = 40.0                      # one-way delay of every packet crossing the hub; default 0
jitter-ms = 0.0                      # uniform ± around the delay, order kept; default 0
loss = 0.0                           # percent; default 0
rate = 0                             # bit/s; 0 (default): unlimited
```

The hub node forwards (ip_forward=1) and has rp_filter off (`all` and `default`): relayed packets come in
again from the device `relay0`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from testbed.agreed import RELAY, RUN, Impairment, control_socket
from testbed.mobileip.io.table import Table

BackendChoice = Literal["auto", "netem", "relay"]


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """All that `relay.toml` says."""

    control: str
    state: Path
    interface: str
    backend: BackendChoice
    impairment: Impairment


def load(path: Path) -> RelayConfig:
    """Read the file at `path`; raises `ConfigError`."""
    root = Table.load(path)
    config = RelayConfig(
        control=root.string("control", control_socket(RELAY)),
        state=Path(root.string("state", f"{RUN}/{RELAY}.json")),
        interface=root.string("interface"),
        backend=cast(BackendChoice, root.choice("backend", ("auto", "netem", "relay"), "auto")),
        impairment=Impairment(
            delay_ms=root.amount("delay-ms", 0.0),
            jitter_ms=root.amount("jitter-ms", 0.0),
            loss=root.amount("loss", 0.0, most=100),
            rate=root.amount("rate", 0.0),
        ),
    )
    root.finish()
    return config
