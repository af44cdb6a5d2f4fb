"""redis-cli and redis-benchmark as they come."""

import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("redis-cli") is None or shutil.which("redis-benchmark") is None, reason="redis-tools are not installed"
)


def redis_cli(port: int, *arguments: str, lines: str = "") -> list[str]:
    run = subprocess.run(
        ["redis-cli", "-p", str(port), *arguments], input=lines, capture_output=True, text=True, timeout=30, check=True
    )
    return run.stdout.splitlines()


@pytest.mark.parametrize("protocol", ["-2", "-3"])
def test_redis_cli(port: int, protocol: str) -> None:
    assert redis_cli(port, protocol, "set", "cli", "1") == ["OK"]
    assert redis_cli(port, protocol, lines="get cli\nincr cli\nget nope\nmget cli nope\ndel cli\n") == [
        "1",
        "2",
        "",
        "2",
        "",
        "1",
    ]
    assert redis_cli(port, protocol, "--scan", "--pattern", "nothing-like-this*") == []


def test_redis_cli_as_of_a_cluster(port: int) -> None:
    """-c follows MOVED; there is never one."""
    assert redis_cli(port, "-c", "set", "cli", "2") == ["OK"]
    assert redis_cli(port, "cluster", "keyslot", "foo") == ["12182"]


@pytest.mark.parametrize("pipeline", ["1", "16"])
def test_redis_benchmark(port: int, pipeline: str) -> None:
    command = ["redis-benchmark", "-p", str(port), "-t", "ping,set,get,incr,mset", "-n", "2000", "-c", "20"]
    run = subprocess.run([*command, "-P", pipeline, "-q"], capture_output=True, text=True, timeout=60, check=True)
    assert "rror" not in run.stdout + run.stderr.replace("WARNING: Could not fetch server CONFIG", "")
    assert run.stdout.count("requests per second") == 6
