"""Fixed blocks of rows, worked on by a pool of threads, results taken in the order of the blocks.

`samples`, `special` and whatever works on blocks of rows stand on it. It stands on threading, multiprocessing and
`_handoff`.
The blocks depend on the shapes alone, never on the number of threads, and results are handed back in block order:
so every sum is bit-identical for every `n_threads`. Kernels hold no GIL and no BLAS runs inside.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import operator
import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

from csoftmax._handoff import Counter

T = TypeVar("T")

# One block of X: 128 K doubles, at least 0.1 ms of work, against 6 us for a call; up to 512 K (4 MB)
# where there are more than 64 blocks, for two threads wait for the interpreter between theirs. Blocks begin at a
# multiple of 16 rows: a kernel reads such blocks in place.
BLOCK_ELEMENTS = 1 << 17
MAX_BLOCK_ELEMENTS = 1 << 19
MIN_BLOCK_ROWS = 256

# how long a thread without work looks out for some before it sleeps: iterations of a fit are less far apart
WATCH_SECONDS = 1e-4

_pools: dict[tuple[int, int], _Pool] = {}


def default_n_threads() -> int:
    """Return CSOFTMAX_NUM_THREADS, else OMP_NUM_THREADS, else 1 in a process of a pool, else `usable_cpus`.

    A pool has one process for each CPU as a rule, and a process does not learn how many there are: any that
    multiprocessing started counts as one of a pool. joblib tells its loky workers their share by OMP_NUM_THREADS.
    """
    for name in ("CSOFTMAX_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name)  # looked up each time, 0.5 us: a program may change it
        if text and (text := text.split(",")[0].strip()):
            try:
                count = int(text)
            except ValueError:
                count = 0
            if count < 1:
                raise ValueError(f"the environment variable {name} is {text!r}; it must be a whole number from 1")
            return count
    if multiprocessing.parent_process() is not None:
        return 1
    return usable_cpus(os.getpid())


@functools.cache  # 60 us, where a call may take 10; a forked child has another pid and counts anew
def usable_cpus(pid: int) -> int:
    """Return the number of CPUs that this process, `pid`, may use: by its affinity and the quota of its cgroups."""
    cpus: int | None
    if hasattr(os, "process_cpu_count"):  # since Python 3.13; it knows PYTHON_CPU_COUNT too
        cpus = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count()
    return _within_quota(cpus or 1)


def _within_quota(cpus: int, root: str = "") -> int:
    """Return `cpus`, or the CPU time that Linux grants to this process in units of one CPU, rounded up, where less.

    A quota of a group binds all groups below: the smallest on the way up counts. A container may see its own group as
    the topmost one, under the path that the host knows it by: folders that are not there are passed over.
    """
    for line in _text(f"{root}/proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")  # 0::/group or 4:cpu,cpuacct:/group
        if not controllers:
            top, names = "", ["cpu.max"]  # version 2: "200000 100000" or "max 100000"
        elif "cpu" in controllers.split(","):
            top, names = "/cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]  # version 1: -1 is no quota
        else:
            continue
        for group in itertools.accumulate(path.split("/"), "{}/{}".format):  # "", then /a, then /a/b
            folder = f"{root}/sys/fs/cgroup{top}{group}"
            try:
                quota, period = map(int, " ".join(_text(f"{folder}/{name}") for name in names).split())
            except ValueError:  # no such file, no quota ("max"), no numbers, or no path
                continue
            if quota > 0 and period > 0:
                cpus = min(cpus, -(-quota // period))
    return cpus


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read())
    except OSError:  # not there, or not readable
        return ""


def check_n_threads(n_threads: int | None) -> int | None:
    """Return a checked `n_threads`; None stands for `default_n_threads` when there is work, as in a forked worker."""
    if n_threads is None:
        return None
    try:
        count = 0 if isinstance(n_threads, bool) else operator.index(n_threads)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"n_threads is {n_threads!r}; it must be None or a whole number from 1")
    return count


def row_blocks(n_rows: int, row_elements: int) -> list[tuple[int, int]]:
    """Split `n_rows` rows of `row_elements` numbers into blocks [start, stop) of nearly one size: 1, 2 or 4 k of them.

    Of seven blocks two threads gain at most 7/4, of eight twice the speed.
    """
    if n_rows <= MIN_BLOCK_ROWS or n_rows * max(1, row_elements) <= BLOCK_ELEMENTS:  # 0.7 us less
        return [(0, n_rows)]
    elements = min(max(n_rows * row_elements // 64, BLOCK_ELEMENTS), MAX_BLOCK_ELEMENTS)
    count = -(-n_rows // max(MIN_BLOCK_ROWS, elements // max(1, row_elements)))
    if count > 2:
        count = -(-count // 4) * 4
    units = -(-n_rows // 16)
    stops = [min(16 * (units * i // count), n_rows) for i in range(1, count + 1)]
    return list(zip([0, *stops], stops, strict=False))


def map_blocks(function: Callable[[int, int], T], blocks: list[tuple[int, int]], n_threads: int | None,
               result_bytes: int = 0) -> Iterator[T]:
    """Yield function(start, stop) for each block, in order.

    The caller's thread and n_threads - 1 of the pool take the blocks one after another, each the next that nobody has:
    6 us a block, where a task of the pool for each took 30 us and left two threads at 1.3 times the speed of one. At
    most 16 MB of results, or 2 n_threads of them, wait.
    """
    if len(blocks) > 1 and n_threads is None:
        n_threads = default_n_threads()
    if len(blocks) == 1 or n_threads == 1 or n_threads is None:
        for start, stop in blocks:
            yield function(start, stop)
        return
    window = max(2 * n_threads, min(1024, (1 << 24) // max(1, result_bytes)))
    for first in range(0, len(blocks), window):
        yield from _work_together(function, blocks[first:first + window], n_threads)


def _work_together(function: Callable[[int, int], T], blocks: list[tuple[int, int]], n_threads: int) -> list[T]:
    results: list[Any] = [None] * len(blocks)
    waiting = iter(range(len(blocks)))  # next() on it is one step under the GIL
    stopped = False
    begun: list[None] = []
    ended: list[BaseException | None] = []
    n_ended = Counter()
    end: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        for i in waiting:
            if stopped:
                break
            results[i] = function(*blocks[i])

    def help_to_work() -> Counter:
        nonlocal stopped
        error = None
        begun.append(None)  # before it takes a block: one that begins later finds none, or `stopped`
        try:
            work()
        except BaseException as raised:
            stopped = True
            error = raised
        ended.append(error)
        end.put(None)
        return n_ended

    def wait_for_helpers() -> None:
        # for those that have begun, which may be in a kernel; nobody waits for the others
        if len(ended) < len(begun):
            n_ended.wait(len(begun), WATCH_SECONDS)
        while len(ended) < len(begun):
            end.get()

    try:
        with contextlib.suppress(RuntimeError):  # the interpreter is shutting down: the caller's thread does it all
            pool = _pool(n_threads)
            for _ in range(min(n_threads, len(blocks)) - 1):
                pool.submit(help_to_work)
        work()
        wait_for_helpers()
    except BaseException:  # Ctrl-C may come anywhere
        stopped = True
        wait_for_helpers()
        raise
    for error in ended:
        if error is not None:
            raise error
    return results


class _Pool:
    """n_threads - 1 threads that take tasks from one queue and never end.

    A task raises nothing, and returns the counter to which 1 is to be added when it has ended. After one a thread
    watches for the next, as its caller does for its end: 58 000 x 9 x 7 took 1.03 ms on one thread, 0.63 on two that
    slept, as those of a ThreadPoolExecutor do, and 0.57 on two that watch.
    """

    def __init__(self, n_threads: int) -> None:
        self._tasks: SimpleQueue[Callable[[], Counter]] = SimpleQueue()
        self._put, self._taken = Counter(), Counter()
        self._unborn = iter(range(1, n_threads))

    def submit(self, task: Callable[[], Counter]) -> None:
        """Have a thread call `task` when one is free."""
        self._tasks.put(task)
        self._put.add()
        for i in self._unborn:
            # a daemon: it must not keep the interpreter from ending, nor does it hold anything between tasks
            threading.Thread(target=self._serve, name=f"csoftmax-{i}", daemon=True).start()
            break

    def _serve(self) -> None:
        while True:
            task = self._tasks.get()
            self._taken.add()
            ended = task()
            del task  # it holds the arrays of its call
            ended.add_then_wait(self._put, self._taken.value + 1, WATCH_SECONDS)


def _pool(n_threads: int) -> _Pool:
    # A pool belongs to the process that made it: after a fork its threads are gone, so the child makes its own.
    key = (os.getpid(), n_threads)
    if key not in _pools:
        # two callers may come here at once: both get the pool of the first
        _pools.setdefault(key, _Pool(n_threads))
    return _pools[key]
