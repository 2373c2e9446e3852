"""The files of deploy/grafana: queries ask for what there is, and nothing belongs to one machine alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from ruamel.yaml import YAML

from tests.support.prometheus import ROOT, known_metrics, selectors
from tests.support.world import NOON, give_schema, migrated_store, register
from tests.test_monitoring import RECORDED

FILES = ROOT / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FILES / "dashboards").glob("*.json"))}
KINDS = {"${prometheus}": "prometheus", "${database}": "grafana-postgresql-datasource"}
OWN_OF_PROMETHEUS = {"up", "ALERTS"}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets(key: str) -> list[Any]:
    return [
        pytest.param(target[key], id=f"{name}: {panel['title']} {target['refId']}")
        for name, dashboard in DASHBOARDS.items()
        for panel in panels(dashboard)
        for target in panel["targets"]
        if key in target
    ]


def datasources(part: Any) -> Iterator[Any]:
    """Every datasource that a dashboard names, wherever it stands."""
    if isinstance(part, dict):
        if "datasource" in part:
            yield part["datasource"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from datasources(inner)


def test_every_dashboard_and_every_panel_has_an_id_of_its_own() -> None:
    assert sorted(DASHBOARDS) == ["factory", "network", "platform"]
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    for dashboard in DASHBOARDS.values():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        assert "id" not in dashboard, "the number in one Grafana's database"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_stand_beside_each_other_and_say_what_they_show(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_datasources_are_chosen_by_the_reader_and_none_is_of_one_machine(name: str) -> None:
    dashboard = DASHBOARDS[name]
    chosen = {
        f"${{{variable['name']}}}": variable["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "datasource"
    }
    named = list(datasources(dashboard))

    assert chosen.items() <= KINDS.items()
    assert named
    for source in named:
        assert chosen[source["uid"]] == source["type"]
    assert not re.search(r"https?://|localhost|\d+\.\d+\.\d+\.\d+", json.dumps(dashboard))


@pytest.mark.parametrize("expression", targets("expr"))
def test_every_metric_and_label_that_a_dashboard_names_exists(expression: str) -> None:
    known = known_metrics()
    for name, labels in selectors(expression):
        if name.startswith("carbontrack:"):
            assert name in RECORDED
        else:
            assert labels - {"instance"} <= known[name], name
    used = {name for name, _ in selectors(expression)} or set(re.findall(r"\b(\w+)\{", expression))
    assert used
    assert {name for name in used if not name.startswith("carbontrack")} <= OWN_OF_PROMETHEUS


def filled_in(sql: str) -> str:
    """SQL as Grafana sends it: its macro for the time shown, and the variable of the factory's dashboard."""
    first, last = (f"'{moment:%Y-%m-%dT%H:%M:%SZ}'" for moment in (NOON - timedelta(days=1), NOON + timedelta(days=1)))
    sql = re.sub(
        r"\$__timeFilter\(((?:[^()]|\([^()]*\))*)\)", lambda found: f"{found[1]} BETWEEN {first} AND {last}", sql
    )
    sql = sql.replace("${factory:sqlstring}", "'kangaita'")
    assert "$" not in sql
    return sql


async def test_every_query_is_answered_by_postgresql_for_an_account_that_may_read_nothing_of_people(
    postgres_url: str,
) -> None:
    await give_schema(postgres_url)
    async with migrated_store(postgres_url) as store:
        (site,) = await register(store, "dev-001", factory_name="Kangaita")
    owner = await asyncpg.connect(postgres_url)
    try:
        script = (FILES / "reader.sql").read_text()
        await owner.execute(script)
        await owner.execute(script)  # it may be run again
        await owner.execute(
            "INSERT INTO hour (stack_id, start, status, cause, co2_kg, measured_kg, operating_fraction, coverage,"
            " count, late_count, flags, method, policy, version)"
            " VALUES ($1, $2, 'valid', '', 400, 400, 1, 0.9, 700, 0, 0, 'measured', 'share', 1),"
            " ($1, $3, 'invalid', 'communication', NULL, 120, 1, 0.3, 200, 0, 0, 'measured', 'share', 1)",
            site.stack.id, NOON, NOON + timedelta(hours=1),
        )  # fmt: skip
        await owner.execute("SET ROLE carbontrack_reader")
        found = {
            (name, panel["title"]): await owner.fetch(filled_in(target["rawSql"]))
            for name, dashboard in DASHBOARDS.items()
            for panel in panels(dashboard)
            for target in panel["targets"]
            if "rawSql" in target
        }
        assert found["network", "CO2 measured"][0][0] == 0.52
        assert found["network", "Of valid hours"][0][0] == 0.4
        assert [row["Factory"] for row in found["network", "Factories"]] == ["Kangaita"]
        assert found["factory", "Hours not valid"][0][0] == 1
        (variable,) = (each for each in DASHBOARDS["factory"]["templating"]["list"] if each["name"] == "factory")
        assert [tuple(row) for row in await owner.fetch(variable["query"])] == [("Kangaita", "kangaita")]
        for table in ("user_account", "audit_event", "energy_entry"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await owner.fetch(f"SELECT * FROM {table}")
        await owner.execute("RESET ROLE")
    finally:
        await owner.execute("DROP OWNED BY carbontrack_reader; DROP ROLE carbontrack_reader")
        await owner.close()


def test_what_grafana_is_given_at_its_start_names_no_machine_and_no_password() -> None:
    yaml = YAML(typ="safe", pure=True)
    sources = yaml.load(FILES / "provisioning" / "datasources" / "carbontrack.yaml")["datasources"]
    (provider,) = yaml.load(FILES / "provisioning" / "dashboards" / "carbontrack.yaml")["providers"]

    assert {source["type"] for source in sources} == set(KINDS.values())
    for source in sources:
        assert "uid" not in source
        assert re.fullmatch(r"\$\w+", source["url"])
        for secret in source.get("secureJsonData", {}).values():
            assert re.fullmatch(r"\$\w+", secret)
    document = (ROOT / "docs" / "deploy" / "monitoring.md").read_text()
    for variable in re.findall(r"\$(\w+)", (FILES / "provisioning" / "datasources" / "carbontrack.yaml").read_text()):
        assert f"`{variable}`" in document
    assert Path(provider["options"]["path"]).is_absolute()
    assert provider["options"]["path"] in document
