"""What factories pay for wood: dated, and never overwritten."""

from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops


class Migration(migrations.Migration):
    dependencies = [("carbontrack", "0012_photos")]

    operations = [
        ops.CreateModel(
            name='WoodPriceRow',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('factory', fields.ForeignKeyField('carbontrack.FactoryRow', source_field='factory_id', db_constraint=True, to_field='id', related_name='wood_prices', on_delete=OnDelete.RESTRICT)),
                ('kes', fields.FloatField()),
                ('unit', fields.CharField(max_length=12)),
                ('valid_from', fields.DateField()),
                ('kg_per_m3', fields.FloatField(null=True)),
                ('author', fields.CharField(max_length=200)),
                ('recorded_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('withdrawn', fields.BooleanField(default=False)),
            ],
            options={'table': 'wood_price', 'app': 'carbontrack', 'indexes': [Index(fields=['factory_id', 'valid_from'])], 'pk_attr': 'id'},
            bases=['Model'],
        ),
    ]
