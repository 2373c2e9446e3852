"""A reload that the command line asks a running core for, and what the core answered."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0007_factory_alerts")]

    operations = [
        ops.AddField("RegistryRow", "reload_asked", fields.BigIntField(db_default=0)),
        ops.AddField("RegistryRow", "reload_done", fields.BigIntField(db_default=0)),
        ops.AddField("RegistryRow", "reload_answer", fields.TextField(db_default="")),
    ]
