"""Raw readings as they were measured and nothing else, in narrow rows; on PostgreSQL a table for each day.

What follows from a reading (its rate, its flow) is worked out under the monitoring plan whenever it is asked for, so a
row is never changed. ``source`` stands for a stream in a stack, and for the upper part of the sequence number.
"""

from datetime import timedelta

from tortoise import migrations
from tortoise.migrations import operations as ops

FROM_PITOT = 1 << 29
COMMON = """
CREATE TABLE source (
    id SERIAL PRIMARY KEY,
    stream_id INTEGER NOT NULL,
    stack_id INTEGER NOT NULL,
    base_seq BIGINT NOT NULL,
    UNIQUE (stream_id, stack_id, base_seq)
);
CREATE INDEX source_stack ON source (stack_id);
INSERT INTO source (stream_id, stack_id, base_seq)
SELECT DISTINCT stream_id, stack_id, seq / 2147483648 * 2147483648 FROM reading;
ALTER TABLE stream ADD COLUMN last_seq BIGINT;
CREATE TABLE archive_file (
    name VARCHAR(80) PRIMARY KEY,
    kind VARCHAR(16) NOT NULL,
    day DATE NOT NULL,
    rows BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    made_at TIMESTAMPTZ NOT NULL,
    kept_until DATE
);
CREATE INDEX archive_file_day ON archive_file (day);
CREATE TABLE recovery (
    id BIGSERIAL PRIMARY KEY,
    device_id VARCHAR(64) NOT NULL,
    factory_id INTEGER NOT NULL,
    stack_id INTEGER NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    readings INTEGER NOT NULL,
    recovered_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX recovery_time ON recovery (recovered_at);
"""
# The 8-byte column stands where it needs no padding; without a NULL a row has 24 + 40 bytes and a 4-byte pointer.
_READING = """
CREATE TABLE {name} (
    source_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    measured_at TIMESTAMPTZ NOT NULL,
    received_after_s REAL NOT NULL,
    co2_ppm REAL,
    temperature_c REAL,
    flow_signal REAL,
    pressure_kpa REAL,
    flags INTEGER NOT NULL,
    {key}
){suffix};
"""
_RECORD = """
CREATE TABLE device_record (
    stream_id INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    kind VARCHAR(16) NOT NULL,
    measured_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (stream_id, seq, measured_at)
) PARTITION BY RANGE (measured_at);
CREATE INDEX device_record_time ON device_record (kind, stream_id, measured_at);
CREATE INDEX device_record_meter ON device_record (received_at) WHERE kind = 'meter';
"""
POSTGRES = (
    COMMON
    + "ALTER TABLE reading RENAME TO reading_before; ALTER TABLE device_record RENAME TO device_record_before;"
    + "DROP INDEX device_record_time; DROP INDEX device_record_meter;"
    + "ALTER TABLE reading_before RENAME CONSTRAINT reading_pkey TO reading_before_pkey;"
    + "ALTER TABLE device_record_before RENAME CONSTRAINT device_record_pkey TO device_record_before_pkey;"
    + _READING.format(
        name="reading", key="PRIMARY KEY (source_id, seq, measured_at) WITH (fillfactor = 100)",  # its rows never change
        suffix=" PARTITION BY RANGE (measured_at)",
    )
    + _RECORD
)
DAYS = """
SELECT DISTINCT (measured_at AT TIME ZONE 'UTC')::date AS day FROM reading_before
UNION SELECT DISTINCT (measured_at AT TIME ZONE 'UTC')::date FROM device_record_before ORDER BY day
"""
MOVE_POSTGRES = f"""
INSERT INTO reading
SELECT s.id, (r.seq - s.base_seq)::integer, r.measured_at, extract(epoch FROM r.received_at - r.measured_at)::real,
    r.co2_ppm, r.temperature_c,
    CASE WHEN r.flags & {FROM_PITOT} <> 0 THEN r.pressure_difference_pa ELSE r.velocity_ms END, r.pressure_kpa, r.flags
FROM reading_before r JOIN source s
ON s.stream_id = r.stream_id AND s.stack_id = r.stack_id AND s.base_seq = r.seq / 2147483648 * 2147483648
ON CONFLICT DO NOTHING;
INSERT INTO device_record SELECT * FROM device_record_before;
UPDATE stream SET last_seq = (
    SELECT max(r.seq) FROM reading_before r WHERE r.stack_id = stream.last_stack_id AND r.stream_id = stream.id
    AND r.measured_at = to_timestamp(stream.last_measured_ms / 1000.0));
DROP TABLE reading_before;
DROP TABLE device_record_before;
"""
_SQLITE_TYPES = (
    ("BIGSERIAL PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    ("SERIAL PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    ("TIMESTAMPTZ", "INTEGER"),
    (" DATE", " TEXT"),
)
# SQLite has no tables by day: there the time comes first, so that a day is found without a look at all others.
SQLITE = (
    COMMON
    + _READING.format(
        name="reading_new", key="PRIMARY KEY (source_id, measured_at, seq)", suffix=" WITHOUT ROWID"
    )
    + f"""
INSERT OR IGNORE INTO reading_new
SELECT s.id, r.seq - s.base_seq, r.measured_at, (r.received_at - r.measured_at) / 1000.0, r.co2_ppm, r.temperature_c,
    CASE WHEN r.flags & {FROM_PITOT} <> 0 THEN r.pressure_difference_pa ELSE r.velocity_ms END, r.pressure_kpa, r.flags
FROM reading r JOIN source s
ON s.stream_id = r.stream_id AND s.stack_id = r.stack_id AND s.base_seq = r.seq / 2147483648 * 2147483648;
UPDATE stream SET last_seq = (
    SELECT max(r.seq) FROM reading r WHERE r.stack_id = stream.last_stack_id AND r.stream_id = stream.id
    AND r.measured_at = stream.last_measured_ms);
DROP TABLE reading;
ALTER TABLE reading_new RENAME TO reading;
CREATE INDEX device_record_day ON device_record (measured_at);
"""
)

_OLD_READING = """
CREATE TABLE reading_old (
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
    pressure_difference_pa REAL,
    PRIMARY KEY (stack_id, measured_at, stream_id, seq)
);
"""
_BACK = f"""
INSERT INTO reading_old (stack_id, stream_id, seq, measured_at, received_at, co2_ppm, temperature_c, velocity_ms,
    pressure_kpa, flags, pressure_difference_pa)
SELECT s.stack_id, s.stream_id, s.base_seq + r.seq, r.measured_at, {{received}}, r.co2_ppm, r.temperature_c,
    CASE WHEN r.flags & {FROM_PITOT} = 0 THEN r.flow_signal END, r.pressure_kpa, r.flags,
    CASE WHEN r.flags & {FROM_PITOT} <> 0 THEN r.flow_signal END
FROM reading r JOIN source s ON s.id = r.source_id;
DROP TABLE reading;
ALTER TABLE reading_old RENAME TO reading;
DROP TABLE recovery;
DROP TABLE archive_file;
DROP TABLE source;
ALTER TABLE stream DROP COLUMN last_seq;
"""
BACK_POSTGRES = (
    _OLD_READING
    + _BACK.format(received="r.measured_at + make_interval(secs => r.received_after_s)")
    + "ALTER TABLE reading RENAME CONSTRAINT reading_old_pkey TO reading_pkey;"
    + "ALTER TABLE device_record RENAME TO device_record_new;"
    + "DROP INDEX device_record_time; DROP INDEX device_record_meter;"
    + """
CREATE TABLE device_record_old (
    stream_id INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    kind VARCHAR(16) NOT NULL,
    measured_at TIMESTAMPTZ NOT NULL,
    received_at TIMESTAMPTZ NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (stream_id, seq)
);
INSERT INTO device_record_old SELECT * FROM device_record_new ON CONFLICT DO NOTHING;
DROP TABLE device_record_new;
ALTER TABLE device_record_old RENAME TO device_record;
ALTER TABLE device_record RENAME CONSTRAINT device_record_old_pkey TO device_record_pkey;
CREATE INDEX device_record_time ON device_record (kind, stream_id, measured_at);
CREATE INDEX device_record_meter ON device_record (received_at) WHERE kind = 'meter';
"""
)


def _sqlite(script: str) -> str:
    for postgres, sqlite in _SQLITE_TYPES:
        script = script.replace(postgres, sqlite)
    return script


async def create(apps, editor) -> None:
    client = editor.client
    if client.capabilities.dialect != "postgres":
        await client.execute_script(_sqlite(SQLITE))
        return
    await client.execute_script(POSTGRES)
    for row in await client.execute_query_dict(DAYS):
        day, after = row["day"], row["day"] + timedelta(days=1)
        for table in ("reading", "device_record"):
            await client.execute_script(
                f"CREATE TABLE {table}_{day:%Y%m%d} PARTITION OF {table} "
                f"FOR VALUES FROM ('{day}T00:00:00Z') TO ('{after}T00:00:00Z')"
            )
    await client.execute_script(MOVE_POSTGRES)


async def drop(apps, editor) -> None:
    """What has been archived and removed from the database does not come back by this."""
    if editor.client.capabilities.dialect == "postgres":
        await editor.client.execute_script(BACK_POSTGRES)
        return
    back = _BACK.format(received="r.measured_at + CAST(round(r.received_after_s * 1000) AS INTEGER)")
    await editor.client.execute_script("DROP INDEX device_record_day;" + _sqlite(_OLD_READING) + _sqlite(back))


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0004_tiers")]

    operations = [ops.RunPython(create, reverse_code=drop)]
