"""The killable worker: limits, restarts, threads, forks and exit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import pytest

from lightning_gfn.answers import process as process_file
from lightning_gfn.answers.checker import MathVerifyChecker, default_workers
from lightning_gfn.answers.process import TimeLeft


@pytest.fixture(scope="module")
def checker() -> MathVerifyChecker:
    return MathVerifyChecker(time_limit=1.0, num_workers=1)


def only_pid(checker: MathVerifyChecker) -> int:
    (pid,) = checker.pids
    return pid


def alive(pid: int) -> bool:
    """Running, and not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_worker_starts_when_needed_and_stays(checker: MathVerifyChecker) -> None:
    assert checker.pids == []
    assert checker.verify("x+1", "1+x")
    pid = only_pid(checker)
    assert not checker.verify("x+2", "1+x")
    assert only_pid(checker) == pid


def test_worker_is_killed_at_the_limit_and_restarted(checker: MathVerifyChecker) -> None:
    assert checker.verify("x+1", "1+x")
    pid, timeouts = only_pid(checker), checker.counters.timeouts
    started = time.monotonic()
    assert not checker.verify("9^{9^{9^9}}", "5")
    assert 0.9 < time.monotonic() - started < 2.0
    assert checker.counters.timeouts == timeouts + 1
    assert not os.path.exists(f"/proc/{pid}")
    assert checker.verify("x+1", "1+x")
    assert only_pid(checker) != pid


@pytest.mark.slow
def test_without_a_kill_the_limit_would_be_missed(checker: MathVerifyChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    real = process_file._read_reply
    monkeypatch.setattr(process_file, "_read_reply", lambda process, seconds: real(process, 30.0))
    crashes = checker.counters.crashes
    started = time.monotonic()
    assert not checker.verify("9^{9^{9^9}}", "5")
    # The worker's own alarm ends it one second later: twice, because a death without a timeout is tried again.
    assert time.monotonic() - started > 2.0
    assert checker.counters.crashes == crashes + 2


def test_worker_killed_from_outside_is_replaced(checker: MathVerifyChecker) -> None:
    assert checker.verify("x+1", "1+x")
    pid, crashes = only_pid(checker), checker.counters.crashes
    os.kill(pid, signal.SIGKILL)
    assert checker.verify("x+1", "1+x")
    assert checker.counters.crashes == crashes + 1


@pytest.mark.skipif(not os.path.exists("/proc/self/limits"), reason="needs /proc")
def test_memory_of_the_worker_is_limited(checker: MathVerifyChecker) -> None:
    assert checker.verify("x+1", "1+x")
    with open(f"/proc/{only_pid(checker)}/limits", encoding="ascii") as file:
        limits = [line.split() for line in file if line.startswith("Max address space")]
    assert limits == [["Max", "address", "space", str(2**30), str(2**30), "bytes"]]


def test_threads_share_one_worker(checker: MathVerifyChecker) -> None:
    pairs = [(f"x+{i}", f"{i}+x", True) for i in range(10)] + [(f"x+{i}", f"{i + 1}+x", False) for i in range(10)]
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda pair: checker.verify(pair[0], pair[1]), pairs))
    assert verdicts == [pair[2] for pair in pairs]


def test_one_pair_after_the_other_needs_one_process() -> None:
    several = MathVerifyChecker(num_workers=3)
    for number in range(40):
        assert several.verify(f"x+{number}", f"{number}+x")
    assert len(several.pids) == 1
    several.close()
    assert several.pids == []


def test_a_check_that_is_stuck_holds_up_no_other() -> None:
    several = MathVerifyChecker(time_limit=6.0, num_workers=2)
    assert several.verify("x+1", "1+x")
    with ThreadPoolExecutor(3) as threads:
        stuck = threads.submit(several.verify, "9^{9^{9^9}}", "5")
        while several.counters.checks < 2:
            time.sleep(0.01)
        others = [threads.submit(several.verify, f"x+{number}", f"{number}+x") for number in range(20)]
        assert all(other.result() for other in others)
        assert not stuck.done(), "the tower takes its whole limit, and the others did not wait for its end"
        assert len(several.pids) == 2
        assert not stuck.result() and several.counters.timeouts == 1 and len(several.pids) == 1
    assert several.verify("x+2", "2+x"), "what was stuck is replaced"
    several.close()


def test_waiting_for_a_worker_is_no_time_of_the_answer() -> None:
    alone = MathVerifyChecker(time_limit=4.0, num_workers=1)
    assert alone.verify("x+1", "1+x")
    left = TimeLeft(3.0)
    with ThreadPoolExecutor(2) as threads:
        stuck = threads.submit(alone.verify, "9^{9^{9^9}}", "5")
        while alone.counters.checks < 2:
            time.sleep(0.01)
        assert alone.verify("x+2", "2+x", left), "it waits 4 s for the worker, and has 3 s to think"
        assert not stuck.result()
    assert 0 < left.seconds < 3.0
    alone.close()


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for cores, ranks, expected in ((1, None, 1), (2, None, 2), (64, None, 4), (8, "4", 2), (2, "8", 1), (2, "?", 2)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        if ranks is not None:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert default_workers() == expected == MathVerifyChecker().num_workers
    assert MathVerifyChecker(num_workers=7).num_workers == 7
    with pytest.raises(ValueError, match="num_workers=0 must be at least 1"):
        MathVerifyChecker(num_workers=0)


def child_main(connection: Connection, checker: MathVerifyChecker) -> None:
    inherited = checker.pids
    connection.send((inherited, checker.verify("x+1", "1+x"), only_pid(checker)))


def test_a_forked_daemonic_child_has_its_own_worker(checker: MathVerifyChecker) -> None:
    assert checker.verify("x+1", "1+x")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=child_main, args=(theirs, checker), daemon=True)
    child.start()
    assert ours.poll(60)
    inherited, verdict, pid = ours.recv()
    child.join(30)
    assert child.exitcode == 0
    assert inherited == [] and verdict is True
    assert pid != only_pid(checker)
    assert wait_until_gone(pid)
    assert checker.verify("x+2", "2+x")


def test_data_loader_workers_can_check_answers() -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    loader = torch_data.DataLoader(Verdicts(), num_workers=2, batch_size=None)
    assert [bool(verdict) for verdict in loader] == [True, False, True, False]


class Verdicts:
    """A data set that asks for verdicts where it is read."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> bool:
        from lightning_gfn.answers import is_equivalent

        return is_equivalent("x+7", f"{7 + index % 2}+x")


@pytest.mark.parametrize("end", ["", "os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_no_worker_outlives_its_parent(end: str) -> None:
    code = f"""
        import os, signal
        from lightning_gfn.answers.checker import MathVerifyChecker
        checker = MathVerifyChecker()
        checker.verify("x+1", "1+x")
        print(*checker.pids, flush=True)
        {end}
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert wait_until_gone(int(result.stdout))


def test_a_worker_that_cannot_start_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = MathVerifyChecker(memory_limit=30 * 2**20)
    with pytest.raises(RuntimeError, match="memory limit is|math-verify"):
        broken.verify("x+1", "1+x")
    assert broken.pids == []
    monkeypatch.setattr(sys, "path", ["/nowhere"])
    monkeypatch.setattr(sys, "executable", getattr(sys, "_base_executable", sys.executable))
    missing = MathVerifyChecker()
    with pytest.raises(RuntimeError, match="pip install math-verify"):
        missing.verify("x+1", "1+x")
