"""`python3 -m testbed.node.roam --config FILE`: walk the mobile node from network to network.

Control socket: `{"op":"move","network":NAME}`, `{"op":"ipsec","action":"down"|"up"}` and `{"op":"repair"}`
(stay on the present network, negotiate IPsec and register anew: a peer may have been replaced) are followed
by events up to `settled`; `{"op":"forget"}` (be registered nowhere, without a security association);
`{"op":"state"}`; `{"op":"subscribe"}` is followed by all events.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from testbed.agreed import DUAL, ESP_KERNEL, ESP_PLANE
from testbed.mobileip.io.errors import ConfigError, NodeError
from testbed.node.roam.dhcp import Dhcp
from testbed.node.roam.links import LinkError, Links
from testbed.node.roam.manager import Manager
from testbed.node.roam.mobile_ip import MobileIp, NoMobileIp
from testbed.node.roam.monitor import Monitor
from testbed.node.roam.node import Node
from testbed.node.roam.policy import EmulatedPolicy, KernelPolicy
from testbed.node.roam.roam_toml import RoamConfig, load
from testbed.node.roam.vpn import KEPT_LIVENESS, LIVENESS, Vpn
from testbed.node.serving import serve as serve_requests


async def serve(config: RoamConfig) -> None:
    """Manage connections until SIGTERM or SIGINT."""
    ipsec = config.ipsec if config.stack != "mip-only" else None
    mobile_ip = MobileIp(config.mobile_ip) if config.roaming is None else NoMobileIp()
    in_kernel = ipsec is not None and Path(ESP_PLANE).read_text().strip() == ESP_KERNEL
    policy = KernelPolicy(config.trusted, config.registering) if in_kernel else EmulatedPolicy()
    node = Node(
        config=config,
        links=Links(config.home_address, in_kernel),
        dhcp=Dhcp(config.trusted),
        mobile_ip=mobile_ip,
        vpn=Vpn(ipsec, in_kernel, KEPT_LIVENESS if config.stack == DUAL else LIVENESS) if ipsec else None,
        monitor=Monitor(policy, mobile_ip, config.home_address, config.monitor) if ipsec else None,
        ipsec=ipsec is not None,
        outer=MobileIp(config.outer.control) if config.outer and config.stack == DUAL else None,
    )
    manager = Manager(node)
    server = serve_requests(config.control, manager.journal, manager.handle)
    managing = asyncio.create_task(manager.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, managing.cancel)
    try:
        await managing
    except asyncio.CancelledError:
        pass
    finally:
        server.close()
        node.dhcp.stop()


def main() -> int:
    """Run the program; the exit code says whether it could do its work."""
    parser = argparse.ArgumentParser(
        prog="testbed.node.roam", description="Manage a mobile node's connections"
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="roam.toml")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(load(arguments.config)))
    except (ConfigError, NodeError, LinkError, OSError) as error:
        print(f"roam: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
