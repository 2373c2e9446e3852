"""What the summary of shifts says."""

from datetime import timedelta

import pytest
from carbontrack.testing import NOON, LoadError, RunningCore, empty_report, load_plugin, reading, report

from carbontrack_kericho import shifts


def text(*rows: object, **options: object) -> str:
    render = load_plugin(shifts, options).contributions.report_formats["kericho_shifts"].render
    return render(report(*rows)).decode()  # type: ignore[arg-type]  # readings


def test_a_shift_has_its_hours_and_its_co2() -> None:
    # 239 steps of 5 s with 0.1485 kg/s, from 12:00 in Nairobi on
    assert "  2026-03-02 06:00   0.33 h measured     177.5 kg CO2" in text()


def test_a_step_belongs_to_the_shift_in_which_it_begins() -> None:
    late = NOON + timedelta(hours=2) - timedelta(seconds=5)  # 13:59:55 in Nairobi
    rows = [reading(number, measured_at=late + timedelta(seconds=5 * number)) for number in range(3)]

    found = text(*rows)

    assert "2026-03-02 06:00" in found
    assert "2026-03-02 14:00" in found


def test_a_gap_was_not_measured() -> None:
    rows = [reading(1, measured_at=NOON), reading(2, measured_at=NOON + timedelta(hours=1))]

    assert "nothing was measured" in text(*rows)


def test_the_first_shift_may_begin_at_another_hour() -> None:
    assert "2026-03-02 05:00" in text(first_shift_at=5)


def test_a_zone_that_there_is_not_is_refused_with_a_hint() -> None:
    with pytest.raises(LoadError, match="Africa/Nairobi"):
        load_plugin(shifts, {"time_zone": "Kericho"})


async def test_a_running_core_makes_it(core: RunningCore) -> None:
    made = (await core.render("kericho_shifts", empty_report())).decode()

    assert made.startswith("Kangaita Tea Factory: CO2 by shifts (Africa/Nairobi)\n\nBoiler 1\n  nothing was measured")
