"""The files of deploy/prometheus: what they name is there, alerts ring in time, and a real Prometheus runs by them."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from carbontrack.app import run_core, run_web
from carbontrack.store import migrate
from tests.support.mosquitto import Broker, core_config
from tests.support.prometheus import FILES, ROOT, Prometheus, known_metrics, prometheus, selectors
from tests.support.system import needs
from tests.support.world import eventually, register
from tests.test_docs import anchors

MISSED = 'ALERTS{alertname="CarbonTrackDown"}'
TOKEN = "a token for Prometheus alone"
RULES = [
    rule
    for group in YAML(typ="safe", pure=True).load(FILES / "carbontrack.rules.yml")["groups"]
    for rule in group["rules"]
]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
LATER = ("carbontrack_reloads_total", "carbontrack_mails_total", "carbontrack_broker_accounts")
"""Of these a label's value is there only once something has happened, or where the core keeps accounts."""


def promtool(*words: str | Path, cwd: Path = FILES) -> None:
    done = subprocess.run(
        [needs("promtool", package="prometheus"), *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_and_label_that_a_rule_names_exists(rule: dict[str, Any]) -> None:
    known = known_metrics()
    found = selectors(rule["expr"])
    for name, labels in found:
        if name.startswith("carbontrack:"):
            assert name in RECORDED
        else:
            assert labels <= known[name], name
    assert found or rule["alert"] == "CarbonTrackDown"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_happens_what_to_do_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    document, _, anchor = alert["annotations"]["runbook"].partition("#")

    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert alert["annotations"].keys() == {"summary", "action", "runbook"}
    assert anchor in anchors(ROOT / document)
    section = (ROOT / document).read_text().partition(f"`{name}`")
    assert section[1], f"{document} does not name {name}"
    heading = next(line for line in reversed(section[0].splitlines()) if line.startswith("## "))
    assert heading.removeprefix("## ").lower().replace(" ", "-") == anchor


def test_the_rules_can_be_read_and_ring_when_they_should() -> None:
    promtool("check", "rules", "carbontrack.rules.yml")
    promtool("test", "rules", "carbontrack.test.yml")


def test_the_configuration_can_be_read(tmp_path: Path) -> None:
    for name in ("prometheus.yml", "carbontrack.rules.yml"):
        shutil.copy(FILES / name, tmp_path)
    (tmp_path / "metrics-token").write_text(TOKEN)
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)


async def test_a_real_prometheus_reads_a_running_core_works_out_every_rule_and_notices_when_it_is_gone(
    mosquitto: Broker, tmp_path: Path
) -> None:
    config = core_config(mosquitto, f"sqlite://{tmp_path / 'core.sqlite3'}", HTTP__METRICS_TOKEN=TOKEN)
    await migrate(config.database.url)
    async with run_core(config) as core, AsyncExitStack() as stack:
        await register(core.store, "dev-001", factory_name="Kangaita")
        await eventually(lambda: core.ingest.connected and len(core.fleet.states()) == 1)
        async with run_web(core) as url:
            target = url.removeprefix("http://")
            running = stack.enter_context(prometheus(tmp_path, target=target, token=TOKEN))
            await eventually(partial(is_there, running, 'up{job="carbontrack"} == 1'), "the core is not read")
            await eventually(partial(is_there, running, "carbontrack:devices:count == 1"), "no rule is worked out")
            await eventually(partial(all_worked_out, running), "some rule is not worked out")
            for series in sorted(chosen_series()):
                assert await running.query(series), f"there is no {series}"
            # It may have worked the rules out once before it first asked.
            await eventually(partial(is_there, running, f"absent({MISSED})"), "the core is missed, though it answers")
        await eventually(partial(is_there, running, MISSED), "nobody misses the core")


async def is_there(running: Prometheus, expression: str) -> bool:
    return bool(await running.query(expression))


async def all_worked_out(running: Prometheus) -> bool:
    """Whether each rule has been, and was without an error."""
    groups = (await running.ask("rules"))["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert health.keys() == {*RECORDED, *ALERTS}
    assert "err" not in health.values()
    return set(health.values()) == {"ok"}


def chosen_series() -> set[str]:
    """What the rules choose by the value of a label: a value that is never there would keep an alert silent."""
    found = {series for rule in RULES for series in re.findall(r"carbontrack_\w+\{[^}]+\}", rule["expr"])}
    return {series for series in found if not series.startswith(LATER)}
