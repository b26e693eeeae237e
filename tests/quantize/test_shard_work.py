"""In which order steps are begun, and that a shard's end holds up no other."""

from __future__ import annotations

from threading import Event

import pytest
from quantize.checkpoints import contents

from sglang_glm52.quantize.convert import convert
from sglang_glm52.quantize.resume import WorkFolder
from sglang_glm52.quantize.shard_work import in_turns


class Shard:
    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps = name, steps

    def tasks(self):
        return (lambda step=step: f"{self.name}{step}" for step in range(self.steps))


@pytest.mark.parametrize(
    ("workers", "order"),
    [
        (1, "a0 a1 a2 b0 c0 c1 d0"),
        (4, "a0 a1 a2 b0 c0 c1 d0"),
        (5, "a0 b0 a1 a2 c0 c1 d0"),
        (8, "a0 b0 a1 a2 c0 c1 d0"),
        (9, "a0 b0 c0 a1 c1 a2 d0"),
        (99, "a0 b0 c0 d0 a1 c1 a2"),
    ],
)
def test_a_few_shards_at_a_time_take_turns(workers, order):
    shards = [Shard("a", 3), Shard("b", 1), Shard("c", 2), Shard("d", 1)]
    assert " ".join(task() for task in in_turns(shards, workers)) == order


def test_others_go_on_while_a_shard_is_published(fp8, from_fp8, tmp_path, monkeypatch):
    publish, another, first = WorkFolder.publish, Event(), []

    def slowly(self, name, figures):
        first.append(name)
        if len(first) == 1:
            assert another.wait(60)  # forever, if all waited for this shard
        else:
            another.set()
        publish(self, name, figures)

    monkeypatch.setattr(WorkFolder, "publish", slowly)
    convert(fp8, tmp_path / "out", device="cpu", workers=2)
    assert len(first) == 5
    assert contents(tmp_path / "out") == contents(from_fp8)


def test_many_shards_at_once_give_the_same_bytes(fp8, from_fp8, tmp_path, capsys):
    convert(fp8, tmp_path / "out", device="cpu", workers=17)
    assert contents(tmp_path / "out") == contents(from_fp8)
    assert capsys.readouterr().err.splitlines()[-1].endswith("GB/s")
