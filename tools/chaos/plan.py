"""Owns the schedule: which fault, when, on whom, as a pure function of its arguments.

The same arguments give the same schedule, on any machine. When a process reaches which line of its code under it is up to the machine, so
a run can be played again, not repeated to the microsecond.
"""

import random
from dataclasses import dataclass

# How often each fault comes, by what has to be there for it. Kills of workers are counted apart.
KILLS = {"kill": 22, "kill-transaction": 16, "kill-rebalance": 12, "kill-drain": 8, "kill-start": 10}
FAULTS = {
    "worker": {**KILLS, "drain": 6, "pause": 3, "zombie": 4, "transaction-timeout": 3},
    "static": {"zombie-rebalance": 8},
    "broker": {"broker-kill": 2},
    "cluster": {"leader-kill": 4, "coordinator-kill": 4},
    "network": {"delay": 2, "reset": 3, "partition": 2, "lost-answers": 3, "slow-sink": 2},
    "acl": {"read-only": 2},
    "clock": {"clock-jump": 5},
    "disk": {"disk-full": 3},
    "cache": {"cache-cut": 4, "cache-flip": 4},
}
# While one of these lasts, the next of the same family waits: two of three brokers down is no promise of Kafka's.
LASTS = {"zombie-rebalance": 20, "broker-kill": 20, "partition": 10, "delay": 6, "slow-sink": 8, "lost-answers": 8, "leader-kill": 14, "coordinator-kill": 14, "read-only": 8, "disk-full": 12}


@dataclass(frozen=True)
class Event:
    """A fault. `value` in 0..1 says how long or how much, in the fault's own terms."""

    at: float
    kind: str
    slot: int
    value: float

    def __str__(self):
        return f"{self.at:8.2f} {self.kind} {self.slot} {self.value:.3f}"


def schedule(seed, families, workers, seconds, kills, pace):
    """Events until `seconds` have passed and `kills` kills are among them, about every `pace` seconds."""
    rng = random.Random(f"{seed}/{','.join(sorted(families))}/{workers}/{pace}")
    weights = {kind: weight for family in sorted(families) for kind, weight in FAULTS[family].items()}
    at, killed, events, busy_until = 2.0, 0, [], {}
    while at < seconds or killed < kills:
        kind = rng.choices(list(weights), list(weights.values()))[0]
        slot, value = rng.randrange(workers), rng.random()
        family = "brokers" if kind.endswith("-kill") else kind
        if kind in LASTS:
            if busy_until.get(family, 0) > at:
                continue
            busy_until[family] = at + LASTS[kind]
        events.append(Event(round(at, 2), kind, slot, round(value, 3)))
        killed += kind in KILLS
        at += rng.uniform(0.2, 2 * pace - 0.2)
    return events
