"""Calendar days and months in UTC, as text that sorts. Knows no clock."""

from datetime import UTC, datetime


def day_of(at_ms: int) -> str:
    """``YYYY-MM-DD`` of a Unix time in milliseconds."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).date().isoformat()


def month_of(day: str) -> str:
    """``YYYY-MM`` of a day."""
    return day[:7]
