from copy import deepcopy
from typing import Any

from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.fields.base import OnDelete
from tortoise import fields
from tortoise.indexes import Index

class AddFields(ops.AddField):
    """Several fields at once: with one operation each, Tortoise would build all models anew for every one of them."""

    def __init__(self, model_name: str, fields: list[tuple[str, Any]]) -> None:
        super().__init__(model_name, "", None)
        self.fields = fields

    def describe(self):
        return f"Add {len(self.fields)} fields to {self.model_name}"

    def state_forward(self, app_label, state):
        model_state = self.get_model_state(state, app_label, self.model_name)
        model_state.fields.update(deepcopy(dict(self.fields)))
        state.reload_models({(app_label, self.model_name)})

    async def database_forward(self, app_label, old_state, new_state, state_editor=None):
        model = new_state.apps.get_model(f"{app_label}.{self.model_name}")
        for name, _ in self.fields:
            await state_editor.add_field(model, name)

    async def database_backward(self, app_label, old_state, new_state, state_editor=None):
        table = old_state.apps.get_model(f"{app_label}.{self.model_name}")._meta.db_table
        for name, _ in self.fields:
            await state_editor.client.execute_script(f'ALTER TABLE "{table}" DROP COLUMN "{name}"')


class Migration(migrations.Migration):
    dependencies = [('carbontrack', '0002_telemetry')]

    initial = False

    operations = [
        ops.CreateModel(
            name='EnergyEntryRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('entry_id', fields.BigIntField()),
                ('version', fields.IntField()),
                ('factory', fields.ForeignKeyField('carbontrack.FactoryRow', source_field='factory_id', db_constraint=True, to_field='id', related_name='energy_entries', on_delete=OnDelete.RESTRICT)),
                ('stack', fields.ForeignKeyField('carbontrack.StackRow', source_field='stack_id', null=True, db_constraint=True, to_field='id', related_name='energy_entries', on_delete=OnDelete.RESTRICT)),
                ('energy_type', fields.CharField(max_length=24)),
                ('amount', fields.FloatField()),
                ('unit', fields.CharField(max_length=12)),
                ('period_start', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('period_end', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('moisture', fields.FloatField(null=True)),
                ('stack_density_kg_per_m3', fields.FloatField(null=True)),
                ('sustainability', fields.CharField(max_length=8)),
                ('evidence', fields.CharField(max_length=200)),
                ('note', fields.CharField(max_length=500)),
                ('author', fields.CharField(max_length=200)),
                ('recorded_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('reason', fields.CharField(max_length=500)),
                ('withdrawn', fields.BooleanField()),
                ('superseded_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'energy_entry', 'app': 'carbontrack', 'unique_together': (('entry_id', 'version'),), 'indexes': [Index(fields=['factory_id', 'period_start'])], 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='ProductionEntryRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('entry_id', fields.BigIntField()),
                ('version', fields.IntField()),
                ('factory', fields.ForeignKeyField('carbontrack.FactoryRow', source_field='factory_id', db_constraint=True, to_field='id', related_name='production_entries', on_delete=OnDelete.RESTRICT)),
                ('period_start', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('period_end', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('green_leaf_kg', fields.FloatField(null=True)),
                ('made_tea_kg', fields.FloatField(null=True)),
                ('evidence', fields.CharField(max_length=200)),
                ('note', fields.CharField(max_length=500)),
                ('author', fields.CharField(max_length=200)),
                ('recorded_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('reason', fields.CharField(max_length=500)),
                ('withdrawn', fields.BooleanField()),
                ('superseded_at', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'production_entry', 'app': 'carbontrack', 'unique_together': (('entry_id', 'version'),), 'indexes': [Index(fields=['factory_id', 'period_start'])], 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='StatementRow',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('factory', fields.ForeignKeyField('carbontrack.FactoryRow', source_field='factory_id', db_constraint=True, to_field='id', related_name='statements', on_delete=OnDelete.RESTRICT)),
                ('period_start', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('period_end', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('version', fields.IntField()),
                ('figures', fields.TextField(unique=False)),
                ('sha256', fields.CharField(max_length=64)),
                ('author', fields.CharField(max_length=200)),
                ('created_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('reason', fields.CharField(max_length=500)),
            ],
            options={'table': 'statement', 'app': 'carbontrack', 'unique_together': (('factory', 'period_start', 'period_end', 'version'),), 'pk_attr': 'id'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='TargetRow',
            fields=[
                ('id', fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('factory', fields.ForeignKeyField('carbontrack.FactoryRow', source_field='factory_id', db_constraint=True, to_field='id', related_name='targets', on_delete=OnDelete.RESTRICT)),
                ('metric', fields.CharField(max_length=60)),
                ('value', fields.FloatField()),
                ('valid_from', fields.DateField()),
                ('baseline_year', fields.IntField(null=True)),
                ('baseline_value', fields.FloatField(null=True)),
                ('author', fields.CharField(max_length=200)),
                ('recorded_at', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('withdrawn', fields.BooleanField(default=False)),
            ],
            options={'table': 'target', 'app': 'carbontrack', 'unique_together': (('factory', 'metric', 'valid_from', 'recorded_at'),), 'pk_attr': 'id'},
            bases=['Model'],
        ),
        AddFields(
            model_name='PlanRow',
            fields=[
                ('co2_response_s', fields.FloatField(db_default=30.0)),
                ('fuels', fields.CharField(db_default='firewood', max_length=200)),
                ('note', fields.CharField(db_default='', max_length=500)),
                ('off_co2_ppm', fields.FloatField(db_default=5000.0)),
                ('off_temperature_c', fields.FloatField(db_default=60.0)),
                ('off_velocity_ms', fields.FloatField(db_default=0.3)),
                ('on_co2_ppm', fields.FloatField(db_default=10000.0)),
                ('on_temperature_c', fields.FloatField(db_default=80.0)),
                ('on_velocity_ms', fields.FloatField(db_default=0.5)),
                ('profile_factor_source', fields.CharField(db_default='assumed', max_length=12)),
                ('substitution', fields.CharField(db_default='mrr', max_length=12)),
                ('temperature_max_c', fields.FloatField(db_default=1000.0)),
                ('u_area', fields.FloatField(db_default=0.02)),
                ('u_co2', fields.FloatField(db_default=0.03)),
                ('u_h2o', fields.FloatField(db_default=0.03)),
                ('u_pressure', fields.FloatField(db_default=0.01)),
                ('u_profile', fields.FloatField(db_default=0.08)),
                ('u_temperature', fields.FloatField(db_default=0.01)),
                ('u_velocity', fields.FloatField(db_default=0.05)),
                ('undisturbed_downstream_m', fields.FloatField(null=True)),
                ('undisturbed_upstream_m', fields.FloatField(null=True)),
                ('validity', fields.CharField(db_default='share', max_length=12)),
                ('velocity_max_ms', fields.FloatField(db_default=50.0)),
                ('velocity_method', fields.CharField(db_default='anemometer', max_length=12)),
            ],
        ),
    ]
