"""Topology → the files of every node. Pure: nothing is read but templates, nothing is started."""

from testbed.render.lab import REDACTED, RenderedFile, RenderedLab, RenderedNode, Secrets, render_lab

__all__ = ["REDACTED", "RenderedFile", "RenderedLab", "RenderedNode", "Secrets", "render_lab"]
