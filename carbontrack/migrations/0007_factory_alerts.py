"""An alert of a factory as a whole: it has a factory and no device. Every alert has one of the two."""

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops

POSTGRES = """
ALTER TABLE alert ALTER COLUMN device_id DROP NOT NULL;
ALTER TABLE alert ADD COLUMN factory_id INTEGER REFERENCES factory (id) ON DELETE CASCADE;
ALTER TABLE alert ADD CONSTRAINT alert_of_one CHECK ((device_id IS NULL) <> (factory_id IS NULL));
CREATE UNIQUE INDEX alert_one_open_factory ON alert (factory_id, rule) WHERE cleared_at IS NULL;
"""
POSTGRES_BACK = """
DELETE FROM alert WHERE device_id IS NULL;
DROP INDEX alert_one_open_factory;
ALTER TABLE alert DROP COLUMN factory_id;
ALTER TABLE alert ALTER COLUMN device_id SET NOT NULL;
"""
# SQLite cannot make a column nullable: the table is made anew. Nothing refers to it.
_SQLITE = """
CREATE TABLE alert_made_anew (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    rule VARCHAR(80) NOT NULL,
    severity VARCHAR(12) NOT NULL,
    message TEXT NOT NULL,
    raised_at TIMESTAMP NOT NULL,
    cleared_at TIMESTAMP,
    {device}
);
INSERT INTO alert_made_anew (id, rule, severity, message, raised_at, cleared_at, device_id)
SELECT id, rule, severity, message, raised_at, cleared_at, device_id FROM alert WHERE device_id IS NOT NULL;
DROP TABLE alert;
ALTER TABLE alert_made_anew RENAME TO alert;
CREATE UNIQUE INDEX alert_one_open ON alert (device_id, rule) WHERE cleared_at IS NULL;
CREATE INDEX alert_raised ON alert (raised_at);
"""
SQLITE = (
    _SQLITE.format(
        device="device_id INT REFERENCES device (id) ON DELETE CASCADE,"
        "factory_id INT REFERENCES factory (id) ON DELETE CASCADE,"
        "CONSTRAINT alert_of_one CHECK ((device_id IS NULL) <> (factory_id IS NULL))"
    )
    + "CREATE UNIQUE INDEX alert_one_open_factory ON alert (factory_id, rule) WHERE cleared_at IS NULL;"
)
SQLITE_BACK = _SQLITE.format(device="device_id INT NOT NULL REFERENCES device (id) ON DELETE CASCADE")


async def create(apps, editor) -> None:
    postgres = editor.client.capabilities.dialect == "postgres"
    await editor.client.execute_script(POSTGRES if postgres else SQLITE)


async def drop(apps, editor) -> None:
    postgres = editor.client.capabilities.dialect == "postgres"
    await editor.client.execute_script(POSTGRES_BACK if postgres else SQLITE_BACK)


class AlreadyThere:
    """What Tortoise is told of a column that the SQL above has made."""

    async def database_forward(self, app_label, old_state, new_state, state_editor=None):
        pass

    async def database_backward(self, app_label, old_state, new_state, state_editor=None):
        pass


class NullableField(AlreadyThere, ops.AlterField):
    pass


class NewField(AlreadyThere, ops.AddField):
    pass


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0006_device_passwords")]

    operations = [
        ops.RunPython(create, reverse_code=drop),
        NullableField(
            "AlertRow",
            "device",
            fields.ForeignKeyField('carbontrack.DeviceRow', source_field='device_id', null=True, db_constraint=True, to_field='id', related_name='alerts', on_delete=OnDelete.CASCADE),
        ),
        NewField(
            "AlertRow",
            "factory",
            fields.ForeignKeyField('carbontrack.FactoryRow', source_field='factory_id', null=True, db_constraint=True, to_field='id', related_name='alerts', on_delete=OnDelete.CASCADE),
        ),
    ]
