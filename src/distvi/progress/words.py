"""How a terminal says numbers and messages."""

from collections.abc import Mapping


def brief(metrics: Mapping[str, float | None]) -> str:
    """The two metrics that say most.

    Example:
        >>> brief({"rmse": None, "mnll": None})
        'RMSE n/a, MNLL n/a'
        >>> brief({"error_rate": 0.028, "mnll": 0.0912, "ece": 0.01})
        'error 2.80%, MNLL 0.0912'
    """
    quality = (
        f"error {number(metrics['error_rate'], '.2%')}"
        if "error_rate" in metrics
        else f"RMSE {number(metrics['rmse'], '.4g')}"
    )
    return f"{quality}, MNLL {number(metrics['mnll'], '.4f')}"


def number(value: float | None, style: str) -> str:
    """A metric; summary.json has null for one that is not finite."""
    return "n/a" if value is None else format(value, style)


def warning(message: str) -> str:
    """A line about something that went wrong."""
    return f"distvi: warning: {message}"


def duration(seconds: float) -> str:
    """A time as one says it.

    Example:
        >>> duration(0.37), duration(42.3), duration(200.0), duration(7500.0)
        ('0.4 s', '42 s', '3 min 20 s', '2 h 5 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
