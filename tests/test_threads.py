"""Parallel regions: the same bits on any number of threads, no region lost, sleeping and waking, forks, limits."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import runtime_plans as plans
from hypothesis import given
from hypothesis import strategies as st
from runtime_plans import Builder, chain, values

from onnx_numba.errors import ExecutionError
from onnx_numba.ir.abi import P_SEATS, P_SLEEPING, P_STARTED, P_WORKERS, S_CHUNKS, S_MODE, SEAT_STRIDE, SHARE_BITS
from onnx_numba.ir.plan import BAD_VALUE, CANCELLED
from onnx_numba.native.pool import claim, share_out
from onnx_numba.options import Options
from onnx_numba.runtime import threads
from onnx_numba.runtime.session import Session

compiled = plans.compiled


@pytest.fixture(params=[1, 2, 3, 8])
def threaded(request, compiled):
    return lambda plan: Session(plan, [], compiled, Options(num_threads=request.param))


def pool_of(session):
    return session._program.borrow()._pool


def test_the_same_bits_at_any_thread_count(threaded):
    session = threaded(chain(6, grain=1))
    for n in (0, 1, 64, 65, 12_345, 300_000):
        x = values(n)
        np.testing.assert_array_equal(session.run([x])[0], 2 * x + 1 + 1 + 1 + 1 + 1)


def test_the_same_error_at_any_thread_count(threaded):
    b = Builder()
    x = b.input("x")
    b.call(plans.refuse_negative, b.tiles(x.dims[0]), (x.buffer,), (x.dims[0],), 1)
    session = threaded(b.plan())
    rng = np.random.default_rng(0)
    for _ in range(50):
        array = np.ones(100_000, np.float32)
        bad = np.sort(rng.integers(0, array.size, 20))
        array[bad] = -1
        with pytest.raises(ExecutionError) as caught:
            session.run([array])
        assert (caught.value.code, caught.value.index) == (BAD_VALUE, bad[0])
    assert session.run([np.ones(100_000, "f4")]) == ()


def shared_out(workers, chunks):
    pool = np.zeros(P_SEATS + (workers + 1) * SEAT_STRIDE, np.int64)
    pool[P_WORKERS] = workers
    share_out(pool, chunks)
    return pool


@pytest.mark.parametrize(
    ("workers", "chunks", "expected"),
    [
        (1, 5, [[0, 1, 2], [3, 4]]),
        (2, 6, [[0, 1], [2, 3], [4, 5]]),
        (3, 2, [[0], [1], [], []]),
        (1, (1 << SHARE_BITS) - 1, [[0], [1 << (SHARE_BITS - 1)]]),
    ],
)
def test_threads_have_consecutive_chunks(workers, chunks, expected):
    pool = shared_out(workers, chunks)
    for turn in range(max(map(len, expected))):
        for number, share in enumerate(expected):
            if turn < len(share):
                assert claim(pool, number) == share[turn]


@given(workers=st.integers(0, 5), regions=st.lists(st.integers(1, 40), min_size=1, max_size=3), data=st.data())
def test_each_chunk_is_claimed_once(workers, regions, data):
    pool = shared_out(workers, 1)
    assert claim(pool, 0) == 0
    for chunks in regions:
        share_out(pool, chunks)
        order = data.draw(st.lists(st.integers(0, workers), min_size=chunks, max_size=chunks))
        assert sorted(claim(pool, number) for number in order) == list(range(chunks))
        assert [claim(pool, number) for number in range(workers + 1)] == [-1] * (workers + 1)


def test_many_regions(threaded):
    session = threaded(chain(200, grain=1))
    x = values(1000)
    expected = session.run([x])[0]
    for _ in range(100):
        np.testing.assert_array_equal(session.run([x])[0], expected)


def test_workers_sleep_and_wake(compiled):
    session = Session(chain(3, grain=1), [], compiled, Options(num_threads=3))
    x = values(10_000)
    for pause in (0, 0.001, 0.05, 0, 0.02) * 3:
        time.sleep(pause)
        np.testing.assert_array_equal(session.run([x])[0], 2 * x + 1 + 1)
    pool = pool_of(session)
    deadline = time.monotonic() + 20
    while pool._words[P_SLEEPING] != 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pool._words[P_SLEEPING] == pool._words[P_WORKERS] == 2


def test_the_better_way_is_taken(compiled):
    session = Session(chain(grain=1), [], compiled, Options(num_threads=2))
    state = session._program.new_frame()
    words, code, micro = state._state, state._code, 1000

    def run(shared, alone):
        """One run that takes so long per chunk; how it was done."""
        code.choose(state.address)
        words[S_CHUNKS] = 10
        mode = int(words[S_MODE])
        code.judge(state.address, 10 * micro * (shared if mode else alone))
        return mode

    assert [run(10, 20) for _ in range(9)] == [1, 1, 0, 1, 0, 1, 0, 1, 0]
    taken = [run(10, 20) for _ in range(1000)]
    assert 985 < sum(taken) < 1000
    taken = [run(50, 20) for _ in range(1000)]
    assert 10 < sum(taken) < 60
    taken = [run(10, 20) for _ in range(1000)]
    assert sum(taken) > 700
    # The more a trial costs the rarer it is.
    assert 0 < sum(run(50, 2) for _ in range(5000)) < 40


def ways(compiled, runs, nanoseconds):
    """How each of so many runs is done, by a pool or alone, where ``nanoseconds(number, way)`` is how long it takes."""
    session = Session(chain(grain=1), [], compiled, Options(num_threads=2))
    state = session._program.new_frame()
    words, code = state._state, state._code
    taken = []
    for number in range(runs):
        code.choose(state.address)
        words[S_CHUNKS] = 10
        taken.append(int(words[S_MODE]))
        code.judge(state.address, nanoseconds(number, taken[-1]))
    return taken


def test_an_interruption_does_not_change_the_way(compiled):
    taken = ways(compiled, 200, lambda number, way: 5_000_000 * (10 if number in (5, 20, 21, 60) else 1) * (2 - way))
    assert taken[:5] == [1, 1, 0, 1, 0]
    assert sum(taken) > 180


def test_what_disturbed_the_first_runs_is_forgotten(compiled):
    taken = ways(compiled, 60, lambda number, way: 1_000_000 * ((40 if number < 6 else 10) if way else 20))
    assert sum(taken[:8]) <= 4
    assert sum(taken[40:]) > 17


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there threads can be told where to run")
def test_a_worker_is_woken_beside_its_caller(compiled):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one processor")
    session = Session(chain(3, grain=1), [], compiled, Options(num_threads=4))
    pool, x = pool_of(session), values(10_000)
    pool.start()
    try:
        for processor in sorted(allowed)[:2] * 2:
            os.sched_setaffinity(0, {processor})
            deadline = time.monotonic() + 20
            while any(os.sched_getaffinity(worker.native_id) != allowed - {processor} for worker in pool._workers):
                assert time.monotonic() < deadline
                time.sleep(0.001)
                np.testing.assert_array_equal(session.run([x])[0], 2 * x + 1 + 1)
            os.sched_setaffinity(0, allowed)
    finally:
        os.sched_setaffinity(0, allowed)


def test_the_mask_of_processors():
    mask = threads.processor_mask({0, 3, 63, 64, 130})
    assert mask.view(np.uint64).tolist() == [1 | 1 << 3 | 1 << 63, 1, 1 << 2]


def test_small_work_starts_no_threads(compiled):
    session = Session(chain(3, grain=100), [], compiled, Options(num_threads=5))
    session.run([values(1000)])
    assert not pool_of(session)._words[P_STARTED]
    session.run([values(100_000)])
    assert pool_of(session)._words[P_STARTED]


def test_concurrent_runs_share_a_pool(compiled):
    sessions = [Session(chain(5, grain=1), [], compiled, Options(num_threads=2)) for _ in range(2)]
    assert pool_of(sessions[0]) is pool_of(sessions[1])
    wrong = []

    def work(seed):
        x = values(20_000, seed)
        for _ in range(50):
            if not np.array_equal(sessions[seed % 2].run([x])[0], 2 * x + 1 + 1 + 1 + 1):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_a_pool_ends_with_its_sessions(compiled):
    gc.collect()
    before = threading.active_count()
    session = Session(chain(grain=1), [], compiled, Options(num_threads=7))
    session.run([values(10_000)])
    assert threading.active_count() == before + 6
    del session
    assert threading.active_count() == before


def test_a_stopped_pool_starts_again(compiled):
    session = Session(chain(grain=1), [], compiled, Options(num_threads=6))
    x = values(10_000)
    for _ in range(3):
        np.testing.assert_array_equal(session.run([x])[0], 2 * x)
        pool_of(session).stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork(compiled):
    session = Session(chain(5, grain=1), [], compiled, Options(num_threads=3))
    x = values(50_000)
    expected = session.run([x])[0]
    children = []
    for _ in range(4):
        session.run([x])
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            same = all(np.array_equal(session.run([x])[0], expected) for _ in range(20))
            fresh = Session(chain(5, grain=1), [], compiled, Options(num_threads=3))
            same &= np.array_equal(fresh.run([x])[0], expected)
            os._exit(0 if same and pool_of(fresh)._words[P_WORKERS] == 2 else 1)
        children.append(child)
        assert np.array_equal(session.run([x])[0], expected)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


@pytest.mark.parametrize("count", [1, 2])
def test_cancel(compiled, count):
    session = Session(chain(20_000, grain=1), [], compiled, Options(num_threads=count))
    x = values(1_000_000)
    begun = time.monotonic()
    timer = threading.Timer(0.3, session.cancel)
    timer.start()
    with pytest.raises(ExecutionError, match="the run was cancelled") as caught:
        session.run([x])
    timer.join()
    assert caught.value.code == CANCELLED and time.monotonic() - begun < 5
    np.testing.assert_allclose(session.run([x[:10]])[0], 2 * x[:10] + 19_999, rtol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="signals to processes are POSIX")
def test_interrupt(tmp_path):
    """Ctrl-C ends a run of many seconds."""
    program = textwrap.dedent(f"""
        import signal, sys, threading, os, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import numpy as np, runtime_plans as plans
        from onnx_numba.options import Options
        from onnx_numba.runtime.session import Session
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
        kernels = plans.compile_kernels()
        session = Session(plans.chain(20_000, grain=1), [], kernels[0], Options(num_threads=1))
        x = np.zeros(4_000_000, np.float32)
        session.run([x[:10]])
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        begun = time.monotonic()
        try:
            session.run([x])
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - begun)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("interrupted"), done.stderr
    assert float(done.stdout.split()[1]) < 5


def test_thread_count(monkeypatch):
    assert threads.thread_count(5) == 5
    monkeypatch.setattr(threads, "cgroup_quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert threads.thread_count(None) == 6
    monkeypatch.setattr(threads, "cgroup_quota", lambda: 1.5)
    assert threads.thread_count(None) == 2
    monkeypatch.setattr(threads, "cgroup_quota", lambda: 0.1)
    assert threads.thread_count(None) == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.thread_count(None) == 1


def test_cgroup_quota(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    assert threads.cgroup_quota(tmp_path, membership) == 1.5
    (tmp_path / "a" / "b" / "cpu.max").write_text("50000 100000\n")
    assert threads.cgroup_quota(tmp_path, membership) == 0.5
    (tmp_path / "cpu" / "c").mkdir(parents=True)
    (tmp_path / "cpu" / "c" / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu" / "c" / "cpu.cfs_period_us").write_text("100000\n")
    membership.write_text("4:cpu,cpuacct:/c\n3:memory:/x\n")
    assert threads.cgroup_quota(tmp_path, membership) == 3
    (tmp_path / "cpu" / "c" / "cpu.cfs_quota_us").write_text("-1\n")
    assert threads.cgroup_quota(tmp_path, membership) is None
    assert threads.cgroup_quota(tmp_path, tmp_path / "missing") is None


def test_few_chunks_are_alike_and_even_in_number() -> None:
    from onnx_numba.native.runner import chunk_length

    found = {(total, grain): chunk_length(total, grain) for total, grain in [(64, 52), (64, 13), (17, 16), (16, 16), (9, 4), (5, 1)]}
    assert found == {(64, 52): 32, (64, 13): 11, (17, 16): 9, (16, 16): 16, (9, 4): 3, (5, 1): 1}
    for total in range(200):
        length = chunk_length(total, 7)
        assert 1 <= length <= 7
        assert -(-total // length) <= -(-total // 7) + 1


def test_a_share_can_count_all_chunks() -> None:
    from onnx_numba.native.runner import chunk_length

    assert [chunk_length(total, 5) for total in (0, 4, 1000, 10_000_000)] == [5, 5, 5, 5]
    for total in (5 << (SHARE_BITS - 1), 5 << SHARE_BITS, 7 << SHARE_BITS, 10**12, 1 << 60):
        assert -(-total // chunk_length(total, 5)) < 1 << SHARE_BITS
