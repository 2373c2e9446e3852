"""Compliance reports with their life, and links by which others download them."""

from typing import Any

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.migrations import operations as ops


def of(name: str, model: str, related_name: str, null: bool = False) -> tuple[str, Any]:
    kind: Any = fields.ForeignKeyField
    return name, kind(f"carbontrack.{model}", source_field=f"{name}_id", null=null, db_constraint=True, to_field="id", related_name=related_name, on_delete=OnDelete.RESTRICT)


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0013_wood_prices")]

    operations = [
        ops.CreateModel(
            name="ReportRow",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("number", fields.IntField()),
                ("version", fields.IntField()),
                of("factory", "FactoryRow", "reports", null=True),
                ("factory_ids", fields.TextField(unique=False)),
                ("title", fields.CharField(max_length=200)),
                ("period_start", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("period_end", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("status", fields.CharField(max_length=12)),
                ("dataset", fields.BinaryField()),
                ("sha256", fields.CharField(max_length=64)),
                ("critical", fields.IntField()),
                ("reason", fields.CharField(max_length=500)),
                ("comment", fields.CharField(max_length=500, db_default="")),
                ("schedule", fields.CharField(max_length=120, db_default="")),
                ("made_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("made_by", fields.CharField(max_length=254)),
                ("prepared_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("prepared_by", fields.CharField(max_length=254, db_default="")),
                ("reviewed_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("reviewed_by", fields.CharField(max_length=254, db_default="")),
                ("approved_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("approved_by", fields.CharField(max_length=254, db_default="")),
            ],
            options={"table": "report", "app": "carbontrack", "unique_together": (("number", "version"),), "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ReportLinkRow",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                of("report", "ReportRow", "links"),
                ("format", fields.CharField(max_length=40)),
                ("token_hash", fields.CharField(unique=True, max_length=64)),
                ("note", fields.CharField(max_length=200)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("created_by", fields.CharField(max_length=254)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("revoked_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("downloads", fields.IntField(db_default=0)),
            ],
            options={"table": "report_link", "app": "carbontrack", "pk_attr": "id"},
            bases=["Model"],
        ),
    ]
