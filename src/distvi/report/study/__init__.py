"""The report of a study: one HTML file, to be read beside a paper.

`write_page` writes it; `write_figures` the same figures and tables as files; `picture` an overview.
"""

from distvi.report.study.content import PageContent
from distvi.report.study.page import picture, write_figures, write_page

__all__ = ["PageContent", "picture", "write_figures", "write_page"]
