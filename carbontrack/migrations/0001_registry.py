from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.fields.base import OnDelete
from tortoise import fields

class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name='FactoryRow',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('name', fields.CharField(unique=True, max_length=120)),
                ('slug', fields.CharField(unique=True, max_length=120)),
                ('county', fields.CharField(default='', max_length=80)),
                ('region', fields.CharField(default='', max_length=40)),
                ('latitude', fields.FloatField(null=True)),
                ('longitude', fields.FloatField(null=True)),
                ('altitude_m', fields.FloatField()),
                ('pressure_kpa', fields.FloatField(null=True)),
                ('is_active', fields.BooleanField(default=True)),
            ],
            options={'table': 'factory', 'app': 'carbontrack', 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='RegistryRow',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('revision', fields.BigIntField(default=0)),
            ],
            options={'table': 'registry', 'app': 'carbontrack', 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='StackRow',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('factory', fields.ForeignKeyField('carbontrack.FactoryRow', source_field='factory_id', db_constraint=True, to_field='id', related_name='stacks', on_delete=OnDelete.RESTRICT)),
                ('name', fields.CharField(max_length=80)),
            ],
            options={'table': 'stack', 'app': 'carbontrack', 'unique_together': (('factory', 'name'),), 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='DeviceRow',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('device_id', fields.CharField(unique=True, max_length=64)),
                ('factory', fields.ForeignKeyField('carbontrack.FactoryRow', source_field='factory_id', db_constraint=True, to_field='id', related_name='devices', on_delete=OnDelete.RESTRICT)),
                ('stack', fields.ForeignKeyField('carbontrack.StackRow', source_field='stack_id', db_constraint=True, to_field='id', related_name='devices', on_delete=OnDelete.RESTRICT)),
                ('sensor', fields.CharField(max_length=60)),
                ('status', fields.CharField(max_length=12)),
                ('registered_at', fields.DatetimeField(auto_now=False, auto_now_add=True)),
            ],
            options={'table': 'device', 'app': 'carbontrack', 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='AlertRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('device', fields.ForeignKeyField('carbontrack.DeviceRow', source_field='device_id', db_constraint=True, to_field='id', related_name='alerts', on_delete=OnDelete.CASCADE)),
                ('rule', fields.CharField(max_length=80)),
                ('severity', fields.CharField(max_length=12)),
                ('message', fields.TextField(unique=False)),
                ('raised_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('cleared_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'alert', 'app': 'carbontrack', 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='PlanRow',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('stack', fields.ForeignKeyField('carbontrack.StackRow', source_field='stack_id', db_constraint=True, to_field='id', related_name='plans', on_delete=OnDelete.CASCADE)),
                ('valid_from', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('shape', fields.CharField(max_length=12)),
                ('diameter_m', fields.FloatField(null=True)),
                ('width_m', fields.FloatField(null=True)),
                ('length_m', fields.FloatField(null=True)),
                ('wall_deposit_mm', fields.FloatField()),
                ('profile_factor', fields.FloatField()),
                ('basis', fields.CharField(max_length=4)),
                ('h2o_fraction', fields.FloatField()),
                ('co2_range_ppm', fields.FloatField()),
                ('dilution_ratio', fields.FloatField()),
                ('calibration_offset_ppm', fields.FloatField()),
                ('calibration_slope', fields.FloatField()),
                ('pitot_coefficient', fields.FloatField()),
            ],
            options={'table': 'monitoring_plan', 'app': 'carbontrack', 'unique_together': (('stack', 'valid_from'),), 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='UserRow',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('email', fields.CharField(unique=True, max_length=200)),
                ('first_name', fields.CharField(default='', max_length=80)),
                ('last_name', fields.CharField(default='', max_length=80)),
                ('role', fields.CharField(max_length=20)),
                ('factory', fields.ForeignKeyField('carbontrack.FactoryRow', source_field='factory_id', null=True, db_constraint=True, to_field='id', related_name='users', on_delete=OnDelete.RESTRICT)),
                ('password_hash', fields.CharField(max_length=200)),
                ('is_active', fields.BooleanField(default=True)),
                ('created_at', fields.DatetimeField(auto_now=False, auto_now_add=True)),
            ],
            options={'table': 'user_account', 'app': 'carbontrack', 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='SessionRow',
            fields=[
                ('token_hash', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('user', fields.ForeignKeyField('carbontrack.UserRow', source_field='user_id', db_constraint=True, to_field='id', related_name='sessions', on_delete=OnDelete.CASCADE)),
                ('created_at', fields.DatetimeField(auto_now=False, auto_now_add=True)),
                ('expires_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'user_session', 'app': 'carbontrack', 'pk_attr': 'token_hash'},
            bases=['Model'],
        ),
    ]
