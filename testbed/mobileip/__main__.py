"""`python -m testbed.mobileip home-agent|foreign-agent|mobile-node --config FILE [--control PATH]`.

Events go to stdout as JSON lines, everything else to stderr. Ends with 0 after SIGTERM or SIGINT, 2 for a
wrong command line, 3 when this node lacks something, 4 for a wrong configuration file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ENVIRONMENT, CONFIGURATION = 3, 4
ROLES = ("home-agent", "foreign-agent", "mobile-node")


def main(arguments: list[str] | None = None) -> int:
    """Run a daemon; returns the exit code."""
    parser = argparse.ArgumentParser(prog="testbed.mobileip", description="Mobile IPv4 daemons (RFC 5944)")
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML file of the role")
    parser.add_argument("--control", type=Path, metavar="PATH", help="control socket instead of the file's")
    options = parser.parse_args(arguments)

    from testbed.mobileip.io.daemon import RUN
    from testbed.mobileip.io.errors import ConfigError, NodeError
    from testbed.mobileip.tunnel.api import PlaneError

    try:
        RUN[options.role](options.config, options.control)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIGURATION
    except (NodeError, PlaneError) as error:
        print(f"{options.role}: {error}", file=sys.stderr)
        return ENVIRONMENT
    except PermissionError as error:
        print(f"{options.role}: {error}: NET_ADMIN and NET_RAW are needed", file=sys.stderr)
        return ENVIRONMENT
    return 0


if __name__ == "__main__":
    sys.exit(main())
