"""A table, and the video it was measured in, to a report page and to a film with overlay.

    table ─ read_table ─► recordings ─┬──────────────────────────────► viz.report.page ─► HTML
    video ─ io.video ─► frames ─ align ─┴─► crops ─ fitting.fit, read ─► viz.film ─► MP4

The table says where a face is; its crop is found again from box and roll, then from the landmarks that E
reads in it, so that no detector is needed.
"""

from faceunits.reporting.films import render
from faceunits.reporting.page import write

__all__ = ["render", "write"]
