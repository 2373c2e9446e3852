"""Tiers that carry integrals: 5 minutes, hours with their versions, days; meters by day; the raw pressure difference.

The 5-minute tier is derived from the readings: it is made anew, and every bucket that has readings is marked for it.
"""

from tortoise import migrations
from tortoise.migrations import operations as ops

_HOUR_COLUMNS = """
    stack_id INTEGER NOT NULL,
    start TIMESTAMPTZ NOT NULL,
    status VARCHAR(16) NOT NULL,
    cause VARCHAR(16) NOT NULL,
    co2_kg DOUBLE PRECISION,
    measured_kg DOUBLE PRECISION NOT NULL,
    operating_fraction DOUBLE PRECISION,
    coverage DOUBLE PRECISION NOT NULL,
    mean_kg_per_s DOUBLE PRECISION,
    mean_co2_fraction DOUBLE PRECISION,
    mean_flow_nm3_per_s DOUBLE PRECISION,
    mean_temperature_c DOUBLE PRECISION,
    product_of_means_kg_per_s DOUBLE PRECISION,
    count INTEGER NOT NULL,
    late_count INTEGER NOT NULL,
    flags BIGINT NOT NULL,
    method VARCHAR(16) NOT NULL,
    policy VARCHAR(16) NOT NULL,
    min_kg_per_s DOUBLE PRECISION,
    max_kg_per_s DOUBLE PRECISION,
    version INTEGER NOT NULL
"""

TABLES = f"""
ALTER TABLE reading ADD COLUMN pressure_difference_pa REAL;
DROP TABLE tier_5min;
CREATE TABLE tier_5min (
    stack_id INTEGER NOT NULL,
    start TIMESTAMPTZ NOT NULL,
    count INTEGER NOT NULL,
    late_count INTEGER NOT NULL,
    running_s DOUBLE PRECISION NOT NULL,
    off_s DOUBLE PRECISION NOT NULL,
    valid_s DOUBLE PRECISION NOT NULL,
    co2_kg DOUBLE PRECISION NOT NULL,
    co2_s DOUBLE PRECISION NOT NULL,
    co2_fraction_s DOUBLE PRECISION NOT NULL,
    flow_s DOUBLE PRECISION NOT NULL,
    flow_nm3 DOUBLE PRECISION NOT NULL,
    temperature_s DOUBLE PRECISION NOT NULL,
    temperature_c_s DOUBLE PRECISION NOT NULL,
    no_co2_s DOUBLE PRECISION NOT NULL,
    min_kg_per_s DOUBLE PRECISION,
    max_kg_per_s DOUBLE PRECISION,
    flags BIGINT NOT NULL,
    PRIMARY KEY (stack_id, start)
);
CREATE TABLE hour ({_HOUR_COLUMNS}, PRIMARY KEY (stack_id, start));
CREATE TABLE hour_version ({_HOUR_COLUMNS}, replaced_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (stack_id, start, version));
CREATE TABLE tier_day (
    stack_id INTEGER NOT NULL,
    day DATE NOT NULL,
    valid_hours INTEGER NOT NULL,
    not_operating_hours INTEGER NOT NULL,
    invalid_hours INTEGER NOT NULL,
    operating_h DOUBLE PRECISION NOT NULL,
    coverage DOUBLE PRECISION NOT NULL,
    co2_kg DOUBLE PRECISION NOT NULL,
    measured_kg DOUBLE PRECISION NOT NULL,
    mean_kg_per_s DOUBLE PRECISION,
    min_kg_per_s DOUBLE PRECISION,
    max_kg_per_s DOUBLE PRECISION,
    count INTEGER NOT NULL,
    late_count INTEGER NOT NULL,
    PRIMARY KEY (stack_id, day)
);
CREATE TABLE meter_day (
    device_id VARCHAR(64) NOT NULL,
    factory_id INTEGER NOT NULL,
    stack_id INTEGER NOT NULL,
    meter VARCHAR(24) NOT NULL,
    kind VARCHAR(24) NOT NULL,
    unit VARCHAR(12) NOT NULL,
    day DATE NOT NULL,
    amount DOUBLE PRECISION NOT NULL,
    resets INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    covered_from TIMESTAMPTZ NOT NULL,
    covered_until TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (device_id, meter, day)
);
CREATE INDEX meter_day_factory ON meter_day (factory_id, day);
CREATE INDEX device_record_time ON device_record (kind, stream_id, measured_at);
CREATE INDEX device_record_meter ON device_record (received_at) WHERE kind = 'meter';
"""
MARK_POSTGRES = """
INSERT INTO dirty_bucket (stack_id, start)
SELECT DISTINCT stack_id, to_timestamp(floor(extract(epoch FROM measured_at) / 300) * 300) FROM reading;
"""
MARK_SQLITE = """
INSERT INTO dirty_bucket (stack_id, start) SELECT DISTINCT stack_id, measured_at / 300000 * 300000 FROM reading;
"""
_SQLITE_TYPES = (("TIMESTAMPTZ", "INTEGER"), ("DOUBLE PRECISION", "REAL"), (" DATE ", " TEXT "))

OLD_TIER = """
DROP INDEX device_record_meter;
DROP INDEX device_record_time;
DROP TABLE meter_day;
DROP TABLE tier_day;
DROP TABLE hour_version;
DROP TABLE hour;
DROP TABLE tier_5min;
CREATE TABLE tier_5min (
    stack_id INTEGER NOT NULL,
    start TIMESTAMPTZ NOT NULL,
    count INTEGER NOT NULL,
    seconds REAL NOT NULL,
    co2_kg DOUBLE PRECISION NOT NULL,
    mean_kg_per_s REAL,
    min_kg_per_s REAL,
    max_kg_per_s REAL,
    PRIMARY KEY (stack_id, start)
);
ALTER TABLE reading DROP COLUMN pressure_difference_pa;
"""


def _sqlite(script: str) -> str:
    for postgres, sqlite in _SQLITE_TYPES:
        script = script.replace(postgres, sqlite)
    return script


async def create(apps, editor) -> None:
    postgres = editor.client.capabilities.dialect == "postgres"
    await editor.client.execute_script(TABLES + MARK_POSTGRES if postgres else _sqlite(TABLES) + MARK_SQLITE)


async def drop(apps, editor) -> None:
    postgres = editor.client.capabilities.dialect == "postgres"
    script = OLD_TIER if postgres else _sqlite(OLD_TIER)
    await editor.client.execute_script(script + (MARK_POSTGRES if postgres else MARK_SQLITE))


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0003_accounting")]

    operations = [ops.RunPython(create, reverse_code=drop)]
