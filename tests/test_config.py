"""cluster.ini: the one in the repository, and what is wrong with others."""

from pathlib import Path

import pytest

from peerkv.config import ConfigError, load, parse_address, parse_seed
from peerkv.settings import Role, peer_address

ROOT = Path(__file__).parent.parent


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_repositorys_own() -> None:
    cluster = load(ROOT / "cluster.ini")
    assert [node.name for node in cluster.nodes] == ["master", "db1", "db2", "db3"]
    master, *data = cluster.nodes
    assert (master.role, master.port, master.expect) == (Role.MASTER, 7000, 3)
    assert all(node.seeds[0] == ("127.0.0.1", 7000) and len(node.seeds) == 3 for node in data)
    assert cluster.node("db2").port == 7002
    with pytest.raises(ConfigError, match=r"db9.*master, db1, db2, db3"):
        cluster.node("db9")


def test_every_node_knows_how_many_begin_the_cluster(tmp_path: Path) -> None:
    cluster = load(write(tmp_path / "c.ini", "[a]\nport = 1\n[b]\nport = 2\n"))
    assert cluster.node("a").seeds == (("127.0.0.1", 2),)
    assert cluster.node("a").expect == 2
    assert cluster.node("b").seeds == (("127.0.0.1", 1),)
    assert cluster.node("b").expect == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a]\nport = x\n", r"\[a\] port = x: allowed is a whole number from 1 to 65535"),
        ("[a]\nport = 60000\n", r"\[a\] port = 60000: the peer port would be port \+ 10000 = 70000: set peer_port"),
        ("[a]\nrole = king\nport = 1\n", r"\[a\] role = king: allowed is data or master"),
        ("[a]\nport = 1\ncolour = red\n", r"\[a\] colour = red: there is no such key here; there are announce_host"),
        (
            "[cluster]\nreplicas = 0\n[a]\nport = 1\n",
            r"\[cluster\] replicas = 0: allowed is a whole number from 1 to 7",
        ),
        ("[cluster]\nexpect = 5\n[a]\nport = 1\n", r"\[cluster\] expect = 5: there are only 1 data nodes"),
        ("[a]\n", r"\[a\] has no port"),
        ("[a]\nport = 1\n[b]\nport = 1\n", r"\[b\] port = 1: 127.0.0.1:1 is a's already"),
        ("[a]\nport = 1\n[b]\nport = 10001\n", r"\[b\] port = 10001: 127.0.0.1:10001 is a's already"),
        ("", "there is no node"),
        ("[a\n", "no section headers|cannot be|parsing"),
        ("[a]\nport = 1\nweight = 17\n", r"weight = 17: allowed is a whole number from 1 to 16"),
        ("[cluster]\nread_hedge = -1\n[a]\nport = 1\n", "read_hedge = -1: allowed is seconds"),
        ("[a]\nport = 1\nleave_grace = nan\n", "leave_grace = nan: allowed is seconds, from 0 to 86400"),
        ("[a]\nport = 1\nhost = a..b\n", r"host = a..b: allowed is a host name or an address"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(write(tmp_path / "c.ini", text))


def test_all_errors_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path / "c.ini", "[a]\nport = x\nrole = king\n"))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a]\nport = x\n[b]\nport = y\n", ["[a] port = x", "[b] port = y"]),
        ("[a]\nport = 1\n[b]\nport = 1\n", ["[b] port = 1"]),
        ("[a]\nport = 1\n[b]\nhost = b b\nport = 1\n", ["[b] host = b b"]),
    ],
)
def test_a_fault_is_one_error(tmp_path: Path, text: str, wrong: list[str]) -> None:
    """A section without a usable port was told, too, that 6379, which nobody had written, was taken; twice."""
    path = write(tmp_path / "c.ini", text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [line.removeprefix(f"{path}: ").partition(":")[0] for line in str(caught.value).splitlines()] == wrong


@pytest.mark.parametrize("text", ["0", "0.0", "86400"])
def test_a_grace_may_be_none(tmp_path: Path, text: str) -> None:
    """0.0 was refused."""
    (node,) = load(write(tmp_path / "c.ini", f"[a]\nport = 1\nleave_grace = {text}\n")).nodes
    assert node.leave_grace == float(text)


def test_seeds_are_what_nodes_announce(tmp_path: Path) -> None:
    """Others were sent to the port behind a NAT, and a node to its own address."""
    announced = "announce_host = outside\nannounce_port = 70"
    cluster = load(write(tmp_path / "c.ini", f"[a]\nport = 1\n{announced}01\n[b]\nport = 1\nhost = b\n{announced}02\n"))
    assert [node.seeds for node in cluster.nodes] == [(("outside", 7002),), (("outside", 7001),)]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.ini")


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:0", "host:65536", "a..b:1", "a b:1"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


def test_addresses() -> None:
    assert parse_address("db:7001") == ("db", 7001)
    assert parse_address(":7001") == ("127.0.0.1", 7001)
    assert parse_address("[::1]:7001") == ("::1", 7001)


def test_peer_ports(tmp_path: Path) -> None:
    """A client port above 22767 has its peer port among those of outgoing connections: another one can be set."""
    text = "[a]\nport = 7001\npeer_port = 9001\n[b]\nport = 60000\npeer_port = 9002\n[c]\nport = 7003\n"
    cluster = load(write(tmp_path / "c.ini", text))
    assert [node.peer_port for node in cluster.nodes] == [9001, 9002, 17003]
    assert cluster.node("c").seeds == (("127.0.0.1", 7001, 9001), ("127.0.0.1", 60000, 9002))
    assert cluster.node("a").seeds == (("127.0.0.1", 60000, 9002), ("127.0.0.1", 7003))
    with pytest.raises(ConfigError, match="9001 is a's already"):
        load(write(tmp_path / "c.ini", "[a]\nport = 7001\npeer_port = 9001\n[b]\nport = 9001\n"))
    announced = "[a]\nport = 1\nannounce_port = 50000\nannounce_peer_port = 50001\n[b]\nport = 2\n"
    assert load(write(tmp_path / "c.ini", announced)).node("b").seeds == (("127.0.0.1", 50000, 50001),)
    with pytest.raises(ConfigError, match="the announced peer port would be port \\+ 10000 = 70000: set announce_peer"):
        load(write(tmp_path / "c.ini", "[a]\nport = 1\nannounce_port = 60000\n"))


def test_seeds_and_their_peer_ports() -> None:
    assert parse_seed("db:7001") == ("db", 7001)
    assert parse_seed("db:7001@17001") == ("db", 7001)
    assert parse_seed("[::1]:7001@9000") == ("::1", 7001, 9000)
    assert peer_address(parse_seed("db:7001")) == ("db", 17001)
    assert peer_address(parse_seed("db:60000@9000")) == ("db", 9000)
    for text in ("db:60000", "db:7001@", "db:7001@x", "db:7001@0", "db:7001@65536", "db@9000"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            parse_seed(text)
