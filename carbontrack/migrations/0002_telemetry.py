"""The telemetry tables, in each engine's own SQL: narrow rows that the ORM would only slow down."""

from tortoise import migrations
from tortoise.migrations import operations as ops

# Sequence numbers and times are what the device and the platform said; numbers are 32-bit floats (EN 17255-2, 6.2.2).
POSTGRES = """
CREATE TABLE stream (
    id SERIAL PRIMARY KEY,
    device_id VARCHAR(64) NOT NULL,
    sid VARCHAR(32) NOT NULL,
    watermark BIGINT NOT NULL DEFAULT 0,
    beyond TEXT NOT NULL DEFAULT '[]',
    anchors TEXT NOT NULL DEFAULT '{}',
    last_measured_ms BIGINT NOT NULL DEFAULT 0,
    last_stack_id INTEGER,
    last_received_at TIMESTAMPTZ,
    UNIQUE (device_id, sid)
) WITH (fillfactor = 70);
CREATE TABLE reading (
    stack_id INTEGER NOT NULL,
    stream_id INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    measured_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    co2_ppm REAL,
    temperature_c REAL,
    velocity_ms REAL,
    pressure_kpa REAL,
    flow_rate_m3s REAL,
    co2_kg_per_s REAL,
    flags INTEGER NOT NULL,
    PRIMARY KEY (stack_id, measured_at, stream_id, seq)
);
CREATE TABLE device_record (
    stream_id INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    kind VARCHAR(16) NOT NULL,
    measured_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (stream_id, seq)
);
CREATE TABLE dirty_bucket (
    id BIGSERIAL PRIMARY KEY,
    stack_id INTEGER NOT NULL,
    start TIMESTAMPTZ NOT NULL
);
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
CREATE TABLE quarantine (
    id BIGSERIAL PRIMARY KEY,
    device_id VARCHAR(64) NOT NULL,
    factory_id INTEGER,
    cause VARCHAR(40) NOT NULL,
    detail TEXT NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    body BYTEA NOT NULL
);
CREATE INDEX quarantine_factory ON quarantine (factory_id, id);
CREATE UNIQUE INDEX alert_one_open ON alert (device_id, rule) WHERE cleared_at IS NULL;
CREATE INDEX alert_raised ON alert (raised_at);
INSERT INTO registry (id, revision) VALUES (1, 0);
"""

_SQLITE_TYPES = (
    ("BIGSERIAL PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    ("SERIAL PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    (" WITH (fillfactor = 70)", ""),
    ("TIMESTAMPTZ", "INTEGER"),  # ms since 1970, UTC: SQLite has no time type, and its text form is slow to compare
    ("DOUBLE PRECISION", "REAL"),
    ("BYTEA", "BLOB"),
)
TABLES = ("quarantine", "tier_5min", "dirty_bucket", "device_record", "reading", "stream")


def _sqlite(script: str) -> str:
    for postgres, sqlite in _SQLITE_TYPES:
        script = script.replace(postgres, sqlite)
    return script


async def create(apps, editor) -> None:
    postgres = editor.client.capabilities.dialect == "postgres"
    await editor.client.execute_script(POSTGRES if postgres else _sqlite(POSTGRES))


async def drop(apps, editor) -> None:
    await editor.client.execute_script("DROP INDEX alert_raised; DROP INDEX alert_one_open;")
    await editor.client.execute_script("".join(f"DROP TABLE {table};" for table in TABLES))


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0001_registry")]

    operations = [ops.RunPython(create, reverse_code=drop)]
