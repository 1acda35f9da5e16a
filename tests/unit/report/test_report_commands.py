"""`testbed graph` and `testbed report` as a user types them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sample_evidence import write_sample

from testbed.cli import main
from testbed.cli.page import emit_page
from testbed.errors import UsageError


def test_graph_to_stdout_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "scenario-2.1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("<svg")
    file = tmp_path / "picture.svg"
    assert main(["graph", "scenario-2.1", "-w", str(file)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and str(file) in captured.err
    assert file.read_text() == out.rstrip("\n")


def test_graph_shows_where_the_mobile_node_is(capsys: pytest.CaptureFixture[str]) -> None:
    for network in ("hotel", "office"):
        assert main(["graph", "scenario-2.1", "--set", f"attach={network}"]) == 0
        assert f"mn at {network} (attached)" in capsys.readouterr().out


@pytest.mark.parametrize(("form", "start"), [("mermaid", "---"), ("dot", 'graph "plain-mip" {')])
def test_graph_as_text(form: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "plain-mip", "--format", form]) == 0
    assert capsys.readouterr().out.startswith(start)


def test_graph_in_a_format_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "plain-mip", "--format", "jpg"]) == 2
    assert "--format jpg: choose svg, png, pdf, mermaid or dot" in capsys.readouterr().err


@pytest.mark.parametrize(("form", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_graph_as_a_picture(form: str, start: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"figure.{form}"
    assert main(["graph", "plain-mip", "--format", form, "-w", str(file)]) == 0
    assert file.read_bytes().startswith(start)


def test_graph_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "plain-mop"]) == 2
    assert "did you mean plain-mip?" in capsys.readouterr().err


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sample(tmp_path / "evidence")
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}/report.html\n"
    assert re.search(r'href="claims/[^"]+\.pcap"', (folder / "report.html").read_text())
    assert main(["report", str(folder), "-w", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!doctype html>")
    assert main(["report", str(tmp_path)]) == 2
    assert "name the folder" in capsys.readouterr().err


def test_a_page_goes_where_it_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It points to files of the folder that it is about where it lies there, under whatever name."""

    def made(write: Path | None) -> str:
        emit_page(lambda links: "linked" if links else "alone", write, tmp_path / "report.html", tmp_path)
        return capsys.readouterr().out

    assert made(None) == f"{tmp_path}/report.html\n"
    assert made(tmp_path / "other.html") == f"{tmp_path}/other.html\n"
    (tmp_path / "elsewhere").mkdir()
    made(tmp_path / "elsewhere" / "report.html")
    texts = [(tmp_path / one).read_text() for one in ("report.html", "other.html", "elsewhere/report.html")]
    assert texts == ["linked", "linked", "alone"]
    assert made(Path("-")) == "alone"
    with pytest.raises(UsageError, match=r"cannot write .*nowhere"):
        made(tmp_path / "nowhere" / "report.html")
