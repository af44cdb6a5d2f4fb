"""Nodes lose their memory: what is kept, what is lost, and who decides that. `python -m tests.sim --loss` runs more."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from peerkv.resp import Reply, ReplyError
from peerkv.settings import Recover, Settings
from tests.sim.loss import run_loss
from tests.sim.world import Host, World

KEYS = [b"key:%d" % number for number in range(60)]


class Story:
    """A cluster that a test tells a story of."""

    def __init__(self, data: int, *, master: bool = True, recover: Recover = Recover.ASK) -> None:
        self.world = World(7)
        self.world.forget_after = 8.0
        self.world.recover = recover
        self.world.cluster(data, master=master)
        self.names = [f"db{number}" for number in range(1, data + 1)]
        self.run(6.0)

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def ask_all(self, name: str, *requests: tuple[bytes, ...], within: float = 12.0) -> list[Reply]:
        """A node's replies, in one connection."""
        connection = self.world.connect(name)
        assert connection is not None, f"{name} is not there"
        replies: list[Reply] = []
        connection.on_reply = replies.append
        connection.send(*requests)
        until = self.world.now + within
        while len(replies) < len(requests) and self.world.now < until:
            self.run(0.1)
        connection.close()
        return replies

    def ask(self, name: str, *request: bytes) -> Reply:
        (reply,) = self.ask_all(name, request)
        return reply

    def write(self, name: str = "db1") -> None:
        """Every key, acknowledged."""
        assert self.ask_all(name, *[(b"SET", key, key) for key in KEYS]) == ["OK"] * len(KEYS)

    def kept(self, name: str) -> set[bytes]:
        """Keys that are there as they were written."""
        return {
            key
            for key, reply in zip(KEYS, self.ask_all(name, *[(b"GET", key) for key in KEYS]), strict=True)
            if reply == key
        }

    def kill(self, *names: str) -> None:
        for name in names:
            self.world.hosts[name].kill()

    def start(self, *names: str) -> None:
        for name in names:
            self.world.hosts[name].start()

    def status(self, name: str) -> dict[str, Any]:
        reply = self.ask(name, b"PEERKV", b"STATUS")
        assert isinstance(reply, bytes), reply
        found: dict[str, Any] = json.loads(reply)
        return found

    def await_whole(self, name: str, members: int, within: float = 60.0) -> dict[str, Any]:
        """Until so many members have every copy there is to be."""
        until = self.world.now + within
        while True:
            found = self.status(name)
            owners = [member for member in found["members"] if member["owner"] and member["liveness"] == "alive"]
            if len(owners) == members and found["slots"] == found["slots_with_all_copies"] and not found["changing"]:
                return found
            assert self.world.now < until, found
            self.run(1.0)


# -- by itself, without a loss


@pytest.mark.parametrize("victim", ["db1", "db2"])
def test_one_of_two_crashes_and_is_filled_by_the_other(victim: str) -> None:
    story = Story(2)
    story.write()
    story.kill(victim)
    story.run(2.0)
    story.start(victim)
    story.await_whole("db1", 2)
    assert story.kept("db1") == story.kept("db2") == set(KEYS)


def test_after_one_was_removed_the_next_may_crash() -> None:
    """Three, one away for longer than `forget_after`, then a second one crashes and returns."""
    story = Story(3)
    story.write()
    story.kill("db3")
    story.await_whole("db1", 2)
    story.run(10.0)
    story.kill("db2")
    story.run(1.0)
    story.start("db2")
    story.await_whole("db1", 2)
    story.start("db3")
    story.await_whole("db3", 3)
    assert story.kept("db3") == set(KEYS)


def test_the_last_of_three_lives_goes_on_where_the_losses_came_one_by_one() -> None:
    """The second dies while the first is being filled, but once all is settled: the third has everything."""
    story = Story(3)
    story.write()
    story.kill("db1")
    story.start("db1")
    until = story.world.now + 30.0
    while True:  # the first life of db1 counts no more, and its successor is still being filled
        topology = story.world.hosts["db3"].node.topology  # type: ignore[union-attr]
        assert topology is not None
        if topology.settled:
            break
        assert story.world.now < until
        story.run(0.01)
    assert topology.is_joint
    story.kill("db2")
    story.run(1.0)
    story.start("db2")
    found = story.await_whole("db3", 3)
    assert found["epoch"] < 1 << 32
    assert story.kept("db2") == set(KEYS)


def test_who_began_a_cluster_alone_comes_back_to_those_that_joined_it() -> None:
    """It was told to join nobody, so it begins a cluster of one again; as that is empty, and others know its name, it
    joins them."""
    world = World(3)
    first = world.add(Settings(name="db1", port=7001, slots=world.slots))
    world.run(1.0)
    world.add(Settings(name="db2", port=7002, seeds=(("127.0.0.1", 7001),), slots=world.slots))
    story = Story.__new__(Story)
    story.world, story.names = world, ["db1", "db2"]
    story.await_whole("db1", 2)
    story.write()
    first.kill()
    story.run(5.0)
    first.start()
    found = story.await_whole("db1", 2)
    assert found["cluster_id"] == story.status("db2")["cluster_id"]
    assert story.kept("db1") == set(KEYS)


# -- nothing is left


@pytest.mark.parametrize("master", [True, False])
def test_a_cluster_all_of_whose_nodes_were_restarted_is_founded_anew(master: bool) -> None:
    """The master remembers a topology that nobody holds anything of; without one, those that come know how many they
    are."""
    story = Story(3, master=master)
    story.write()
    before = story.status("db1")["cluster_id"]
    story.kill(*story.names)
    story.run(1.0)
    story.start(*story.names)
    found = story.await_whole("db1", 3, within=15.0)
    assert found["cluster_id"] != before
    assert story.ask("db2", b"SET", b"after", b"1") == "OK"
    assert story.kept("db1") == set()
    if master:
        assert found["succeeds"] == [before]
        assert story.status("master")["data_lost_at"] > 0


def test_while_anybody_holds_something_nothing_is_founded() -> None:
    story = Story(3)
    story.write()
    story.kill("db1", "db2")
    story.start("db1", "db2")
    story.run(30.0)
    found = story.status("db1")
    assert found["loss"]["lost"] == ["db1", "db2"]
    assert found["loss"]["keys_kept"] == len(KEYS)
    assert isinstance(story.ask("db1", b"SET", b"after", b"1"), ReplyError)


def test_an_old_life_that_was_given_up_drops_its_copies_and_serves_nothing() -> None:
    """db1 stands still while another process takes its name, and all the others are restarted; then it goes on."""
    story = Story(3)
    story.write()
    world = story.world
    old = world.hosts["db1"]
    old.paused = True
    story.run(6.0)
    world.hosts["former db1"] = world.hosts.pop("db1")
    new = world.hosts["db1"] = world.by_port[17101] = Host(world, replace(old.settings, port=7101, peer_port=17101))
    new.start()
    story.kill("db2", "db3")
    story.start("db2", "db3")
    story.await_whole("db2", 3, within=30.0)
    assert story.ask("db2", b"SET", KEYS[0], b"new") == "OK"
    old.resume()
    node = old.node
    assert node is not None
    until = world.now + 60.0
    while old.node is not None and world.now < until:
        story.run(0.1)
        connection = world.connect("former db1")
        if connection is not None:
            replies: list[Reply] = []
            connection.on_reply = replies.append
            connection.send((b"GET", KEYS[0]))
            story.run(0.5)
            assert all(isinstance(reply, ReplyError) or reply == b"new" for reply in replies)
    assert not any(node.view.slots)
    assert "db1" in old.stopped
    story.await_whole("db2", 3)


# -- something is left


def test_what_is_left_is_shown_and_kept_by_one_command() -> None:
    """Two of five at once: most slots go on by themselves, the others when they are told to, with what is left."""
    story = Story(5)
    story.write()
    story.kill("db1", "db2")
    story.start("db1", "db2")
    story.run(15.0)
    shown = json.loads(story.ask("db4", b"PEERKV", b"RECOVER"))  # type: ignore[arg-type]
    assert shown["lost"] == ["db1", "db2"]
    assert 0 < shown["slots"] < story.world.slots / 2
    assert shown["blocked_by"] == []
    replies = story.ask_all("db3", *[(b"SET", key, key) for key in KEYS])
    dead = [key for key, reply in zip(KEYS, replies, strict=True) if reply != "OK"]
    assert dead
    assert len(dead) == shown["keys_kept"]
    assert shown["keys_by_copies"] == {"1": len(dead)}
    stale = story.ask_all("db3", (b"READONLY",), *[(b"GET", key) for key in dead])
    assert stale == ["OK", *dead]
    fresh = story.ask_all("db3", (b"READONLY",), (b"READWRITE",), *[(b"GET", key) for key in dead[:3]])
    assert all(isinstance(reply, ReplyError) and reply.text.startswith("NOQUORUM") for reply in fresh[2:])
    assert story.ask("db4", b"PEERKV", b"RECOVER", b"ACCEPT-LOSS") == "OK"
    found = story.await_whole("db1", 5)
    assert found["epoch_name"].startswith("1.")
    assert found["loss"] is None
    assert story.kept("db1") == story.kept("db3") == set(KEYS)


def forgotten_by_the_last(story: Story) -> list[Reply]:
    """The only one left of three was away while the others acknowledged: what it says of those keys."""
    world = story.world
    others = [name for name in world.hosts if name != "db3"]
    world.cuts |= {(name, "db3") for name in others} | {("db3", name) for name in others}
    story.run(1.0)
    story.write()
    story.kill("db1", "db2")
    world.heal()
    story.start("db1", "db2")
    story.run(20.0)
    return story.ask_all("db3", *[(b"GET", key) for key in KEYS])


def test_one_of_three_is_not_taken_for_everybody() -> None:
    """It may not have what the other two have acknowledged, as here."""
    story = Story(3)
    replies = forgotten_by_the_last(story)
    assert all(isinstance(reply, ReplyError) and reply.text.startswith("NOQUORUM") for reply in replies)
    assert story.status("db3")["loss"]["keys_kept"] == 0
    assert story.ask("db3", b"PEERKV", b"RECOVER", b"ACCEPT-LOSS") == "OK"
    story.await_whole("db1", 3)
    assert story.kept("db1") == set()


def test_a_member_that_is_merely_down_must_come_back_or_be_given_up_first() -> None:
    story = Story(3)
    story.write()
    story.kill("db1", "db2")
    story.start("db1")
    story.run(12.0)
    assert story.status("db3")["loss"] is None  # db2 may be back with what it held
    refused = story.ask("db3", b"PEERKV", b"RECOVER", b"ACCEPT-LOSS")
    assert isinstance(refused, ReplyError)
    story.ask("db3", b"PEERKV", b"FORGET", b"db2")
    story.run(2.0)
    assert story.status("db1")["loss"]["lost"] == ["db1", "db2"]
    assert story.ask("db1", b"PEERKV", b"RECOVER", b"ACCEPT-LOSS") == "OK"
    story.await_whole("db1", 2)
    assert story.kept("db1") == set(KEYS)


def test_a_cache_recovers_unasked() -> None:
    story = Story(3, recover=Recover.AUTO)
    story.write()
    story.kill("db1", "db2")
    story.start("db1", "db2")
    found = story.await_whole("db1", 3, within=60.0)
    assert found["epoch_name"].startswith("1.")
    assert story.kept("db2") == set(KEYS)


def test_unasked_also_where_the_first_of_them_was_told_to_ask() -> None:
    """The member that looks after changes had `recover = ask`, all others `auto`: nobody did anything (loss seed
    800039)."""
    story = Story(3, recover=Recover.AUTO)
    story.write()
    first = story.world.hosts["db1"]
    first.settings = replace(first.settings, recover=Recover.ASK)
    story.kill("db1")
    story.run(2.0)
    story.start("db1")
    story.await_whole("db2", 3)
    members = sorted(story.status("db2")["members"], key=lambda member: str(member["name"]))
    assert [member["name"] for member in members if member["owner"]] == ["db1", "db2", "db3"]
    story.kill("db2", "db3")
    story.run(1.0)
    story.start("db2", "db3")
    story.await_whole("db1", 3)
    assert story.kept("db2") == set(KEYS)


def test_given_up_by_an_operator_all_is_void() -> None:
    """The last copies are given up with their holder."""
    story = Story(3)
    story.write()
    story.kill("db1", "db2", "db3")
    story.start("db1", "db2")
    story.run(10.0)
    assert story.status("db1")["slots_without_quorum"] == story.world.slots
    story.ask("db1", b"PEERKV", b"FORGET", b"db3")
    story.start("db3")
    found = story.await_whole("db2", 3, within=30.0)
    assert found["succeeds"]
    assert story.kept("db2") == set()


# -- any of it


@pytest.mark.parametrize("seed", [2, 5])
def test_whatever_is_killed_only_what_must_be_lost_is(seed: int) -> None:
    assert run_loss(seed, 30.0).problems == []
