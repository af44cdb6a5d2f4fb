"""What befalls the node that a client has just had begin a transaction: it is killed, stopped or cut off after so many
frames, so that seeds come by every step of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.sim.scenario import Scenario
    from tests.sim.world import Host

EVERY_S: Final = 1.5
"""About so much time is between one and the next."""
FRAMES_MAX: Final = 16
"""A transaction over three slots takes some four to each of two or three others, and there is other traffic."""


class Strikes:
    """Of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._next_at = 0.0

    def begins(self, host: Host) -> None:
        """A node is about to be asked for a transaction."""
        scenario, world = self.scenario, self.scenario.world
        if scenario.quiet or scenario.bursting or scenario.over or world.now < self._next_at:
            return
        rng = world.rng
        self._next_at = world.now + rng.expovariate(1 / EVERY_S)
        strike: Callable[[Host], str] = rng.choice((self._kill, self._kill, self._stop, self._cut_off))
        frames = rng.randint(1, FRAMES_MAX)
        world.after(world.latency, host.after_frames, frames, partial(self._strike, host, strike, frames))

    def _strike(self, host: Host, strike: Callable[[Host], str], frames: int) -> None:
        text = strike(host) if not self.scenario.over else ""
        if text:
            text = f"{text} {frames} frames into a transaction"
            self.scenario.world.trace(f"FAULT {text}")
            self.scenario.result.faults.append(text)

    def _kill(self, host: Host) -> str:
        node, rng, world = host.node, self.scenario.world.rng, self.scenario.world
        assert node is not None, "it has sent something just now"
        topology = self.scenario.expendable()
        if topology is None or node.process not in {member.process for member in topology.members}:
            return ""
        host.kill()
        if rng.random() < 0.8:
            world.after(rng.choice((0.05, 0.5, 3.0)), lambda: host.start() if host.node is None else None)
        return f"{host.settings.name} is killed"

    def _stop(self, host: Host) -> str:
        return self.scenario.stop_for(self.scenario.world.rng.choice((0.1, 0.5, 2.0, 6.0)), [host.settings.name])

    def _cut_off(self, host: Host) -> str:
        return self.scenario.isolate(host.settings.name)
