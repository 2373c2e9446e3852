"""What goes wrong with instruments, clocks and lines, as data: each fault has a kind, a time and a size.

The list and its usual sizes are the project's judgement of what a chimney does to cheap instruments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from carbontrack.model import Sample
from carbontrack.simulator.boiler import chance

MONTH_MS = 30 * 86_400_000
FOREVER_MS = 1 << 62


class FaultKind(StrEnum):
    """Faults of instruments. The comment says what ``size`` is."""

    SPAN_DRIFT = "span_drift"  # relative change of the CO2 reading in a month
    ZERO_DRIFT = "zero_drift"  # ppm in a month
    CO2_STUCK = "co2_stuck"  # the value, ppm
    SATURATED = "saturated"  # full scale of an analyser made for room air, ppm
    SAMPLE_LINE_LEAK = "sample_line_leak"  # share of the CO2 that still arrives
    PUMP_STOPPED = "pump_stopped"  # seconds in which the reading falls to that of air
    UNIT_SLIP = "unit_slip"  # per cent sent as ppm; no size
    NO_VALUE = "no_value"  # null; no size
    THERMOCOUPLE_OPEN = "thermocouple_open"  # what the converter reads, degC
    THERMOCOUPLE_DETACHED = "thermocouple_detached"  # share of the temperature that it loses in a month
    VELOCITY_FOULED = "velocity_fouled"  # relative change of the velocity in a month
    VELOCITY_SEIZED = "velocity_seized"  # the value, m/s


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault from ``since_ms`` to ``until_ms`` (UTC)."""

    kind: FaultKind
    since_ms: int = 0
    until_ms: int = FOREVER_MS
    size: float = 0.0

    def is_on(self, at_ms: int) -> bool:
        return self.since_ms <= at_ms < self.until_ms


def _pumped(co2_ppm: float, fault: Fault, since_ms: int) -> float:
    """The analyser's gas is replaced by air, little by little."""
    left = max(0.0, 1 - since_ms / 1000 / max(fault.size, 1.0))
    return 420 + (co2_ppm - 420) * left


_CO2: Mapping[FaultKind, Callable[[float, Fault, int], float | None]] = {
    FaultKind.SPAN_DRIFT: lambda co2_ppm, fault, since_ms: co2_ppm * (1 + fault.size * since_ms / MONTH_MS),
    FaultKind.ZERO_DRIFT: lambda co2_ppm, fault, since_ms: co2_ppm + fault.size * since_ms / MONTH_MS,
    FaultKind.CO2_STUCK: lambda _, fault, __: fault.size,
    FaultKind.SATURATED: lambda co2_ppm, fault, _: min(co2_ppm, fault.size),
    FaultKind.SAMPLE_LINE_LEAK: lambda co2_ppm, fault, _: co2_ppm * fault.size,
    FaultKind.PUMP_STOPPED: _pumped,
    FaultKind.UNIT_SLIP: lambda co2_ppm, _, __: co2_ppm / 10_000,
    FaultKind.NO_VALUE: lambda *_: None,
}


def disturb_co2(fault: Fault, at_ms: int, co2_ppm: float | None) -> float | None:
    """What the CO2 channel gives with a fault, in ppm; None where it gives nothing."""
    effect = _CO2.get(fault.kind)
    if co2_ppm is None or effect is None or not fault.is_on(at_ms):
        return co2_ppm
    return effect(co2_ppm, fault, at_ms - fault.since_ms)


def disturb_temperature(fault: Fault, at_ms: int, temperature_c: float) -> float:
    """What the thermocouple gives with a fault, in degC."""
    if not fault.is_on(at_ms):
        return temperature_c
    if fault.kind is FaultKind.THERMOCOUPLE_OPEN:
        return fault.size
    if fault.kind is FaultKind.THERMOCOUPLE_DETACHED:
        return temperature_c * (1 - fault.size * (at_ms - fault.since_ms) / MONTH_MS)
    return temperature_c


def disturb_velocity(fault: Fault, at_ms: int, velocity_ms: float) -> float:
    """What the anemometer gives with a fault, in m/s."""
    if not fault.is_on(at_ms):
        return velocity_ms
    if fault.kind is FaultKind.VELOCITY_FOULED:
        return velocity_ms * (1 + fault.size * (at_ms - fault.since_ms) / MONTH_MS)
    if fault.kind is FaultKind.VELOCITY_SEIZED:
        return fault.size
    return velocity_ms


# --- on the way -------------------------------------------------------------------------------------------------------


class LineFault(StrEnum):
    """What happens to samples between the node and the platform, in [since, until)."""

    POWER_CUT = "power_cut"
    """The boiler goes on, and nobody measures."""
    LINK_LOST = "link_lost"
    """Nothing arrives until the link is back; then all of it does."""
    BUFFER_OVERFLOW = "buffer_overflow"
    """The same for longer than the node's store lasts: the oldest half is gone."""
    CLOCK_AHEAD = "clock_ahead"
    """The node's clock is five minutes ahead."""
    DUPLICATED = "duplicated"
    """Every third sample comes twice."""
    REORDERED = "reordered"
    """Samples come in any order."""


CLOCK_ERROR_MS = 300_000


def disturb(samples: Sequence[Sample], fault: LineFault, since_ms: int, until_ms: int) -> list[Sample]:
    """The samples as the platform gets them, in the order in which they arrive. Device times are UTC ms."""
    inside = [sample for sample in samples if since_ms <= sample.device_time_ms < until_ms]
    before = [sample for sample in samples if sample.device_time_ms < since_ms]
    after = [sample for sample in samples if sample.device_time_ms >= until_ms]
    match fault:
        case LineFault.POWER_CUT:
            inside = []
        case LineFault.LINK_LOST:
            return [*before, *after, *inside]
        case LineFault.BUFFER_OVERFLOW:
            return [*before, *after, *inside[len(inside) // 2 :]]
        case LineFault.CLOCK_AHEAD:
            inside = [
                msgspec.structs.replace(sample, device_time_ms=sample.device_time_ms + CLOCK_ERROR_MS)
                for sample in inside
            ]
        case LineFault.DUPLICATED:
            inside = [copy for sample in inside for copy in ([sample] * (2 if sample.seq % 3 == 0 else 1))]
        case LineFault.REORDERED:
            inside.sort(key=lambda sample: chance(1, "order", sample.seq))
    return [*before, *inside, *after]
