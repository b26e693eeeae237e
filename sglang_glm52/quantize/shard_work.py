"""Shards while they are written: in which order their steps are begun, and who ends a shard.

No step waits for a shard's end: the worker that carries out its last step syncs and publishes it, the others go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from threading import Lock
from types import TracebackType

from sglang_glm52.quantize.plan import Step
from sglang_glm52.quantize.resume import WorkFolder
from sglang_glm52.quantize.target import OutputShard
from sglang_glm52.quantize.tensor_io import ShardWriter
from sglang_glm52.quantize.work import Figures

# Inside the system, writes to one file take turns: with more workers than this on one they would queue.
WORKERS_A_SHARD = 4

CarryOut = Callable[[Step, ShardWriter], Figures | None]


class ShardWork:
    """One shard, opened by its first step. Threads share it. Left unfinished, it gives its space back."""

    def __init__(self, shard: OutputShard, work: WorkFolder, carry_out: CarryOut) -> None:
        self._shard, self._work, self._carry_out = shard, work, carry_out
        self._found: dict[str, Figures] = {}
        self._left = len(shard.steps)
        self._writer: ShardWriter | None = None
        self._lock, self._stack = Lock(), ExitStack()

    def __enter__(self) -> ShardWork:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        finally:
            self._work.temporary(self._shard.file).unlink(missing_ok=True)  # a full disk gets its space back

    @property
    def figures(self) -> dict[str, Figures]:
        """Of the weights converted so far, in the order of the steps."""
        names = (step.weight.name for step in self._shard.steps)
        return {name: self._found[name] for name in names if name in self._found}

    def tasks(self) -> Iterator[Callable[[], None]]:
        """One for each step. The last to end also publishes the shard."""
        return (lambda step=step: self._run(step) for step in self._shard.steps)

    def _run(self, step: Step) -> None:
        figures = self._carry_out(step, self._opened())
        with self._lock:
            if figures is not None:
                self._found[step.weight.name] = figures
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self._stack.close()  # syncs it
            self._work.publish(self._shard.file, self.figures)

    def _opened(self) -> ShardWriter:
        with self._lock:
            if self._writer is None:
                file = self._work.temporary(self._shard.file)
                self._writer = self._stack.enter_context(ShardWriter(file, self._shard.layout))
            return self._writer


def in_turns(shards: Iterable[ShardWork], workers: int) -> Iterator[Callable[[], None]]:
    """The tasks of all shards: a few shards take turns, and when one is through, the next joins them."""
    waiting = (shard.tasks() for shard in shards)
    begun = deque(islice(waiting, -(-workers // WORKERS_A_SHARD)))
    while begun:
        task = next(begun[0], None)
        if task is None:
            begun.popleft()
            begun.extend(islice(waiting, 1))
        else:
            yield task
            begun.rotate(-1)
