"""redis-py as people use it: defaults, both protocols, sync and asyncio, pipelines, locks."""

import asyncio
import time

import pytest
import redis
import redis.asyncio
from redis.cache import CacheConfig

from bench.processes import Cluster


@pytest.fixture(params=[2, 3])
def client(port: int, request: pytest.FixtureRequest) -> redis.Redis:
    return redis.Redis(port=port, protocol=request.param, decode_responses=True)


def test_strings_and_keys(client: redis.Redis) -> None:
    with client:
        client.flushall()
        assert client.ping()
        assert client.set("a", "1") is True
        assert client.set("a", "2", nx=True) is None
        assert client.set("a", "3", xx=True, get=True) == "1"
        assert client.get("a") == "3"
        assert client.get("missing") is None
        assert client.incrby("n", 5) == 5
        assert client.incrbyfloat("f", 0.1) == 0.1
        assert client.append("a", "x") == 2
        assert client.getrange("a", 0, 0) == "3"
        assert client.setrange("a", 1, "yz") == 3
        assert client.mset({"m1": "1", "m2": "2"}) is True
        assert client.mget("m1", "nope", "m2") == ["1", None, "2"]
        assert client.exists("m1", "m2", "nope") == 2
        assert client.delete("m1", "m2", "nope") == 2
        assert client.getdel("n") == "5"
        assert client.type("a") == "string"
        assert client.expire("a", 100) is True
        assert 0 < client.ttl("a") <= 100
        assert client.persist("a") is True
        assert client.ttl("a") == -1
        assert client.ttl("nope") == -2
        assert client.rename("{a}x", "{a}y") if client.set("{a}x", "1") else False
        assert client.dbsize() == 3


def test_scan_sees_the_whole_cluster(client: redis.Redis) -> None:
    with client:
        client.flushall()
        names = {f"scan:{number}" for number in range(300)}
        client.mset(dict.fromkeys(names, "x"))
        client.set("other", "x")
        assert set(client.scan_iter(match="scan:*", count=50)) == names
        assert set(client.keys("scan:*")) == names
        assert client.randomkey() in names | {"other"}
        assert client.dbsize() == 301


def test_pipelines(client: redis.Redis) -> None:
    with client:
        client.flushall()
        pipeline = client.pipeline(transaction=False)
        for number in range(100):
            pipeline.set(f"p{number % 7}", number)
            pipeline.get(f"p{number % 7}")
            pipeline.incr("count")
        replies = pipeline.execute()
        for number in range(100):
            assert replies[3 * number : 3 * number + 3] == [True, str(number), number + 1]


def test_errors_are_errors_and_the_connection_goes_on(client: redis.Redis) -> None:
    with client:
        client.set("text", "abc")
        with pytest.raises(redis.ResponseError, match="not an integer"):
            client.incr("text")
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.execute_command("NOSUCH", "a")
        with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
            client.execute_command("GET")
        assert client.ping()


def test_what_clients_ask_of_a_server(client: redis.Redis) -> None:
    with client:
        assert client.info()["redis_mode"] == "standalone"
        assert client.info("server")["redis_version"].startswith("7.2")
        assert client.client_setname("me")
        assert client.client_getname() == "me"
        assert client.client_id() > 0
        assert any(entry["name"] == "me" for entry in client.client_list())
        assert client.config_get("maxmemory")
        assert client.info("memory")["used_memory"] > 1 << 20
        assert client.info("cpu")["used_cpu_user"] > 0
        assert client.command_count() > 60
        assert sorted(client.command_list(pattern="*getrange")) == ["getrange"]
        assert "get" in client.command_list(category="string")
        assert client.command_list(module="none") == []
        assert len(client.time()) == 2
        assert client.echo("x") == "x"
        assert client.wait(0, 100) >= 0


def test_what_tools_ask_of_a_server(client: redis.Redis) -> None:
    """Of libraries, dashboards and exporters: each reply in the shape in which redis-py reads it."""
    with client:
        assert client.command_getkeys("MSET", "a", "1", "b", "2") == ["a", "b"]
        assert client.command_getkeysandflags("GET", "a")[0][0] == "a"
        assert client.command()["get"]["arity"] == 2
        assert "config|get" in client.command_list()
        assert client.config_get("hash-max-listpack*")
        assert client.config_set("timeout", 0)
        assert client.config_set("slowlog-max-len", 64)
        assert client.config_get("slowlog-max-len") == {"slowlog-max-len": "64"}
        with pytest.raises(redis.ResponseError, match="cannot be otherwise"):
            client.config_set("appendonly", "yes")
        assert client.config_resetstat()
        assert client.slowlog_reset()
        assert client.slowlog_len() == 0
        assert client.slowlog_get() == []
        for _ in range(20):
            client.get("a")
        assert client.info("commandstats")["cmdstat_get"]["calls"] >= 20
        assert client.info("all")["evicted_keys"] == 0
        assert client.info("stats")["instantaneous_ops_per_sec"] >= 0
        assert "off" in str(client.client_trackinginfo())
        assert client.client_tracking_off()
        assert client.client_no_evict("ON")
        assert client.client_info()["flags"] == "e"
        assert client.client_pause(1)
        assert client.client_unpause()
        assert client.client_unblock(1 << 40) is False
        assert client.client_kill_filter(_id=str(1 << 40)) == 0
        assert client.client_getredir() == -1
        assert client.latency_latest() == []
        assert client.latency_reset() == 0
        assert client.acl_whoami() == "default"
        assert "get" in client.acl_cat("string")
        assert client.role()[0] in ("master", b"master")
        assert client.module_list() == []
        assert client.object("encoding", "none") is None
        assert client.execute_command("DEBUG", "SLEEP", "0.01") in ("OK", b"OK", True)


def test_lock(client: redis.Redis) -> None:
    """redis-py's lock needs scripts to be given back; taking it and letting it lapse does not."""
    with client:
        client.flushall()
        assert client.set("lock", "token", nx=True, px=150)
        assert client.set("lock", "other", nx=True, px=150) is None


def test_asyncio(port: int) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis(port=port) as client:
            await client.set("async", "1")
            assert await client.get("async") == b"1"
            async with client.pipeline(transaction=False) as pipeline:
                for _ in range(50):
                    pipeline.incr("async")
                assert await pipeline.execute() == list(range(2, 52))
            await asyncio.gather(*(client.incr("shared:" + str(port)) for _ in range(50)))
            assert await client.get("shared:" + str(port)) == b"50"
            await client.delete("async", "shared:" + str(port))

    asyncio.run(main())


def test_its_cache_is_right_whichever_node_changes_a_key(
    monkeypatch: pytest.MonkeyPatch, members: Cluster, port: int
) -> None:
    """A client that keeps what it has read is told of changes by any other node. It asks for a server that says it is
    7.4, though it needs nothing that 7.2 does not have."""
    monkeypatch.setattr("redis.connection.CacheProxyConnection.MIN_ALLOWED_VERSION", "7.2.0")
    with redis.Redis(port=port, protocol=3, cache_config=CacheConfig(), decode_responses=True) as cached:
        cache = cached.get_cache()
        assert cache is not None
        for number, other in enumerate(members.ports.values()):
            with redis.Redis(port=other) as writer:
                for key in ("cached:a", "cached:b", "cached:c"):
                    writer.set(key, number)
                    until = time.monotonic() + 5
                    while cached.get(key) != str(number):  # it is told in its own time
                        assert time.monotonic() < until, f"{key} is stale"
                    assert cached.get(key) == str(number)
        assert cache.size == 3
