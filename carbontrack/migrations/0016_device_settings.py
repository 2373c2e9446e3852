"""What devices are told to be, in revisions, and commands to them with their answers."""

from typing import Any

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


def device(related_name: str) -> tuple[str, Any]:
    kind: Any = fields.ForeignKeyField
    return "device", kind("carbontrack.DeviceRow", source_field="device_id", db_constraint=True, to_field="id", related_name=related_name, on_delete=OnDelete.CASCADE)


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0015_wood_origin")]

    operations = [
        ops.CreateModel(
            name="DeviceConfigRow",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                device("configs"),
                ("factory_id", fields.IntField()),
                ("rev", fields.IntField()),
                ("document", fields.TextField(unique=False)),
                ("made_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("made_by", fields.CharField(max_length=254)),
                ("why", fields.CharField(max_length=12)),
                ("state", fields.CharField(max_length=12)),
                ("sent_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("errors", fields.TextField(db_default="", unique=False)),
                ("answered_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={"table": "device_config", "app": "carbontrack", "unique_together": (("device", "rev"),), "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="DeviceCommandRow",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("command_id", fields.CharField(unique=True, max_length=16)),
                device("commands"),
                ("factory_id", fields.IntField()),
                ("cmd", fields.CharField(max_length=16)),
                ("args", fields.TextField(unique=False)),
                ("asked_by", fields.CharField(max_length=254)),
                ("asked_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("state", fields.CharField(max_length=12)),
                ("sent_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("answer", fields.TextField(db_default="", unique=False)),
                ("answered_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={"table": "device_command", "app": "carbontrack", "indexes": [Index(fields=["device_id", "id"]), Index(fields=["state"]), Index(fields=["asked_at"])], "pk_attr": "id"},
            bases=["Model"],
        ),
    ]
