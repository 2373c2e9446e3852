"""Some simulated days before the default alerts: they find what breaks, in time, and ring for nothing else."""

from __future__ import annotations

import pytest

from carbontrack.config import Config
from carbontrack.configured import rule_instances
from carbontrack.plugins import load_plugins
from carbontrack.simulator import demo_fleet
from carbontrack.simulator.alarms import CASES, Case, table, watch
from carbontrack.simulator.score import month_start

DAYS, STEP_S = 4, 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_that_lasts_is_found_within_its_alert_s_time(case: Case) -> None:
    rules, _, problems = rule_instances(Config(), load_plugins().contributions)
    first = demo_fleet(1)[0]

    found = watch(case, first.stacks[-1], first.factory, rules, month_start(), DAYS, STEP_S)

    assert problems == ()
    assert found.false_alarms == ()
    assert found.within == len(found.times_s) == found.injected == (1 if case.alerts else 0)
    assert "| 1 | 1 | 1 (" in table([found]) or not case.alerts
