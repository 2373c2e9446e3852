"""Carbon Track: continuous CO2 measurement for tea factories. This is what a plugin author imports."""

from carbontrack.hookspecs import (
    AlertRule,
    DecodeError,
    FactoryDay,
    Page,
    PortalReader,
    PortalRequest,
    PortalView,
    ReportFormat,
    SensorDriver,
    Verdict,
    hookimpl,
)
from carbontrack.model import (
    ClockQuality,
    Flag,
    Lane,
    Message,
    Payload,
    Reading,
    Record,
    Report,
    Role,
    Sample,
    Site,
    Snapshot,
    User,
)

__version__ = "0.1.0"

__all__ = [
    "AlertRule",
    "ClockQuality",
    "DecodeError",
    "FactoryDay",
    "Flag",
    "Lane",
    "Message",
    "Page",
    "Payload",
    "PortalReader",
    "PortalRequest",
    "PortalView",
    "Reading",
    "Record",
    "Report",
    "ReportFormat",
    "Role",
    "Sample",
    "SensorDriver",
    "Site",
    "Snapshot",
    "User",
    "Verdict",
    "hookimpl",
]
