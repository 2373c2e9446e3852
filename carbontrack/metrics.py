"""Every Prometheus metric of the core, named and explained in one place.

One :class:`Metrics` per process; tests make their own registry, so nothing is global. On the hot path the labelled
children are looked up once, here.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from carbontrack.model import Flag

OUTCOMES = ("committed", "duplicate", "quarantined", "refused")
"""How a reading can end. Whatever was received and is in none of these is still in flight."""

DELIVERIES = (
    "delivered",
    "unknown_device",
    "disabled_device",
    "unknown_topic",
    "mailbox_full",
    "flooding",
    "parked",
    "too_large",
)
"""What can become of an MQTT message when it arrives."""
HTTP_DELIVERIES = tuple(name for name in DELIVERIES if name != "unknown_topic")


# Every counter would otherwise have a twin that says when it was made, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]  # its author left the types out


class RelayMetrics:
    """Of a site that hands on to headquarters; elsewhere they stay 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connected = Gauge(
            "carbontrack_relay_connected", "Whether the bridge to headquarters is connected.", registry=registry
        )
        self.waiting = Gauge(
            "carbontrack_relay_waiting_records",
            "Records that headquarters has not confirmed, as far as it has spoken since the start.",
            registry=registry,
        )
        self.oldest = Gauge(
            "carbontrack_relay_oldest_waiting_seconds",
            "Age of the oldest record that headquarters has not confirmed; 0: there is none.",
            registry=registry,
        )
        self.last_receipt = Gauge(
            "carbontrack_relay_last_receipt_timestamp_seconds",
            "When headquarters confirmed something last.",
            registry=registry,
        )
        self.messages = Counter(
            "carbontrack_relay_messages",
            "Messages that were handed to the bridge to headquarters, by channel.",
            ["channel"],
            registry=registry,
        )


class Metrics:
    """The metrics of one core. The attribute names are the metrics' names without the prefix and the unit's suffix."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        self.messages = Counter(
            "carbontrack_mqtt_messages",
            "MQTT messages by what became of them on arrival.",
            ["delivery"],
            registry=registry,
        )
        self.deliveries = {name: self.messages.labels(name) for name in DELIVERIES}
        self.http_messages = Counter(
            "carbontrack_http_messages",
            "Devices' messages that came over HTTP, by what became of them on arrival.",
            ["delivery"],
            registry=registry,
        )
        self.http_deliveries = {name: self.http_messages.labels(name) for name in HTTP_DELIVERIES}
        self.received = Counter(
            "carbontrack_readings_received",
            "Readings received: committed + duplicate + quarantined + refused + in flight. "
            "A message that could not be read counts as one.",
            registry=registry,
        )
        self.readings = Counter("carbontrack_readings", "Readings by how they ended.", ["outcome"], registry=registry)
        self.outcomes = {name: self.readings.labels(name) for name in OUTCOMES}
        self.in_flight = Gauge(
            "carbontrack_readings_in_flight",
            "Readings that were decoded and are not yet committed, measured at the actors.",
            registry=registry,
        )
        self.quarantined = Counter(
            "carbontrack_quarantined", "Payloads and rows put into quarantine, by cause.", ["cause"], registry=registry
        )
        self.flagged = Counter(
            "carbontrack_readings_flagged", "Committed readings that carry a flag.", ["flag"], registry=registry
        )
        self.commit_seconds = Histogram(
            "carbontrack_commit_seconds",
            "Time that one group commit took in the database.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.commit_readings = Histogram(
            "carbontrack_commit_readings",
            "Readings in one group commit.",
            buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000),
            registry=registry,
        )
        self.commit_failures = Counter(
            "carbontrack_commit_failures", "Group commits that the database refused.", registry=registry
        )
        self.last_commit = Gauge(
            "carbontrack_last_commit_timestamp_seconds", "When the last group commit succeeded.", registry=registry
        )
        self.receipts = Counter("carbontrack_receipts", "Receipts published to devices.", registry=registry)
        self.receipts_due = Gauge(
            "carbontrack_receipts_due", "Devices whose receipt is waiting to be published.", registry=registry
        )
        self.mailbox_depth = Gauge(
            "carbontrack_mailbox_messages", "Messages waiting in all mailboxes.", registry=registry
        )
        self.mailbox_deepest = Gauge(
            "carbontrack_mailbox_deepest_messages", "Messages waiting in the fullest mailbox.", registry=registry
        )
        self.actors = Gauge("carbontrack_actors", "Device actors by state.", ["state"], registry=registry)
        self.devices_online = Gauge(
            "carbontrack_devices_online", "Devices that are connected and sending.", registry=registry
        )
        self.device_health = Gauge(
            "carbontrack_device_health", "Registered devices by how they are doing.", ["state"], registry=registry
        )
        self.devices_flooding = Gauge(
            "carbontrack_devices_flooding",
            "Devices that send more than devices.messages_per_s, now or within the last minute.",
            registry=registry,
        )
        self.devices_draining = Gauge(
            "carbontrack_devices_draining", "Devices that send what they had kept.", registry=registry
        )
        self.mqtt_connected = Gauge(
            "carbontrack_mqtt_connected", "1 while the core is connected to the broker.", registry=registry
        )
        self.canary = Histogram(
            "carbontrack_canary_seconds",
            "From the canary's publishing until its message was committed, and until it was shown on the live stream.",
            ["stage"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=registry,
        )
        self.canary_lost = Counter(
            "carbontrack_canary_lost",
            "Canary messages that did not come through in time, by stage.",
            ["stage"],
            registry=registry,
        )
        self.canary_seen = Gauge(
            "carbontrack_canary_seen_timestamp_seconds", "When the canary came through last.", registry=registry
        )
        self.mqtt_reconnects = Counter(
            "carbontrack_mqtt_reconnects", "Connections to the broker that were lost or failed.", registry=registry
        )
        self.accounts = Gauge(
            "carbontrack_broker_accounts",
            "Active devices by their account at the broker: in step with the registry, waiting for it, or failed.",
            ["state"],
            registry=registry,
        )
        self.account_changes = Counter(
            "carbontrack_broker_account_changes",
            "Devices' accounts that were made and removed at the broker.",
            ["change"],
            registry=registry,
        )
        self.account_failures = Counter(
            "carbontrack_broker_account_failures",
            "Changes of devices' accounts that the broker refused.",
            registry=registry,
        )
        self.relay = RelayMetrics(registry)
        self.loop_lag = Histogram(
            "carbontrack_loop_lag_seconds",
            "How late the event loop woke a timer.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
            registry=registry,
        )
        self.live_watchers = Gauge("carbontrack_live_watchers", "Open live streams of browsers.", registry=registry)
        self.certificate_ends = Gauge(
            "carbontrack_https_certificate_end_timestamp_seconds",
            "When the certificate of http.tls expires; 0 where the core does not serve https itself.",
            registry=registry,
        )
        self.attempts_refused = Counter(
            "carbontrack_attempts_refused",
            "Requests that were refused because something had been tried too often, by limit.",
            ["limit"],
            registry=registry,
        )
        self.attempts_shared = Gauge(
            "carbontrack_attempts_shared",
            "1 while the limits on guessing count in Redis for all processes together.",
            registry=registry,
        )
        self.tier_buckets = Counter(
            "carbontrack_tier_buckets", "Five-minute buckets that were summarised (again).", registry=registry
        )
        self.alerts = Gauge(
            "carbontrack_alerts",
            "Alerts by their name in the configuration, and state: pending (the breach has yet to hold), or firing.",
            ["alert", "state"],
            registry=registry,
        )
        self._alerts: dict[str, Mapping[tuple[str, str], int]] = {}
        self._count_telling(registry)
        self._count_storage(registry)
        self._count_orders(registry)
        self.plugin_errors = Counter(
            "carbontrack_plugin_errors",
            "Calls of plugins that failed, by plugin and kind: raised, or blocked (held the core up).",
            ["plugin", "kind"],
            registry=registry,
        )
        self.reloads = Counter(
            "carbontrack_reloads",
            "Reloads of the configuration: done, failed (something of it is not in force), or refused (it is bad).",
            ["result"],
            registry=registry,
        )
        self.plugins = Gauge("carbontrack_plugins", "Plugins by state.", ["state"], registry=registry)
        self._flags = {int(flag): self.flagged.labels(str(flag.name).lower()) for flag in Flag}

    def count_alerts(self, of: str, counts: Mapping[tuple[str, str], int]) -> None:
        """Set the gauge of alerts, ``of`` devices or of factories: (name, state) -> how many."""
        before = {key for known in self._alerts.values() for key in known}
        self._alerts[of] = counts
        for key in before | counts.keys():
            self.alerts.labels(*key).set(sum(known.get(key, 0) for known in self._alerts.values()))

    def _count_telling(self, registry: CollectorRegistry) -> None:
        """What people are told, and how long they take."""
        self.mails = Counter(
            "carbontrack_mails",
            "Mails by how they ended: sent, failed for good or after an hour, or dropped unsent.",
            ["outcome"],
            registry=registry,
        )
        self.scheduled_reports_failed = Gauge(
            "carbontrack_scheduled_reports_failed",
            "Reports that are due by a schedule and could not be made; they are tried again.",
            registry=registry,
        )
        self.mails_waiting = Gauge("carbontrack_mails_waiting", "Mails that are still to be sent.", registry=registry)
        self.notifications = Counter(
            "carbontrack_notifications",
            "Attempts to tell somebody of alerts by how they ended: sent, retried (it is tried again), or failed.",
            ["notification", "outcome"],
            registry=registry,
        )
        self.outbox_waiting = Gauge(
            "carbontrack_outbox_waiting",
            "Notifications of alerts that are still to be sent.",
            ["notification"],
            registry=registry,
        )
        self.outbox_oldest = Gauge(
            "carbontrack_outbox_oldest_seconds",
            "Age of the oldest notification that is still to be sent; 0 where none is.",
            ["notification"],
            registry=registry,
        )
        self.acknowledge_s = Histogram(
            "carbontrack_alert_acknowledge_seconds",
            "From the raising of an alert until somebody acknowledged it.",
            buckets=(60, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 259_200),
            registry=registry,
        )

    def _count_orders(self, registry: CollectorRegistry) -> None:
        """What devices are told beside receipts, and what they say to it."""
        self.orders_sent = Counter(
            "carbontrack_device_orders_sent",
            "Messages to devices that the broker has taken: settings (config), commands (command), offers (firmware).",
            ["kind"],
            registry=registry,
        )
        self.order_answers = Counter(
            "carbontrack_device_order_answers",
            "What devices answered, by kind and result; unknown: to something that nobody had sent.",
            ["kind", "result"],
            registry=registry,
        )
        self.order_answers_refused = Counter(
            "carbontrack_device_order_answers_refused",
            "Answers of devices that were not used: too_large, unreadable, or dropped (too many at once).",
            ["why"],
            registry=registry,
        )
        self.configs_open = Gauge(
            "carbontrack_device_configs",
            "Devices by the state of their newest settings: waiting, sent, applied, refused or reverted.",
            ["state"],
            registry=registry,
        )
        self.commands_open = Gauge(
            "carbontrack_device_commands_open", "Commands that wait for devices or their answers.", registry=registry
        )
        self.rollouts_live = Gauge(
            "carbontrack_firmware_rollouts_live", "Roll-outs of firmware that run or are paused.", registry=registry
        )
        self.rollouts_stopped = Counter(
            "carbontrack_firmware_rollouts_stopped",
            "Roll-outs that stopped by themselves, because devices failed.",
            registry=registry,
        )
        self.firmware_updates = Gauge(
            "carbontrack_firmware_updates",
            "Devices of live roll-outs by how far they are: waiting, offered, ..., confirmed, failed, rolled_back.",
            ["state"],
            registry=registry,
        )

    def _count_storage(self, registry: CollectorRegistry) -> None:
        """What is kept, and how much room there is."""
        self.storage_bytes = Gauge(
            "carbontrack_storage_bytes",
            "Bytes kept: raw readings and records with their indexes, the whole database, the archive.",
            ["part"],
            registry=registry,
        )
        self.raw_bytes_per_day = Gauge(
            "carbontrack_storage_raw_bytes_per_day",
            "Bytes that a day of raw data takes in the database, by the last week.",
            registry=registry,
        )
        self.oldest_raw = Gauge(
            "carbontrack_storage_oldest_raw_timestamp_seconds",
            "Beginning of the oldest day with raw readings in the database; 0 without any.",
            registry=registry,
        )
        self.storage_free = Gauge(
            "carbontrack_storage_free_bytes",
            "Room on the volume that retention.watch_disk names; NaN where none is watched.",
            registry=registry,
        )
        self.days_until_full = Gauge(
            "carbontrack_storage_days_until_full",
            "Days for which there is room; +Inf where no more is taken than given back, or the room is not known.",
            registry=registry,
        )
        self.storage_tight = Gauge(
            "carbontrack_storage_tight",
            "1 while there is less room than retention.reserve_mb: then only readings are written.",
            registry=registry,
        )
        self.newest_backup = Gauge(
            "carbontrack_backup_newest_timestamp_seconds",
            "When the newest file of retention.backup_folder was made; 0 without any, NaN where none is watched.",
            registry=registry,
        )

    def count_flags(self, flags: int) -> None:
        """Count one committed reading under each of its flags."""
        for bit, counter in self._flags.items():
            if flags & bit:
                counter.inc()

    def refused(self) -> dict[str, int]:
        """How many messages were not taken since the start, by why not."""
        value = self.registry.get_sample_value
        ways = "carbontrack_mqtt_messages_total", "carbontrack_http_messages_total"
        counts = {name: sum(value(way, {"delivery": name}) or 0 for way in ways) for name in DELIVERIES}
        return {name: int(count) for name, count in counts.items() if count and name != "delivered"}
