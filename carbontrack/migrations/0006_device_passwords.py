from tortoise import fields, migrations
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0005_raw")]

    operations = [
        ops.AddField("DeviceRow", "password_generation", fields.BigIntField(db_default=0)),
    ]
