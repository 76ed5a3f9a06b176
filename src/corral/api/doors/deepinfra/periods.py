"""Parse times as DeepInfra's clients write them: months, relative months, Unix time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from corral.core.errors import InvalidRequest

MAX_MONTHS: Final = 36
_MONTH: Final = re.compile(r"(\d{4})\.(\d{1,2})\Z")
_CURRENT: Final = re.compile(r"current(?:-(\d{1,4}))?\Z")
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,9})?\Z")


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in UTC."""

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.year}.{self.month:02d}"

    @property
    def first_day(self) -> date:
        """First day of the month."""
        return date(self.year, self.month, 1)

    @property
    def last_day(self) -> date:
        """Last day of the month."""
        return self.back(-1).first_day - timedelta(days=1)

    @property
    def begins_at_s(self) -> int:
        """Unix time of the first second of the month."""
        return int(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp())

    def back(self, months: int) -> "Month":
        """The month *count* months earlier."""
        count = self.year * 12 + self.month - 1 - months
        return Month(count // 12, count % 12 + 1)


def month_of(seconds: float) -> Month:
    """Calendar month of a Unix time, in UTC."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return Month(moment.year, moment.month)


def read_month(text: str, *, name: str, now_s: float) -> Month:
    """Parse ``2023.11``, ``current``, ``current-2`` or Unix time.

    Raises:
        InvalidRequest: of *name*.
    """
    this = month_of(now_s)
    if found := _MONTH.match(text):
        year, month = int(found[1]), int(found[2])
        if 1970 <= year <= this.year + 1 and 1 <= month <= 12:
            return Month(year, month)
    elif (found := _CURRENT.match(text)) and int(found[1] or 0) <= 12 * (this.year - 1970):
        return this.back(int(found[1] or 0))
    elif _SECONDS.match(text) and float(text) <= now_s + 366 * 86400:
        return month_of(float(text))
    raise InvalidRequest(f"'{name}' must be YYYY.MM, current, current-N or Unix time in seconds.", param=name)


def months(first: Month, last: Month) -> Iterator[Month]:
    """List the months from the first to the last, both included.

    Raises:
        InvalidRequest: there are too many.
    """
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    if count > MAX_MONTHS:
        raise InvalidRequest(f"At most {MAX_MONTHS} months are summed at a time.", param="from")
    for ahead in range(count):
        yield first.back(-ahead)


def read_moment(text: str, *, name: str) -> float:
    """Parse Unix time in seconds, or an ISO 8601 date and time; UTC if it names no zone.

    Raises:
        InvalidRequest: of *name*.
    """
    if _SECONDS.match(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(f"'{name}' must be Unix time in seconds, or a date and time.", param=name) from None
