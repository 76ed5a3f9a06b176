"""Calendar days and months in UTC, as sortable text."""

from datetime import UTC, datetime


def day_of(at_ms: int) -> str:
    """Convert a Unix time in milliseconds to ``YYYY-MM-DD``."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).date().isoformat()


def month_of(day: str) -> str:
    """Get the ``YYYY-MM`` of a day."""
    return day[:7]
