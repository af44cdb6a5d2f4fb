"""compose.yaml with a real Docker engine: scaled up and down, containers killed and started, and nothing is lost.

No image is pulled: the base is made here by debootstrap, and what the project depends on goes in as wheels.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.processes import free_port

ROOT = Path(__file__).parents[2]
PROJECT = "peerkv-test"
BASE = "peerkv-test-base"
SUITE = "bookworm"
PYTHON = "3.11"
"""What that suite has."""
PACKAGES = "python3,python3-venv,ca-certificates"
KEYS = 300


def run(*command: str, stdin: str = "", timeout: float = 120.0, **options: Any) -> str:
    """What a command prints; it must not fail."""
    done = subprocess.run(command, check=False, input=stdin, capture_output=True, text=True, timeout=timeout, **options)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def _engine() -> bool:
    if shutil.which("docker") is None or shutil.which("docker-compose") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=20).returncode == 0


def _mirror() -> str:
    """Where this machine gets Debian's packages from."""
    apt = Path("/etc/apt")
    for file in (*apt.glob("sources.list.d/*.sources"), *apt.glob("sources.list.d/*.list"), apt / "sources.list"):
        if file.is_file():
            found = re.search(
                r"^(?:URIs:|deb(?: \[.*?\])?)\s+(https?://\S+/debian)/?\s", file.read_text(), re.MULTILINE
            )
            if found:
                return found[1]
    return ""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with Python and nothing else."""
    if not _engine():
        pytest.skip("no Docker engine, or no docker-compose, answers here")
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, check=False).returncode == 0:
        return BASE
    if shutil.which("debootstrap") is None or os.geteuid() != 0 or not _mirror():
        pytest.skip("no debootstrap here to make a base image with")
    root = tmp_path_factory.mktemp("base")
    made = subprocess.run(  # its failure is a reason to skip
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), _mirror()],
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if made.returncode:
        pytest.skip(f"debootstrap failed: {made.stdout.strip().splitlines()[-1:]}")
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["docker", "import", "-", BASE], stdin=tar.stdout, check=True, capture_output=True, timeout=300)
    assert tar.returncode == 0
    shutil.rmtree(root)
    return BASE


class Compose:
    """The services of compose.yaml, driven as a user would."""

    def __init__(self, context: Path) -> None:
        self._context = context
        self.port = free_port()
        """What compose publishes."""
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": PROJECT,
            "PEERKV_BASE": BASE,
            "PEERKV_PIP_OPTIONS": "--no-index",
            "PEERKV_FORGET_AFTER": "4",
            "PEERKV_PORT": str(self.port),
        }
        if "docker-compose version 1" in run("docker-compose", "--version"):
            self._environment["COMPOSE_PARALLEL_LIMIT"] = (
                "3"  # with 2 its two services wait for each other's containers
            )

    def compose(self, *arguments: str) -> str:
        return run("docker-compose", *arguments, cwd=self._context, env=self._environment, timeout=600)

    def change(self, variable: str, value: str) -> None:
        """Of what compose.yaml is filled in with."""
        self._environment[variable] = value

    def scale(self, nodes: int) -> None:
        self.compose("up", "-d", "--scale", f"node={nodes}")

    def containers(self, service: str) -> list[str]:
        """Those that run."""
        return run(
            "docker",
            "ps",
            "-q",
            f"--filter=label=com.docker.compose.project={PROJECT}",
            f"--filter=label=com.docker.compose.service={service}",
        ).split()

    def peerkv(self, container: str, *arguments: str, stdin: str = "") -> str:
        return run("docker", "exec", "-i", container, "peerkv", *arguments, stdin=stdin)

    def await_members(self, count: int) -> None:
        """Until so many data nodes are members and every slot has all its copies."""
        until = time.monotonic() + 90
        while True:
            node = self.containers("node")[0]
            command = ["docker", "exec", node, "peerkv", "status", "--wait", "20", "--json"]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
            status = json.loads(done.stdout) if done.stdout.startswith("{") else {"members": []}
            members = [member["name"] for member in status["members"] if member["owner"]]
            if done.returncode == 0 and len(members) == count:
                return
            assert time.monotonic() < until, f"{members}, not {count}: {done.stdout[-3000:]}{done.stderr[-500:]}"
            time.sleep(0.5)

    def names(self) -> set[str]:
        """What the members are called; from outside."""
        found = json.loads(run(sys.executable, "-m", "peerkv", "status", f"127.0.0.1:{self.port}", "--json"))
        return {member["name"] for member in found["members"] if member["owner"]}

    def check_keys(self) -> None:
        """Every key, through every node."""
        asking = "".join(f"get key{number}\n" for number in range(KEYS))
        for node in self.containers("node"):
            answers = self.peerkv(node, "connect", "--redis", "127.0.0.1:6379", stdin=asking).split()
            assert answers == [f"value{number}" for number in range(KEYS)], answers[:5]


@pytest.fixture
def services(base: str, tmp_path: Path) -> Iterator[Compose]:
    for name in ("Dockerfile", "compose.yaml", ".env", ".dockerignore", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "peerkv", tmp_path / "peerkv", ignore=shutil.ignore_patterns("__pycache__"))
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = ["--only-binary=:all:", "--python-version", PYTHON, *needed, "setuptools", "wheel"]
    run(sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(tmp_path / "wheels"), *wanted, timeout=300)
    running = Compose(tmp_path)
    try:
        running.compose("build", "master")
        yield running
    finally:
        running.compose("kill")
        running.compose("down", "--volumes")


def test_scaled_killed_and_started_again(services: Compose) -> None:
    services.scale(5)
    services.await_members(5)
    first = services.containers("node")[0]
    assert services.peerkv(first, "--version").startswith("peerkv")
    assert run("docker", "exec", first, "id", "-un").strip() == "peerkv"
    assert services.names() == {f"{PROJECT}_node_{number}" for number in range(1, 6)}
    setting = "".join(f"set key{number} value{number}\n" for number in range(KEYS))
    services.peerkv(first, "connect", "--redis", "127.0.0.1:6379", stdin=setting)

    services.scale(7)
    services.await_members(7)
    services.check_keys()

    (master,) = services.containers("master")
    run("docker", "kill", master)
    victim = services.containers("node")[-1]
    run("docker", "kill", victim)
    services.await_members(6)
    services.check_keys()
    run("docker", "start", victim)  # under the same name, with whatever address is free
    services.await_members(7)

    services.scale(3)
    services.await_members(3)
    services.check_keys()

    before = set(services.containers("node"))
    services.change("PEERKV_FORGET_AFTER", "5")  # every container is recreated
    services.scale(3)
    services.await_members(3)
    assert not before & set(services.containers("node"))
    services.check_keys()
