"""What is sent into quarantine again and again is one row with a count; what became of a row is kept beside it."""

from tortoise import migrations
from tortoise.migrations import operations as ops

FORWARD = """
ALTER TABLE quarantine ADD COLUMN digest VARCHAR(32) NOT NULL DEFAULT '';
ALTER TABLE quarantine ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
ALTER TABLE quarantine ADD COLUMN last_received_at {time} NOT NULL DEFAULT {epoch};
ALTER TABLE quarantine ADD COLUMN replayed_at {time};
ALTER TABLE quarantine ADD COLUMN replayed_by VARCHAR(254);
ALTER TABLE quarantine ADD COLUMN replay_outcome TEXT;
ALTER TABLE quarantine ADD COLUMN dismissed_at {time};
ALTER TABLE quarantine ADD COLUMN dismissed_by VARCHAR(254);
ALTER TABLE quarantine ADD COLUMN dismiss_reason TEXT;
UPDATE quarantine SET last_received_at = received_at;
CREATE INDEX quarantine_digest ON quarantine (digest, last_received_at);
CREATE INDEX quarantine_device ON quarantine (device_id, id);
"""
COLUMNS = (
    "digest",
    "times",
    "last_received_at",
    "replayed_at",
    "replayed_by",
    "replay_outcome",
    "dismissed_at",
    "dismissed_by",
    "dismiss_reason",
)
BACK = "DROP INDEX quarantine_device; DROP INDEX quarantine_digest;" + "".join(
    f"ALTER TABLE quarantine DROP COLUMN {column};" for column in COLUMNS
)


async def create(apps, editor) -> None:
    is_postgres = editor.client.capabilities.dialect == "postgres"
    time, epoch = ("TIMESTAMPTZ", "'epoch'") if is_postgres else ("INTEGER", "0")
    await editor.client.execute_script(FORWARD.format(time=time, epoch=epoch))


async def drop(apps, editor) -> None:
    await editor.client.execute_script(BACK)


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0009_accounts")]

    operations = [ops.RunPython(create, reverse_code=drop)]
