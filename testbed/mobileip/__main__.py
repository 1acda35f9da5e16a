"""`python -m testbed.mobileip ROLE --config FILE [--control PATH]`.

ROLE is home-agent, foreign-agent, mobile-node or bulk-nodes.

Events go to stdout as JSON lines, everything else to stderr; PATH is the control socket instead of the
file's. Ends with 0 after SIGTERM or SIGINT, 2 for a wrong command line, 3 when this node lacks something,
4 for a wrong configuration file.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

USAGE, ENVIRONMENT, CONFIGURATION = 2, 3, 4
ROLES = ("home-agent", "foreign-agent", "mobile-node", "bulk-nodes")


def main(arguments: list[str]) -> int:
    """Run a daemon; returns the exit code."""
    match arguments:
        case [role, "--config", file] if role in ROLES:
            control = None
        case [role, "--config", file, "--control", path] if role in ROLES:
            control = Path(path)
        case ["-h" | "--help"]:
            print(__doc__)
            return 0
        case _:
            print(f"expected {'|'.join(ROLES)} --config FILE [--control PATH]", file=sys.stderr)
            return USAGE

    # Until the daemon runs: to look again and again through what is imported takes a tenth of the start.
    gc.disable()
    from testbed.mobileip.io.daemon import RUN
    from testbed.mobileip.io.errors import ConfigError, NodeError
    from testbed.mobileip.tunnel.api import PlaneError

    try:
        RUN[role](Path(file), control)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIGURATION
    except (NodeError, PlaneError) as error:
        print(f"{role}: {error}", file=sys.stderr)
        return ENVIRONMENT
    except PermissionError as error:
        print(f"{role}: {error}: NET_ADMIN and NET_RAW are needed", file=sys.stderr)
        return ENVIRONMENT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
