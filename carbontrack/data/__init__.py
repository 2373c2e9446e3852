"""Data that comes with Carbon Track: emission factors, and the tea factories of the demonstration.

``ktda_factories.csv`` lists 73 tea factories in Kenya. Where they stand is approximate: most latitudes and longitudes
are those of the nearest locality and may be 15 km off, so they place a dot on a map of the country and nothing finer.

``altitude_m`` is metres above sea level. ``altitude_source`` says how good it is: ``published``, or ``estimated`` as
the mean of the published altitudes of the factory's region, rounded to 10 m. Regions 6 and 7 have no published
altitude at all; there the mean of all published ones stands in. Maramba is in no region of the source and counts with
its county to Region 1. An altitude that is 100 m wrong makes the air pressure, and with it a rate, 1.2 % wrong:
before real emissions are reported, a factory's own altitude or pressure belongs into the registry.

``in_demo`` is ``yes`` for the 67 factories of the demonstration.
"""

from __future__ import annotations

import csv
from importlib.resources import files

from ruamel.yaml import YAML

from carbontrack.model import Factory


def load_factories(*, demo_only: bool = True) -> list[Factory]:
    """The factories in the order of the file, not yet in any registry (their ``id`` is 0)."""
    text = files(__name__).joinpath("ktda_factories.csv").read_text(encoding="utf-8")
    return [_factory(row) for row in csv.DictReader(text.splitlines()) if row["in_demo"] == "yes" or not demo_only]


def _factory(row: dict[str, str]) -> Factory:
    return Factory(
        id=0,
        name=row["name"],
        slug=row["slug"],
        county=row["county"],
        region=row["region"],
        latitude=float(row["latitude"]),
        longitude=float(row["longitude"]),
        altitude_m=float(row["altitude_m"]),
    )


def load_factor_rows() -> object:
    """The rows of ``factors.yaml`` as the file has them, for :func:`carbontrack.emissions.factors.parse_factors`."""
    return YAML(typ="safe").load(files(__name__).joinpath("factors.yaml").read_text(encoding="utf-8"))
