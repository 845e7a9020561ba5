"""What may stand between Perfcore and a watched database: a pooler, bad TLS, a standby."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from perfcore.collect.readiness import Check, examine_one
from perfcore.collect.target import open_target
from perfcore.db import connect
from perfcore.errors import ChangeRefused, TargetUnavailable
from perfcore.lab import change
from perfcore.server.embedded import THROWAWAY_SETTINGS, Cluster, system_binaries
from perfcore.server.launch import free_port
from perfcore.store.targets import ensure_target
from perfcore.target import CertificateRefused, NeedsDirectConnection, connect_target
from perfcore.whatif.source import read_source
from tests.conftest import DEBIAN_15
from tests.lab.conftest import ORDERS
from tests.needs import need

HOST = "db.example.test"
_CA = """
[ca]
default_ca = own
[own]
new_certs_dir = .
database = index
serial = serial
default_md = sha256
policy = any
unique_subject = no
x509_extensions = server
[any]
commonName = supplied
[server]
subjectAltName = DNS:db.example.test
"""


@pytest.fixture(scope="module")
def certificates(work_folder: Path) -> Path:
    """A folder with ca.crt, and as server.*, expired.*, own.* what a server may show."""
    need("openssl", "openssl")
    folder = work_folder / "certificates"
    folder.mkdir()
    (folder / "ca.cnf").write_text(_CA)
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name, subject in (("ca", "/CN=Test authority"), ("own", f"/CN={HOST}")):
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.crt", "-subj", subject, "-days", "30",
        )  # fmt: skip
    for name, ends in (("server", "20991231000000Z"), ("expired", "20210101000000Z")):
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.csr", "-subj", f"/CN={HOST}",
        )  # fmt: skip
        openssl(
            "ca", "-config", "ca.cnf", "-batch", "-cert", "ca.crt", "-keyfile", "ca.key",
            "-in", f"{name}.csr", "-out", f"{name}.crt", "-notext",
            "-startdate", "20200101000000Z", "-enddate", ends,
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def server(work_folder: Path) -> Iterator[Cluster]:
    need(DEBIAN_15 / "postgres", "postgresql-15 postgresql-15-hypopg")
    cluster = Cluster(
        work_folder / "between", system_binaries(DEBIAN_15), THROWAWAY_SETTINGS, durable=False
    )
    with cluster:
        yield cluster


def shows(server: Cluster, certificates: Path, name: str) -> None:
    """Let the server show that certificate from now on."""
    for suffix in ("crt", "key"):
        path = server.data_directory / f"server.{suffix}"
        shutil.copy(certificates / f"{name}.{suffix}", path)
        path.chmod(0o600)
        if server.binaries.user is not None:
            entry = pwd.getpwnam(server.binaries.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)
    with connect(server.dsn(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET ssl = on")
        connection.execute("SELECT pg_reload_conf()")
    # The postmaster takes it over when it hears the signal.
    for _ in range(100):
        if (certificates / f"{name}.crt").read_text().strip() in _shown(server):
            return
        time.sleep(0.05)
    raise AssertionError("the server shows another certificate")


def _shown(server: Cluster) -> str:
    done = subprocess.run(
        ["openssl", "s_client", "-starttls", "postgres", "-connect", f"127.0.0.1:{server.port}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    return done.stdout


def remote(server: Cluster, **parameters: str | Path) -> str:
    """The server's DSN as if it were another machine: by a name that only the DSN resolves."""
    extra = "".join(f"&{name}={value}" for name, value in parameters.items())
    return server.dsn().replace("127.0.0.1", HOST) + f"?hostaddr=127.0.0.1{extra}"


def connection_check(dsn: str) -> Check:
    found = examine_one("shop", dsn)
    assert not found.is_reachable
    return found.checks[0]


@pytest.mark.fault(78)
def test_a_remote_server_must_prove_who_it_is(server: Cluster, certificates: Path) -> None:
    shows(server, certificates, "server")
    trusted = remote(server, sslrootcert=certificates / "ca.crt")
    with connect_target(trusted) as connection:
        encrypted = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert encrypted.fetchone() == (True,)
    well = {c.name: c.state for c in examine_one("shop", trusted).checks}
    assert well["encryption"] == "ok"
    with pytest.raises(CertificateRefused, match="unable to get local issuer certificate"):
        open_target(remote(server))
    plain = examine_one("shop", remote(server, sslmode="prefer")).checks
    (note,) = [c for c in plain if c.name == "encryption"]
    assert note.state == "note" and "sslmode=prefer does not verify" in note.finding


@pytest.mark.fault(78)
@pytest.mark.parametrize(
    ("name", "reason"),
    [("expired", "certificate has expired"), ("own", "self-signed certificate")],
)
def test_what_is_wrong_with_a_certificate_is_said(
    server: Cluster, certificates: Path, name: str, reason: str
) -> None:
    shows(server, certificates, name)
    dsn = remote(server, sslrootcert=certificates / "ca.crt")
    with pytest.raises(CertificateRefused, match=reason):
        open_target(dsn)
    check = connection_check(dsn)
    assert reason in check.finding and f"{HOST}:{server.port}" in check.finding
    assert server.password not in check.finding
    with connect_target(server.dsn()):  # loopback stays as it was
        pass


@pytest.mark.fault(78)
def test_nothing_is_sent_in_plain_text_to_a_remote_server(cluster18: Cluster) -> None:
    with pytest.raises(CertificateRefused, match=r"offers no TLS.*\?sslmode=disable"):
        connect_target(remote(cluster18))
    with connect_target(remote(cluster18, sslmode="disable")):
        pass


@contextmanager
def pgbouncer(server: Cluster, folder: Path, *, ignores: str) -> Iterator[str]:
    """Run PgBouncer before the server; yield the DSN that leads through it."""
    port = free_port(0)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres "
        f"password={server.password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
        f"ignore_startup_parameters = {ignores}\n"
    )
    process = subprocess.Popen(
        ["pgbouncer", "-q", "pgbouncer.ini"], cwd=folder, user=server.binaries.user,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        dsn = server.dsn().replace(f":{server.port}/", f":{port}/")
        _answers(dsn)
        yield dsn
    finally:
        process.terminate()
        process.wait(10)


def _answers(dsn: str) -> None:
    for _ in range(200):
        try:
            with psycopg.connect(dsn, autocommit=True):
                return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise AssertionError(f"{dsn} does not answer")


@pytest.mark.fault(74)
@pytest.mark.parametrize("ignores", ["extra_float_digits", "options"])
def test_a_pooler_in_between_is_recognised(
    server: Cluster, work_folder: Path, store: str, ignores: str
) -> None:
    need("pgbouncer", "pgbouncer")
    with pgbouncer(server, work_folder / "pgbouncer", ignores=ignores) as dsn:
        with pytest.raises(NeedsDirectConnection, match="needs a direct connection"):
            open_target(dsn)
        check = connection_check(dsn)
        assert "needs a direct connection" in check.finding
        with pytest.raises(TargetUnavailable, match="needs a direct connection"):
            read_source(dsn)
        with connect(store, autocommit=True) as connection:
            target_id = ensure_target(connection, "shop")
        with pytest.raises(TargetUnavailable, match="needs a direct connection"):
            change.apply_index(store, dsn, target_id, ORDERS)
        # Nothing of ours is left on the connections that the application shares.
        with psycopg.connect(dsn, autocommit=True) as connection:
            path = connection.execute("SHOW search_path").fetchone()
        assert path == ('"$user", public',)


@pytest.mark.fault(73)
def test_a_standby_is_told_apart_and_no_index_is_begun_there(server: Cluster, store: str) -> None:
    with connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, customer_id int)")
    server.stop()
    signal = server.data_directory / "standby.signal"
    signal.touch()
    try:
        server.start()
        found = {c.name: c for c in examine_one("shop", server.dsn()).checks}
        assert found["standby"].finding == "the target is a standby"
        with connect(store, autocommit=True) as connection:
            target_id = ensure_target(connection, "shop")
        with pytest.raises(ChangeRefused, match="this server is a standby"):
            change.apply_index(store, server.dsn(), target_id, ORDERS)
    finally:
        server.stop()
        signal.unlink()
        server.start()
