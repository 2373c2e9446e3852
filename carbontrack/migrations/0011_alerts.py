"""What is done about an alert, and what a restart must not forget: who was told, who saw it, how long a breach held."""

from typing import Any

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

# An alert is of a device, of a factory, or of the whole network, and never of two of them.
OF_ONE_AT_MOST = "CONSTRAINT alert_of_one CHECK (device_id IS NULL OR factory_id IS NULL)"
ONE_OPEN_OF_THE_NETWORK = """
CREATE UNIQUE INDEX alert_one_open_network ON alert (rule)
    WHERE cleared_at IS NULL AND device_id IS NULL AND factory_id IS NULL;
CREATE INDEX alert_to_tell ON alert (id) WHERE cleared_told_at IS NULL AND part_of IS NULL;
CREATE INDEX alert_part_of ON alert (part_of) WHERE part_of IS NOT NULL;
UPDATE alert SET raised_told_at = raised_at, cleared_told_at = cleared_at, last_told_at = raised_at;
"""
NEW = (
    ("value", "{real}"),
    ("limit_value", "{real}"),
    ("unit", "VARCHAR(40) NOT NULL DEFAULT ''"),
    ("is_late", "{no}"),
    ("part_of", "BIGINT"),
    ("acknowledged_at", "{time}"),
    ("acknowledged_by", "VARCHAR(254) NOT NULL DEFAULT ''"),
    ("acknowledge_comment", "TEXT NOT NULL DEFAULT ''"),
    ("shelved_until", "{time}"),
    ("shelved_by", "VARCHAR(254) NOT NULL DEFAULT ''"),
    ("shelve_comment", "TEXT NOT NULL DEFAULT ''"),
    ("raised_told_at", "{time}"),
    ("cleared_told_at", "{time}"),
    ("last_told_at", "{time}"),
    ("escalation", "INTEGER NOT NULL DEFAULT 0"),
)
OLD_INDEXES = """
CREATE UNIQUE INDEX alert_one_open ON alert (device_id, rule) WHERE cleared_at IS NULL;
CREATE UNIQUE INDEX alert_one_open_factory ON alert (factory_id, rule) WHERE cleared_at IS NULL;
CREATE INDEX alert_raised ON alert (raised_at);
"""
# SQLite cannot change a check: the table is made anew. Nothing refers to it yet.
MADE_ANEW = """
CREATE TABLE alert_made_anew (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    rule VARCHAR(80) NOT NULL,
    severity VARCHAR(12) NOT NULL,
    message TEXT NOT NULL,
    raised_at TIMESTAMP NOT NULL,
    cleared_at TIMESTAMP,
    device_id INT REFERENCES device (id) ON DELETE CASCADE,
    factory_id INT REFERENCES factory (id) ON DELETE CASCADE,
    {more}
);
INSERT INTO alert_made_anew (id, rule, severity, message, raised_at, cleared_at, device_id, factory_id)
SELECT id, rule, severity, message, raised_at, cleared_at, device_id, factory_id FROM alert;
DROP TABLE alert;
ALTER TABLE alert_made_anew RENAME TO alert;
"""
NO_MORE_OF_THE_NETWORK = "DELETE FROM alert WHERE device_id IS NULL AND factory_id IS NULL;"
OF_EXACTLY_ONE = "CONSTRAINT alert_of_one CHECK ((device_id IS NULL) <> (factory_id IS NULL))"


def is_postgres(editor) -> bool:
    return bool(editor.client.capabilities.dialect == "postgres")


def columns(editor) -> list[str]:
    words = (
        {"real": "DOUBLE PRECISION", "time": "TIMESTAMPTZ", "no": "BOOLEAN NOT NULL DEFAULT FALSE"}
        if is_postgres(editor)
        else {"real": "REAL", "time": "TIMESTAMP", "no": "INT NOT NULL DEFAULT 0"}
    )
    return [f"{name} {kind.format(**words)}" for name, kind in NEW]


async def create(apps, editor) -> None:
    if is_postgres(editor):
        script = "".join(f"ALTER TABLE alert ADD COLUMN {column};" for column in columns(editor))
        script += f"ALTER TABLE alert DROP CONSTRAINT alert_of_one; ALTER TABLE alert ADD {OF_ONE_AT_MOST};"
    else:
        script = MADE_ANEW.format(more=", ".join([*columns(editor), OF_ONE_AT_MOST])) + OLD_INDEXES
    await editor.client.execute_script(script + ONE_OPEN_OF_THE_NETWORK)


async def drop(apps, editor) -> None:
    if is_postgres(editor):
        script = "DROP INDEX alert_one_open_network; DROP INDEX alert_to_tell; DROP INDEX alert_part_of;"
        script += "".join(f"ALTER TABLE alert DROP COLUMN {name};" for name, _ in NEW)
        script += f"ALTER TABLE alert DROP CONSTRAINT alert_of_one; ALTER TABLE alert ADD {OF_EXACTLY_ONE};"
    else:
        script = MADE_ANEW.format(more=OF_EXACTLY_ONE) + OLD_INDEXES
    await editor.client.execute_script(NO_MORE_OF_THE_NETWORK + script)


class NewField(ops.AddField):
    """Tortoise is told of a column that the SQL above has made."""

    async def database_forward(self, app_label, old_state, new_state, state_editor=None):
        pass

    async def database_backward(self, app_label, old_state, new_state, state_editor=None):
        pass


def moment(null: bool = True) -> Any:
    kind: Any = fields.DatetimeField
    return kind(null=null, auto_now=False, auto_now_add=False)


def of(name: str, model: str, related_name: str, null: bool = False) -> tuple[str, Any]:
    kind: Any = fields.ForeignKeyField
    return name, kind(f'carbontrack.{model}', source_field=f'{name}_id', null=null, db_constraint=True, to_field='id', related_name=related_name, on_delete=OnDelete.CASCADE)


def number(kind: type[fields.Field[Any]] = fields.BigIntField) -> tuple[str, fields.Field[Any]]:
    return 'id', kind(generated=True, primary_key=True, unique=True, db_index=True)


def table(name: str, **more: Any) -> dict[str, Any]:
    return {'table': name, 'app': 'carbontrack', **more, 'pk_attr': 'id'}


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0010_quarantine")]

    operations = [
        ops.RunPython(create, reverse_code=drop),
        NewField("AlertRow", "value", fields.FloatField(null=True)),
        NewField("AlertRow", "limit_value", fields.FloatField(null=True)),
        NewField("AlertRow", "unit", fields.CharField(max_length=40, db_default="")),
        NewField("AlertRow", "is_late", fields.BooleanField(db_default=False)),
        NewField("AlertRow", "part_of", fields.BigIntField(null=True)),
        NewField("AlertRow", "acknowledged_at", moment()),
        NewField("AlertRow", "acknowledged_by", fields.CharField(max_length=254, db_default="")),
        NewField("AlertRow", "acknowledge_comment", fields.TextField(db_default="")),
        NewField("AlertRow", "shelved_until", moment()),
        NewField("AlertRow", "shelved_by", fields.CharField(max_length=254, db_default="")),
        NewField("AlertRow", "shelve_comment", fields.TextField(db_default="")),
        NewField("AlertRow", "raised_told_at", moment()),
        NewField("AlertRow", "cleared_told_at", moment()),
        NewField("AlertRow", "last_told_at", moment()),
        NewField("AlertRow", "escalation", fields.IntField(db_default=0)),
        ops.CreateModel(
            name='AlertStandingRow',
            fields=[
                number(),
                of('device', 'DeviceRow', 'standings', null=True),
                of('factory', 'FactoryRow', 'standings', null=True),
                ('rule', fields.CharField(max_length=80)),
                ('state', fields.CharField(max_length=12)),
                ('since', moment(null=False)),
                ('seen_at', moment()),
                ('well_since', moment()),
            ],
            options=table('alert_standing', unique_together=(('device', 'rule'), ('factory', 'rule'))),
            bases=['Model'],
        ),
        ops.CreateModel(
            name='AlertBoundRow',
            fields=[
                number(fields.IntField),
                ('rule', fields.CharField(max_length=80)),
                ('option', fields.CharField(max_length=80)),
                ('low', fields.FloatField()),
                ('high', fields.FloatField()),
                ('set_by', fields.CharField(max_length=254)),
                ('set_at', moment(null=False)),
            ],
            options=table('alert_bound', unique_together=(('rule', 'option'),)),
            bases=['Model'],
        ),
        ops.CreateModel(
            name='AlertAdjustmentRow',
            fields=[
                number(fields.IntField),
                of('factory', 'FactoryRow', 'alert_adjustments'),
                ('rule', fields.CharField(max_length=80)),
                ('option', fields.CharField(max_length=80)),
                ('value', fields.FloatField()),
                ('set_by', fields.CharField(max_length=254)),
                ('set_at', moment(null=False)),
            ],
            options=table('alert_adjustment', unique_together=(('factory', 'rule', 'option'),)),
            bases=['Model'],
        ),
        ops.CreateModel(
            name='DutyRow',
            fields=[
                number(fields.IntField),
                of('factory', 'FactoryRow', 'duties', null=True),
                ('position', fields.IntField()),
                of('user', 'UserRow', 'duties'),
            ],
            options=table('duty'),
            bases=['Model'],
        ),
        ops.CreateModel(
            name='OutboxRow',
            fields=[
                number(),
                ('dedupe_key', fields.CharField(unique=True, max_length=200)),
                ('channel', fields.CharField(max_length=80)),
                of('user', 'UserRow', 'told', null=True),
                ('content', fields.TextField()),
                ('state', fields.CharField(max_length=12)),
                ('attempts', fields.IntField(db_default=0)),
                ('next_attempt_at', moment(null=False)),
                ('last_error', fields.TextField(db_default="")),
                ('created_at', moment(null=False)),
                ('done_at', moment()),
            ],
            options=table('outbox', indexes=[Index(fields=['state', 'next_attempt_at'])]),
            bases=['Model'],
        ),
        ops.CreateModel(
            name='OutboxAlertRow',
            fields=[
                number(),
                of('outbox', 'OutboxRow', 'alerts'),
                of('alert', 'AlertRow', 'told'),
                ('event', fields.CharField(max_length=12)),
            ],
            options=table('outbox_alert', indexes=[Index(fields=['alert_id']), Index(fields=['outbox_id'])]),
            bases=['Model'],
        ),
    ]
