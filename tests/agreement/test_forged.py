"""What only one of the owners may say is not taken from another."""

from peerkv.store.cell import first_position, make_ballot
from tests.agreement.by_hand import SLOT, Owners
from tests.agreement.test_rules import written


def test_a_ballot_that_is_not_the_homes_own_is_not_followed() -> None:
    """By one forged position a slot would be without a home."""
    owners = Owners()
    written(owners, b"a")
    _, second, third = owners.members
    promised = second.slot.promised
    forged = make_ballot(9, 77)
    second.replica.probe(second.peer(third), [SLOT, first_position(forged), True])
    second.replica.compare(second.peer(third), [SLOT, forged, 0, 0, 1])
    assert second.slot.promised == promised
    own = make_ballot(9, third.view.me.number)
    second.replica.probe(second.peer(third), [SLOT, first_position(own), True])
    assert second.slot.promised == own


def test_only_the_home_says_that_tombstones_can_go() -> None:
    owners = Owners()
    first, second, third = owners.members
    written(owners, b"a")
    second.slot.apply(second.slot.position + 1, ((b"dead", None, 0),))
    for sender, left in ((third, 1), (first, 0)):
        second.replica.purge(second.peer(sender), [SLOT, second.slot.promised, second.slot.position])
        assert len(second.slot.tombstones) == left


def test_only_an_owner_deposes_a_home() -> None:
    owners = Owners(4, 3)
    written(owners, b"a")
    home, second, _, stranger = owners.members
    higher = make_ballot(9, second.view.me.number)
    home.home.refuse(home.peer(stranger), SLOT, higher)
    assert SLOT in home.home.homes
    home.home.refuse(home.peer(second), SLOT, higher)
    assert SLOT not in home.home.homes
