"""Nodes that end in the middle of what they have to say."""

from __future__ import annotations

import pytest

from peerkv.commands.transactions import record_key
from peerkv.store.values.held import HELD, Held
from tests.sim.scenario import Scenario
from tests.sim.world import Link, World


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_a_killed_node_had_still_to_send_is_not_sent(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of many frames to several nodes: some have theirs, others never do."""
    world = World(3)
    world.cluster(5)
    world.run(4.0)
    host = world.hosts["db1"]
    connection = world.connect("db1")
    assert connection is not None
    sent: list[str] = []
    send = Link.send

    def noted(link: Link, payload: bytes) -> None:
        if link.source is host:
            sent.append(link.target.settings.name)
        send(link, payload)

    monkeypatch.setattr(Link, "send", noted)
    host.after_frames(count, host.kill)
    connection.send(*((b"SET", b"key:%d" % number, b"value") for number in range(100)))
    world.run(world.now + 1.0)
    assert host.node is None
    assert len(sent) == count
    host.start()
    world.run(world.now + 5.0)
    assert len(sent) > count


def test_strikes_kill_stop_and_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them comes by in a seed of nothing else; and no more than one member is away at a time."""
    monkeypatch.setattr(Scenario, "_fault", lambda _self: None)
    scenario = Scenario(2, 40.0, 256, crowded=True)
    scenario.quiet = False
    result = scenario.run()
    assert result.problems == []
    for word in ("is killed", "stand still", "is cut off"):
        assert any(word in fault for fault in result.faults), result.faults


def test_what_is_left_of_a_transaction_is_no_health() -> None:
    """A key that is held would keep others waiting, a record would be kept for ever."""
    scenario = Scenario(2, 1.0, 256, crowded=True)
    assert scenario.run().problems == []
    node = scenario.world.hosts["db1"].node
    assert node is not None
    cells = node.view.copies.cells[7]
    for key, value in ((b"key", Held(b"value", 0, 1, 7, ())), (record_key(node.process, 7), b"A")):
        dict.__setitem__(cells, key, (1, value, HELD))
        assert [repr(key) in problem for problem in scenario._left_of_transactions()] == [True]
        dict.__delitem__(cells, key)
    assert scenario._left_of_transactions() == []
