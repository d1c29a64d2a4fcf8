"""Row blocks and threads: fixed blocks, results in order, the same bits whatever the number, in any process.

Nothing stands on this file. It stands on csoftmax._threads and on the functions that use it.
"""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import _threads, samples
from csoftmax._handoff import Counter
from csoftmax._threads import check_n_threads, default_n_threads, map_blocks, row_blocks

# ---------------------------------------------------------------------------------------------------------------------
# Counters


def test_waiting_for_a_counter_ends_when_another_thread_adds_to_it():
    first, second = Counter(), Counter()

    def answer():
        first.wait(2, 60)
        second.add_then_wait(first, 2, 60)

    thread = threading.Thread(target=answer)
    begin = time.perf_counter()
    thread.start()
    first.add()
    first.add()
    second.wait(1, 60)
    thread.join()
    assert (first.value, second.value) == (2, 1)
    assert time.perf_counter() - begin < 30  # either wait would last a minute


def test_waiting_for_a_counter_ends_with_the_time_allowed():
    counter = Counter()
    counter.wait(1, 0.01)
    counter.add_then_wait(Counter(), 1, 0.01)
    assert counter.value == 1


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


@pytest.mark.parametrize("row_elements", [0, 1, 7, 256, 1000, 10**6])
@pytest.mark.parametrize("n_rows", [0, 1, 255, 256, 257, 65_536, 65_537, 1_000_003])
def test_row_blocks_cover_every_row_once_in_order(n_rows, row_elements):
    blocks = row_blocks(n_rows, row_elements)
    assert blocks[0][0] == 0
    assert blocks[-1][1] == n_rows
    assert all(previous[1] == following[0] for previous, following in itertools.pairwise(blocks))
    sizes = [stop - start for start, stop in blocks]
    assert max(sizes) - min(sizes) <= 31  # of nearly one size: whole groups of 16 rows, but for the last row's
    assert all(start % 16 == 0 for start, _ in blocks)  # where a kernel can begin to read in place
    # threads end together: 2, 4 or 8 of them have as many blocks each
    assert len(blocks) in (1, 2) or len(blocks) % 4 == 0
    # a block has at most some 128 K numbers, or 256 rows where those are long; up to four times as many where there
    # would be more than 64 blocks; and at least a third of that
    elements = min(max(n_rows * row_elements // 64, 131_072), 524_288)
    most = max(256, elements // max(1, row_elements))
    assert sizes[0] <= most + 16
    assert len(blocks) == 1 or sizes[0] >= most // 3


def test_row_blocks_depend_on_shapes_alone(monkeypatch):
    before = row_blocks(100_000, 30)
    monkeypatch.setenv("CSOFTMAX_NUM_THREADS", "7")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert row_blocks(100_000, 30) == before


BLOCKS = [(10 * i, 10 * i + 10) for i in range(12)]


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
def test_map_blocks_hands_back_each_result_in_order(n_threads):
    assert list(map_blocks(lambda start, stop: (start, stop), BLOCKS, n_threads)) == BLOCKS
    assert list(map_blocks(lambda start, stop: (start, stop), BLOCKS[:1], n_threads)) == BLOCKS[:1]


def test_map_blocks_keeps_the_order_though_the_first_block_ends_last():
    second_ended = threading.Event()

    def work(start, stop):
        if start == 0:
            assert second_ended.wait(30)  # only possible where the second runs beside the first
        else:
            second_ended.set()
        return start

    assert list(map_blocks(work, BLOCKS, 2)) == [start for start, _ in BLOCKS]


def test_at_most_two_results_a_thread_wait_where_they_are_large():
    started = []
    results = map_blocks(lambda start, stop: started.append(start), [(i, i + 1) for i in range(100)], 2, 1 << 30)
    next(results)
    assert len(started) <= 4  # the rest is not begun before these are taken
    assert sum(1 for _ in results) == 99
    assert sorted(started) == list(range(100))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_exception_in_a_block_propagates_and_the_next_call_works(n_threads):
    begun = []

    def work(start, stop):
        begun.append(start)
        if start == 30:
            raise RuntimeError("block 3")
        return start

    with pytest.raises(RuntimeError, match="block 3"):
        list(map_blocks(work, [(10 * i, 10 * i + 10) for i in range(1000)], n_threads))
    assert len(begun) <= 4 + 2 * n_threads  # no more are handed out
    assert list(map_blocks(lambda start, stop: start, BLOCKS, n_threads)) == [start for start, _ in BLOCKS]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_bad_code_in_a_later_block_is_found_with_its_row(n_threads):
    codes = np.zeros(200_000, dtype=np.int64)
    codes[170_001] = 9
    with pytest.raises(ValueError, match=r"y has the code 9 at row 170001; codes run from 0 to 1"):
        cs.log_likelihood(np.zeros((200_000, 1)), codes, np.zeros((2, 1)), n_threads=n_threads)


def test_after_an_exception_blocks_that_were_not_begun_are_not():
    released, begun = threading.Event(), []

    def work(start, stop):
        begun.append(start)
        if start == 0:
            raise RuntimeError("block 0")
        assert released.wait(30)

    with pytest.raises(RuntimeError, match="block 0"):
        # blocks 1 and 2 keep both threads; block 3 waits behind them when block 0's exception arrives
        list(map_blocks(work, [(i, i + 1) for i in range(4)], 2))
    released.set()
    # the pool takes tasks in turn: after these, block 3 would have been begun
    assert list(map_blocks(lambda start, stop: start, BLOCKS, 2)) == [start for start, _ in BLOCKS]
    assert 3 not in begun


def test_an_exception_in_a_thread_of_the_pool_reaches_the_caller():
    caller, raised = threading.current_thread(), threading.Event()

    def work(start, stop):
        if threading.current_thread() is caller:
            assert raised.wait(30)
        else:
            raised.set()
            raise RuntimeError("not the caller's thread")

    with pytest.raises(RuntimeError, match="not the caller's thread"):
        list(map_blocks(work, BLOCKS, 2))


def test_after_an_exception_no_thread_works_any_more():
    caller, at_work, ended = threading.current_thread(), threading.Event(), []

    def work(start, stop):
        if threading.current_thread() is caller:
            assert at_work.wait(30)
            raise RuntimeError("the caller's thread")
        at_work.set()
        time.sleep(0.05)
        ended.append(start)

    with pytest.raises(RuntimeError, match="the caller's thread"):
        list(map_blocks(work, BLOCKS, 2))
    assert len(ended) == 1  # what the caller may free or change now, no kernel is still reading


def test_callers_that_come_at_once_share_one_pool(monkeypatch):
    class Slow(_threads._Pool):
        def __init__(self, n_threads):
            time.sleep(0.05)  # the others come meanwhile
            super().__init__(n_threads)

    monkeypatch.setattr(_threads, "_pools", {})
    monkeypatch.setattr(_threads, "_Pool", Slow)
    with ThreadPoolExecutor(4) as callers:
        pools = set(callers.map(_threads._pool, [2] * 4))
    assert pools == set(_threads._pools.values())
    assert len(pools) == 1


def test_a_pool_never_has_more_threads_than_the_callers_ask_for():
    def named():
        return {thread.name for thread in threading.enumerate() if thread in alive_since}

    before = set(threading.enumerate())
    for _ in range(20):
        list(map_blocks(lambda start, stop: time.sleep(1e-4), BLOCKS, 6))
    alive_since = set(threading.enumerate()) - before
    assert named() <= {f"csoftmax-{i}" for i in range(1, 6)}
    assert len(alive_since) <= 5


def test_nobody_waits_for_a_helper_that_has_not_begun(monkeypatch):
    tasks = []

    class Busy:  # a pool whose threads all have other work
        submit = staticmethod(tasks.append)

    monkeypatch.setattr(_threads, "_pool", lambda n_threads: Busy())
    assert list(map_blocks(lambda start, stop: start, BLOCKS, 2)) == [start for start, _ in BLOCKS]
    begun = []
    assert list(map_blocks(lambda start, stop: begun.append(start), BLOCKS, 2)) == [None] * len(BLOCKS)
    for task in tasks:  # later they find nothing left to do
        task()
    assert len(tasks) == 2
    assert len(begun) == len(BLOCKS)


def test_ctrl_c_while_the_caller_waits_for_a_helper_stops_it_and_waits_on(ctrl_c):
    caller, begun, at_work = threading.current_thread(), [], threading.Event()

    def work(start, stop):
        begun.append(start)
        if threading.current_thread() is not caller:
            at_work.set()
            time.sleep(0.05)
            ctrl_c()  # the caller has done the other block and waits
            time.sleep(0.05)
            begun.append("ended")
        else:
            assert at_work.wait(30)

    with pytest.raises(KeyboardInterrupt):
        list(map_blocks(work, BLOCKS[:2], 2))
    assert sorted(map(str, begun)) == ["0", "10", "ended"]


def test_a_program_ends_with_threads_of_the_pool_alive_and_while_one_of_its_own_computes():
    script = """if True:
        import threading, time
        import numpy as np
        import csoftmax as cs
        arguments = np.ones((200_000, 8)), np.zeros(200_000, np.int64), np.ones((20, 8))
        def go_on():
            while True:
                cs.log_likelihood(*arguments, n_threads=2)
        threading.Thread(target=go_on, daemon=True).start()
        time.sleep(0.1)
        """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_callers_at_once_each_get_their_own_results_and_their_own_exception():
    def work(caller, start):
        if caller % 2 and start == 60:
            raise RuntimeError(f"caller {caller}")
        return caller, start

    with ThreadPoolExecutor(6) as callers:
        maps = [callers.submit(lambda c=c: list(map_blocks(lambda start, stop: work(c, start), BLOCKS, 2)))
                for c in range(60)]
    for caller, done in enumerate(maps):
        if caller % 2:
            with pytest.raises(RuntimeError, match=f"caller {caller}$"):
                done.result()
        else:
            assert done.result() == [(caller, start) for start, _ in BLOCKS]


# ---------------------------------------------------------------------------------------------------------------------
# Ctrl-C


@pytest.fixture
def ctrl_c():
    """What Ctrl-C does: SIGINT to this process, heeded even where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_ends_a_long_map_soon_and_the_next_call_works(ctrl_c, n_threads):
    begun = []

    def work(start, stop):
        begun.append(start)
        if start == 30:
            ctrl_c()
        time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        list(map_blocks(work, [(i, i + 1) for i in range(2000)], n_threads))
    ended = len(begun)
    assert ended < 500  # both threads stop, where one that went on would have worked through all
    time.sleep(0.02)
    assert len(begun) == ended
    assert list(map_blocks(lambda start, stop: start, BLOCKS, n_threads)) == [start for start, _ in BLOCKS]


def test_ctrl_c_while_helpers_are_called_stops_those_at_work(monkeypatch):
    begun, at_work = [], threading.Event()
    pool = _threads._pool(3)

    def work(start, stop):
        begun.append(start)
        at_work.set()
        time.sleep(0.001)

    class Interrupted:
        def submit(self, task):
            if at_work.is_set():
                raise KeyboardInterrupt
            pool.submit(task)
            assert at_work.wait(30)

    monkeypatch.setattr(_threads, "_pool", lambda n_threads: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        list(map_blocks(work, [(i, i + 1) for i in range(1000)], 3))
    assert len(begun) < 500
    ended = len(begun)  # the helper is done with what it had begun
    time.sleep(0.02)
    assert len(begun) == ended


def test_ctrl_c_ends_a_fit_at_once_and_leaves_the_parameters_reached():
    script = """if True:
        import signal
        import numpy as np
        import csoftmax as cs
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rng = np.random.default_rng(0)
        X = rng.standard_normal((100_000, 20))
        y = (20 * X @ rng.standard_normal((20, 8)) + rng.gumbel(size=(100_000, 8))).argmax(axis=1)
        seen = []

        def tell(state):
            seen.append(state.gradient_norm)
            if state.n_iter == 2:
                print("now", flush=True)

        try:
            cs.fit(X, y, n_threads=2, callback=tell)
            print("ended", len(seen))
        except KeyboardInterrupt as error:
            print(error.params.shape, np.isfinite(error.params).all(), error.params.any(), seen[-1] > 1e-8)
        """
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"now\n"
        program.send_signal(signal.SIGINT)
        try:
            printed, _ = program.communicate(timeout=30)
        finally:
            program.kill()
    assert printed == b"(8, 21) True True True\n"


def test_ctrl_c_ends_a_program_amid_kernels_on_threads():
    script = """if True:
        import signal
        import numpy as np
        import csoftmax as cs
        signal.signal(signal.SIGINT, signal.default_int_handler)
        arguments = np.ones((200_000, 8)), np.zeros(200_000, np.int64), np.ones((60, 8))
        print("now", flush=True)
        while True:
            cs.log_likelihood(*arguments, n_threads=2)  # nearly all of the time in kernels
        """
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"now\n"
        time.sleep(0.1)
        program.send_signal(signal.SIGINT)
        try:
            _, said = program.communicate(timeout=30)
        finally:
            program.kill()
    assert program.returncode == -signal.SIGINT
    assert said.rstrip().endswith(b"KeyboardInterrupt")


# ---------------------------------------------------------------------------------------------------------------------
# How many


@pytest.fixture
def uncounted(monkeypatch):
    """No variable set, no quota, and the CPUs not yet counted: a test says what there is."""
    for name in ("CSOFTMAX_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(_threads, "_within_quota", lambda cpus: cpus)
    counted = _threads.usable_cpus
    counted.cache_clear()
    yield monkeypatch
    counted.cache_clear()


def test_the_default_is_the_projects_variable_then_openmps_then_the_cpus_of_this_process(uncounted):
    uncounted.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert default_n_threads() == 3
    uncounted.setenv("OMP_NUM_THREADS", "5,2")  # OpenMP takes a list, one number for each level of nesting
    assert default_n_threads() == 5
    uncounted.setenv("CSOFTMAX_NUM_THREADS", " 2 ")
    assert default_n_threads() == 2
    for nothing in ("", "  ", " ,4"):  # set to nothing is not set
        uncounted.setenv("CSOFTMAX_NUM_THREADS", nothing)
        assert default_n_threads() == 5


@pytest.mark.parametrize("cpus, threads", [(6, 6), (None, 1)])
def test_without_affinity_the_default_is_the_number_of_cpus(uncounted, cpus, threads):
    uncounted.delattr(os, "sched_getaffinity", raising=False)
    uncounted.setattr(os, "cpu_count", lambda: cpus)
    assert default_n_threads() == threads


@pytest.mark.parametrize("cpus, threads", [(5, 5), (None, 1)])
def test_pythons_own_count_comes_first_where_it_has_one(uncounted, cpus, threads):
    uncounted.setattr(os, "process_cpu_count", lambda: cpus, raising=False)
    uncounted.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    assert default_n_threads() == threads


def test_the_default_keeps_within_the_quota_which_is_read_once_in_a_process(uncounted):
    read = []
    uncounted.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    uncounted.setattr(_threads, "_within_quota", lambda cpus: read.append(cpus) or 3)
    assert [default_n_threads() for _ in range(3)] == [3, 3, 3]
    assert read == [8]
    child = os.getpid() + 1
    uncounted.setattr(os, "getpid", lambda: child)  # one that was forked may be bound to other CPUs: counted anew
    uncounted.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert default_n_threads() == 3
    assert read == [8, 4]


# what /proc/self/cgroup says, what files of /sys/fs/cgroup hold, and how many of 8 CPUs that leaves
V2, V1 = "0::/slice/unit\n", "5:memory:/else\n4:cpu,cpuacct:/docker/a:b\n1:name=systemd:/\n0::/\n"
CGROUPS = {
    "v2, 2 CPUs": (2, V2, {"slice/unit/cpu.max": "200000 100000\n"}),
    "v2, another period": (4, V2, {"slice/unit/cpu.max": "200000 50000\n"}),
    "v2, 1.01 CPUs are rounded up": (2, V2, {"slice/unit/cpu.max": "101000 100000\n"}),
    "v2, a tenth of a CPU": (1, V2, {"slice/unit/cpu.max": "10000 100000\n"}),
    "v2, more than there are": (8, V2, {"slice/unit/cpu.max": "900000 100000\n"}),
    "v2, no limit": (8, V2, {"slice/unit/cpu.max": "max 100000\n", "slice/cpu.max": "max 100000\n"}),
    "v2, the parent's is smaller": (3, V2, {"slice/unit/cpu.max": "700000 100000\n", "slice/cpu.max": "300000 100000"}),
    "v2, its own is smaller": (3, V2, {"slice/unit/cpu.max": "300000 100000\n", "slice/cpu.max": "700000 100000\n"}),
    "v2, the parent alone has one": (5, V2, {"slice/unit/cpu.max": "max 100000\n", "slice/cpu.max": "500000 100000\n"}),
    "v2, a container's own": (2, "0::/\n", {"cpu.max": "150000 100000\n"}),
    "v2, a container under the host's path": (2, "0::/../pod/1\n", {"cpu.max": "150000 100000\n"}),
    "v2, a sibling's counts not": (8, V2, {"slice/other/cpu.max": "100000 100000\n"}),
    "v2, a name that is no UTF-8": (2, b"0::/caf\xe9\n", {b"caf\xe9/cpu.max": "150000 100000\n"}),
    "v1, 2.5 CPUs": (3, V1, {"cpu/docker/a:b/cpu.cfs_quota_us": "25000", "cpu/docker/a:b/cpu.cfs_period_us": "10000"}),
    "v1, the topmost": (4, V1, {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "50000\n"}),
    "v1, no limit": (8, V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}),
    "v1, no period": (8, V1, {"cpu/cpu.cfs_quota_us": "200000\n"}),
    "v1, not in a group of CPU time": (8, "3:cpuset:/", {"cpu/cpu.cfs_quota_us": "2", "cpu/cpu.cfs_period_us": "1"}),
    "no /sys": (8, V2, {}),
    "no /proc": (8, None, {"cpu.max": "150000 100000\n"}),
    "a folder for a file": (8, V2, {"slice/unit/cpu.max/x": ""}),
}


def quota_of_made_up_folders(root, process, files):
    """How many of 8 CPUs are left where /proc/self/cgroup holds `process`, and /sys/fs/cgroup the `files`."""
    written = {b"sys/fs/cgroup/" + os.fsencode(name): text for name, text in files.items()}
    if process is not None:
        written[b"proc/self/cgroup"] = process
    for name, text in written.items():
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(os.fsencode(text))
    return _threads._within_quota(8, str(root))


@pytest.mark.parametrize("cpus, process, files", CGROUPS.values(), ids=CGROUPS)
def test_the_smallest_quota_on_the_way_up_counts(tmp_path, cpus, process, files):
    assert quota_of_made_up_folders(tmp_path, process, files) == cpus


def test_a_quota_that_makes_no_sense_counts_not_and_the_others_do(tmp_path):
    for odd in ("", "\n", "max", "2", "two 1", "1.5 1", "1 2 3", "0 1", "-2 1", "2 0", "2 -1", "9" * 5000 + " 1",
                "9" * 400 + " 1", b"\xff\xfe\0\0"):
        assert quota_of_made_up_folders(tmp_path, V2, {"slice/unit/cpu.max": odd, "slice/cpu.max": "3 1"}) == 3, odd


def test_a_line_on_cgroups_that_makes_no_sense_counts_not_and_the_others_do(tmp_path):
    for odd in ("", "::", "0", "0:", ":::", "0::/a\0b", "0::/" + "a" * 5000, "4:cpu", b"\xff:\xff:\0"):
        lines = os.fsencode(odd) + b"\n" + os.fsencode(V2)
        assert quota_of_made_up_folders(tmp_path, lines, {"slice/cpu.max": "3 1"}) == 3, odd


def test_the_cgroups_of_this_very_process_are_read_without_harm():
    assert 1 <= _threads._within_quota(10_000) <= 10_000


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to CPUs")
def test_a_process_bound_to_one_cpu_takes_one_thread():
    script = ("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
              "from csoftmax._threads import default_n_threads; print(default_n_threads())")
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("CSOFTMAX_NUM_THREADS", "OMP_NUM_THREADS")}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"


@pytest.mark.parametrize("name", ["CSOFTMAX_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("text", ["0", "-2", "many", "1.5"])
def test_a_variable_that_is_no_number_of_threads_raises_with_its_name(monkeypatch, name, text):
    monkeypatch.delenv("CSOFTMAX_NUM_THREADS", raising=False)
    monkeypatch.setenv(name, text)
    with pytest.raises(ValueError, match=rf"the environment variable {name} is '{text}'; it must be a whole n"):
        cs.log_likelihood(np.zeros((100_000, 2)), np.zeros(100_000, dtype=int), np.eye(2))


def test_an_objective_asks_for_the_number_of_threads_each_time_it_works(monkeypatch):
    # one that was made before a fork works with the number of its worker
    objective = cs.SoftmaxObjective(np.sin(np.arange(300_000.0)).reshape(-1, 3), np.arange(100_000) % 3)
    asked = []
    monkeypatch.setattr(_threads, "default_n_threads", lambda: asked.append(1) or 1)
    for times in (1, 2):
        objective.loss(np.zeros(12))
        assert len(asked) == times


@pytest.mark.parametrize("n_threads", [0, -1, 1.0, "2", True, [1]])
def test_a_number_of_threads_that_is_none_raises(n_threads):
    with pytest.raises(ValueError, match=r"n_threads is .*; it must be None or a whole number from 1"):
        cs.SoftmaxObjective([[1.0], [2.0]], [0, 1], n_threads=n_threads)


@pytest.mark.parametrize("n_threads", [np.array([2, 3]), np.array(2.5), "2"])
def test_an_array_or_text_is_no_number_of_threads_and_the_message_says_what_came(n_threads):
    with pytest.raises(ValueError, match=r"n_threads is .*2.*; it must be None or a whole number from 1"):
        check_n_threads(n_threads)


def test_a_numpy_integer_is_a_number_of_threads():
    assert check_n_threads(np.int64(2)) == 2


# ---------------------------------------------------------------------------------------------------------------------
# The same bits: threads, callers, processes


def objective(n_threads, **more):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 12))
    y = rng.integers(0, 5, size=20_000)
    return cs.SoftmaxObjective(X, y, l2=0.1, sample_weight=rng.uniform(0, 2, size=20_000), n_threads=n_threads, **more)


def everything(bound, theta):
    """All the numbers of an objective at theta, in one array."""
    loss, gradient = bound.loss_and_gradient(theta)
    return np.concatenate([[loss, bound.loss(theta)], gradient, bound.loss_hessian_product(theta, np.cos(theta)),
                           bound.loss_hessian(theta).ravel(), bound.samples.gram().ravel(),
                           *bound.samples.column_totals(), bound.samples.class_totals(),
                           [bound.samples.row_maximum("logit_range", theta.reshape(5, 13))]])


THETA = np.sin(np.arange(65.0))


def test_results_are_bit_identical_for_1_2_and_3_threads():
    one = everything(objective(1), THETA)
    assert len(row_blocks(20_000, 17)) >= 3
    for n_threads in (2, 3):
        np.testing.assert_array_equal(everything(objective(n_threads), THETA), one)


def test_several_threads_of_the_caller_may_share_one_objective():
    shared = objective(2)
    thetas = [THETA * scale for scale in np.linspace(-1, 1, 16)]
    want = [everything(objective(1), theta) for theta in thetas]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda theta: everything(shared, theta), thetas))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_threads_of_the_caller_may_share_one_result():
    # what it computes when asked for the first time is asked for by all of them at once
    def everything_told(result):
        robust = result.with_covariance("HC3")
        return np.concatenate([np.ravel(values) for values in (
            result.cov_params(), result.bse, result.pvalues, result.conf_int(), robust.bse,
            result.wald_test("x1 = 0").statistic, result.predict_proba(shared.X), result.margins().estimate)])

    shared = objective(2).samples
    labels = shared.counts if shared.codes is None else shared.codes
    want = everything_told(cs.fit(shared.X, labels, l2=0.0, n_threads=1))
    result, barrier = cs.fit(shared.X, labels, n_threads=2), threading.Barrier(4)

    def told(_):
        barrier.wait()
        return everything_told(result)

    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(told, range(4)):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("result_bytes", "n_threads"), [(1000, 8), (1 << 24, 7), (1 << 26, 1), (1 << 30, 1)])
def test_threads_whose_sums_and_scratch_take_more_than_256_mb_are_not_used(result_bytes, n_threads):
    assert objective(8).samples._threads_for(result_bytes) == n_threads


def _in_a_child(connection):
    connection.send(everything(objective(2), THETA))
    connection.close()


def computed_by_a_forked_child():
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_in_a_child, args=(there,))
    child.start()
    try:
        assert here.poll(60), "the child hangs"
        computed = here.recv()
    finally:
        child.join(10)
        if child.is_alive():
            child.kill()
            child.join()
    assert child.exitcode == 0
    return computed


with_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
# Python 3.12 warns that threads run: they do
with_threads_alive = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@with_fork
@with_threads_alive
def test_a_child_forked_after_threads_have_run_computes_the_same_with_threads():
    want = everything(objective(2), THETA)
    assert any(pid == os.getpid() for pid, _ in _threads._pools)  # the pool's threads are alive here, and not there
    np.testing.assert_array_equal(computed_by_a_forked_child(), want)
    np.testing.assert_array_equal(everything(objective(2), THETA), want)  # and the parent goes on


@with_fork
@with_threads_alive
def test_a_child_forked_amid_a_map_of_another_thread_computes_the_same_with_threads():
    want, ended = everything(objective(1), THETA), threading.Event()

    def go_on():
        while not ended.is_set():
            list(map_blocks(lambda start, stop: None, BLOCKS, 2))

    other = threading.Thread(target=go_on)
    other.start()
    try:
        for _ in range(5):
            np.testing.assert_array_equal(computed_by_a_forked_child(), want)
    finally:
        ended.set()
        other.join()


def test_a_spawned_child_computes_the_same():
    arguments = (np.sin(np.arange(60_000.0)).reshape(20_000, 3), np.arange(20_000) % 3, np.eye(3))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(cs.log_likelihood, arguments, {"n_threads": 2}) == cs.log_likelihood(*arguments, n_threads=1)


def _in_a_worker(environment, n_threads):
    # what a worker computes where 8 CPUs are free, its number of threads, and the sizes of the pools it has made
    os.environ.update(environment)
    _threads.usable_cpus = lambda pid: 8
    X = np.sin(np.arange(300_000.0)).reshape(100_000, 3)
    value = cs.log_likelihood(X, np.arange(100_000) % 3, np.eye(3), n_threads=n_threads)
    return value, n_threads or default_n_threads(), [size for pid, size in _threads._pools if pid == os.getpid()]


@with_threads_alive
@pytest.mark.parametrize("start", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("kind", ["multiprocessing.Pool", "ProcessPoolExecutor"])
def test_a_worker_of_a_pool_takes_one_thread_unless_asked_for_more_and_computes_the_same(uncounted, start, kind):
    uncounted.setattr(_threads, "usable_cpus", lambda pid: 8)
    assert default_n_threads() == 8  # here, where no siblings have the other CPUs
    X = np.sin(np.arange(300_000.0)).reshape(100_000, 3)
    value = cs.log_likelihood(X, np.arange(100_000) % 3, np.eye(3), n_threads=2)
    context = multiprocessing.get_context(start)
    with context.Pool(1) if kind == "multiprocessing.Pool" else ProcessPoolExecutor(1, context) as pool:
        def ask(environment, n_threads):
            if kind == "multiprocessing.Pool":
                return pool.apply_async(_in_a_worker, (environment, n_threads)).get(60)
            return pool.submit(_in_a_worker, environment, n_threads).result(60)

        assert ask({}, None) == (value, 1, [])
        assert ask({}, 3) == (value, 3, [3])
        assert ask({"OMP_NUM_THREADS": "2"}, None) == (value, 2, [3, 2])
        assert ask({"CSOFTMAX_NUM_THREADS": "5"}, None) == (value, 5, [3, 2, 5])


def test_a_loky_worker_computes_the_same_and_takes_its_share_of_the_threads_or_those_asked_for(monkeypatch):
    joblib = pytest.importorskip("joblib")
    for name in ("CSOFTMAX_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    arguments = (np.sin(np.arange(60_000.0)).reshape(20_000, 3), np.arange(20_000) % 3, np.eye(3))
    want = cs.log_likelihood(*arguments, n_threads=1)
    results = joblib.Parallel(n_jobs=2, backend="loky")(
        [joblib.delayed(cs.log_likelihood)(*arguments), joblib.delayed(default_n_threads)(),
         joblib.delayed(check_n_threads)(3)])
    assert results[0] == want
    # joblib tells loky's workers by OMP_NUM_THREADS: CPUs divided by workers, at least 1
    assert results[1:] == [max(joblib.cpu_count() // 2, 1), 3]


@with_threads_alive
def test_a_worker_of_joblibs_pool_of_multiprocessing_takes_one_thread(uncounted):
    joblib = pytest.importorskip("joblib")
    call = joblib.delayed(default_n_threads)
    assert joblib.Parallel(n_jobs=2, backend="multiprocessing")([call(), call()]) == [1, 1]


def test_the_mass_of_counts_is_whole_whenever_another_thread_reads_it():
    counts = np.random.default_rng(0).integers(0, 5, (400_000, 3)).astype(float)
    for _ in range(5):
        shared = samples.DenseSamples(np.zeros((len(counts), 1)), 3, counts=counts)
        with ThreadPoolExecutor(4) as pool:
            totals = list(pool.map(lambda _, s=shared: s.mass().sum(), range(8)))
        assert totals == [counts.sum()] * 8
