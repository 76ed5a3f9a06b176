"""Format and parse times as Replicate does."""

from datetime import UTC, datetime

from corral.api.doors.replicate.faults import Fault, invalid


def rfc3339(at_ms: int) -> str:
    """Format Unix milliseconds as RFC 3339 in UTC: ``2023-09-12T08:30:01.250Z``."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{at_ms % 1000:03}Z"


def read_time_ms(text: str, *, param: str) -> int:
    """Parse an ISO 8601 date or time into Unix milliseconds; UTC if it names no zone.

    Raises:
        InvalidInput: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        description = "Must be an ISO 8601 date and time"
        raise invalid([Fault(type="invalid_time", field=param, description=description)]) from None
