"""Images of firmware, what devices run, and roll-outs with what became of each device."""

from typing import Any

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


def to(name: str, model: str, related_name: str, on_delete: OnDelete) -> tuple[str, Any]:
    kind: Any = fields.ForeignKeyField
    return name, kind(f"carbontrack.{model}", source_field=f"{name}_id", db_constraint=True, to_field="id", related_name=related_name, on_delete=on_delete)


def own_device() -> tuple[str, Any]:
    kind: Any = fields.OneToOneField
    return "device", kind("carbontrack.DeviceRow", source_field="device_id", db_constraint=True, to_field="id", related_name="firmware", on_delete=OnDelete.CASCADE)


def moment(name: str, *, null: bool = False) -> tuple[str, Any]:
    kind: Any = fields.DatetimeField
    return name, kind(null=null, auto_now=False, auto_now_add=False)


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0016_device_settings")]

    operations = [
        ops.CreateModel(
            name="FirmwareImageRow",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("version", fields.CharField(max_length=32)),
                ("hardware", fields.CharField(max_length=32)),
                ("size", fields.IntField()),
                ("sha256", fields.CharField(max_length=64)),
                ("signature", fields.CharField(max_length=200)),
                ("notes", fields.TextField(db_default="", unique=False)),
                ("min_version", fields.CharField(max_length=32, db_default="")),
                moment("added_at"),
                ("added_by", fields.CharField(max_length=254)),
                ("content", fields.BinaryField()),
            ],
            options={"table": "firmware_image", "app": "carbontrack", "unique_together": (("version", "hardware"),), "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="DeviceFirmwareRow",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                own_device(),
                ("version", fields.CharField(max_length=64)),
                ("hardware", fields.CharField(max_length=32)),
                ("boot", fields.BigIntField(null=True)),
                ("mode", fields.CharField(max_length=12, db_default="")),
                moment("heard_at"),
            ],
            options={"table": "device_firmware", "app": "carbontrack", "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="FirmwareRolloutRow",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                to("image", "FirmwareImageRow", "rollouts", OnDelete.RESTRICT),
                ("chosen", fields.CharField(max_length=300)),
                ("stages", fields.CharField(max_length=100)),
                ("stage_count", fields.IntField()),
                ("soak_s", fields.IntField()),
                ("failure_limit", fields.IntField()),
                ("is_forced", fields.BooleanField()),
                ("state", fields.CharField(max_length=12)),
                ("stage", fields.IntField()),
                moment("stage_began_at"),
                moment("settled_at", null=True),
                ("ended", fields.CharField(max_length=12, db_default="")),
                moment("started_at"),
                ("started_by", fields.CharField(max_length=254)),
                moment("ended_at", null=True),
                ("ended_by", fields.CharField(max_length=254, db_default="")),
            ],
            options={"table": "firmware_rollout", "app": "carbontrack", "indexes": [Index(fields=["state"])], "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="FirmwareUpdateRow",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                to("rollout", "FirmwareRolloutRow", "updates", OnDelete.CASCADE),
                to("device", "DeviceRow", "updates", OnDelete.CASCADE),
                ("factory_id", fields.IntField()),
                ("stage", fields.IntField()),
                ("state", fields.CharField(max_length=12)),
                ("before", fields.CharField(max_length=64)),
                ("pct", fields.IntField(db_default=0)),
                ("error", fields.CharField(max_length=60, db_default="")),
                ("boot", fields.BigIntField(null=True)),
                ("faults", fields.IntField(db_default=0)),
                moment("offered_at", null=True),
                moment("changed_at", null=True),
                moment("seen_at", null=True),
                moment("ended_at", null=True),
            ],
            options={"table": "firmware_update", "app": "carbontrack", "unique_together": (("rollout", "device"),), "indexes": [Index(fields=["device_id", "id"])], "pk_attr": "id"},
            bases=["Model"],
        ),
    ]
