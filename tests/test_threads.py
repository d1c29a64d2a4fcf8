"""Row blocks and threads: fixed blocks, results in order, the same bits whatever the number, in any process.

Nothing stands on this file. It stands on csoftmax._threads and on the functions that use it.
"""

import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import _threads, samples
from csoftmax._threads import check_n_threads, default_n_threads, map_blocks, row_blocks

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
    assert len(set(sizes[:-1])) <= 1  # all alike, but for the last
    assert sizes[-1] <= sizes[0]
    # a block has some 128 K numbers in a multiple of 8 rows, or 256 rows where those are long; up to four times as many
    # where there would be more than 64 blocks
    elements = min(max(n_rows * row_elements // 64, 131_072), 524_288)
    assert sizes[0] == min(n_rows, max(256, elements // max(1, row_elements) // 8 * 8))


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


# ---------------------------------------------------------------------------------------------------------------------
# How many


def test_the_default_is_the_projects_variable_then_openmps_then_the_cpus_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    for name in ("CSOFTMAX_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert default_n_threads() == check_n_threads(None) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")  # OpenMP takes a list, one number for each level of nesting
    assert default_n_threads() == 5
    monkeypatch.setenv("CSOFTMAX_NUM_THREADS", " 2 ")
    assert default_n_threads() == check_n_threads(None) == 2
    monkeypatch.setenv("CSOFTMAX_NUM_THREADS", "")  # set to nothing is not set
    assert default_n_threads() == 5


def test_without_affinity_the_default_is_the_number_of_cpus(monkeypatch):
    for name in ("CSOFTMAX_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert default_n_threads() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_n_threads() == 1


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
        cs.SoftmaxObjective([[1.0], [2.0]], [0, 1])


@pytest.mark.parametrize("n_threads", [0, -1, 1.0, "2", True, [1]])
def test_a_number_of_threads_that_is_none_raises(n_threads):
    with pytest.raises(ValueError, match=r"n_threads is .*; it must be None or a whole number from 1"):
        cs.SoftmaxObjective([[1.0], [2.0]], [0, 1], n_threads=n_threads)


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


def _in_a_child(connection):
    connection.send(everything(objective(2), THETA))
    connection.close()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns that threads run: they do
def test_a_child_forked_after_threads_have_run_computes_the_same_with_threads():
    want = everything(objective(2), THETA)
    assert any(pid == os.getpid() for pid, _ in _threads._pools)  # the pool's threads are alive here, and not there
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_in_a_child, args=(there,))
    child.start()
    try:
        assert here.poll(60), "the child hangs"
        np.testing.assert_array_equal(here.recv(), want)
    finally:
        child.join(10)
        if child.is_alive():
            child.kill()
            child.join()
    assert child.exitcode == 0
    np.testing.assert_array_equal(everything(objective(2), THETA), want)  # and the parent goes on


def test_a_spawned_child_computes_the_same():
    arguments = (np.sin(np.arange(60_000.0)).reshape(20_000, 3), np.arange(20_000) % 3, np.eye(3))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(cs.log_likelihood, arguments, {"n_threads": 2}) == cs.log_likelihood(*arguments, n_threads=1)


def test_a_loky_worker_computes_the_same_and_takes_its_share_of_the_threads(monkeypatch):
    joblib = pytest.importorskip("joblib")
    for name in ("CSOFTMAX_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    arguments = (np.sin(np.arange(60_000.0)).reshape(20_000, 3), np.arange(20_000) % 3, np.eye(3))
    want = cs.log_likelihood(*arguments, n_threads=1)
    results = joblib.Parallel(n_jobs=2, backend="loky")(
        [joblib.delayed(cs.log_likelihood)(*arguments), joblib.delayed(default_n_threads)()])
    assert results[0] == want
    # loky tells its workers by OMP_NUM_THREADS: CPUs divided by workers, at least 1
    assert results[1] == max(joblib.cpu_count() // 2, 1)


def test_the_mass_of_counts_is_whole_whenever_another_thread_reads_it():
    counts = np.random.default_rng(0).integers(0, 5, (400_000, 3)).astype(float)
    for _ in range(5):
        shared = samples.DenseSamples(np.zeros((len(counts), 1)), 3, counts=counts)
        with ThreadPoolExecutor(4) as pool:
            totals = list(pool.map(lambda _, s=shared: s.mass().sum(), range(8)))
        assert totals == [counts.sum()] * 8
