"""The page for a projector: who may see it, who may act, and what it is told."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator

import pytest
from watch_world import news, passage, request

from testbed.errors import MachineError, UsageError
from testbed.watch.news import News
from testbed.watch.web import page, serve


class Served:
    """A page that is served, and the actions that came of it."""

    def __init__(self) -> None:
        self.news = news()
        self.acts: list[tuple[str, str, str]] = []
        ready, urls = threading.Event(), list[str]()
        self.servers: list[object] = []

        def say(url: str) -> None:
            urls.append(url)
            ready.set()

        threading.Thread(target=serve, args=(self.news, self.act, 0, say), daemon=True).start()
        assert ready.wait(10)
        self.host, _, rest = urls[0].removeprefix("http://").partition("/")
        self.token = rest.partition("token=")[2]

    def act(self, action: str, subject: str, how: str) -> str:
        if subject == "nobody":
            raise UsageError("lab lab has no node nobody", hint="did you mean mn?")
        self.acts.append((action, subject, how))
        return f"{subject} moved"

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=10)
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, body or None, given)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.news.end()


def test_the_page_shows_the_topology_and_asks_nobody_else(served: Served) -> None:
    status, body = served.ask("GET", f"/?token={served.token}")
    text = body.decode()
    assert status == 200 and "MIPv4 HA(s) inside the Intranet" in text and text.count("<svg class") == 1
    assert "http://" not in text.replace("http://www.w3.org/", "") and "https://" not in text
    assert all(
        f'"node:{node}"' in text for node in served.news.topology.nodes if node != "mn" and node != "core"
    )
    assert '"mobile:mn@hotel"' in text


@pytest.mark.parametrize("path", ["/", "/events", "/?token=guessed", "/events?token="])
def test_without_the_token_there_is_nothing_to_see(served: Served, path: str) -> None:
    assert served.ask("GET", path)[0] == 403


def test_a_name_that_leads_here_is_not_enough(served: Served) -> None:
    """DNS rebinding: a page from elsewhere, whose name was then pointed at 127.0.0.1."""
    assert served.ask("GET", f"/?token={served.token}", Host="evil.example:80")[0] == 403
    assert (
        served.ask("GET", f"/?token={served.token}", Host=f"localhost:{served.host.partition(':')[2]}")[0]
        == 200
    )


def test_a_page_in_another_tab_moves_nothing(served: Served) -> None:
    wanted = json.dumps({"action": "move", "subject": "mn", "how": "airport"})
    assert served.ask("POST", "/act", wanted)[0] == 403
    assert served.ask("POST", f"/act?token={served.token}", wanted)[0] == 403, "a form can send that"
    assert served.acts == []
    assert served.ask("POST", "/act", wanted, X_Token=served.token) == (200, b'{"said": "mn moved"}')
    assert served.acts == [("move", "mn", "airport")]


def test_errors_come_back_in_words(served: Served) -> None:
    wanted = json.dumps({"action": "move", "subject": "nobody", "how": "airport"})
    status, body = served.ask("POST", "/act", wanted, X_Token=served.token)
    assert status == 200
    assert json.loads(body) == {"error": "lab lab has no node nobody", "hint": "did you mean mn?"}
    for body_ in ("no JSON", "[]", "x" * 2000):
        assert served.ask("POST", "/act", body_, X_Token=served.token)[0] == 400
    assert served.ask("GET", f"/else?token={served.token}")[0] == 404


def test_the_news_come_as_they_happen(served: Served) -> None:
    connection = http.client.HTTPConnection(served.host, timeout=10)
    connection.request("GET", f"/events?token={served.token}")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"

    def message() -> dict[str, object]:
        line = answer.readline()
        assert answer.readline() == b"\n"
        told: dict[str, object] = json.loads(line.removeprefix(b"data: "))
        return told

    picture = message()["picture"]
    assert isinstance(picture, dict) and picture["mobiles"][0]["network"] == "hotel"
    row = served.news.rows.take(passage(request(), 1.0, "hotel", "mn", "hotel-router"))
    served.news.tell(row)
    told = message()
    assert told["picture"] is None
    assert isinstance(told["rows"], list) and told["rows"][0]["hops"] == [["hotel", "mn", ["hotel-router"]]]
    served.news.tell(problem="the capture at ha ended")
    assert message()["problems"] == ["the capture at ha ended"]


def test_a_port_that_is_taken(served: Served) -> None:
    port = int(served.host.partition(":")[2])
    with pytest.raises(
        MachineError, match=rf"port {port} of 127\.0\.0\.1 cannot be used: Address already in use"
    ):
        serve(served.news, served.act, port, lambda url: None)


def test_what_nodes_say_is_text_on_the_page() -> None:
    told: News = news()
    told.picture.lab = "</script><script>alert(1)</script>"
    assert "<script>alert" not in page(told, "token")
