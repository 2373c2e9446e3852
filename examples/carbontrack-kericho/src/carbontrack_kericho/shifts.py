"""Report format "kericho_shifts": hours and CO2 of each shift, as plain text for the notice board.

What lies between two readings counts with their mean rate, if they are not more than three minutes apart; all else was
not measured. A step belongs to the shift in which it begins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from zoneinfo import ZoneInfo

from carbontrack import Kind, Manifest, Plugin, Report, ReportFormat, Tier, hookimpl
from pydantic import BaseModel, ConfigDict, Field, field_validator

SHIFT = timedelta(hours=8)
LONGEST_STEP = timedelta(minutes=3)


class Options(BaseModel):
    """What the configuration may set under `plugins.options.kericho_shifts`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    time_zone: str = "Africa/Nairobi"
    """The time zone of the shifts."""
    first_shift_at: int = Field(default=6, ge=0, le=7)
    """When the first shift of a day begins, o'clock; the others follow after eight hours each."""

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (LookupError, OSError, ValueError):
            raise ValueError(f"there is no time zone {name!r}; a name is like Africa/Nairobi") from None
        return name


MANIFEST = Manifest(
    name="kericho_shifts",
    version="1.0.0",
    kinds=(Kind.REPORT,),
    title="Hours and CO2 of each shift",
    documentation="README.md",
    codeowners=("The boiler house of Kericho",),
    options_model=Options,
    tier=Tier.PLATINUM,
)


def render(options: Options, report: Report) -> bytes:
    """The whole file, UTF-8."""
    lines = [f"{report.factory.name}: CO2 by shifts ({options.time_zone})", ""]
    for stack in report.stacks:
        lines.append(stack.name)
        shifts = _shifts(options, report, stack.id)
        lines += [
            f"  {begin:%Y-%m-%d %H:%M}  {seconds / 3600:5.2f} h measured  {kilograms:8.1f} kg CO2"
            for begin, (seconds, kilograms) in sorted(shifts.items())
        ] or ["  nothing was measured"]
    return "\n".join([*lines, ""]).encode()


def _shifts(options: Options, report: Report, stack_id: int) -> Mapping[datetime, tuple[float, float]]:
    """Begin of each shift -> seconds that were measured, and kg of CO2 in them."""
    zone = ZoneInfo(options.time_zone)
    found: dict[datetime, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    rates = [reading for reading in report.readings if reading.stack_id == stack_id]
    for earlier, later in pairwise(rates):
        step = later.measured_at - earlier.measured_at
        if step > LONGEST_STEP or earlier.co2_kg_per_s is None or later.co2_kg_per_s is None:
            continue
        begin = _begin(options, earlier.measured_at.astimezone(zone))
        seconds, kilograms = found[begin]
        step_s = step.total_seconds()
        mean_kg_per_s = (earlier.co2_kg_per_s + later.co2_kg_per_s) / 2
        found[begin] = seconds + step_s, kilograms + step_s * mean_kg_per_s
    return found


def _begin(options: Options, at: datetime) -> datetime:
    """When the shift of a moment began."""
    first = at.replace(hour=options.first_shift_at, minute=0, second=0, microsecond=0)
    return first + SHIFT * ((at - first) // SHIFT)


@hookimpl
def register_report_formats(plugin: Plugin) -> Sequence[ReportFormat]:
    return [
        ReportFormat(
            name="kericho_shifts",
            title=MANIFEST.title,
            extension="txt",
            media_type="text/plain; charset=utf-8",
            render=partial(render, plugin.options),
        )
    ]
