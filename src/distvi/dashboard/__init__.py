"""A web page about a run, for as long as it goes on."""

from distvi.dashboard.dashboard import Dashboard

__all__ = ["Dashboard"]
