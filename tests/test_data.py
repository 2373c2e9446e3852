"""The factories that come with Carbon Track."""

from __future__ import annotations

import csv
from collections import Counter
from importlib.resources import files
from statistics import mean

from carbontrack.data import load_factories


def rows() -> list[dict[str, str]]:
    text = files("carbontrack.data").joinpath("ktda_factories.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_there_are_73_factories_and_67_of_them_are_in_the_demonstration() -> None:
    assert len(load_factories(demo_only=False)) == 73
    assert len(load_factories()) == 67


def test_every_factory_has_a_slug_of_its_own_that_fits_into_a_device_id() -> None:
    slugs = [factory.slug for factory in load_factories(demo_only=False)]

    assert len(set(slugs)) == len(slugs)
    assert all(slug.replace("-", "").isalnum() and slug.islower() for slug in slugs)


def test_every_factory_is_where_tea_grows_in_kenya() -> None:
    for factory in load_factories(demo_only=False):
        assert 1400 <= factory.altitude_m <= 2600
        assert factory.latitude is not None
        assert factory.longitude is not None
        assert -1.5 < factory.latitude < 1.5
        assert 34 < factory.longitude < 38.5


def test_a_factory_is_not_in_a_registry_yet_and_has_its_pressure_from_its_altitude() -> None:
    for factory in load_factories(demo_only=False):
        assert factory.id == 0
        assert factory.pressure_kpa is None


def test_every_factory_belongs_to_one_of_seven_regions() -> None:
    regions = Counter(factory.region for factory in load_factories(demo_only=False))

    assert set(regions) == {f"Region {number}" for number in range(1, 8)}


def test_an_estimated_altitude_is_the_mean_of_the_published_ones_of_its_region() -> None:
    published: dict[str, list[int]] = {}
    for row in rows():
        if row["altitude_source"] == "published":
            published.setdefault(row["region"], []).append(int(row["altitude_m"]))
    everywhere = [altitude for region in published.values() for altitude in region]

    for row in rows():
        if row["altitude_source"] != "published":
            assert row["altitude_source"] == "estimated"
            assert int(row["altitude_m"]) == round(mean(published.get(row["region"], everywhere)), -1)


def test_a_known_factory_is_as_in_the_file() -> None:
    (kangaita,) = (factory for factory in load_factories() if factory.slug == "kangaita")

    assert kangaita.name == "Kangaita Tea Factory"
    assert kangaita.county == "Kirinyaga"
    assert kangaita.region == "Region 3"
    assert kangaita.altitude_m == 2036
