"""The command line itself: help worth reading, one line for a wrong option, one line for what cannot start."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cogvideox_server.checkpoints import NoSuchCheckpoint, checkpoint_of
from cogvideox_server.redis import MAX_SOCKET_PATH, redis_binary, socket_path
from cogvideox_server.supervisor import Supervisor
from video_jobs.catalogue import load_catalogue

SLOW_TO_END = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(3), exit())); time.sleep(60)"


def run(*args: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "cogvideox_server", *args]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


COMMANDS = (
    "|up|gateway|worker|doctor|version|keys|keys create|keys import|keys list|keys roll|keys revoke|"
    "tenants|tenants list|tenants plans|tenants show|"
    "tenants set|tenants plan|tenants apply|tenants usage|models|models list|models pull|"
    "models verify|queue|queue status|queue list|queue retry|queue pause|jobs|jobs submit|jobs list|jobs show|"
    "jobs watch|jobs cancel|jobs download|"
    "audit|audit verify|audit search|audit erase|audit key|"
    "users|users warn|users throttle|users block|users lift|users list"
)


@pytest.mark.parametrize("command", [name.split() for name in COMMANDS.split("|")])
def test_help_is_there(command: list[str]) -> None:
    said = run(*command, "--help")

    assert said.returncode == 0
    assert len(said.stdout.splitlines()) > 3


@pytest.mark.parametrize(
    "wrong",
    [
        ["up", "--prot", "1"],
        ["up", "--port", "x"],
        ["up", "--workers", "0"],
        ["up", "--tenants", "/none"],
        ["fly"],
        [],
        ["keys"],
    ],
)
def test_wrong_option_gets_one_line_and_two(wrong: list[str]) -> None:
    said = run(*wrong)

    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (2, "", 1)
    assert "--help" in said.stderr


def test_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = run("up", "--port", str(taken.getsockname()[1]), "--state", str(tmp_path / "state"))

    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert "--port" in said.stderr


def test_model_that_cannot_come_is_told_before_anything_starts(tmp_path: Path) -> None:
    state = tmp_path / "state"
    wrong = ["--model", "nobody/nothing", "--checkpoint", "cogvideox-2b"]
    said = run("up", "--port", "0", "--state", str(state), *wrong, HF_HUB_OFFLINE="1")

    assert said.returncode == 1
    assert "nobody/nothing" in said.stderr.splitlines()[0]
    assert "Traceback" not in said.stderr
    assert not (state / "redis").exists()


@pytest.mark.parametrize(
    ("environment", "said_why", "status"),
    [
        ({"REDIS_URL": "redis://user:hunter2@127.0.0.1:1/0"}, "127.0.0.1:1", 1),
        ({"COGVIDEOX_REDIS_URL": "http://user:hunter2@127.0.0.1/0"}, "rediss://", 2),
    ],
)
def test_redis_that_is_not_there_is_told_in_a_line_without_its_password(
    environment: dict[str, str], said_why: str, status: int, tmp_path: Path
) -> None:
    said = run("up", "--port", "0", "--state", str(tmp_path / "state"), **environment)

    assert said.returncode == status
    assert said_why in said.stderr.splitlines()[-1]
    assert "Traceback" not in said.stderr
    assert "hunter2" not in said.stderr


def test_redis_named_in_a_secret_file_is_the_one_that_is_used(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://127.0.0.1:1/0\n")
    given = {name: value for name, value in os.environ.items() if not name.endswith("REDIS_URL")}
    command = [sys.executable, "-P", "-m", "cogvideox_server", "up", "--port", "0", "--state", str(tmp_path / "state")]
    given["COGVIDEOX_REDIS_URL_FILE"] = str(tmp_path / "url")
    said = subprocess.run(command, capture_output=True, text=True, env=given)

    assert "127.0.0.1:1" in said.stderr.splitlines()[-1]
    assert not (tmp_path / "state" / "redis").exists()


def test_state_that_cannot_be_made_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = run("up", "--port", "0", "--state", str(tmp_path / "file" / "state"))

    assert (said.returncode, said.stderr.count("\n")) == (1, 1)


def test_children_of_one_name_are_ended_together() -> None:
    supervisor = Supervisor(print)
    for _ in range(3):
        supervisor.start("slow", [sys.executable, "-c", SLOW_TO_END], {})
    time.sleep(2)
    started = time.monotonic()

    supervisor.stop(lambda: False)

    assert time.monotonic() - started < 6
    assert supervisor.dead() == "slow"


def test_key_that_is_none_is_told_in_a_line() -> None:
    said = run("jobs", "show", "1", "--url", "http://127.0.0.1:1/", "--key", "密.钥")

    assert (said.returncode, said.stderr.count("\n")) == (1, 1)


def test_keys_without_redis_say_so(tmp_path: Path) -> None:
    said = run("keys", "list", "--state", str(tmp_path), "--redis-url", f"unix://{tmp_path}/none.sock")

    assert said.returncode == 1
    assert "Redis" in said.stderr
    assert "Traceback" not in said.stderr


def test_version_is_printed() -> None:
    assert run("version").stdout.count(".") == 2


def test_socket_fits_however_deep_the_state_lies(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)

    first, second = socket_path(deep), socket_path(deep)

    assert len(str(second)) <= MAX_SOCKET_PATH
    assert not first.parent.exists()
    assert socket_path(tmp_path).parent.stat().st_mode & 0o777 == 0o700
    assert Path(redis_binary()).is_file()


@pytest.mark.parametrize(
    ("model", "checkpoint"),
    [
        ("tiny", "tiny"),
        ("tiny-random", "tiny-random"),
        ("THUDM/CogVideoX1.5-5B", "cogvideox-1.5-5b"),
        ("zai-org/CogVideoX1.5-5B-I2V", "cogvideox-1.5-5b"),
        ("THUDM/CogVideoX-2b", "cogvideox-2b"),
    ],
)
def test_checkpoint_is_found_from_the_model(model: str, checkpoint: str) -> None:
    assert checkpoint_of(model, load_catalogue()) == checkpoint


def test_unknown_model_asks_for_its_checkpoint() -> None:
    with pytest.raises(NoSuchCheckpoint, match="--checkpoint"):
        checkpoint_of("somebody/something", load_catalogue())


def up(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "cogvideox_server", "up", "--port", "0"]
    variables = {
        "COGVIDEOX_STATE": str(tmp_path / "state"),
        **{f"COGVIDEOX_{name}": to for name, to in settings.items()},
    }
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("settings", "status", "told"),
    [
        ({"PORT": "99999"}, 2, "COGVIDEOX_PORT: Input should be less than or equal to 65535"),
        ({"STORE": "s3"}, 2, "COGVIDEOX_STORE=s3 needs COGVIDEOX_S3_BUCKET"),
        ({"CHECKPOINT": "nope"}, 1, "the catalogue has no checkpoint nope; it has "),
        ({"CATALOGUE": "/nowhere.toml"}, 1, "the catalogue /nowhere.toml: "),
        ({"MODEL": "somebody/something"}, 1, "somebody/something: The model matches no checkpoint"),
    ],
)
def test_up_keeps_to_the_settings_and_tells_a_wrong_one_in_a_line(
    settings: dict[str, str], status: int, told: str, tmp_path: Path
) -> None:
    ended = up(tmp_path, **settings)

    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.count("\n") == 1
    assert told in ended.stderr
