"""Documents and commands are judged by the platform, by the simulated node and by the firmware in the same way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbontrack.device_settings import (
    MOST_BYTES,
    DeviceSettings,
    Fault,
    Limit,
    LimitCode,
    check_document,
    check_message,
    check_settings,
    chosen_settings,
    differences,
    document_of,
    message,
    plan_of,
    plan_part,
)
from carbontrack.model import Flag, MonitoringPlan
from carbontrack.simulator.orders import Orders, OrdersState

VECTORS = Path(__file__).parent / "vectors"
CONFIGS = json.loads((VECTORS / "config.json").read_text())
COMMANDS = json.loads((VECTORS / "commands.json").read_text())
NOW_MS = 1_795_433_000_000
EVERYTHING = DeviceSettings(
    3600, 15, 3600, 86_400, tuple(Limit(code, 400 / 3, 400 / 3, 3600, "critical") for code in LimitCode)
)


def orders(rev: int = 0, **document: Any) -> Orders:
    state = OrdersState(rev, {"v": 1, "rev": rev} | document if rev else {})
    return Orders(state, lambda _: {"uptime_s": 5})


@pytest.mark.parametrize("case", CONFIGS, ids=lambda case: case["about"])
def test_a_golden_document_is_judged_as_it_says(case: dict[str, Any]) -> None:
    document, faults = check_message(case["body"].encode())

    assert [{"path": it.path, "code": it.code} for it in faults] == case["errors"]
    assert (document is not None) == case["ok"]
    answer = json.loads(orders().take_config(case["body"].encode()))
    assert (answer["rev"], answer["ok"], answer.get("errors", [])) == (case["rev"], case["ok"], case["errors"])


@pytest.mark.parametrize("case", [it for it in CONFIGS if it["ok"]], ids=lambda case: case["about"])
def test_a_golden_document_says_what_it_says(case: dict[str, Any]) -> None:
    document, _ = check_message(case["body"].encode())
    assert document is not None
    settings = chosen_settings(document) or DeviceSettings()
    found: dict[str, Any] = {name: getattr(settings, name) for name in ("sample_s", "readings", "warm_up_s", "stuck_s")}
    found |= {"buzzer": settings.buzzer, "led": settings.led, "limits": len(settings.limits)}
    found |= {f"plan.{name}": value for name, value in plan_part(plan_of(document.get("plan", {}))).items()}
    found |= {f"site.{name}": value for name, value in document.get("site", {}).items()}
    for number, limit in enumerate(settings.limits):
        found |= {f"limits.{number}.{name}": getattr(limit, name) for name in Limit.__slots__}

    assert {name: found[name] for name in case["expected"]} == case["expected"]


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: case["about"])
def test_a_golden_command_is_taken_as_it_says(case: dict[str, Any]) -> None:
    expected, answer = case["expected"], orders().take_command(case["body"].encode(), NOW_MS, clock_set=True)

    if expected is None or expected["kind"] == "alarm":
        assert answer is None
        return
    assert answer is not None
    told = json.loads(answer)
    assert told["id"] == expected["id"]
    assert told["cmd"] == expected.get("name", expected["kind"])
    wanted = "unknown" if expected["kind"] == "unknown" else ("failed" if not expected["args"] else None)
    assert told["st"] == wanted if wanted else told["st"] in {"done", "accepted"}
    if wanted == "failed":
        assert told["err"] == "bad_args"


# --- what the platform sends


plans = st.builds(
    MonitoringPlan,
    shape=st.just("circular"),
    diameter_m=st.floats(0.1, 20),
    profile_factor=st.floats(0.1, 1.5),
    h2o_fraction=st.floats(0, 0.99),
    co2_range_ppm=st.floats(400, 1e6),
    calibration_offset_ppm=st.floats(-1e6, 1e6),
    basis=st.sampled_from(["wet", "dry"]),
)


@given(plans, st.floats(50, 110))
def test_every_plan_of_the_registry_makes_a_document_that_a_node_takes(plan: MonitoringPlan, kpa: float) -> None:
    document = document_of(EVERYTHING, plan, kpa)
    body = message(document, 65_535)

    assert check_message(body)[1] == []
    assert len(body) <= MOST_BYTES
    assert plan_of(json.loads(body)["plan"]) == MonitoringPlan(
        **{name: getattr(plan, name) for name in ("shape", "diameter_m", "profile_factor", "h2o_fraction",
                                                  "co2_range_ppm", "calibration_offset_ppm", "basis")}
    )  # fmt: skip


def test_settings_come_out_of_their_document_as_they_went_in() -> None:
    check_settings(EVERYTHING)
    document = json.loads(json.dumps(document_of(EVERYTHING, MonitoringPlan(), 80.0)))

    assert chosen_settings(document) == EVERYTHING
    assert chosen_settings(document_of(None, MonitoringPlan(), 80.0)) is None
    assert chosen_settings(None) is None


def test_what_changed_is_said_by_its_path() -> None:
    before = document_of(DeviceSettings(), MonitoringPlan(), 80.0)
    after = document_of(
        DeviceSettings(sample_s=10, limits=(Limit("rate_high", 0.35, 0.02),)), MonitoringPlan(diameter_m=0.9), 80.0
    )

    assert differences(before, before) == []
    assert differences(before, after) == [
        ("sample_s", 5, 10),
        ("limits.rate_high", None, "0.35 ± 0.02, 60 s, warning"),
        ("plan.diameter_m", 0.8, 0.9),
    ]


NAMES = ["v", "rev", "sample_s", "readings", "plan", "limits", "site", "code", "limit", "diameter_m", "wall_deposit_mm"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda it: st.lists(it) | st.dictionaries(st.sampled_from(NAMES), it),
)


@given(anything)
def test_no_document_makes_the_check_fail(document: Any) -> None:
    faults = check_document(document)

    assert len(faults) <= 8
    assert all(isinstance(it, Fault) for it in faults)


# --- the simulated node


def test_a_node_keeps_what_it_has_where_it_refuses() -> None:
    node = orders(5, sample_s=7)

    answer = json.loads(node.take_config(b'{"v":1,"rev":6,"sample_s":0}'))

    assert answer == {"v": 1, "rev": 6, "ok": False, "active": 5, "errors": [{"path": "sample_s", "code": "range"}]}
    assert (node.rev, node.sample_s) == (5, 7)


def test_a_node_refuses_what_is_older_and_other_content_of_the_same_number_and_takes_the_same_again() -> None:
    node = orders(5, sample_s=7)

    assert json.loads(node.take_config(b'{"v":1,"rev":4}'))["errors"] == [{"path": "rev", "code": "older"}]
    assert json.loads(node.take_config(b'{"v":1,"rev":5}'))["errors"] == [{"path": "rev", "code": "value"}]
    assert json.loads(node.take_config(b'{"v":1,"rev":5,"sample_s":7}')) == {"v": 1, "rev": 5, "ok": True, "active": 5}


def test_a_node_does_the_same_command_once_and_answers_it_every_time() -> None:
    node = orders()
    body = b'{"v":1,"id":"7c1e09aa","cmd":"maintenance","args":{"minutes":1}}'

    first = node.take_command(body, NOW_MS, clock_set=True)
    again = node.take_command(body, NOW_MS + 50_000, clock_set=True)

    assert first == again
    assert node.flags(NOW_MS + 59_000) == Flag.MAINTENANCE
    assert node.flags(NOW_MS + 61_000) == Flag(0)


def test_a_node_that_knows_the_time_does_not_do_what_has_expired() -> None:
    body = b'{"v":1,"id":"7c1e09aa","cmd":"zero_cal","args":{},"exp":%d}' % (NOW_MS - 1)

    expired = json.loads(orders().take_command(body, NOW_MS, clock_set=True) or b"")
    done = json.loads(orders().take_command(body, NOW_MS, clock_set=False) or b"")

    assert (expired["st"], done["st"]) == ("expired", "done")


def test_a_node_restarts_once_for_a_command_and_says_so_afterwards() -> None:
    node = orders()
    body = b'{"v":1,"id":"7c1e09aa","cmd":"reboot"}'
    assert json.loads(node.take_command(body, NOW_MS, clock_set=True) or b"")["st"] == "accepted"
    assert node.wants_reboot

    again = Orders(node.state(), lambda _: {})
    told = again.after_birth()
    assert told is not None
    assert (json.loads(told)["id"], json.loads(told)["st"]) == ("7c1e09aa", "done")
    assert again.after_birth() is None
    assert json.loads(again.take_command(body, NOW_MS, clock_set=True) or b"")["st"] == "done"
    assert not again.wants_reboot
