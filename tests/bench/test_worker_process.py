import os
import signal
import sys
import threading

import pytest

from sglang_glm52.bench import worker_process
from sglang_glm52.bench.worker_process import run_worker


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch):
    monkeypatch.setattr(worker_process, "TICK_S", 0.05)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_exit_status_comes_back_and_the_end_is_looked_at(tmp_path):
    path, seen = tmp_path / "result", []
    status = run_worker(
        python(f"open({str(path)!r}, 'w').close(); exit(3)"), os.environ, lambda: seen.append(path.exists())
    )
    assert status == 3 and seen[-1]


def test_stdout_is_left_to_the_record(capfd):
    run_worker(python("print('noise')"), os.environ, lambda: None)
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == "noise\n"


def test_sigterm_ends_the_worker_and_not_this_process():
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    timer.start()
    assert run_worker(python("import time; time.sleep(60)"), os.environ, lambda: None) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_worker_does_not_outlive_an_error(tmp_path):
    path = tmp_path / "pid"

    def tick() -> None:
        if path.exists():
            raise RuntimeError("found no memory")

    code = f"import os, time; open({str(path)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(RuntimeError, match="found no memory"):
        run_worker(python(code), os.environ, tick)
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)
