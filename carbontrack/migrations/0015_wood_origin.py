"""Where wood comes from, and which company a factory is."""

from tortoise import fields, migrations

from carbontrack.migrations._fields import AddFields


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0014_reports")]

    operations = [
        AddFields(
            "EnergyEntryRow",
            [
                ("wood_origin", fields.CharField(max_length=16, db_default="unknown")),
                ("supplier", fields.CharField(max_length=120, db_default="")),
                ("species", fields.CharField(max_length=80, db_default="")),
                ("plot", fields.CharField(max_length=120, db_default="")),
                ("harvested_on", fields.DateField(null=True)),
                ("permit", fields.CharField(max_length=80, db_default="")),
            ],
        ),
        AddFields(
            "FactoryRow",
            [
                ("legal_entity", fields.CharField(max_length=200, db_default="")),
                ("un_locode", fields.CharField(max_length=5, db_default="")),
            ],
        ),
    ]
