"""Real Redis in the ways operators run it: TLS, ACL users, Sentinel with a failover."""

import asyncio
import datetime
import ipaddress
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from cogvideox_server.redis import redis_binary
from tests.ports import free_port
from video_jobs.queue import BadRedisUrl, lazy_redis, open_redis

OPTIONS = ("--save", "", "--appendonly", "no", "--loglevel", "warning")


@contextmanager
def server(folder: Path, port: int, *args: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    command = [redis_binary(), *args, "--dir", str(folder)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None:
                    raise RuntimeError((folder / "log").read_text())
                time.sleep(0.02)
            yield
        finally:
            process.kill()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis under test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(pem)
    return folder / "cert.pem", folder / "key.pem"


async def test_tls_with_an_own_authority_and_an_acl_user(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    port = free_port()
    tls = ["--port", "0", "--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key)]
    tls += ["--tls-ca-cert-file", str(cert), "--tls-auth-clients", "no"]
    users = [*["--user", "app", "on", ">s3cret", "~{cogvideox}:*", "&*", "+@all", "--user", "default", "off"]]
    try:
        with server(tmp_path / "redis", port, *OPTIONS, *tls, *users):
            url = f"rediss://app:s3cret@127.0.0.1:{port}/0?ssl_ca_certs={cert}"
            client = await open_redis(url)
            await client.set("{cogvideox}:x", "1")
            with pytest.raises(NoPermissionError):
                await client.set("elsewhere", "1")
            await client.aclose()
            for wrong in (url.replace("s3cret", "wrong"), url.partition("?")[0]):
                with pytest.raises((AuthenticationError, RedisError, OSError)):
                    await open_redis(wrong)
    except RuntimeError as error:
        if "tls" in str(error).lower():
            pytest.skip("this machine's Redis was built without TLS: install redis-server")
        raise


async def test_sentinels_name_the_master_and_its_successor(tmp_path: Path) -> None:
    first, second, watch = free_port(), free_port(), free_port()
    conf = tmp_path / "sentinel.conf"
    conf.write_text(
        f"port {watch}\nsentinel monitor jobs 127.0.0.1 {first} 1\nsentinel down-after-milliseconds jobs 300\n"
        "sentinel failover-timeout jobs 2000\n"
    )
    with ExitStack() as stack:
        master = stack.enter_context(ExitStack())
        master.enter_context(server(tmp_path / "a", first, *OPTIONS, "--port", str(first)))
        replica = ["--port", str(second), "--replicaof", "127.0.0.1", str(first)]
        stack.enter_context(server(tmp_path / "b", second, *OPTIONS, *replica))
        wait_until(lambda: redis.Redis(port=second).info("replication")["master_link_status"] == "up")
        watcher = [str(conf), "--sentinel"]
        stack.enter_context(server(tmp_path / "s", watch, *watcher))
        wait_until(lambda: bool(redis.Redis(port=watch).sentinel_slaves("jobs")))
        client = lazy_redis(f"sentinel://127.0.0.1:{watch},127.0.0.1:9/jobs/0")
        await client.set("before", "1")
        await client.wait(1, 2000)

        master.close()
        await eventually_set(client)

        assert await client.get("before") == b"1"
        assert client.connection_pool.master_address == ("127.0.0.1", second)
        await client.aclose()


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(300):
        try:
            if holds():
                return
        except RedisError:
            pass
        time.sleep(0.05)
    raise AssertionError("it never held")


async def eventually_set(client: redis.asyncio.Redis) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await client.set("after", "1")
                return
            except (RedisError, OSError):
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("url", ["http://x", "sentinel://host", "sentinel:///service", "sentinel://h/service/x"])
def test_a_wrong_url_is_told(url: str) -> None:
    with pytest.raises(BadRedisUrl):
        lazy_redis(url)


def test_under_uvloop_too_a_connection_closed_by_the_peer_is_a_connection_error(redis_url: str) -> None:
    async def send_into_closed() -> None:
        client = lazy_redis(redis_url)
        connection = await client.connection_pool.get_connection()
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(RedisConnectionError):
            await connection.send_command("PING")
        await client.connection_pool.release(connection)
        assert await client.ping()
        await client.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send_into_closed())
