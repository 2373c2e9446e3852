"""A part of every local day, such as 06:00-18:00; also over midnight."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, tzinfo


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of every local day from ``begin`` to before ``end``; where the end is earlier, over midnight."""

    begin: time
    end: time
    zone: tzinfo

    def has(self, at: datetime) -> bool:
        """Whether a moment lies in these hours."""
        now = at.astimezone(self.zone).time()
        if self.begin < self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end


def read_hours(text: str) -> tuple[time, time]:
    """When the hours of a setting such as ``06:00-18:00`` begin and end; the end of the day is its 00:00."""
    begin, end = text.replace("24:00", "00:00").split("-")
    return time.fromisoformat(begin), time.fromisoformat(end)
