"""A small compliance report to try a format on: two factories, a correction that three people have signed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from carbontrack.compliance import (
    Cell,
    Check,
    Column,
    ComplianceReport,
    ReportStatus,
    Severity,
    Signature,
    Table,
    frozen,
)
from carbontrack.seal import place
from carbontrack.testing.examples import NOON

SEAL_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
"""A key that everybody knows: what it signs says nothing."""
_DAY = timedelta(days=1)
_START = NOON.replace(hour=21) - 30 * _DAY


def compliance_report(**changed: Any) -> ComplianceReport:
    """A final report of February with some of the tables that a real one has, and the place of a seal.

    Some values are not known, which is None. ``changed`` are fields of the report; its hash and its seal follow them.
    """
    values: dict[str, Any] = {
        "reference": "CT-7-v2",
        "title": "Two factories, February 2026",
        "status": ReportStatus.FINAL,
        "period_start": _START,
        "period_end": _START + 28 * _DAY,
        "time_zone": "Africa/Nairobi",
        "versions": {"software": "1.0.0", "formulas": "ct-1", "factors": "2026-01"},
        "tables": _tables(),
        "checks": (
            Check("availability", Severity.WARNING, "kangaita", "Kangaita, Boiler 1: 84 % of the hours are valid."),
            Check("biomass_evidence", Severity.INFO, "imenti", "Imenti: 2 deliveries have no evidence."),
        ),
        "signatures": (
            Signature("prepared", "wanjiru@example.org", NOON),
            Signature("reviewed", "otieno@example.org", NOON + _DAY),
            Signature("approved", "mutua@example.org", NOON + 2 * _DAY),
        ),
        "supersedes": "CT-7-v1",
        "reason": "A delivery of firewood was entered twice.",
        "made_at": NOON + 2 * _DAY,
    }
    made = frozen(ComplianceReport(**(values | changed)))
    return made if made.seal else replace(made, seal=place(made.reference, made.sha256, SEAL_KEY.public_key()))


def empty_compliance_report() -> ComplianceReport:
    """A draft whose tables have no rows, without checks and signatures: a format makes a file of it all the same."""
    none: dict[str, Any] = {"checks": (), "signatures": (), "supersedes": "", "reason": "", "made_at": None}
    tables = tuple(replace(table, rows=()) for table in _tables())
    return compliance_report(reference="draft", status=ReportStatus.DRAFT, tables=tables, **none)


def _tables() -> tuple[Table, ...]:
    return (
        _table(
            "identity",
            "Factories",
            "factory|Factory; name|Name; legal_entity|Legal entity; county|County; region|KTDA region;"
            " un_locode|UN/LOCODE; latitude|Latitude|deg; longitude|Longitude|deg; altitude|Altitude|m;"
            " pressure|Air pressure, where given|kPa",
            ("kangaita", "Kangaita Tea Factory", "Kangaita Company", "Kirinyaga", "3", "", -0.5, 37.3, 2036.0, None),
            ("imenti", "Imenti Tea Factory", "", "Meru", "4", "", -0.1, 37.6, 1890.0, 81.2),
        ),
        _table(
            "results",
            "Results",
            "factory|Factory; figure|Name; title|What; scope|Scope; mass|Mass|kg; u_expanded|U (k = 2), relative;"
            " basis|Basis; formula|Formula; remarks|Remarks",
            *(
                (slug, "biogenic_co2", "Biogenic CO2", "memo item", mass, 0.09, "measured", "ct-account-1", "")
                for slug, mass in (("kangaita", 312_450.25), ("imenti", None))
            ),
            ("kangaita", "fossil_co2", "Fossil CO2", "scope 1", 0.0, 0.05, "calculated", "ct-account-1", ""),
            note="The figures do not add up to anything: they are of different kinds.",
        ),
        _table(
            "results_by_fuel",
            "Energy, and CO2 calculated from it",
            "factory|Factory; energy|Energy; amount|Amount; unit|Unit; energy_gj|Energy|GJ;"
            " biogenic_co2|Biogenic CO2|kg; fossil_co2|Fossil CO2|kg;"
            " ch4|CH4|kg; n2o|N2O|kg; grid_co2e|Grid, as CO2e|kg",
            ("kangaita", "firewood", 210_000.0, "kg", 2785.5, 311_975.2, 0.0, 83.6, 11.1, 0.0),
        ),
        _table(
            "production",
            "Production",
            "factory|Factory; green_leaf|Green leaf|kg; made_tea|Made tea|kg; wood|Firewood, as weighed|kg;"
            " entries|Entries of tea",
            ("kangaita", 441_000.0, 98_000.0, 210_000.0, 28),
            ("imenti", None, None, None, 0),
        ),
        _table(
            "days",
            "Days",
            "factory|Factory; stack|Chimney; day|Local day; co2|CO2|kg; measured|Of it measured|kg; hours|Hours|h",
            *(
                ("kangaita", "Boiler 1", f"2026-02-{day:02}", None if day == 9 else 11_000.5 + day, 10_000.0, 24)
                for day in range(1, 29)
            ),
        ),
    )


def _table(name: str, title: str, columns: str, *rows: tuple[Cell, ...], note: str = "") -> Table:
    specs = [spec.strip().split("|") for spec in columns.split(";")]
    return Table(name, title, tuple(Column(*spec) for spec in specs), rows, note)
