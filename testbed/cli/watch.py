"""`testbed watch`: a running lab as a live picture."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, engine_connection
from testbed.cli.output import note
from testbed.errors import UsageError


@command("watch", panel=LABS)
def watch(
    lab: LabName,
    web: Annotated[bool, typer.Option("--web", help="In a browser, on 127.0.0.1, for a projector.")] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="With --web; 0: any that is free.")
    ] = 0,
    every: Annotated[
        float,
        typer.Option("--every", min=0.0, max=60.0, metavar="S", help="Seconds between two probes; 0: none."),
    ] = 0.2,
) -> None:
    """Watch where the mobile node is, what agents know, and every message, as it happens.

    Keys move the mobile node, take IPsec down and cut its link. Ends with q, or with Ctrl-C for --web.
    """
    import sys

    from testbed.lab.original import original_topology
    from testbed.lab.state import find_lab
    from testbed.watch.feed import Feed

    if not web and not sys.stdout.isatty():
        raise UsageError("watch needs a terminal", hint="--web shows it in a browser")
    with engine_connection(lab) as engine:
        found = find_lab(engine, lab)
        feed = Feed(engine, found, original_topology(engine, found), every)
        feed.start()
        try:
            if web:
                from testbed.watch.web import serve

                serve(feed.news, feed.act, port, lambda url: note(f"watch {lab}: {url} (Ctrl-C ends it)"))
            else:
                from testbed.watch.terminal import WatchApp

                with feed.news.reading() as mailbox:
                    WatchApp(feed.news, mailbox, feed.act).run()
        except KeyboardInterrupt:
            pass  # the usual way to end it
        finally:
            feed.stop()
