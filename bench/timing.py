"""Interleaved timing, and the numbers drawn from it.
Every case in bench/cases stands on it.
It stands on the standard library alone."""

import contextlib
import gc
import math
import os
import statistics
import time
from dataclasses import dataclass, field

OURS = "csoftmax"


@dataclass
class Settings:
    """What the command line asked for, as the cases see it."""

    quick: bool = False
    rounds: int = 7
    seconds: float = 0.05  # a contestant runs at least this long in every round
    data: str | None = None
    cpus: tuple[int, ...] = ()  # those the process had before run.py kept it to one


@dataclass
class Row:
    """One line of a case's table."""

    label: str
    times: dict[str, list[float]] = field(default_factory=dict)  # seconds per call, one entry a round
    values: dict[str, float] = field(default_factory=dict)  # the case's other number (its VALUES says which)
    more: dict[str, dict[str, float]] = field(default_factory=dict)  # {title of a further table: its values}
    cells: dict[str, str] = field(default_factory=dict)  # {column: text} of a table that the case words itself
    runs: dict[str, list[list[float]]] = field(default_factory=dict)  # {contestant: [tolerance, seconds, gap] of each}
    outside_means: list[str] = field(default_factory=list)  # peers whose ratio is shown, marked, and not averaged
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # broken checks: run.py exits nonzero

    def median_seconds(self, name):
        return statistics.median(self.times[name])

    def ratios(self, peer):
        """peer / csoftmax, one ratio a round: drift of the machine's speed cancels within a round."""
        return [theirs / ours for theirs, ours in zip(self.times[peer], self.times[OURS], strict=True)]

    def peers(self):
        return [name for name in self.times if name != OURS] if OURS in self.times else []


def _seconds_for(function, loops):
    start = time.perf_counter()
    for _ in range(loops):
        function()
    return time.perf_counter() - start


def _loops_for(function, seconds):
    loops = 1
    while True:
        elapsed = _seconds_for(function, loops)
        if elapsed >= seconds:
            return loops
        # 1.2: aim a little high, or the next try falls short as well
        loops = max(loops + 1, min(10 * loops, math.ceil(1.2 * loops * seconds / max(elapsed, 1e-9))))


def interleave(functions, settings, inside=None):
    """Time {name: function} in rounds A B C, C B A, A B C ...; {name: [seconds per call in each round]}.

    inside: {name: what makes a context}; whenever such a function takes its turn it runs in one, entered untimed.
    """
    inside = dict.fromkeys(functions, contextlib.nullcontext) | (inside or {})
    loops = {}
    for name, function in functions.items():
        with inside[name]():
            loops[name] = _loops_for(function, settings.seconds)
    times = {name: [] for name in functions}
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for i in range(settings.rounds):
            for name in list(functions) if i % 2 == 0 else reversed(list(functions)):
                with inside[name]():
                    times[name].append(_seconds_for(functions[name], loops[name]) / loops[name])
            gc.collect()
    finally:
        if was_enabled:
            gc.enable()
    return times


@contextlib.contextmanager
def on(cpus):
    """Let this thread, and those that it starts, run on these CPUs."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def shape_label(n, d, n_classes):
    return f"{n:_}, {d:_}, {n_classes:_}".replace("_", " ")


def shape_of(label):
    """(n, d, C) of a label that shape_label made."""
    return tuple(int(number.replace(" ", "")) for number in label.split(","))


def geometric_means(rows):
    """{peer: geometric mean over the rows of its median ratio}, rows that left the peer out excepted."""
    logs = {}
    for row in rows:
        for peer in row.peers():
            if peer not in row.outside_means:
                logs.setdefault(peer, []).append(math.log(statistics.median(row.ratios(peer))))
    return {peer: (math.exp(statistics.fmean(values)), len(values)) for peer, values in logs.items()}
