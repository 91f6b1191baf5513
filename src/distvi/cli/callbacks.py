"""Who is told how a run goes that a command starts."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from distvi.progress import Progress


DashboardAddress = Annotated[str | bool, Parameter(name="--dashboard", show_default=False)]


def audience(dashboard: str | bool) -> "Progress":
    """The terminal; and a web page, at an address or, if it is just True, at a free port."""
    from distvi.progress import Callbacks, for_terminal  # imports JAX

    if dashboard is False:
        return for_terminal()
    from distvi.dashboard import Dashboard

    return Callbacks(for_terminal(), Dashboard("0" if dashboard is True else dashboard))
