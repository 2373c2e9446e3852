"""People's status, sessions that can be shown, API tokens, one-time codes, idempotency keys, and the audit log.

Sessions begin anew: everybody signs in once more.
"""

from typing import Any

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

STATUS_OF_PEOPLE = "UPDATE user_account SET status = 'disabled' WHERE NOT is_active"
ACTIVITY_OF_PEOPLE = """
ALTER TABLE user_account ADD COLUMN is_active {boolean};
UPDATE user_account SET is_active = {no} WHERE status <> 'active';
"""

# TRUNCATE fires no trigger of a row, so it needs its own.
APPEND_ONLY_POSTGRES = """
CREATE FUNCTION audit_event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_event_stays BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION audit_event_is_append_only();
CREATE TRIGGER audit_event_stays_whole BEFORE TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION audit_event_is_append_only();
"""
# INSERT OR REPLACE deletes without firing a trigger of DELETE.
APPEND_ONLY_SQLITE = """
CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_event_no_replace BEFORE INSERT ON audit_event
WHEN EXISTS (SELECT 1 FROM audit_event WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""
ANYTHING_POSTGRES = """
DROP TRIGGER audit_event_stays ON audit_event;
DROP TRIGGER audit_event_stays_whole ON audit_event;
DROP FUNCTION audit_event_is_append_only();
"""
ANYTHING_SQLITE = """
DROP TRIGGER audit_event_no_update;
DROP TRIGGER audit_event_no_delete;
DROP TRIGGER audit_event_no_replace;
"""


def is_postgres(editor) -> bool:
    return bool(editor.client.capabilities.dialect == "postgres")


async def take_status(apps, editor) -> None:
    await editor.client.execute_script(STATUS_OF_PEOPLE)


async def nothing(apps, editor) -> None:
    pass


async def refuse_changes(apps, editor) -> None:
    await editor.client.execute_script(APPEND_ONLY_POSTGRES if is_postgres(editor) else APPEND_ONLY_SQLITE)


async def allow_changes(apps, editor) -> None:
    await editor.client.execute_script(ANYTHING_POSTGRES if is_postgres(editor) else ANYTHING_SQLITE)


class DropActivity(ops.RemoveField):
    """Tortoise would make SQLite's table anew, and with the old one all rows that refer to it would go."""

    async def database_forward(self, app_label, old_state, new_state, state_editor=None):
        await state_editor.client.execute_script("ALTER TABLE user_account DROP COLUMN is_active")

    async def database_backward(self, app_label, old_state, new_state, state_editor=None):
        boolean, no = ("BOOL NOT NULL DEFAULT TRUE", "FALSE") if is_postgres(state_editor) else ("INT NOT NULL DEFAULT 1", "0")
        await state_editor.client.execute_script(ACTIVITY_OF_PEOPLE.format(boolean=boolean, no=no))


def of_user(related_name: str) -> tuple[str, fields.Field[Any]]:
    return 'user', fields.ForeignKeyField('carbontrack.UserRow', source_field='user_id', db_constraint=True, to_field='id', related_name=related_name, on_delete=OnDelete.CASCADE)


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0008_reload")]

    operations = [
        ops.AddField("UserRow", "status", fields.CharField(max_length=12, db_default="active")),
        ops.AddField("UserRow", "phone_number", fields.CharField(max_length=40, db_default="")),
        ops.AddField("UserRow", "locale", fields.CharField(max_length=8, db_default="en")),
        ops.RunPython(take_status, reverse_code=nothing),
        DropActivity("UserRow", "is_active"),
        ops.DeleteModel("SessionRow"),
        ops.CreateModel(
            name='SessionRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('token_hash', fields.CharField(unique=True, max_length=64)),
                of_user('sessions'),
                ('created_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('expires_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('last_used_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('address', fields.CharField(max_length=64)),
                ('user_agent', fields.CharField(max_length=200)),
            ],
            options={'table': 'user_session', 'app': 'carbontrack', 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='ApiTokenRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('token_hash', fields.CharField(unique=True, max_length=64)),
                ('prefix', fields.CharField(max_length=16)),
                of_user('api_tokens'),
                ('name', fields.CharField(max_length=80)),
                ('scopes', fields.CharField(max_length=200)),
                ('created_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('expires_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ('last_used_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'api_token', 'app': 'carbontrack', 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='OneTimeCodeRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                of_user('codes'),
                ('purpose', fields.CharField(max_length=40)),
                ('code_hash', fields.CharField(max_length=64)),
                ('expires_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('attempts_left', fields.IntField()),
                ('used_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'one_time_code', 'app': 'carbontrack', 'unique_together': (('user', 'purpose'),), 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='IdempotencyKeyRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                of_user('idempotency_keys'),
                ('key', fields.CharField(max_length=200)),
                ('request_sha256', fields.CharField(max_length=64)),
                ('status', fields.IntField(null=True)),
                ('body', fields.TextField(unique=False)),
                ('created_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'idempotency_key', 'app': 'carbontrack', 'unique_together': (('user', 'key'),), 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='AuditEventRow',
            fields=[
                ('id', fields.BigIntField(generated=False, primary_key=True, unique=True, db_index=True)),
                ('at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('actor', fields.CharField(max_length=200)),
                ('user_id', fields.IntField(null=True)),
                ('address', fields.CharField(max_length=64)),
                ('token', fields.CharField(max_length=80)),
                ('action', fields.CharField(max_length=40)),
                ('subject_kind', fields.CharField(max_length=40)),
                ('subject_id', fields.CharField(max_length=200)),
                ('factory_id', fields.IntField(null=True)),
                ('before', fields.TextField(null=True, unique=False)),
                ('after', fields.TextField(null=True, unique=False)),
                ('sha256', fields.CharField(max_length=64)),
            ],
            options={'table': 'audit_event', 'app': 'carbontrack', 'indexes': [Index(fields=['factory_id', 'id']), Index(fields=['subject_kind', 'subject_id', 'id'])], 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.RunPython(refuse_changes, reverse_code=allow_changes),
    ]
