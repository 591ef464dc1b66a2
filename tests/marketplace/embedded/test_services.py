"""The embedded PostgreSQL and Valkey, each started for real in a home of its own."""

import os
import shutil
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
import redis

from marketplace.embedded import programs
from marketplace.embedded.paths import DATABASE_NAME, Home
from marketplace.embedded.postgres import SUPERUSER, postgres_program, prepare
from marketplace.embedded.programs import ProgramFailed
from marketplace.embedded.services import running_services
from marketplace.embedded.valkey import valkey_program
from tests.processes import processes_of, wait_until


@pytest.fixture
def home():
    # Not tmp_path: its folders are closed to the user that PostgreSQL runs as when we are root.
    root = Path(tempfile.mkdtemp(prefix="marketplace-home-"))
    yield Home(root)
    shutil.rmtree(root)


@contextmanager
def running(program, home):
    log = home.logs / f"{program.name}.log"
    process = programs.start(program, log=log)
    try:
        programs.wait_until_ready(program, process, log=log)
        yield process
    finally:
        programs.ask_to_stop(program, process)
        programs.wait_until_stopped(program, process)


def ask(home, query):
    connection = psycopg2.connect(host=str(home.sockets), user=SUPERUSER, dbname=DATABASE_NAME)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def test_data_survives_a_restart_and_a_kill(home):
    program = postgres_program(home)
    with running(program, home) as server:
        ask(home, "CREATE TABLE notes (text text)")
        ask(home, "INSERT INTO notes VALUES ('kept')")
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: processes_of(home.postgres_data) == [], what="the end of PostgreSQL's processes")
    assert (home.postgres_data / "postmaster.pid").exists()  # stale

    with running(program, home):
        assert ask(home, "SELECT text FROM notes") == ("kept",)
    with running(program, home):
        assert ask(home, "SELECT text FROM notes") == ("kept",)
    assert processes_of(home.root) == []
    assert list(home.sockets.iterdir()) == []


def test_a_stale_lock_with_the_pid_of_another_program_does_not_hinder(home):
    with running(postgres_program(home), home):
        pass
    for lock in (home.postgres_data / "postmaster.pid", home.sockets / ".s.PGSQL.5432.lock"):
        lock.write_text(f"{os.getpid()}\n")
    with running(postgres_program(home), home):
        assert ask(home, "SELECT 1") == (1,)


def test_data_of_another_major_version_is_refused_and_left_alone(home):
    home.postgres_data.mkdir(parents=True)
    (home.postgres_data / "PG_VERSION").write_text("15\n")
    with pytest.raises(ProgramFailed, match="was made by PostgreSQL 15, and this is 18"):
        prepare(home)
    assert [path.name for path in home.postgres_data.iterdir()] == ["PG_VERSION"]


def test_only_the_owner_can_reach_the_sockets(home):
    with running_services(home, durable=False):
        modes = {path.name: oct(path.stat().st_mode & 0o077) for path in home.sockets.iterdir()}
        assert oct(home.sockets.stat().st_mode & 0o077) == "0o0"
    assert modes[".s.PGSQL.5432"] == modes["valkey.sock"] == "0o0"


def test_valkey_starts_over_the_socket_of_a_killed_one(home):
    program = valkey_program(home)
    with running(program, home) as server:
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
    assert home.valkey_socket.exists()  # stale
    with running(program, home):
        client = redis.Redis(unix_socket_path=str(home.valkey_socket))
        client.set("greeting", "hello")
        assert client.get("greeting") == b"hello"
        client.close()
    assert not home.valkey_socket.exists()


def test_sockets_move_to_the_temporary_folder_when_the_home_is_deep():
    home = Home(Path("/deep") / ("x" * 120))
    assert home.sockets.parent == Path(tempfile.gettempdir())
    assert len(str(home.sockets / ".s.PGSQL.5432.lock")) < 100
