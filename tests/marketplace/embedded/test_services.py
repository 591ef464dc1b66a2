import redis
from django.conf import settings
from django.core.cache import cache
from django.db import connection


def test_tests_use_a_real_postgresql(db):
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        (version,) = cursor.fetchone()
    assert int(version) >= 150000


def test_tests_use_a_real_broker_and_cache():
    cache.set("greeting", "hello", timeout=10)
    assert cache.get("greeting") == "hello"
    assert settings.BROKER_URL
    assert redis.VERSION
