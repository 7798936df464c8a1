"""Self-contained HTML pages: they open offline and hold their own scripts and pictures."""

from legato.report.measuring import measure_page
from legato.report.render import write_page
from legato.report.watching import Sheet, watch_page

__all__ = ["Sheet", "measure_page", "watch_page", "write_page"]
