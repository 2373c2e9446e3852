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
    legal_entity = fields.CharField(max_length=200, db_default="")
    un_locode = fields.CharField(max_length=5, db_default="")

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
    velocity_method = fields.CharField(max_length=12, db_default="anemometer")
    co2_response_s = fields.FloatField(db_default=30.0)
    temperature_max_c = fields.FloatField(db_default=1000.0)
    velocity_max_ms = fields.FloatField(db_default=50.0)
    profile_factor_source = fields.CharField(max_length=12, db_default="assumed")
    undisturbed_upstream_m = fields.FloatField(null=True)
    undisturbed_downstream_m = fields.FloatField(null=True)
    on_temperature_c = fields.FloatField(db_default=80.0)
    off_temperature_c = fields.FloatField(db_default=60.0)
    on_velocity_ms = fields.FloatField(db_default=0.5)
    off_velocity_ms = fields.FloatField(db_default=0.3)
    on_co2_ppm = fields.FloatField(db_default=10_000.0)
    off_co2_ppm = fields.FloatField(db_default=5_000.0)
    validity = fields.CharField(max_length=12, db_default="share")
    substitution = fields.CharField(max_length=12, db_default="mrr")
    fuels = fields.CharField(max_length=200, db_default="firewood")
    u_co2 = fields.FloatField(db_default=0.03)
    u_velocity = fields.FloatField(db_default=0.05)
    u_profile = fields.FloatField(db_default=0.08)
    u_area = fields.FloatField(db_default=0.02)
    u_temperature = fields.FloatField(db_default=0.01)
    u_pressure = fields.FloatField(db_default=0.01)
    u_h2o = fields.FloatField(db_default=0.03)
    note = fields.CharField(max_length=500, db_default="")

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
    password_generation = fields.BigIntField(db_default=0)
    measures_from = fields.DatetimeField(null=True)  # what a unit measured outside of these counts for no chimney
    measures_until = fields.DatetimeField(null=True)
    replaced_by = fields.CharField(max_length=64, db_default="")  # the device_id of its successor

    class Meta:
        table = "device"


# A revision of what a device is told to be (docs/protocol.md); ``document`` and ``errors`` are JSON. ``factory_id`` is
# where it stood then: the people of another one do not read it.
class DeviceConfigRow(Model):
    id = fields.BigIntField(primary_key=True)
    device: fields.ForeignKeyRelation[DeviceRow] = fields.ForeignKeyField(
        f"{APP}.DeviceRow", related_name="configs", on_delete=fields.CASCADE
    )
    device_id: int
    factory_id = fields.IntField()
    rev = fields.IntField()
    document = fields.TextField()
    made_at = fields.DatetimeField()
    made_by = fields.CharField(max_length=254)
    why = fields.CharField(max_length=12)
    state = fields.CharField(max_length=12)
    sent_at = fields.DatetimeField(null=True)
    errors = fields.TextField(db_default="")
    answered_at = fields.DatetimeField(null=True)

    class Meta:
        table = "device_config"
        unique_together = (("device", "rev"),)


# A command to a device, with what it answered; ``args`` and ``answer`` are JSON.
class DeviceCommandRow(Model):
    id = fields.BigIntField(primary_key=True)
    command_id = fields.CharField(max_length=16, unique=True)
    device: fields.ForeignKeyRelation[DeviceRow] = fields.ForeignKeyField(
        f"{APP}.DeviceRow", related_name="commands", on_delete=fields.CASCADE
    )
    device_id: int
    factory_id = fields.IntField()
    cmd = fields.CharField(max_length=16)
    args = fields.TextField()
    asked_by = fields.CharField(max_length=254)
    asked_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    state = fields.CharField(max_length=12)
    sent_at = fields.DatetimeField(null=True)
    answer = fields.TextField(db_default="")
    answered_at = fields.DatetimeField(null=True)

    class Meta:
        table = "device_command"
        indexes = (("device_id", "id"), ("state",), ("asked_at",))


# An image of firmware with who has signed it; ``signature`` is base64 of DER. It is never changed.
class FirmwareImageRow(Model):
    id = fields.IntField(primary_key=True)
    version = fields.CharField(max_length=32)
    hardware = fields.CharField(max_length=32)
    size = fields.IntField()
    sha256 = fields.CharField(max_length=64)
    signature = fields.CharField(max_length=200)
    notes = fields.TextField(db_default="")
    min_version = fields.CharField(max_length=32, db_default="")
    added_at = fields.DatetimeField()
    added_by = fields.CharField(max_length=254)
    content = fields.BinaryField()

    class Meta:
        table = "firmware_image"
        unique_together = (("version", "hardware"),)


# What a device said last that it runs, so that it is known while it is away.
class DeviceFirmwareRow(Model):
    id = fields.IntField(primary_key=True)
    device: fields.OneToOneRelation[DeviceRow] = fields.OneToOneField(
        f"{APP}.DeviceRow", related_name="firmware", on_delete=fields.CASCADE
    )
    device_id: int
    version = fields.CharField(max_length=64)
    hardware = fields.CharField(max_length=32)
    boot = fields.BigIntField(null=True)
    mode = fields.CharField(max_length=12, db_default="")
    heard_at = fields.DatetimeField()

    class Meta:
        table = "device_firmware"


# An image on its way to devices, stage by stage.
class FirmwareRolloutRow(Model):
    id = fields.IntField(primary_key=True)
    image: fields.ForeignKeyRelation[FirmwareImageRow] = fields.ForeignKeyField(
        f"{APP}.FirmwareImageRow", related_name="rollouts", on_delete=fields.RESTRICT
    )
    image_id: int
    chosen = fields.CharField(max_length=300)
    stages = fields.CharField(max_length=100)
    stage_count = fields.IntField()
    soak_s = fields.IntField()
    failure_limit = fields.IntField()
    is_forced = fields.BooleanField()
    state = fields.CharField(max_length=12)
    stage = fields.IntField()
    stage_began_at = fields.DatetimeField()
    settled_at = fields.DatetimeField(null=True)
    ended = fields.CharField(max_length=12, db_default="")
    started_at = fields.DatetimeField()
    started_by = fields.CharField(max_length=254)
    ended_at = fields.DatetimeField(null=True)
    ended_by = fields.CharField(max_length=254, db_default="")

    class Meta:
        table = "firmware_rollout"
        indexes = (("state",),)


# One device of a roll-out. ``factory_id`` is where it stood then.
class FirmwareUpdateRow(Model):
    id = fields.BigIntField(primary_key=True)
    rollout: fields.ForeignKeyRelation[FirmwareRolloutRow] = fields.ForeignKeyField(
        f"{APP}.FirmwareRolloutRow", related_name="updates", on_delete=fields.CASCADE
    )
    rollout_id: int
    device: fields.ForeignKeyRelation[DeviceRow] = fields.ForeignKeyField(
        f"{APP}.DeviceRow", related_name="updates", on_delete=fields.CASCADE
    )
    device_id: int
    factory_id = fields.IntField()
    stage = fields.IntField()
    state = fields.CharField(max_length=12)
    before = fields.CharField(max_length=64)
    pct = fields.IntField(db_default=0)
    error = fields.CharField(max_length=60, db_default="")
    boot = fields.BigIntField(null=True)
    faults = fields.IntField(db_default=0)
    offered_at = fields.DatetimeField(null=True)
    changed_at = fields.DatetimeField(null=True)
    seen_at = fields.DatetimeField(null=True)
    ended_at = fields.DatetimeField(null=True)

    class Meta:
        table = "firmware_update"
        unique_together = (("rollout", "device"),)
        indexes = (("device_id", "id"),)


# One row: a number that grows with every change of the registry, so that a running core notices.
class RegistryRow(Model):
    id = fields.IntField(primary_key=True)
    revision = fields.BigIntField(default=0)
    reload_asked = fields.BigIntField(default=0, db_default=0)
    reload_done = fields.BigIntField(default=0, db_default=0)
    reload_answer = fields.TextField(default="", db_default="")

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
    created_at = fields.DatetimeField(auto_now_add=True)
    status = fields.CharField(max_length=12, db_default="active")
    phone_number = fields.CharField(max_length=40, db_default="")
    locale = fields.CharField(max_length=8, db_default="en")

    class Meta:
        table = "user_account"


class SessionRow(Model):
    id = fields.BigIntField(primary_key=True)
    token_hash = fields.CharField(max_length=64, unique=True)
    user: fields.ForeignKeyRelation[UserRow] = fields.ForeignKeyField(
        f"{APP}.UserRow", related_name="sessions", on_delete=fields.CASCADE
    )
    user_id: int
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField()
    last_used_at = fields.DatetimeField()
    address = fields.CharField(max_length=64)
    user_agent = fields.CharField(max_length=200)

    class Meta:
        table = "user_session"


class ApiTokenRow(Model):
    id = fields.BigIntField(primary_key=True)
    token_hash = fields.CharField(max_length=64, unique=True)
    prefix = fields.CharField(max_length=16)
    user: fields.ForeignKeyRelation[UserRow] = fields.ForeignKeyField(
        f"{APP}.UserRow", related_name="api_tokens", on_delete=fields.CASCADE
    )
    user_id: int
    name = fields.CharField(max_length=80)
    scopes = fields.CharField(max_length=200)  # separated by commas
    created_at = fields.DatetimeField()
    expires_at = fields.DatetimeField(null=True)
    last_used_at = fields.DatetimeField(null=True)

    class Meta:
        table = "api_token"


class OneTimeCodeRow(Model):
    id = fields.BigIntField(primary_key=True)
    user: fields.ForeignKeyRelation[UserRow] = fields.ForeignKeyField(
        f"{APP}.UserRow", related_name="codes", on_delete=fields.CASCADE
    )
    user_id: int
    purpose = fields.CharField(max_length=40)
    code_hash = fields.CharField(max_length=64)
    expires_at = fields.DatetimeField()
    attempts_left = fields.IntField()
    used_at = fields.DatetimeField(null=True)

    class Meta:
        table = "one_time_code"
        unique_together = (("user", "purpose"),)


# What became of a request that must not be done twice; ``status`` is NULL while it is being worked on.
class IdempotencyKeyRow(Model):
    id = fields.BigIntField(primary_key=True)
    user: fields.ForeignKeyRelation[UserRow] = fields.ForeignKeyField(
        f"{APP}.UserRow", related_name="idempotency_keys", on_delete=fields.CASCADE
    )
    user_id: int
    key = fields.CharField(max_length=200)
    request_sha256 = fields.CharField(max_length=64)
    status = fields.IntField(null=True)
    body = fields.TextField()
    created_at = fields.DatetimeField()

    class Meta:
        table = "idempotency_key"
        unique_together = (("user", "key"),)


# Append-only: triggers refuse all but INSERT (migrations/0009_accounts.py). It refers to nobody by a foreign key, so
# that what it says stays when others go. ``before`` and ``after`` are JSON.
class AuditEventRow(Model):
    id = fields.BigIntField(primary_key=True, generated=False)
    at = fields.DatetimeField()
    actor = fields.CharField(max_length=200)
    user_id = fields.IntField(null=True)
    address = fields.CharField(max_length=64)
    token = fields.CharField(max_length=80)
    action = fields.CharField(max_length=40)
    subject_kind = fields.CharField(max_length=40)
    subject_id = fields.CharField(max_length=200)
    factory_id = fields.IntField(null=True)
    before = fields.TextField(null=True)
    after = fields.TextField(null=True)
    sha256 = fields.CharField(max_length=64)

    class Meta:
        table = "audit_event"
        indexes = (("factory_id", "id"), ("subject_kind", "subject_id", "id"))


# Of a device, of a factory, or (both NULL) of the whole network, which then stands for those that are ``part_of`` it.
class AlertRow(Model):
    id = fields.BigIntField(primary_key=True)
    device: fields.ForeignKeyNullableRelation[DeviceRow] = fields.ForeignKeyField(
        f"{APP}.DeviceRow", related_name="alerts", null=True, on_delete=fields.CASCADE
    )
    device_id: int | None
    factory: fields.ForeignKeyNullableRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="alerts", null=True, on_delete=fields.CASCADE
    )
    factory_id: int | None  # where there is no device
    rule = fields.CharField(max_length=80)
    severity = fields.CharField(max_length=12)
    message = fields.TextField()
    raised_at = fields.DatetimeField()
    cleared_at = fields.DatetimeField(null=True)
    value = fields.FloatField(null=True)
    limit_value = fields.FloatField(null=True)
    unit = fields.CharField(max_length=40, db_default="")
    is_late = fields.BooleanField(db_default=False)
    part_of = fields.BigIntField(null=True)
    acknowledged_at = fields.DatetimeField(null=True)
    acknowledged_by = fields.CharField(max_length=254, db_default="")
    acknowledge_comment = fields.TextField(db_default="")
    shelved_until = fields.DatetimeField(null=True)
    shelved_by = fields.CharField(max_length=254, db_default="")
    shelve_comment = fields.TextField(db_default="")
    raised_told_at = fields.DatetimeField(null=True)  # NULL: nobody has looked who is to be told
    cleared_told_at = fields.DatetimeField(null=True)
    last_told_at = fields.DatetimeField(null=True)
    escalation = fields.IntField(db_default=0)  # how far down the duty list people were told

    class Meta:
        table = "alert"


# Where a rule stands for a device or a factory, while it is not inactive.
class AlertStandingRow(Model):
    id = fields.BigIntField(primary_key=True)
    device: fields.ForeignKeyNullableRelation[DeviceRow] = fields.ForeignKeyField(
        f"{APP}.DeviceRow", related_name="standings", null=True, on_delete=fields.CASCADE
    )
    device_id: int | None
    factory: fields.ForeignKeyNullableRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="standings", null=True, on_delete=fields.CASCADE
    )
    factory_id: int | None
    rule = fields.CharField(max_length=80)
    state = fields.CharField(max_length=12)
    since = fields.DatetimeField()
    seen_at = fields.DatetimeField(null=True)
    well_since = fields.DatetimeField(null=True)

    class Meta:
        table = "alert_standing"
        unique_together = (("device", "rule"), ("factory", "rule"))


# Between what headquarters let factories choose a number of an alert.
class AlertBoundRow(Model):
    id = fields.IntField(primary_key=True)
    rule = fields.CharField(max_length=80)
    option = fields.CharField(max_length=80)
    low = fields.FloatField()
    high = fields.FloatField()
    set_by = fields.CharField(max_length=254)
    set_at = fields.DatetimeField()

    class Meta:
        table = "alert_bound"
        unique_together = (("rule", "option"),)


# What a factory has chosen for a number of an alert.
class AlertAdjustmentRow(Model):
    id = fields.IntField(primary_key=True)
    factory: fields.ForeignKeyRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="alert_adjustments", on_delete=fields.CASCADE
    )
    factory_id: int
    rule = fields.CharField(max_length=80)
    option = fields.CharField(max_length=80)
    value = fields.FloatField()
    set_by = fields.CharField(max_length=254)
    set_at = fields.DatetimeField()

    class Meta:
        table = "alert_adjustment"
        unique_together = (("factory", "rule", "option"),)


# Who is told of alerts, one after the other; ``factory`` NULL is the list of headquarters.
class DutyRow(Model):
    id = fields.IntField(primary_key=True)
    factory: fields.ForeignKeyNullableRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="duties", null=True, on_delete=fields.CASCADE
    )
    factory_id: int | None
    position = fields.IntField()
    user: fields.ForeignKeyRelation[UserRow] = fields.ForeignKeyField(
        f"{APP}.UserRow", related_name="duties", on_delete=fields.CASCADE
    )
    user_id: int

    class Meta:
        table = "duty"


# What is to be told to somebody, or was. ``channel`` is the notification's name in the configuration.
class OutboxRow(Model):
    id = fields.BigIntField(primary_key=True)
    dedupe_key = fields.CharField(max_length=200, unique=True)
    channel = fields.CharField(max_length=80)
    user: fields.ForeignKeyNullableRelation[UserRow] = fields.ForeignKeyField(
        f"{APP}.UserRow", related_name="told", null=True, on_delete=fields.CASCADE
    )
    user_id: int | None
    content = fields.TextField()
    state = fields.CharField(max_length=12)
    attempts = fields.IntField(db_default=0)
    next_attempt_at = fields.DatetimeField()
    last_error = fields.TextField(db_default="")
    created_at = fields.DatetimeField()
    done_at = fields.DatetimeField(null=True)

    class Meta:
        table = "outbox"
        indexes = (("state", "next_attempt_at"),)


# Of which alerts it tells.
class OutboxAlertRow(Model):
    id = fields.BigIntField(primary_key=True)
    outbox: fields.ForeignKeyRelation[OutboxRow] = fields.ForeignKeyField(
        f"{APP}.OutboxRow", related_name="alerts", on_delete=fields.CASCADE
    )
    outbox_id: int
    alert: fields.ForeignKeyRelation[AlertRow] = fields.ForeignKeyField(
        f"{APP}.AlertRow", related_name="told", on_delete=fields.CASCADE
    )
    alert_id: int
    event = fields.CharField(max_length=12)  # what is told of it

    class Meta:
        table = "outbox_alert"
        indexes = (("alert_id",), ("outbox_id",))


# One version of an energy entry; the columns are those of ledger.EnergyEntry. ``entry_id`` stays over edits; the row
# with ``superseded_at`` NULL is the one that counts.
class EnergyEntryRow(Model):
    id = fields.BigIntField(primary_key=True)
    entry_id = fields.BigIntField()
    version = fields.IntField()
    factory: fields.ForeignKeyRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="energy_entries", on_delete=fields.RESTRICT
    )
    factory_id: int
    stack: fields.ForeignKeyNullableRelation[StackRow] = fields.ForeignKeyField(
        f"{APP}.StackRow", related_name="energy_entries", null=True, on_delete=fields.RESTRICT
    )
    stack_id: int | None
    energy_type = fields.CharField(max_length=24)
    amount = fields.FloatField()
    unit = fields.CharField(max_length=12)
    period_start = fields.DatetimeField()
    period_end = fields.DatetimeField()
    moisture = fields.FloatField(null=True)
    stack_density_kg_per_m3 = fields.FloatField(null=True)
    sustainability = fields.CharField(max_length=8)
    evidence = fields.CharField(max_length=200)
    wood_origin = fields.CharField(max_length=16, db_default="unknown")
    supplier = fields.CharField(max_length=120, db_default="")
    species = fields.CharField(max_length=80, db_default="")
    plot = fields.CharField(max_length=120, db_default="")
    harvested_on = fields.DateField(null=True)
    permit = fields.CharField(max_length=80, db_default="")
    note = fields.CharField(max_length=500)
    author = fields.CharField(max_length=200)
    recorded_at = fields.DatetimeField()
    reason = fields.CharField(max_length=500)
    withdrawn = fields.BooleanField()
    superseded_at = fields.DatetimeField(null=True)

    class Meta:
        table = "energy_entry"
        unique_together = (("entry_id", "version"),)
        indexes = (("factory_id", "period_start"),)


# One version of a production entry, as above; the columns are those of ledger.ProductionEntry.
class ProductionEntryRow(Model):
    id = fields.BigIntField(primary_key=True)
    entry_id = fields.BigIntField()
    version = fields.IntField()
    factory: fields.ForeignKeyRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="production_entries", on_delete=fields.RESTRICT
    )
    factory_id: int
    period_start = fields.DatetimeField()
    period_end = fields.DatetimeField()
    green_leaf_kg = fields.FloatField(null=True)
    made_tea_kg = fields.FloatField(null=True)
    evidence = fields.CharField(max_length=200)
    note = fields.CharField(max_length=500)
    author = fields.CharField(max_length=200)
    recorded_at = fields.DatetimeField()
    reason = fields.CharField(max_length=500)
    withdrawn = fields.BooleanField()
    superseded_at = fields.DatetimeField(null=True)

    class Meta:
        table = "production_entry"
        unique_together = (("entry_id", "version"),)
        indexes = (("factory_id", "period_start"),)


# A photo of what proves an entry, such as a delivery note. It belongs to the entry and not to one version of it.
class EntryPhotoRow(Model):
    id = fields.IntField(primary_key=True)
    factory: fields.ForeignKeyRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="photos", on_delete=fields.RESTRICT
    )
    factory_id: int
    entry_id = fields.BigIntField()
    number = fields.IntField()  # from 1, within the entry
    sha256 = fields.CharField(max_length=64)
    media_type = fields.CharField(max_length=20)
    width = fields.IntField()
    height = fields.IntField()
    size = fields.IntField()
    content = fields.BinaryField()
    author = fields.CharField(max_length=200)
    added_at = fields.DatetimeField()

    class Meta:
        table = "entry_photo"
        unique_together = (("entry_id", "number"), ("entry_id", "sha256"))


class TargetRow(Model):
    id = fields.IntField(primary_key=True)
    factory: fields.ForeignKeyRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="targets", on_delete=fields.RESTRICT
    )
    factory_id: int
    metric = fields.CharField(max_length=60)
    value = fields.FloatField()
    valid_from = fields.DateField()
    baseline_year = fields.IntField(null=True)
    baseline_value = fields.FloatField(null=True)
    author = fields.CharField(max_length=200)
    recorded_at = fields.DatetimeField()
    withdrawn = fields.BooleanField(default=False)

    class Meta:
        table = "target"
        unique_together = (("factory", "metric", "valid_from", "recorded_at"),)


# What a factory pays for wood, from a day on.
class WoodPriceRow(Model):
    id = fields.IntField(primary_key=True)
    factory: fields.ForeignKeyRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="wood_prices", on_delete=fields.RESTRICT
    )
    factory_id: int
    kes = fields.FloatField()
    unit = fields.CharField(max_length=12)
    valid_from = fields.DateField()
    kg_per_m3 = fields.FloatField(null=True)
    author = fields.CharField(max_length=200)
    recorded_at = fields.DatetimeField()
    withdrawn = fields.BooleanField(default=False)

    class Meta:
        table = "wood_price"
        indexes = (("factory_id", "valid_from"),)


# A reported account: never changed, a correction is the next version.
class StatementRow(Model):
    id = fields.IntField(primary_key=True)
    factory: fields.ForeignKeyRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="statements", on_delete=fields.RESTRICT
    )
    factory_id: int
    period_start = fields.DatetimeField()
    period_end = fields.DatetimeField()
    version = fields.IntField()
    figures = fields.TextField()
    sha256 = fields.CharField(max_length=64)
    author = fields.CharField(max_length=200)
    created_at = fields.DatetimeField()
    reason = fields.CharField(max_length=500)

    class Meta:
        table = "statement"
        unique_together = (("factory", "period_start", "period_end", "version"),)


# A compliance report: its frozen data set, and where it is in its life. ``dataset`` is canonical JSON, compressed.
class ReportRow(Model):
    id = fields.IntField(primary_key=True)
    number = fields.IntField()
    version = fields.IntField()
    factory: fields.ForeignKeyNullableRelation[FactoryRow] = fields.ForeignKeyField(
        f"{APP}.FactoryRow", related_name="reports", null=True, on_delete=fields.RESTRICT
    )
    factory_id: int | None
    factory_ids = fields.TextField()
    title = fields.CharField(max_length=200)
    period_start = fields.DatetimeField()
    period_end = fields.DatetimeField()
    status = fields.CharField(max_length=12)
    dataset = fields.BinaryField()
    sha256 = fields.CharField(max_length=64)
    critical = fields.IntField()
    reason = fields.CharField(max_length=500)
    comment = fields.CharField(max_length=500, db_default="")
    schedule = fields.CharField(max_length=120, db_default="")
    made_at = fields.DatetimeField()
    made_by = fields.CharField(max_length=254)
    prepared_at = fields.DatetimeField(null=True)
    prepared_by = fields.CharField(max_length=254, db_default="")
    reviewed_at = fields.DatetimeField(null=True)
    reviewed_by = fields.CharField(max_length=254, db_default="")
    approved_at = fields.DatetimeField(null=True)
    approved_by = fields.CharField(max_length=254, db_default="")

    class Meta:
        table = "report"
        unique_together = (("number", "version"),)


# A link by which somebody without an account downloads a final report, for a time. The token itself is kept nowhere.
class ReportLinkRow(Model):
    id = fields.IntField(primary_key=True)
    report: fields.ForeignKeyRelation[ReportRow] = fields.ForeignKeyField(
        f"{APP}.ReportRow", related_name="links", on_delete=fields.RESTRICT
    )
    report_id: int
    format = fields.CharField(max_length=40)
    token_hash = fields.CharField(max_length=64, unique=True)
    note = fields.CharField(max_length=200)
    created_at = fields.DatetimeField()
    created_by = fields.CharField(max_length=254)
    expires_at = fields.DatetimeField()
    revoked_at = fields.DatetimeField(null=True)
    downloads = fields.IntField(db_default=0)

    class Meta:
        table = "report_link"
