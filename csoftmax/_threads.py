"""Fixed blocks of rows, worked on by a pool of threads, results taken in the order of the blocks.

`samples` and `special` stand on it. It stands on concurrent.futures.
The blocks depend on the shapes alone, never on the number of threads, and results are handed back in block order:
so every sum is bit-identical for every `n_threads`. Kernels hold no GIL and no BLAS runs inside.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# One block's worth of elements of X: 128 K doubles, at least 0.1 ms of work, against 6 us for a call and 10 us for a
# task of the pool; in rows a multiple of 8, for a kernel reads such blocks in place.
BLOCK_ELEMENTS = 1 << 17
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
    size = max(MIN_BLOCK_ROWS, BLOCK_ELEMENTS // max(1, row_elements) // 8 * 8)
    return [(start, min(start + size, n_rows)) for start in range(0, max(n_rows, 1), size)]


def map_blocks(function: Callable[[int, int], T], blocks: list[tuple[int, int]], n_threads: int) -> Iterator[T]:
    """Yield function(start, stop) for each block, in order; at most 2 n_threads results wait at any time."""
    if n_threads == 1 or len(blocks) == 1:
        for start, stop in blocks:
            yield function(start, stop)
        return
    pool = _pool(n_threads)
    waiting: deque[Future[T]] = deque()
    try:
        for start, stop in blocks:
            waiting.append(pool.submit(function, start, stop))
            if len(waiting) >= 2 * n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _pool(n_threads: int) -> ThreadPoolExecutor:
    # A pool belongs to the process that made it: after a fork its threads are gone, so the child makes its own.
    key = (os.getpid(), n_threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(n_threads, thread_name_prefix="csoftmax")
    return _pools[key]
