"""``python -m distvi`` is ``distvi``."""

from distvi.cli import main

main()
