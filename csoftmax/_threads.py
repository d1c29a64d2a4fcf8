"""Fixed blocks of rows, worked on by a pool of threads, results taken in the order of the blocks.

`samples` and `special` stand on it. It stands on concurrent.futures.
The blocks depend on the shapes alone, never on the number of threads, and results are handed back in block order:
so every sum is bit-identical for every `n_threads`. Kernels hold no GIL and no BLAS runs inside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")

# One block of X: 128 K doubles, at least 0.1 ms of work, against 6 us for a call; up to 512 K (4 MB)
# where there are more than 64 blocks, for two threads wait for the interpreter between theirs. In rows a multiple of 8:
# a kernel reads such blocks in place.
BLOCK_ELEMENTS = 1 << 17
MAX_BLOCK_ELEMENTS = 1 << 19
MIN_BLOCK_ROWS = 256

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def default_n_threads() -> int:
    """Return CSOFTMAX_NUM_THREADS, else OMP_NUM_THREADS, else the number of CPUs this process may run on."""
    for name in ("CSOFTMAX_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text:
            try:
                count = int(text)
            except ValueError:
                count = 0
            if count < 1:
                raise ValueError(f"the environment variable {name} is {text!r}; it must be a whole number from 1")
            return count
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_n_threads(n_threads: int | None) -> int:
    """Return the number of threads that `n_threads` asks for; None asks for `default_n_threads`."""
    if n_threads is None:
        return default_n_threads()
    if isinstance(n_threads, bool) or not hasattr(n_threads, "__index__") or int(n_threads) < 1:
        raise ValueError(f"n_threads is {n_threads!r}; it must be None or a whole number from 1")
    return int(n_threads)


def row_blocks(n_rows: int, row_elements: int) -> list[tuple[int, int]]:
    """Split `n_rows` rows of `row_elements` numbers into blocks [start, stop)."""
    elements = min(max(n_rows * row_elements // 64, BLOCK_ELEMENTS), MAX_BLOCK_ELEMENTS)
    size = max(MIN_BLOCK_ROWS, elements // max(1, row_elements) // 8 * 8)
    return [(start, min(start + size, n_rows)) for start in range(0, max(n_rows, 1), size)]


def map_blocks(function: Callable[[int, int], T], blocks: list[tuple[int, int]], n_threads: int,
               result_bytes: int = 0) -> Iterator[T]:
    """Yield function(start, stop) for each block, in order.

    The caller's thread and n_threads - 1 of the pool take the blocks one after another, each the next that nobody has:
    6 us a block, where a task of the pool for each took 30 us and left two threads at 1.3 times the speed of one. At
    most 16 MB of results, or 2 n_threads of them, wait.
    """
    if n_threads == 1 or len(blocks) == 1:
        for start, stop in blocks:
            yield function(start, stop)
        return
    window = max(2 * n_threads, min(1024, (1 << 24) // max(1, result_bytes)))
    for first in range(0, len(blocks), window):
        yield from _work_together(function, blocks[first:first + window], n_threads)


def _work_together(function: Callable[[int, int], T], blocks: list[tuple[int, int]], n_threads: int) -> list[T]:
    results: list[Any] = [None] * len(blocks)
    waiting = iter(range(len(blocks)))  # next() on it is one step under the GIL
    failed = False

    def work() -> None:
        nonlocal failed
        try:
            for i in waiting:
                if failed:
                    break
                results[i] = function(*blocks[i])
        except BaseException:
            failed = True
            raise

    helpers: list[Future[None]] = []
    try:
        for _ in range(min(n_threads, len(blocks)) - 1):
            helpers.append(_pool(n_threads).submit(work))
    except RuntimeError:  # the interpreter is shutting down: the caller's thread does it all
        pass
    try:
        work()
    finally:
        for helper in helpers:
            if not helper.cancel():
                wait([helper])
    for helper in helpers:
        if not helper.cancelled():
            helper.result()
    return results


def _pool(n_threads: int) -> ThreadPoolExecutor:
    # A pool belongs to the process that made it: after a fork its threads are gone, so the child makes its own.
    key = (os.getpid(), n_threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(n_threads, thread_name_prefix="csoftmax")
    return _pools[key]
