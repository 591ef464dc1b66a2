import os
from pathlib import Path

import pytest
from django.core.checks import run_checks

from marketplace.config import checks
from marketplace.config.settings import cache_beside
from marketplace.embedded.components import service_programs
from marketplace.embedded.paths import Home


def ids(messages):
    return [message.id for message in messages]


def test_a_running_setup_has_nothing_to_complain_about(db):
    assert run_checks(databases=["default"]) == []


def test_a_missing_secret_key_is_an_error(settings):
    settings.SECRET_KEY = "not-set"
    assert ids(checks.check_secret_key(None)) == ["config.E001"]


def test_debug_with_a_public_host_is_an_error_that_names_the_host(settings):
    settings.DEBUG, settings.ALLOWED_HOSTS = True, ["localhost", "market.example.com"]
    (message,) = checks.check_debug(None)
    assert (message.id, message.msg) == (
        "config.E002",
        "DEBUG is on while the product answers for market.example.com.",
    )


def test_debug_on_this_machine_is_fine(settings):
    settings.DEBUG, settings.ALLOWED_HOSTS = True, ["localhost"]
    assert checks.check_debug(None) == []


def test_a_public_host_without_tls_is_a_warning(settings):
    settings.WEB_URL, settings.ALLOWED_HOSTS = "http://market.example.com", ["market.example.com"]
    assert ids(checks.check_transport(None)) == ["config.W001"]


def test_storage_that_cannot_be_written_is_an_error(settings):
    settings.STORAGE_ROOT = "/proc/storage"
    assert ids(checks.check_storage(None)) == ["config.E003"]


def test_checking_storage_creates_nothing(settings, tmp_path):
    settings.STORAGE_ROOT = tmp_path / "new" / "storage"
    assert checks.check_storage(None) == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_wheel_matters_only_while_nothing_is_configured(monkeypatch):
    monkeypatch.setattr(checks, "WHEELS", {"DATABASE_URL": "no_such_wheel"})
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert ids(checks.check_wheels(None)) == ["config.E004"]
    monkeypatch.setenv("DATABASE_URL", "postgres://db/marketplace")
    assert checks.check_wheels(None) == []


def test_a_server_may_be_named_by_a_file(monkeypatch):
    monkeypatch.setattr(checks, "WHEELS", {"DATABASE_URL": "no_such_wheel"})
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", "/run/secrets/database-url")
    assert checks.check_wheels(None) == []
    assert [program.name for program in service_programs(Home(Path("/nowhere")), environment=os.environ)] == (
        ["valkey"] if "BROKER_URL" not in os.environ else []
    )


@pytest.mark.parametrize(
    ("broker", "cache"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("rediss://:secret@host:6380", "rediss://:secret@host:6380"),
        ("redis+socket:///run/valkey.sock?virtual_host=3", "unix:///run/valkey.sock?db=3"),
    ],
)
def test_the_cache_lies_on_the_brokers_server(broker, cache):
    assert cache_beside(broker) == cache


def test_an_old_database_is_an_error(db, monkeypatch):
    monkeypatch.setattr(checks, "OLDEST_POSTGRESQL", 99)
    assert ids(checks.check_database(None, databases=["default"])) == ["config.E006"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis+socket:///nowhere/valkey.sock"])
def test_a_broker_that_does_not_answer_is_an_error(settings, url):
    settings.BROKER_URL = url
    assert ids(checks.check_broker(None)) == ["config.E007"]


def test_the_running_broker_is_fine():
    assert checks.check_broker(None) == []


def test_a_database_that_cannot_store_any_text_is_an_error(db, monkeypatch):
    monkeypatch.setattr(checks, "ENCODING", "KLINGON")
    assert ids(checks.check_database(None, databases=["default"])) == ["config.E008"]
