"""What `status` prints."""

from __future__ import annotations

from typing import Any

import pytest

from peerkv.faces.status import is_whole, show


def status(**other: Any) -> dict[str, Any]:
    """Of a cluster of one node."""
    member = {
        "name": "db1",
        "me": True,
        "role": "data",
        "client": "127.0.0.1:7001",
        "liveness": "alive",
        "leaving": False,
    }
    return {
        "cluster": "peerkv",
        "node": "db1",
        "epoch": 1,
        "epoch_name": "1",
        "succeeds": None,
        "data_lost_at": 0,
        "waits_for": "",
        "loss": None,
        "slots": 16,
        "slots_with_all_copies": 16,
        "slots_without_quorum": 0,
        "replicas": 3,
        "changing": False,
        "joining": [],
        "change": {"slots": 0, "slots_to_go": 0, "copies_to_go": 0, "bytes": 0, "bytes_per_second": 0},
        "members": [
            {
                **member,
                "leaving": False,
                "owner": True,
                "copies": 16,
                "homes": 16,
                "zone": "",
                **other.pop("member", {}),
            }
        ],
        **other,
    }


def test_names_of_members_do_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A name is what a node says; and one in brackets is no markup."""
    evil = "\x1b[31m"
    found = status(joining=[evil], cluster=evil, member={"name": evil, "client": f"{evil}:1", "zone": evil})
    show(found)
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert shown.count(r"\x1b[31m") >= 4


@pytest.mark.parametrize(
    ("found", "whole"),
    [
        (status(), True),
        (status(slots_with_all_copies=15), False),
        (status(changing=True), False),
        (status(joining=["db2"]), False),
        (status(slots=0, slots_with_all_copies=0), False),
    ],
)
def test_whole_is_what_has_all_and_awaits_nobody(found: dict[str, Any], whole: bool) -> None:
    assert is_whole(found) is whole


def test_a_member_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """It was wrapped at 80 columns, and grep found half of it."""
    show(status(member={"name": "n" * 64, "zone": "z" * 64}))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "n" * 64 in line]
    assert "z" * 64 in line
