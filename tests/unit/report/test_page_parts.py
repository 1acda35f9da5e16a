"""What a reader needs of a page: date, version, contents, links to captures, and the packets that counted."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree, rmtree

import plain_yaml
import pytest
from sample_evidence import write_sample

from testbed.packet.decode import decode
from testbed.packet.layers import Link
from testbed.packet.pcap import packet_mark, read_capture
from testbed.report.evidence import read_evidence
from testbed.report.page import ScenarioView, _contents, render_report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "evidence")


def change(folder: Path, name: str, **keys: object) -> None:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_title_says_what_when_and_by_which_version(folder: Path) -> None:
    change(folder, "versions.json", testbed="9.8", finished="2031-02-03T04:05:06+00:00")
    page = render_report(read_evidence(folder))
    (title,) = re.findall("<h1>(.*)</h1>", page)
    assert re.fullmatch(r"[\w.-]+: \d+ of \d+ claims reproduced, 2031-02-03, testbed 9\.8", title)
    assert f"<title>{title}</title>" in page


def test_every_one_of_several_runs_is_shown_in_its_own_topology(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "evidence")
    claim = folder / "claims" / "2.1-colocated-registers"
    copytree(claim / "control", claim / "main-2")
    record = json.loads((claim / "main-2" / "run.json").read_text())
    grown = plain_yaml.load((folder / "topology.yaml").read_text())
    del grown["nodes"]["airport-router"]
    (folder / "topologies" / "scenario-2.1-2.yaml").write_text(plain_yaml.dump(grown))
    record |= {"run": "main-2", "lab": "verify-9", "topology": "topologies/scenario-2.1-2.yaml"}
    (claim / "main-2" / "run.json").write_text(json.dumps(record))
    page = render_report(read_evidence(folder))
    assert "Message ladder of main-2" in page and "Message ladder of main " in page
    assert "claims/2.1-colocated-registers/main-2/captures/" in page
    assert page.count("The mobile node’s path in main") == 2
    section = page[page.index('id="2.1-colocated-registers"') :]
    first, second = section.split("The mobile node’s path in main-2")
    assert "airport-router" in first and "airport-router" not in second.partition("</details>")[0]


def test_the_contents_list_every_part() -> None:
    listed = [one["anchor"] for one in _contents([], None, (), several=True, overhead=True)]
    assert "overhead" not in listed  # without scenarios there is no part for it
    scenarios = [ScenarioView("scenario-2.1", None, (), ())]
    parts = [one["anchor"] for one in _contents(scenarios, None, (), several=True, overhead=True)]
    assert parts == ["grid", "selection", "overhead", "scenario-2.1"]
    assert "overhead" not in [
        one["anchor"] for one in _contents(scenarios, None, (), several=True, overhead=False)
    ]


def test_contents_and_headings_without_a_jump(folder: Path) -> None:
    class Headings(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.levels: list[int] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if re.fullmatch("h[1-6]", tag):
                self.levels.append(int(tag[1]))

    page = render_report(read_evidence(folder))
    headings = Headings()
    headings.feed(page)
    assert headings.levels[0] == 1
    assert all(
        after <= before + 1 for before, after in zip(headings.levels, headings.levels[1:], strict=False)
    )
    nav = page[page.index("<nav") : page.index("</nav>")]
    for claim in read_evidence(folder).verdicts.claims:  # type: ignore[union-attr]
        assert f'href="#{claim.id}"' in nav


def test_captures_are_links_where_the_page_lies_beside_them(folder: Path) -> None:
    pages = [render_report(read_evidence(folder), links=links) for links in (True, False)]
    files = re.findall(r'href="(claims/[^"]+\.pcap)"', pages[0])
    assert files and all((folder / file).is_file() for file in files)
    assert 'href="claims/' not in pages[1]


def test_packets_that_an_expectation_counted_are_marked(folder: Path) -> None:
    document = json.loads((folder / "verdicts.json").read_text())
    claim = next(one for one in document["claims"] if one["evidence"])
    assert "counted by" not in render_report(read_evidence(folder))
    capture = next((folder / "claims" / claim["id"] / "main" / "captures").glob("*.pcap"))
    marks = []
    for frame in read_capture(capture):
        link = decode(frame.data, frame.linktype, frame.length).first(Link)
        marks.append(packet_mark(frame.data[link.size if link else 0 :]))
    mine = next(one for one in claim["evidence"] if one["run"] == "main")
    mine["matched"] = {str(capture.relative_to(folder)): marks}
    (folder / "verdicts.json").write_text(json.dumps(document))
    page = render_report(read_evidence(folder))
    assert page.count("counted by 1<") >= 1
    rmtree(folder / "claims" / claim["id"])
    assert "counted by" not in render_report(read_evidence(folder))


@pytest.mark.parametrize("number", [0, 1], ids=["light", "dark"])
def test_contrast(folder: Path, number: int) -> None:
    """Colours of text have a contrast of 4.5:1 to the page at least (WCAG 2.1, 1.4.3)."""
    style = Path(__file__).parents[3].joinpath("testbed/report/palette.css").read_text()
    light, dark = style.split("@media (prefers-color-scheme:dark)", 1)
    text = (light, dark)[number]
    colours = dict(re.findall(r"--([a-z0-9-]+):(#[0-9a-f]{3,6})", text))
    colours = {k: v if len(v) == 7 else "#" + "".join(c * 2 for c in v[1:]) for k, v in colours.items()}
    for name in colours.keys() - {"page", "rule", "panel"}:
        assert contrast(colours[name], colours["page"]) >= 4.5, name
