"""The registry's tables as Tortoise models. Telemetry's are plain SQL: see ``migrations/0002_telemetry.py``."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

APP = "carbontrack"


class FactoryRow(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=120, unique=True)
    slug = fields.CharField(max_length=120, unique=True)
    county = fields.CharField(max_length=80, default="")
    region = fields.CharField(max_length=40, default="")
    latitude = fields.FloatField(null=True)
    longitude = fields.FloatField(null=True)
    altitude_m = fields.FloatField()
    pressure_kpa = fields.FloatField(null=True)
    is_active = fields.BooleanField(default=True)

    class Meta:
        table = "factory"


class StackRow(Model):
    id = fields.IntField(primary_key=True)
    factory: fields.ForeignKeyRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="stacks", on_delete=fields.RESTRICT
    )
    factory_id: int
    name = fields.CharField(max_length=80)
    plans: fields.ReverseRelation[PlanRow]

    class Meta:
        table = "stack"
        unique_together = (("factory", "name"),)


# One effective-dated monitoring plan; the columns are those of model.MonitoringPlan. (Comments and not docstrings
# here: Tortoise writes docstrings into the database as table comments.)
class PlanRow(Model):
    id = fields.IntField(primary_key=True)
    stack: fields.ForeignKeyRelation[StackRow] = fields.ForeignKeyField(
        f"{APP}.StackRow", related_name="plans", on_delete=fields.CASCADE
    )
    stack_id: int
    valid_from = fields.DatetimeField()
    shape = fields.CharField(max_length=12)
    diameter_m = fields.FloatField(null=True)
    width_m = fields.FloatField(null=True)
    length_m = fields.FloatField(null=True)
    wall_deposit_mm = fields.FloatField()
    profile_factor = fields.FloatField()
    basis = fields.CharField(max_length=4)
    h2o_fraction = fields.FloatField()
    co2_range_ppm = fields.FloatField()
    dilution_ratio = fields.FloatField()
    calibration_offset_ppm = fields.FloatField()
    calibration_slope = fields.FloatField()
    pitot_coefficient = fields.FloatField()

    class Meta:
        table = "monitoring_plan"
        unique_together = (("stack", "valid_from"),)


class DeviceRow(Model):
    id = fields.IntField(primary_key=True)
    device_id = fields.CharField(max_length=64, unique=True)
    factory: fields.ForeignKeyRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="devices", on_delete=fields.RESTRICT
    )
    factory_id: int
    stack: fields.ForeignKeyRelation[StackRow] = fields.ForeignKeyField(
        f"{APP}.StackRow", related_name="devices", on_delete=fields.RESTRICT
    )
    stack_id: int
    sensor = fields.CharField(max_length=60)
    status = fields.CharField(max_length=12)
    registered_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "device"


# One row: a number that grows with every change of the registry, so that a running core notices.
class RegistryRow(Model):
    id = fields.IntField(primary_key=True)
    revision = fields.BigIntField(default=0)

    class Meta:
        table = "registry"


class UserRow(Model):
    id = fields.IntField(primary_key=True)
    email = fields.CharField(max_length=200, unique=True)
    first_name = fields.CharField(max_length=80, default="")
    last_name = fields.CharField(max_length=80, default="")
    role = fields.CharField(max_length=20)
    factory: fields.ForeignKeyNullableRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="users", null=True, on_delete=fields.RESTRICT
    )
    factory_id: int | None
    password_hash = fields.CharField(max_length=200)
    is_active = fields.BooleanField(default=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "user_account"


class SessionRow(Model):
    token_hash = fields.CharField(max_length=64, primary_key=True)
    user: fields.ForeignKeyRelation[UserRow] = fields.ForeignKeyField(
        f"{APP}.UserRow", related_name="sessions", on_delete=fields.CASCADE
    )
    user_id: int
    created_at = fields.DatetimeField(auto_now_add=True)
    expires_at = fields.DatetimeField()

    class Meta:
        table = "user_session"


class AlertRow(Model):
    id = fields.BigIntField(primary_key=True)
    device: fields.ForeignKeyRelation[DeviceRow] = fields.ForeignKeyField(
        f"{APP}.DeviceRow", related_name="alerts", on_delete=fields.CASCADE
    )
    rule = fields.CharField(max_length=80)
    severity = fields.CharField(max_length=12)
    message = fields.TextField()
    raised_at = fields.DatetimeField()
    cleared_at = fields.DatetimeField(null=True)

    class Meta:
        table = "alert"
