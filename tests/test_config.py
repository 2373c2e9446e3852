"""What can be configured, how it is read, and that every mistake is named with its place and without its value."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from carbontrack.config import AlertEntry, Config, ConfigError, Problem, describe, load_config

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "configuration.md"
BEGIN = "<!-- settings: written by `python -m tests.test_config`, checked by the tests -->\n"
END = "<!-- end of settings -->"

WORDS = sorted({part.removesuffix("[]") for setting in describe() for part in setting.key.split(".")})

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a configuration from the texts of its files and from variables; file names are as a user gives them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()

    def _load(text: str = "", environ: dict[str, str] | None = None, **others: str) -> Config:
        file = Path("config/carbontrack.yaml")
        file.write_text(text, encoding="utf-8")
        for name, content in others.items():
            Path(f"config/{name}.yaml").write_text(content, encoding="utf-8")
        return load_config(file, environ or {})

    return _load


def problems(load: Load, text: str = "", environ: dict[str, str] | None = None, **others: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, environ, **others)
    assert caught.value.__context__ is None, "pydantic's error, which carries values, must not travel along"
    return str(caught.value).splitlines()


def load_variables(environ: dict[str, str]) -> Config:
    return load_config(None, environ)


def variable_problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_variables(environ)
    return str(caught.value).splitlines()


class TestDefaults:
    def test_nothing_at_all_gives_the_defaults(self) -> None:
        config = load_config(None, {})

        assert config.mqtt.host == "127.0.0.1"
        assert config.mqtt.port == 1883
        assert config.mqtt.tls is None
        assert config.mqtt.client_id == "carbontrack-core"
        assert config.http.port == 8080
        assert config.http.secret_key is None
        assert config.http.secure_cookies == "auto"
        assert config.devices.mailbox_size == 256
        assert config.retention.raw_days == 90
        assert config.plugins.enabled is None
        assert config.plugins.disabled == ()
        assert config.logging.level == "info"
        assert config.site.time_zone == "Africa/Nairobi"

    def test_the_default_alerts_watch_the_rate_the_instruments_and_the_entries(self) -> None:
        alerts = load_config(None, {}).alerts

        assert alerts[0] == AlertEntry(
            name="co2-rate-high",
            rule="limit",
            severity="warning",
            hold_s=60,
            options={"quantity": "co2_kg_per_s", "raise_above": 0.6, "clear_below": 0.55},
        )
        assert [alert.rule for alert in alerts[1:]] == [
            "silence",
            "sensor-fault",
            "over-range",
            "stuck",
            "stuck",
            "implausible",
            "corroboration",
            "missing-entries",
        ]

    def test_open_pages_are_told_of_alerts_by_default(self) -> None:
        (entry,) = load_config(None, {}).notifications
        assert (entry.name, entry.notifier, entry.min_severity) == ("portal", "portal", "info")

    @pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "mqtt:\nhttp: ~\n", "\ufeffmqtt: {}\n"])
    def test_an_empty_file_or_section_gives_the_defaults(self, load: Load, text: str) -> None:
        config = load(text)

        assert config.mqtt.port == 1883
        assert config.http.port == 8080

    def test_a_list_of_alerts_replaces_the_default(self, load: Load) -> None:
        assert load("alerts: []").alerts == ()
        (alert,) = load("alerts: [{name: hot, rule: limit}]").alerts
        assert (alert.name, alert.severity, alert.hold_s, alert.options) == ("hot", "warning", 60, {})

    def test_the_port_follows_tls_unless_it_is_given(self, load: Load) -> None:
        assert load("mqtt: {tls: {ca_file: ca.crt}}").mqtt.port == 8883
        assert load("mqtt: {tls: {}}").mqtt.port == 8883
        assert load("mqtt: {tls: {}, port: 1234}").mqtt.port == 1234
        assert load("mqtt: {tls: null}").mqtt.port == 1883

    def test_nothing_is_remembered_between_loads(self, load: Load) -> None:
        load("mqtt: {host: a, password: !secret x, username: u}", secrets="x: one")
        second = load("mqtt: {password: !secret x, username: u}", secrets="x: two")

        assert second.mqtt.host == "127.0.0.1"
        assert second.mqtt.password == SecretStr("two")

    def test_a_configuration_cannot_be_changed(self) -> None:
        config = load_config(None, {})
        with pytest.raises(ValidationError):
            config.mqtt.port = 1  # type: ignore[misc]


class TestFile:
    def test_values_are_read_as_yaml_1_2(self, load: Load) -> None:
        config = load("mqtt: {username: yes, keepalive_s: 0x10, credit: 5e-1, receipts_per_s: 0o17}")

        assert config.mqtt.username == "yes"
        assert config.mqtt.keepalive_s == 16
        assert config.mqtt.credit == 0.5
        assert config.mqtt.receipts_per_s == 15

    def test_a_plugins_options_may_be_anything(self, load: Load) -> None:
        text = "{a: [1, 2.5, true, null, .inf, 2026-11-23, '1'], b: {c: d}}"
        options = load(f"plugins: {{options: {{mine: {text}}}}}").plugins.options

        assert options["mine"] == {"a": [1, 2.5, True, None, float("inf"), "2026-11-23", "1"], "b": {"c": "d"}}

    def test_an_alias_repeats_a_value(self, load: Load) -> None:
        config = load("mqtt: {host: &here broker}\nhttp: {host: *here}")

        assert config.http.host == "broker"

    def test_relative_paths_count_from_the_file(self, load: Load, tmp_path: Path) -> None:
        config = load("mqtt: {tls: {ca_file: tls/ca.crt, cert_file: /etc/c.crt}}\nplugins: {folder: ../plugins}")

        assert config.mqtt.tls is not None
        assert config.mqtt.tls.ca_file == tmp_path / "config/tls/ca.crt"
        assert config.mqtt.tls.cert_file == Path("/etc/c.crt")
        assert config.plugins.folder == tmp_path / "config/../plugins"

    @pytest.mark.parametrize(
        ("given_url", "url"),
        [
            ("sqlite://data/x.sqlite3", "sqlite://{folder}/data/x.sqlite3"),
            ("sqlite:///var/lib/x.sqlite3", "sqlite:///var/lib/x.sqlite3"),
            ("sqlite://:memory:", "sqlite://:memory:"),
            ("postgres://u:p%40ss@db:5432/name", "postgres://u:p%40ss@db:5432/name"),
            ("postgresql://u@db/name", "postgresql://u@db/name"),
        ],
    )
    def test_database_urls(self, load: Load, tmp_path: Path, given_url: str, url: str) -> None:
        assert load(f"database: {{url: '{given_url}'}}").database.url == url.format(folder=tmp_path / "config")

    def test_the_default_database_lies_beside_the_file(self, load: Load, tmp_path: Path) -> None:
        assert load("").database.url == f"sqlite://{tmp_path}/config/carbontrack.sqlite3"

    def test_without_a_file_paths_count_from_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert load_config(None, {}).database.url == f"sqlite://{tmp_path}/carbontrack.sqlite3"


class TestTags:
    def test_a_secret_comes_from_the_file_beside(self, load: Load) -> None:
        config = load("mqtt: {username: core, password: !secret broker}", secrets="broker: hunter2")

        assert config.mqtt.password == SecretStr("hunter2")

    @pytest.mark.parametrize("written", ["0123", "'0123'", "1_000", "true", "12:30:00", "2026-11-23", "0x1F"])
    def test_a_secret_is_text_exactly_as_it_is_written(self, load: Load, written: str) -> None:
        config = load("http: {secret_key: !secret key}", secrets=f"key: {written}")

        assert config.http.secret_key == SecretStr(written.strip("'"))

    def test_a_secret_may_also_be_a_number(self, load: Load) -> None:
        assert load("mqtt: {port: !secret port}", secrets="port: 18883").mqtt.port == 18883

    def test_a_variable_is_read_for_the_setting_that_it_stands_at(self, load: Load) -> None:
        config = load(
            "mqtt: {port: !env_var PORT, username: !env_var NAME, tls: {check_hostname: !env_var CHECK}}",
            {"PORT": "1234", "NAME": "1234", "CHECK": "false"},
        )

        assert config.mqtt.port == 1234
        assert config.mqtt.username == "1234"
        assert config.mqtt.tls is not None
        assert config.mqtt.tls.check_hostname is False

    def test_a_variable_may_have_a_default(self, load: Load) -> None:
        text = "mqtt: {port: !env_var PORT 1234}\nsentry: {dsn: !env_var DSN two words}"

        assert load(text).mqtt.port == 1234
        assert load(text).sentry.dsn == SecretStr("two words")
        assert load(text, {"PORT": "99"}).mqtt.port == 99
        assert load(text, {"PORT": ""}).mqtt.port == 1234, "an empty variable is not set"

    def test_files_include_files_relative_to_themselves(self, load: Load, tmp_path: Path) -> None:
        parts = tmp_path / "config" / "parts"
        parts.mkdir()
        (parts / "mqtt.yaml").write_text("host: broker\ntls: !include tls.yaml\npassword: !secret pw\nusername: u\n")
        (parts / "tls.yaml").write_text("ca_file: ca.crt\n")

        config = load("mqtt: !include parts/mqtt.yaml\nalerts: !include alerts.yaml", secrets="pw: s", alerts="[]")

        assert config.mqtt.host == "broker"
        assert config.mqtt.tls is not None
        assert config.mqtt.tls.ca_file == tmp_path / "config/ca.crt"
        assert config.mqtt.password == SecretStr("s")
        assert config.alerts == ()

    def test_an_included_file_may_serve_twice(self, load: Load) -> None:
        config = load("http: {host: !include h.yaml}\nmqtt: {host: !include h.yaml}", h="broker")

        assert config.http.host == config.mqtt.host == "broker"


class TestEnvironment:
    def test_every_setting_has_a_variable(self) -> None:
        config = load_variables(
            {
                "CARBONTRACK_MQTT__HOST": "broker",
                "CARBONTRACK_MQTT__PORT": "1234",
                "CARBONTRACK_MQTT__TLS__CA_FILE": "/ca.crt",
                "CARBONTRACK_HTTP__SECURE_COOKIES": "true",
                "CARBONTRACK_PLUGINS__ENABLED": "[a, b]",
                "CARBONTRACK_ALERTS": "[{name: n, rule: r}]",
                "CARBONTRACK_LOGGING__FORMAT": "json",
            }
        )

        assert (config.mqtt.host, config.mqtt.port) == ("broker", 1234)
        assert config.mqtt.tls is not None
        assert config.mqtt.tls.ca_file == Path("/ca.crt")
        assert config.http.secure_cookies is True
        assert config.plugins.enabled == ("a", "b")
        assert [alert.name for alert in config.alerts] == ["n"]
        assert config.logging.format == "json"

    def test_auto_remains_auto(self) -> None:
        assert load_variables({"CARBONTRACK_HTTP__SECURE_COOKIES": "auto"}).http.secure_cookies == "auto"

    @given(st.text(min_size=1))
    def test_a_password_is_taken_as_it_is(self, password: str) -> None:
        config = load_variables({"CARBONTRACK_MQTT__PASSWORD": password, "CARBONTRACK_MQTT__USERNAME": "12"})

        assert config.mqtt.password == SecretStr(password)
        assert config.mqtt.username == "12"

    def test_a_variable_overrides_the_file(self, load: Load) -> None:
        text = "mqtt: {host: file, port: 1, tls: {ca_file: /a, check_hostname: false}}"
        config = load(text, {"CARBONTRACK_MQTT__HOST": "variable", "CARBONTRACK_MQTT__TLS__CA_FILE": "/b"})

        assert (config.mqtt.host, config.mqtt.port) == ("variable", 1)
        assert config.mqtt.tls is not None
        assert (config.mqtt.tls.ca_file, config.mqtt.tls.check_hostname) == (Path("/b"), False)

    def test_a_whole_section_is_set_before_its_keys(self, load: Load) -> None:
        environ = {"CARBONTRACK_MQTT__TLS__CA_FILE": "/b", "CARBONTRACK_MQTT__TLS": "{ca_file: /a, key_file: /k}"}
        environ |= {"CARBONTRACK_MQTT": "{host: h, tls: {cert_file: /c}}", "CARBONTRACK_MQTT__TLS__CERT_FILE": "/d"}
        tls = load("mqtt: {port: 1}", environ).mqtt.tls

        assert tls is not None
        assert (tls.ca_file, tls.cert_file, tls.key_file) == (Path("/b"), Path("/d"), Path("/k"))

    def test_null_unsets_what_the_file_sets(self, load: Load) -> None:
        assert load("mqtt: {tls: {}}", {"CARBONTRACK_MQTT__TLS": "null"}).mqtt.tls is None

    def test_an_empty_variable_is_not_set(self, load: Load) -> None:
        config = load("mqtt: {host: file}", {"CARBONTRACK_MQTT__HOST": "", "DATABASE_URL": "", "MQTT_BROKER_URL": ""})

        assert config.mqtt.host == "file"

    def test_what_is_wrong_in_the_file_does_not_count_where_a_variable_overrides_it(self, load: Load) -> None:
        text = "mqtt: {username: u, password: !secret nowhere}\nhttp: {port: x}"
        config = load(text, {"CARBONTRACK_MQTT__PASSWORD": "p", "CARBONTRACK_HTTP__PORT": "81"})

        assert config.mqtt.password == SecretStr("p")
        assert config.http.port == 81

    def test_other_peoples_variables_are_left_alone(self) -> None:
        environ = {"PATH": "/bin", "CARBONTRACK_CONFIG": "x.yaml", "CARBONTRACK_SERVICE_HOST": "10.0.0.1"}
        kubernetes = {"CARBONTRACK_MQTT_PORT": "tcp://10.0.0.1:1883", "CARBONTRACK_MQTT_PORT_1883_TCP": "tcp://x"}

        assert load_variables(environ | kubernetes) == load_variables({})

    def test_one_underscore_too_few_is_noticed(self) -> None:
        assert variable_problems({"CARBONTRACK_MQTT_MAX_PAYLOAD_BYTES": "5000"}) == [
            (
                "CARBONTRACK_MQTT_MAX_PAYLOAD_BYTES: sections and keys are joined by two _: "
                "CARBONTRACK_MQTT__MAX_PAYLOAD_BYTES"
            )
        ]

    def test_the_names_that_other_programs_use_are_understood(self, load: Load) -> None:
        environ = {"DATABASE_URL": "postgres://u:p@h/n", "SECRET_KEY": "0123"}
        config = load("database: {url: sqlite://x}\nhttp: {secret_key: file}", environ)

        assert config.database.url == "postgres://u:p@h/n"
        assert config.http.secret_key == SecretStr("0123")

    def test_our_own_names_win_over_those(self) -> None:
        config = load_variables(
            {
                "DATABASE_URL": "postgres://u:p@h/n",
                "CARBONTRACK_DATABASE__URL": "postgres://u:p@own/n",
                "SECRET_KEY": "other",
                "CARBONTRACK_HTTP__SECRET_KEY": "own",
                "MQTT_BROKER_URL": "mqtts://a:b@other:1",
                "CARBONTRACK_MQTT__HOST": "own",
                "CARBONTRACK_MQTT__TLS__CA_FILE": "/own.crt",
            }
        )

        assert config.database.url == "postgres://u:p@own/n"
        assert config.http.secret_key == SecretStr("own")
        assert (config.mqtt.host, config.mqtt.port, config.mqtt.username) == ("own", 1, "a")
        assert config.mqtt.tls is not None
        assert config.mqtt.tls.ca_file == Path("/own.crt")

    def test_a_broker_url_sets_the_address_and_the_login(self) -> None:
        mqtt = load_variables({"MQTT_BROKER_URL": "mqtts://us%40er:p%2F%23@broker.example:8884"}).mqtt

        assert (mqtt.host, mqtt.port, mqtt.username) == ("broker.example", 8884, "us@er")
        assert mqtt.password == SecretStr("p/#")
        assert mqtt.tls is not None

    def test_mqtts_keeps_the_tls_of_the_file_and_mqtt_ends_it(self, load: Load) -> None:
        text = "mqtt: {port: 1, username: u, password: p, tls: {ca_file: /ca.crt}}"
        encrypted = load(text, {"MQTT_BROKER_URL": "mqtts://broker"}).mqtt
        plain = load(text, {"MQTT_BROKER_URL": "mqtt://x@broker"}).mqtt

        assert encrypted.tls is not None
        assert (encrypted.tls.ca_file, encrypted.port) == (Path("/ca.crt"), 8883)
        assert (encrypted.username, encrypted.password) == ("u", SecretStr("p"))
        assert (plain.tls, plain.port) == (None, 1883)
        assert (plain.username, plain.password) == ("x", None), "another user's password is not sent"


class TestErrors:
    """Each names file, line and key, what is wrong, and what is allowed."""

    def test_an_unknown_key_is_named_with_those_that_are_allowed(self, load: Load) -> None:
        assert problems(load, "# first\nlogging:\n  level: info\n  fromat: json\n") == [
            'config/carbontrack.yaml:4: logging.fromat: unknown key; allowed: level, format. Did you mean "format"?',
        ]

    def test_an_unknown_section_is_named(self, load: Load) -> None:
        (line,) = problems(load, "qqq: {a: 1}")

        assert line.startswith("config/carbontrack.yaml:1: qqq: unknown key; allowed: database, mqtt, http, ")
        assert line.endswith("logging, site")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("mqtt: {port: '1883'}", "mqtt.port: must be a whole number from 1 to 65535"),
            ("mqtt: {port: 65536}", "mqtt.port: must be a whole number from 1 to 65535"),
            ("mqtt: {port: 0}", "mqtt.port: must be a whole number from 1 to 65535"),
            ("mqtt: {port: 1.5}", "mqtt.port: must be a whole number from 1 to 65535"),
            ("mqtt: {port: true}", "mqtt.port: must be a whole number from 1 to 65535"),
            ("mqtt: {port: null}", "mqtt.port: must be a whole number from 1 to 65535"),
            ("mqtt: {port: [1]}", "mqtt.port: must be a whole number from 1 to 65535"),
            ("mqtt: {host: 'mqtts://broker'}", "mqtt.host: must be a host name or an IP address"),
            ("mqtt: {username: ''}", "mqtt.username: must be text that is not empty"),
            ("mqtt: {password: 1234}", "mqtt.password: must be text, kept secret: put it in quotes"),
            ("mqtt: {password: p}", "mqtt: password needs username"),
            ("mqtt: {credit: 0}", "mqtt.credit: must be a number above 0 and at most 1000"),
            ("mqtt: {tls: true}", "mqtt.tls: must be a mapping of ca_file, cert_file, key_file, check_hostname"),
            ("mqtt: {tls: {ca_file: 5}}", "mqtt.tls.ca_file: must be a path"),
            ("mqtt: {tls: {key_file: k}}", "mqtt.tls: key_file needs cert_file"),
            ("mqtt: {tls: {check_hostname: no}}", "mqtt.tls.check_hostname: must be true or false"),
            ("http: {secure_cookies: maybe}", "http.secure_cookies: must be true, false or auto"),
            ("http: {secure_cookies: 1}", "http.secure_cookies: must be true, false or auto"),
            ("http: {tls: {cert_file: c}}", "http.tls.key_file: is missing; it must be a path"),
            (
                "http: {trusted_proxies: 10.0.0.1}",
                "http.trusted_proxies: must be a list of IP addresses and of networks such as 10.0.0.0/8",
            ),
            (
                "http: {trusted_proxies: [10.0.0.1, proxy]}",
                "http.trusted_proxies[1]: must be an IP address or a network such as 10.0.0.0/8",
            ),
            (
                "http: {trusted_proxies: [10.0.0.1/8]}",
                "http.trusted_proxies[0]: must be an IP address or a network such as 10.0.0.0/8",
            ),
            (
                "http: {public_url: https://portal.example/hq}",
                "http.public_url: must be https://HOST or https://HOST:PORT, without a path",
            ),
            (
                "http: {public_url: portal.example}",
                "http.public_url: must be https://HOST or https://HOST:PORT, without a path",
            ),
            ("mail: {host: h}", "mail: host needs sender"),
            (
                "mail: {sender: nobody}",
                "mail.sender: must be an e-mail address, also with a name: Carbon Track <carbon@example.org>",
            ),
            (
                "mail: {sender: 'a@x.org, b@x.org'}",
                "mail.sender: must be an e-mail address, also with a name: Carbon Track <carbon@example.org>",
            ),
            (
                "mail: {sender: a@x..org}",
                "mail.sender: must be an e-mail address, also with a name: Carbon Track <carbon@example.org>",
            ),
            ("mail: {password: p}", "mail: username and password need each other"),
            ("mail: {username: u}", "mail: username and password need each other"),
            ("mail: {tls: none, username: u, password: p}", "mail: a password needs tls: starttls or tls"),
            ("mail: {tls: ssl}", "mail.tls: must be one of none, starttls, tls"),
            ("http: {metrics_token: ''}", "http.metrics_token: must be text that is not empty, kept secret"),
            ("devices: {offline_after_s: .inf}", "devices.offline_after_s: must be a number above 0"),
            ("devices: {offline_after_s: .nan}", "devices.offline_after_s: must be a number above 0"),
            ("devices: {offline_after_s: -1}", "devices.offline_after_s: must be a number above 0"),
            ("devices: {mailbox_size: 0}", "devices.mailbox_size: must be a whole number of at least 1"),
            ("devices: []", "devices: must be a mapping of mailbox_size, offline_after_s, park_after_failures, "),
            ("plugins: {enabled: ct_v1}", "plugins.enabled: must be a list of names"),
            ("plugins: {disabled: null}", "plugins.disabled: must be a list of names"),
            ("plugins: {enabled: [a, 5]}", "plugins.enabled[1]: must be text that is not empty: put it in quotes"),
            ("plugins: {options: {a: 5}}", "plugins.options.a: must be a mapping"),
            ("plugins: {options: 5}", "plugins.options: must be a mapping"),
            ("alerts: {name: a, rule: b}", "alerts: must be a list of mappings"),
            ("alerts: [5]", "alerts[0]: must be a mapping of name, rule, title, enabled, factories, stacks, devices, "),
            ("alerts: [{rule: limit}]", "alerts[0].name: is missing; it must be text that is not empty"),
            (
                "alerts: [{name: a, rule: b, severity: Critical}]",
                'alerts[0].severity: must be one of info, warning, critical. Did you mean "critical"?',
            ),
            ("alerts: [{name: a, rule: b, hold_s: -1}]", "alerts[0].hold_s: must be a number of at least 0"),
            (
                "alerts: [{name: a, rule: b}, {name: c, rule: b}, {name: a, rule: c}]",
                "alerts: entries 0 and 2 have the same name; each needs its own",
            ),
            (
                "logging: {level: INFO}",
                'logging.level: must be one of debug, info, warning, error. Did you mean "info"?',
            ),
            ("logging: {format: 5}", "logging.format: must be one of auto, console, json"),
            ("site: {time_zone: Nairobi}", "site.time_zone: must be the name of a time zone, such as Africa/Nairobi"),
            ("site: {time_zone: /etc}", "site.time_zone: must be the name of a time zone, such as Africa/Nairobi"),
            ("site: {time_zone: Africa}", "site.time_zone: must be the name of a time zone, such as Africa/Nairobi"),
            ("redis: {url: http://x}", "redis.url: must be redis://HOST:PORT/NUMBER or rediss://"),
            ("[a, b]", "must be a mapping of keys to values"),
            ("just text", "must be a mapping of keys to values"),
            ("mqtt: {password: !!binary x}", "mqtt.password: unknown tag; allowed, "),
            ("mqtt: {port: !!int x}", "mqtt.port: does not fit its tag !!int"),
            ("http: {secure_cookies: !!bool yes}", "http.secure_cookies: does not fit its tag !!bool"),
            ("mqtt: {? [a] : 1}", "mqtt: a key must be plain text"),
            ("mqtt: {<<: {port: 1}}", "mqtt: merge keys (<<) are not supported; use !include FILE"),
            ("plugins: &p {options: {a: *p}}", "plugins.options.a: an alias inside of what it stands for"),
        ],
    )
    def test_a_wrong_value_is_told_what_is_allowed(self, load: Load, text: str, complaint: str) -> None:
        (line,) = problems(load, text)

        place = "config/carbontrack.yaml:1: "
        assert line.startswith(place + complaint)
        assert line == place + complaint or complaint.endswith(", ")

    @pytest.mark.parametrize(
        "url",
        [
            "mysql://u:pazz@h/n",
            "postgres://u:pazz@h",
            "postgres://u:pazz@h/",
            "postgres://u:pazz@h:port/n",
            "postgres://u:pa/zz@h/n",
            "postgres://u:12/zz@h/n",
            "postgres://u:pa#zz@h/n",
            "postgres://u:pazz@h/n?sslmode=require",
            "postgres://u:pazz@[h/n",
            "sqlite://",
            "carbontrack.sqlite3",
            "",
        ],
    )
    def test_a_database_url_that_would_be_misread_is_refused_without_showing_it(self, load: Load, url: str) -> None:
        (line,) = problems(load, f"database:\n  url: '{url}'\n")

        assert line == (
            "config/carbontrack.yaml:2: database.url: must be sqlite://PATH or "
            "postgres://USER:PASSWORD@HOST:PORT/NAME, without options, "
            "special characters of the password percent-encoded"
        )

    @pytest.mark.parametrize(
        "url",
        [
            "http://h",
            "mqtts://",
            "broker",
            "mqtt://u:p#x@h",
            "mqtt://u:p/x@h",
            "mqtt://h/t",
            "mqtt://h?x=1",
            "mqtt://[h",
        ],
    )
    def test_a_broker_url_that_would_be_misread_is_refused(self, url: str) -> None:
        assert variable_problems({"MQTT_BROKER_URL": url}) == [
            "MQTT_BROKER_URL: must be mqtt://USER:PASSWORD@HOST:PORT or mqtts://..., special characters percent-encoded"
        ]

    def test_all_problems_come_at_once_in_the_order_of_the_file(self, load: Load) -> None:
        lines = problems(
            load,
            "http:\n  port: x\n  prot: 1\nmqtt:\n  port: 1\n  port: 2\n  host: !secret s\nsite: {time_zone: x}\n",
            {"CARBONTRACK_LOGGING__LEVEL": "loud", "CARBONTRACK_HTTP__HOST": " "},
            secrets="other: x",
        )

        assert [line.split(": ")[:2] for line in lines] == [
            ["config/carbontrack.yaml:2", "http.port"],
            ["config/carbontrack.yaml:3", "http.prot"],
            ["config/carbontrack.yaml:6", "mqtt.port"],
            ["config/carbontrack.yaml:7", "mqtt.host"],
            ["config/carbontrack.yaml:8", "site.time_zone"],
            ["CARBONTRACK_HTTP__HOST", "http.host"],
            ["CARBONTRACK_LOGGING__LEVEL", "logging.level"],
        ]

    def test_a_broken_value_is_reported_once_and_draws_nothing_after_it(self, load: Load) -> None:
        (line,) = problems(load, "mqtt: {username: !env_var NOBODY, password: p, tls: {}}")

        assert line.endswith("mqtt.username: the environment variable NOBODY is not set, and there is no default")

    def test_a_duplicate_key_is_an_error_with_both_lines(self, load: Load) -> None:
        assert problems(load, "mqtt:\n  host: a\n  port: 1\n  host: b\nmqtt:\n  port: 2\n") == [
            "config/carbontrack.yaml:4: mqtt.host: duplicate key, given at config/carbontrack.yaml:2 already",
            "config/carbontrack.yaml:5: mqtt: duplicate key, given at config/carbontrack.yaml:1 already",
        ]

    def test_an_included_file_is_named_with_its_own_lines(self, load: Load) -> None:
        assert problems(load, "\nmqtt: !include mqtt.yaml", mqtt="host: a\n\nport: x\nhost: b\n") == [
            "config/mqtt.yaml:3: mqtt.port: must be a whole number from 1 to 65535",
            "config/mqtt.yaml:4: mqtt.host: duplicate key, given at config/mqtt.yaml:1 already",
        ]

    def test_a_missing_include_is_an_error(self, load: Load) -> None:
        assert problems(load, "\nalerts: !include none.yaml") == [
            "config/carbontrack.yaml:2: alerts: cannot read config/none.yaml: No such file or directory"
        ]

    def test_files_that_include_each_other_are_an_error(self, load: Load) -> None:
        assert problems(
            load, "mqtt: !include a.yaml", a="tls: !include b.yaml", b="ca_file:\n  !include ../config/a.yaml"
        ) == ["config/b.yaml:2: mqtt.tls.ca_file: config/../config/a.yaml would include itself"]

    def test_a_missing_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.yaml: cannot read .*none\.yaml: No such file or directory$"):
            load_config(tmp_path / "none.yaml", {})

    def test_a_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory$"):
            load_config(tmp_path, {})

    def test_a_missing_secret_offers_a_similar_one(self, load: Load) -> None:
        text = "http:\n  secret_key: !secret secret_kee\n  metrics_token: !secret zzz\n"

        assert problems(load, text, secrets="secret_key: x") == [
            (
                "config/carbontrack.yaml:2: http.secret_key: the secret secret_kee is not in config/secrets.yaml. "
                'Did you mean "secret_key"?'
            ),
            "config/carbontrack.yaml:3: http.metrics_token: the secret zzz is not in config/secrets.yaml",
        ]

    def test_a_missing_file_of_secrets_is_an_error_for_each_secret(self, load: Load) -> None:
        assert problems(load, "http:\n  secret_key: !secret a\n  metrics_token: !secret b\n") == [
            "config/carbontrack.yaml:2: http.secret_key: there is no config/secrets.yaml to take the secret a from",
            "config/carbontrack.yaml:3: http.metrics_token: there is no config/secrets.yaml to take the secret b from",
        ]

    @pytest.mark.parametrize("secret", ["", "''", "[a]", "{a: b}", "null"])
    def test_a_secret_that_is_no_text_is_an_error(self, load: Load, secret: str) -> None:
        assert problems(load, "http: {secret_key: !secret a}", secrets=f"a: {secret}") == [
            (
                "config/carbontrack.yaml:1: http.secret_key: "
                "the secret a in config/secrets.yaml must be text that is not empty"
            )
        ]

    def test_what_is_wrong_with_the_secrets_is_said_once_with_their_lines(self, load: Load) -> None:
        text = "http: {secret_key: !secret a, metrics_token: !secret b}"

        assert problems(load, text, secrets="a: x\nb: y\na: z") == [
            "config/secrets.yaml:3: a: duplicate key, given at config/secrets.yaml:1 already"
        ]
        assert problems(load, text, secrets="b: y\na: 'x") == [
            "config/secrets.yaml:2: cannot be read as YAML: found unexpected end of stream"
        ]
        assert problems(load, text, secrets="b") == ["config/secrets.yaml:1: must be a mapping of keys to values"]
        (line,) = problems(load, text, secrets="a: !hunter2\nb: y\n")
        assert line.startswith("config/secrets.yaml:1: a: unknown tag; allowed, in the configuration's own files: ")

    @pytest.mark.parametrize("value", ["", "#hunter2", "&hunter2"])
    def test_an_empty_value_is_an_error_because_it_may_have_been_meant_as_text(self, load: Load, value: str) -> None:
        assert problems(load, f"http:\n  metrics_token: {value}\n") == [
            (
                "config/carbontrack.yaml:2: http.metrics_token: is empty; remove the key or write null. "
                "Text that begins with # or & needs quotes"
            )
        ]

    @pytest.mark.parametrize("tag", ["!secret", "!env_var", "!include", "!secret []", "!include {}"])
    def test_a_tag_needs_a_name(self, load: Load, tag: str) -> None:
        (line,) = problems(load, f"mqtt:\n  host: {tag}\n")

        assert line == f"config/carbontrack.yaml:2: mqtt.host: {tag.split(maxsplit=1)[0]} needs a name after it"

    @pytest.mark.parametrize(
        ("text", "line", "reason"),
        [
            ("mqtt:\n\thost: a\n", 2, "found character '\\t' that cannot start any token"),
            ("mqtt:\n  host: a: b\n", 2, "mapping values are not allowed here"),
            ("mqtt: [1,\n", 2, "expected the node content, but found '<stream end>'"),
            ("mqtt:\n  host: {a\n", 3, "expected ',' or '}', but got '<stream end>'"),
            ("mqtt:\n  host: *b\n", 2, "found undefined alias 'b'"),
            ("mqtt:\n  host: a\x07\n", 2, "special characters are not allowed"),
            ("mqtt: {}\n---\nhttp: {}\n", 2, "but found another document"),
            ("[" * 5000, 1, "not well-formed, or nested too deeply"),
        ],
    )
    def test_what_is_no_yaml_is_an_error_with_its_line(self, load: Load, text: str, line: int, reason: str) -> None:
        assert problems(load, text) == [f"config/carbontrack.yaml:{line}: cannot be read as YAML: {reason}"]

    def test_other_encodings_are_an_error_with_the_line(self, tmp_path: Path) -> None:
        file = tmp_path / "carbontrack.yaml"
        file.write_bytes("mqtt:\n  host: a\n  username: Müller\n".encode("latin-1"))

        with pytest.raises(ConfigError, match=r"carbontrack\.yaml:3: cannot be read as YAML: not UTF-8$"):
            load_config(file, {})

    def test_a_variable_is_named_in_place_of_the_line(self) -> None:
        tags = "unknown tag; allowed, in the configuration's own files"
        lines = variable_problems(
            {
                "CARBONTRACK_MQTT__PROT": "1",
                "CARBONTRACK_MQTT__PORT": "many",
                "CARBONTRACK_HTP__PORT": "1",
                "CARBONTRACK_PLUGINS__ENABLED": "[a",
                "CARBONTRACK_PLUGINS__DISABLED": "!secret a",
                "CARBONTRACK_MQTT__PORT__X": "1",
                "SECRET_KEY": "fine",
            }
        )

        assert [line.split(": ")[:3] for line in lines] == [
            ["CARBONTRACK_HTP__PORT", "htp", "unknown key; allowed"],
            ["CARBONTRACK_MQTT__PORT", "mqtt.port", "must be a whole number from 1 to 65535"],
            ["CARBONTRACK_MQTT__PORT__X", "mqtt.port", "is not a mapping, so that this variable can set no key of it"],
            ["CARBONTRACK_MQTT__PROT", "mqtt.prot", "unknown key; allowed"],
            ["CARBONTRACK_PLUGINS__DISABLED", "plugins.disabled", tags],
            ["CARBONTRACK_PLUGINS__ENABLED", "plugins.enabled", "cannot be read as YAML"],
        ]

    def test_an_entry_of_a_list_has_no_variable(self) -> None:
        (line,) = variable_problems({"CARBONTRACK_ALERTS": "[]", "CARBONTRACK_ALERTS__0__NAME": "x"})

        assert line.startswith("CARBONTRACK_ALERTS__0__NAME: alerts: is not a mapping")

    def test_problems_can_be_listed(self, load: Load) -> None:
        with pytest.raises(ConfigError) as caught:
            load("mqtt:\n  port: x\n", {"CARBONTRACK_HTTP__PORT": "x"})
        first, second = caught.value.problems

        assert (first.place.source, first.place.line, first.key) == ("config/carbontrack.yaml", 2, ("mqtt", "port"))
        assert (second.place.source, second.place.line, second.key) == ("CARBONTRACK_HTTP__PORT", 0, ("http", "port"))

    @given(st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True), min_size=1, max_size=4))
    def test_any_unknown_key_is_named(self, tmp_path_factory: pytest.TempPathFactory, path: list[str]) -> None:
        known = [setting.key.split(".") for setting in describe()]
        if any(path[: len(key)] == key or key[: len(path)] == path for key in known) or path[0] == "alerts":
            return
        file = tmp_path_factory.mktemp("config") / "carbontrack.yaml"
        file.write_text("\n".join(f"{'  ' * depth}{part}:" for depth, part in enumerate(path)) + " {}\n")

        with pytest.raises(ConfigError) as caught:
            load_config(file, {})
        (problem,) = caught.value.problems
        assert "unknown key; allowed: " in problem.text
        assert list(problem.key) == path[: len(problem.key)]
        assert problem.place.line == len(problem.key)

        if len(path) > 1:  # CARBONTRACK_X alone may be anybody's
            (line,) = variable_problems({"CARBONTRACK_" + "__".join(path).upper(): "{}"})
            assert "unknown key; allowed: " in line

    @pytest.mark.parametrize("section", ["5", "[]", "!include none.yaml", "!foo x"])
    def test_a_variable_cannot_mend_a_section_that_is_none(self, load: Load, section: str) -> None:
        environ = {"MQTT_BROKER_URL": "mqtts://u:p@h", "CARBONTRACK_MQTT__PORT": "1"}
        lines = problems(load, f"mqtt: {section}", environ)

        assert lines[0].startswith("config/carbontrack.yaml:1: mqtt: ")
        assert set(lines[1:]) <= {
            f"{name}: mqtt: is not a mapping, so that this variable can set no key of it" for name in environ
        }

    @given(
        content=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text("a! &*x", max_size=4),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
        ),
        environ=st.dictionaries(
            st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(lambda path: "CARBONTRACK_" + "__".join(path))
            | st.sampled_from(["DATABASE_URL", "SECRET_KEY", "MQTT_BROKER_URL"]),
            st.text("ab:/@[]{}!&*'\"#0 ,", max_size=6) | st.sampled_from(["mqtts://h", "{}", "[]", "{tls: {}}"]),
            max_size=3,
        ),
    )
    def test_whatever_comes_it_is_a_configuration_or_a_named_problem(
        self, tmp_path_factory: pytest.TempPathFactory, content: Any, environ: dict[str, str]
    ) -> None:
        file = tmp_path_factory.mktemp("config") / "carbontrack.yaml"
        file.write_text(json.dumps(content), encoding="utf-8")
        found: tuple[Problem, ...] = ()
        try:
            load_config(file, {name.upper(): value for name, value in environ.items()})
        except ConfigError as error:
            found = error.problems

        assert all(problem.text for problem in found)
        assert {problem.place.source for problem in found} <= {str(file), *(name.upper() for name in environ)}


class TestSecrecy:
    """No password is shown, whatever is done with a configuration or an error."""

    TEXT = """
        database: {url: 'postgres://user:hunter2@db/name'}
        redis: {url: 'redis://:hunter2@cache'}
        sentry: {dsn: hunter2}
        mqtt: {username: core, password: hunter2}
        http: {secret_key: hunter2, metrics_token: !secret token}
        plugins: {options: {mail: {port: 25, user: me, password: !secret token, deep: [!env_var TOKEN]}}}
        """

    def test_neither_text_nor_dump_shows_a_password(self, load: Load) -> None:
        config = load(self.TEXT, {"TOKEN": "hunter2"}, secrets="token: hunter2")

        shown = [repr(config), str(config), repr(config.database), str(config.model_dump()), config.model_dump_json()]
        assert not [text for text in shown if "hunter2" in text]
        assert config.database.url == "postgres://user:hunter2@db/name"
        assert config.model_dump()["database"]["url"] == "postgres://user:**********@db/name"
        mail = config.model_dump()["plugins"]["options"]["mail"]
        assert mail == {"port": 25, "user": "me", "password": "**********", "deep": ["**********"]}

    def test_a_plugin_gets_the_secret_itself(self, load: Load) -> None:
        class MailOptions(BaseModel):
            model_config = ConfigDict(extra="forbid")
            port: int
            user: str
            password: SecretStr
            deep: list[str]

        config = load(self.TEXT, {"TOKEN": "a", "CARBONTRACK_PLUGINS__OPTIONS__MAIL__PORT": "26"}, secrets="token: b")

        options = MailOptions.model_validate(config.plugins.options["mail"])
        assert options == MailOptions(port=26, user="me", password=SecretStr("b"), deep=["a"])

    @given(
        before=st.sampled_from(["", *"!&*@%|>'\"`{[#,?:-=~\\", "!!", "!<", "!x!", "*x ", "a: ", "'a' ", '"a" ', "\t"]),
        after=st.sampled_from(["", ":", "'", '"', "]", "}", " x", ": x", "\\", '\\q"']),
        key=st.sampled_from(
            [
                "mqtt.port",
                "mqtt.password",
                "mqtt.host",
                "database.url",
                "logging.level",
                "plugins.options.mail.password",
            ]
        ),
    )
    def test_no_error_shows_a_value_however_broken(
        self, tmp_path_factory: pytest.TempPathFactory, before: str, after: str, key: str
    ) -> None:
        folder = tmp_path_factory.mktemp("config")
        section, *parents, name = key.split(".")
        value = f"{before}hunter2{after}"
        nested = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate([section, *parents]))
        indent = "  " * (1 + len(parents))
        (folder / "secrets.yaml").write_text(f"s: {value}\n")
        (folder / "direct.yaml").write_text(nested + f"{indent}{name}: {value}\n" * 2)
        (folder / "indirect.yaml").write_text(f"{nested}{indent}{name}: !secret s\nnonsense: 1\n")
        variables = {f"CARBONTRACK_{key.replace('.', '__').upper()}": value, "MQTT_BROKER_URL": f"mqtt://u:{value}@x/y"}

        for file, environ in (("direct.yaml", {}), ("indirect.yaml", {}), ("indirect.yaml", variables)):
            with pytest.raises(ConfigError) as caught:
                load_config(folder / file, environ)
            assert "hunter2" not in f"{caught.value}{caught.value.problems}"


class TestReference:
    def test_the_json_schema_knows_every_setting(self) -> None:
        schema = Config.model_json_schema()

        for setting in describe():
            node: dict[str, Any] = schema
            for part in setting.key.replace("[]", "").split("."):
                node = node["properties"][part]
                reference = re.search(r'"#/\$defs/(\w+)"', json.dumps(node))
                description = node.get("description", "")
                node = schema["$defs"][reference[1]] if reference else node
            assert " ".join(description.split()) == setting.description

    def test_every_setting_has_a_description(self) -> None:
        assert not [setting.key for setting in describe() if not setting.description.endswith(".")]

    def test_the_documentation_shows_the_settings_as_they_are(self) -> None:
        text = DOCUMENT.read_text(encoding="utf-8")

        assert text.partition(BEGIN)[2].partition(END)[0] == settings_in_markdown(), (
            "docs/configuration.md is not up to date; run: python -m tests.test_config"
        )

    def test_the_documentation_names_no_setting_that_does_not_exist(self) -> None:
        known = {setting.key for setting in describe()} | set(Config.model_fields)
        sections = "|".join(Config.model_fields)
        named = re.findall(rf"`((?:{sections})(?:\.[a-z_]+|\[\])+)`", DOCUMENT.read_text(encoding="utf-8"))

        assert named
        assert set(named) <= known


class TestExample:
    def test_it_loads_with_the_example_of_the_secrets(self, tmp_path: Path) -> None:
        shutil.copy(ROOT / "config/carbontrack.yaml", tmp_path)
        shutil.copy(ROOT / "config/secrets.example.yaml", tmp_path / "secrets.yaml")

        config = load_config(tmp_path / "carbontrack.yaml", {})

        assert config.database.url.startswith("postgres://")
        assert config.mqtt.tls is not None
        assert config.mqtt.password is not None
        assert config.http.secret_key is not None
        assert config.alerts == load_config(None, {}).alerts

    def test_it_shows_every_setting_and_true_defaults(self) -> None:
        text = (ROOT / "config/carbontrack.yaml").read_text(encoding="utf-8")
        shown = dict(re.findall(r"^ *(?:# +)*(?:- )?([a-z_]+):(?: +(.*))?$", text, flags=re.MULTILINE))

        assert not [setting.key for setting in describe() if setting.key.rpartition(".")[2] not in shown]
        for key, default in re.findall(r"^  # ([a-z_]+): (\S+)$", text, flags=re.MULTILINE):
            defaults = {setting.default for setting in describe() if setting.key.endswith(f".{key}")}
            assert defaults & {default, default.removesuffix(".0"), "none"}, key


def settings_in_markdown() -> str:
    """The tables of docs/configuration.md."""
    lines: list[str] = []
    for name, field in Config.model_fields.items():
        lines += ["", f"### `{name}`", "", str(field.description), ""]
        lines += ["| Setting | What it may be | Default | Meaning |", "| --- | --- | --- | --- |"]
        for setting in describe():
            if setting.key.removesuffix("[]").split(".")[0].removesuffix("[]") == name:
                default = setting.default if setting.default in {"none", "required"} else f"`{setting.default}`"
                lines.append(f"| `{setting.key}` | {setting.type} | {default} | {setting.description} |")
    return "\n".join([*lines, "", ""])


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + settings_in_markdown() + END + rest.partition(END)[2], encoding="utf-8")
