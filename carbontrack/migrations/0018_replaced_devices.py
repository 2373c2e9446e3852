"""Which unit has taken over from which, and from when to when what a unit measures counts."""

from tortoise import fields, migrations

from carbontrack.migrations._fields import AddFields


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0017_firmware")]

    operations = [
        AddFields(
            "DeviceRow",
            [
                ("measures_from", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("measures_until", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("replaced_by", fields.CharField(max_length=64, db_default="")),
            ],
        ),
    ]
