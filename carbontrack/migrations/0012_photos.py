"""Photos of delivery notes, beside the entries that they prove."""

from typing import Any

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops


def factory() -> tuple[str, Any]:
    kind: Any = fields.ForeignKeyField
    return "factory", kind("carbontrack.FactoryRow", source_field="factory_id", null=False, db_constraint=True, to_field="id", related_name="photos", on_delete=OnDelete.RESTRICT)


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0011_alerts")]

    operations = [
        ops.CreateModel(
            name="EntryPhotoRow",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                factory(),
                ("entry_id", fields.BigIntField()),
                ("number", fields.IntField()),
                ("sha256", fields.CharField(max_length=64)),
                ("media_type", fields.CharField(max_length=20)),
                ("width", fields.IntField()),
                ("height", fields.IntField()),
                ("size", fields.IntField()),
                ("content", fields.BinaryField()),
                ("author", fields.CharField(max_length=200)),
                ("added_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={"table": "entry_photo", "app": "carbontrack", "unique_together": (("entry_id", "number"), ("entry_id", "sha256")), "pk_attr": "id"},
            bases=["Model"],
        ),
    ]
