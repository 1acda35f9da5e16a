"""The live picture in a browser on this machine: one page, the news as server-sent events, and the actions.

Whoever has the token may look and act. It is in the URL that `watch --web` prints; a page from elsewhere
knows it not, and neither does a name that somebody points at 127.0.0.1, which the Host header shows.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from jinja2 import ChoiceLoader, PackageLoader

from testbed.errors import MachineError, TestbedError
from testbed.report.drawing import Drawing, draw
from testbed.report.templates import environment
from testbed.watch.news import Mailbox, News

HEARTBEAT: Final = 10.0
"""Seconds after which a browser hears from us at least, so that one that is gone is noticed."""
PACE: Final = 0.1
"""Seconds between two messages to a browser, at least: a busy lab must not keep it busy."""
LONGEST: Final = 1000
"""Bytes of a request's body, at most."""

Act = Callable[[str, str, str], str]
"""Carries out an action on the lab, and returns what came of it in a line."""
_TEMPLATES: Final = ChoiceLoader([PackageLoader("testbed", "watch"), PackageLoader("testbed", "report")])


def serve(news: News, act: Act, port: int, ready: Callable[[str], None]) -> None:
    """Serve one lab on 127.0.0.1 until interrupted; `ready` is called with the URL to open.

    Raises `MachineError` where the port is taken.
    """
    token = secrets.token_urlsafe(16)
    shown = page(news, token)
    try:
        server = _Server(news, act, port, token, shown.encode())
    except OSError as error:
        raise MachineError(
            f"port {port} of 127.0.0.1 cannot be used: {error.strerror}",
            hint="--port 0 takes one that is free",
        ) from error
    ready(server.url)
    try:
        server.serve_forever(0.2)
    finally:
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, news: News, act: Act, port: int, token: str, page: bytes) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.news, self.act = news, act
        self.token, self.page = token, page
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.url = f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""


def page(news: News, token: str) -> str:
    """The page: the drawing of the topology, and the script that brings it to life."""
    topology = news.topology
    drawing = draw(topology.topology, "wide", roles=topology.roles)
    return (
        environment()
        .overlay(loader=_TEMPLATES)
        .get_template("live.html.j2")
        .render(
            lab=news.picture.lab,
            title=topology.topology.title,
            drawing=drawing,
            places=_places(drawing),
            mobiles={one.node: list(one.networks) for one in news.picture.mobiles.values()},
            token=token,
        )
    )


def _places(drawing: Drawing) -> dict[str, list[float]]:
    """The middle of every box and its height: `node:gw`, `network:hotel`, `mobile:mn@hotel`."""
    return {
        f"{box.item.kind}:{box.item.name}" + (f"@{box.item.network}" if box.item.kind == "mobile" else ""): [
            round(box.cx, 1),
            round(box.cy, 1),
            round(box.h, 1),
        ]
        for box in drawing.boxes
    }


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing: stderr is for people."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        given = parse_qs(parts.query).get("token", [""])[0]
        if not self._allowed(given):
            return
        if parts.path == "/":
            self._answer(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif parts.path == "/events":
            self._events()
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there is no such page\n")

    def do_POST(self) -> None:
        if not self._allowed(self.headers.get("X-Token", "")):
            return
        size = int(self.headers.get("Content-Length") or 0)
        if self.path != "/act" or not 0 < size <= LONGEST:
            self._answer(HTTPStatus.BAD_REQUEST, b"expected an action\n")
            return
        try:
            wanted = json.loads(self.rfile.read(size))
            action, subject, how = (str(wanted.get(key, "")) for key in ("action", "subject", "how"))
        except (ValueError, AttributeError):
            self._answer(HTTPStatus.BAD_REQUEST, b"expected JSON\n")
            return
        try:
            said = {"said": self.server.act(action, subject, how)}
        except TestbedError as error:
            said = {"error": error.message, "hint": error.hint or ""}
        self._answer(HTTPStatus.OK, json.dumps(said).encode(), "application/json")

    def _allowed(self, token: str) -> bool:
        if self.headers.get("Host") in self.server.hosts and secrets.compare_digest(
            token.encode(), self.server.token.encode()
        ):
            return True
        self._answer(HTTPStatus.FORBIDDEN, b"open the URL that testbed watch printed\n")
        return False

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
        )
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.close_connection = True
        news = self.server.news
        with news.reading() as box:
            while not news.ended:
                message = told(news, news.wait(box, HEARTBEAT))
                self.wfile.write(f"data: {json.dumps(message)}\n\n".encode())
                self.wfile.flush()
                time.sleep(PACE)


def told(news: News, new: Mailbox) -> dict[str, Any]:
    """One message to a browser."""
    return {
        "picture": news.picture.to_dict(time.monotonic()) if new.picture else None,
        "rows": [row.to_dict() for row in new.rows.values()],
        "problems": new.problems,
    }
