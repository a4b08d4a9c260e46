"""A real PostgreSQL (15, or $BULKHEAD_PG_VERSION: tools/test-versions) with the extension, and a real PgBouncer before it, both private and on free ports.

PostgreSQL does not run as root, so as root everything runs as the system user `bulkhead`.
"""
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import psycopg2

import bhtoken
from ports import Ports

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFIX = pathlib.Path(os.environ.get("BULKHEAD_BUILD", ROOT / "build")).resolve()
VERSION = int(os.environ.get("BULKHEAD_PG_VERSION", "15"))
HOME = pathlib.Path(f"/usr/lib/postgresql/{VERSION}")
BIN = HOME / "bin"
# Debian's own setting up to 17, PostgreSQL's from 18 on: where the extension's files are.
EXTENSION_SETTING = "extension_destdir = '{0}/ext'" if VERSION < 18 else "extension_control_path = '{0}/ext/usr/share/postgresql/18:$system'"
# The setting that makes every plan parallel.
PARALLEL = "force_parallel_mode" if VERSION < 16 else "debug_parallel_query"
USER = "bulkhead"
POOL_PASSWORD = "pool-secret"
PORTS = Ports()
MASTER, INSTALL, SERVER_UID = bytes(range(32)), b"\x11" * 16, b"\x22" * 16


def as_engine_user():
    """Arguments of subprocess that drop root."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["adduser", "--system", "--group", "--no-create-home", "--quiet", USER], check=True)
        entry = pwd.getpwnam(USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give_to_engine_user(path):
    ids = as_engine_user()
    if ids:
        os.chown(path, ids["user"], ids["group"])


def program(name, folder):
    """Our program, copied to ${folder}: the engine user may not walk to a build tree under /root."""
    copy = folder / name
    if not copy.exists():
        shutil.copy2(PREFIX / "bin" / name, copy)
    return copy


def wait_for(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError(what)


class Server:
    """One PostgreSQL server: initdb, start, stop; databases with the extension, tenants, keys."""

    def __init__(self, settings=""):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="bh-data-"))
        self.data, self.port = self.dir / "pg", PORTS.take()
        self.key_file = self.dir / "server-main.key"
        self.log = self.dir / "pg.log"
        self.server_keys = {}
        try:
            os.chmod(self.dir, 0o755)
            give_to_engine_user(self.dir)
            self._install_module()
            self.write_keys({1: (0, 4102444800)})
            self._initdb(settings)
            self.start()
        except BaseException:
            self.close()
            raise

    def standby(self):
        """A streaming standby of this server; shares its key file and module."""
        it = object.__new__(Server)
        it.dir = pathlib.Path(tempfile.mkdtemp(prefix="bh-standby-"))
        give_to_engine_user(it.dir)
        it.data, it.port, it.log = it.dir / "pg", PORTS.take(), it.dir / "pg.log"
        it.key_file, it.server_keys = self.key_file, self.server_keys
        try:
            self.run([BIN / "pg_basebackup", "-D", it.data, "-R", "-X", "stream", "-c", "fast", "-d",
                      f"host=127.0.0.1 port={self.port} user=postgres password=admin-secret"])
            with open(it.data / "postgresql.conf", "a") as conf:
                conf.write(f"port = {it.port}\n")
            it.start()
        except BaseException:
            it.close()
            raise
        return it

    def wait_for_standby(self):
        """Until it has replayed all that this server has written."""
        wait_for(lambda: self.sql("SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()") == [(1,)],
                 "the standby does not follow")

    def _install_module(self):
        source = PREFIX / "lib/bulkhead/postgresql/bulkhead.so"
        if not source.exists():
            raise FileNotFoundError(f"{source}: build first, or set BULKHEAD_BUILD")
        lib = self.dir / "lib"
        extension = self.dir / f"ext/usr/share/postgresql/{VERSION}/extension"
        lib.mkdir()
        extension.mkdir(parents=True)
        shutil.copy(source, lib)
        for name in (PREFIX / "share/bulkhead/postgresql/extension").iterdir():
            shutil.copy(name, extension)

    def _initdb(self, settings):
        password = self.dir / "password"
        password.write_text("admin-secret\n")
        give_to_engine_user(password)
        self.run([BIN / "initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
                  "-A", "scram-sha-256", f"--pwfile={password}", "-N"])
        password.unlink()
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(f"""
listen_addresses = '127.0.0.1'
port = {self.port}
unix_socket_directories = ''
fsync = off
max_prepared_transactions = 4
dynamic_library_path = '{self.dir}/lib:$libdir'
{EXTENSION_SETTING.format(self.dir)}
shared_preload_libraries = 'bulkhead'
bulkhead.key_file = '{self.key_file}'
bulkhead.server = 'main'
{settings}
""")

    def run(self, command, **more):
        return subprocess.run([str(word) for word in command], check=True, cwd="/", stdout=subprocess.DEVNULL,
                              **as_engine_user(), **more)

    def start(self, options=""):
        self.run([BIN / "pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "-o", options, "start"])

    def stop(self, mode="fast"):
        self.run([BIN / "pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop"])

    def reload(self):
        os.kill(self.postmaster(), signal.SIGHUP)
        time.sleep(0.2)

    def postmaster(self):
        return int((self.data / "postmaster.pid").read_text().split("\n")[0])

    def close(self):
        if (self.data / "postmaster.pid").exists():
            subprocess.run([BIN / "pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop"], cwd="/", stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, **as_engine_user())
        shutil.rmtree(self.dir, ignore_errors=True)

    # keys

    def write_keys(self, epochs, mode=0o400):
        """The key file: {key epoch: (not_before, not_after)}."""
        lines = []
        for epoch, (not_before, not_after) in epochs.items():
            key = bhtoken.derive_server_key(MASTER, INSTALL, SERVER_UID, epoch)
            self.server_keys[epoch] = key
            lines.append(f"main.{epoch} {key.hex()} {not_before} {not_after}\n")
        self.write_key_text("".join(lines), mode)

    def write_key_text(self, text, mode=0o400):
        fresh = self.key_file.with_suffix(".new")
        fresh.write_text(text)
        os.chmod(fresh, mode)
        give_to_engine_user(fresh)
        os.replace(fresh, self.key_file)

    def token(self, no, tenant, database="shared1", /, *, key_epoch=1, key=None, kid=None, **claims):
        if key is None:
            key = bhtoken.database_key(bhtoken.derive_server_key(MASTER, INSTALL, SERVER_UID, key_epoch), database)
        return bhtoken.sign_tenant_token(key, kid or f"main.{key_epoch}", no, tenant, database=database, **claims)

    # what the control plane's driver would do

    def connect(self, user="postgres", database="shared1", port=None, **more):
        password = "admin-secret" if user == "postgres" else POOL_PASSWORD
        return psycopg2.connect(host="127.0.0.1", port=port or self.port, user=user, password=password,
                                dbname=database, **more)

    def sql(self, text, args=None, database="shared1"):
        """Run as superuser in a transaction of its own; rows, where there are any."""
        connection = self.connect(database=database)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(text, args)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def make_database(self, name="shared1"):
        self.sql(f'CREATE DATABASE "{name}"', database="postgres")
        self.sql(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC', database="postgres")
        self.sql("CREATE EXTENSION bulkhead", database=name)
        self.sql("DO $$BEGIN IF to_regrole('bulkhead_pool') IS NULL THEN"
                 f" CREATE ROLE bulkhead_pool LOGIN PASSWORD '{POOL_PASSWORD}'; END IF; END$$", database=name)
        self.sql(f'GRANT CONNECT ON DATABASE "{name}" TO bulkhead_pool', database="postgres")

    def make_tenant(self, no, tenant, database="shared1", secret="?"):
        """Owner, user, schema, two tables with one row each, and the row in bulkhead.tenant."""
        self.sql(f"""
            CREATE ROLE bh_o{no} NOLOGIN; CREATE ROLE bh_t{no} NOLOGIN;
            CREATE SCHEMA t{no} AUTHORIZATION bh_o{no};
            GRANT USAGE ON SCHEMA t{no} TO bh_t{no};
            SET ROLE bh_o{no};
            CREATE TABLE t{no}.notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
            CREATE TABLE t{no}.orders (id serial PRIMARY KEY, note int REFERENCES t{no}.notes DEFERRABLE
                                       INITIALLY DEFERRED);
            GRANT SELECT, INSERT, UPDATE, DELETE ON t{no}.notes, t{no}.orders TO bh_t{no};
            GRANT USAGE ON ALL SEQUENCES IN SCHEMA t{no} TO bh_t{no};
            INSERT INTO t{no}.notes (body) VALUES (%s);
            RESET ROLE;
            INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state, epoch)
                VALUES ({no}, %s, 'schema', 'bh_t{no}', 't{no}', 'active', 1)""", (secret, tenant), database)


class Bouncer:
    """PgBouncer in transaction mode before a Server: one `*` line, SCRAM pass-through."""

    def __init__(self, server, pool_size=1, settings="", program="/usr/sbin/pgbouncer"):
        self.server, self.port, self.program = server, PORTS.take(), program
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="bh-bouncer-"))
        give_to_engine_user(self.dir)
        secret = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'bulkhead_pool'")[0][0]
        (self.dir / "users").write_text(f'"bulkhead_pool" "{secret}"\n')
        (self.dir / "ini").write_text(f"""[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self.dir}/users
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
server_check_query =
{self._unnamed_only()}
{settings}
logfile = {self.dir}/log
pidfile = {self.dir}/pid
""")
        for name in ("users", "ini"):
            give_to_engine_user(self.dir / name)
        self.start()

    @staticmethod
    def _unnamed_only():
        """From 1.21 on PgBouncer keeps named statements itself; without that it is as 1.18, which the tests are written for."""
        told = subprocess.run(["/usr/sbin/pgbouncer", "-V"], check=True, capture_output=True, text=True).stdout
        return "max_prepared_statements = 0" if [int(part) for part in told.split()[1].split(".")[:2]] >= [1, 21] else ""

    def start(self):
        self.process = subprocess.Popen([self.program, "-q", str(self.dir / "ini")], cwd="/",
                                        stderr=subprocess.DEVNULL, **as_engine_user())
        wait_for(self._answers, "pgbouncer does not listen")

    def _answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
