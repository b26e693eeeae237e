from bench.rounds_made_up import RESULTS

from sglang_glm52.bench.kernel_table import KernelRow
from sglang_glm52.bench.round_report import indexer_runs, round_sections
from sglang_glm52.bench.shard_report import report, summary
from sglang_glm52.bench.stream_speed import stream_speeds


def rows(text: str) -> dict[str, list[str]]:
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in split}


def test_sections():
    speed, runs, accepted = map(rows, round_sections(RESULTS, stream_speeds(RESULTS)))
    assert speed["ours 3-1-4"][:2] == ["20.000", "50.0"] and speed["ours 3-1-4"][-1] == "200.0"
    assert speed["host 3-1-4"][:2] == ["25.000", "40.0"]
    assert runs["EAGLE 3-1-4 batch 1"] == ["24", "23"] and runs["decode batch 1"] == ["-", "21"]
    assert accepted["EAGLE 3-1-4 batch 16"] == ["-", "0.013"] and "decode batch 1" not in accepted


def test_without_batch_1_there_is_no_speed():
    assert len(list(round_sections(RESULTS, []))) == 2


def test_the_schedule_of_the_indexer_is_not_a_run():
    rows = [
        KernelRow("sm90_fp8_paged_mqa_logits<1u>", 21.0, 1.0),
        KernelRow("smxx_paged_mqa_logits_metadata", 1.0, 0.0),
    ]
    assert indexer_runs(rows) == 21.0


def test_a_class_that_was_cut_off_stands_with_what_it_has():
    text = report(RESULTS, 5)
    found = rows(text)
    assert "ours: sglang_glm52.X with x.NextN, weights 50.0 GB" in text and "distinct experts" not in text
    assert found["EAGLE 3-1-4 batch 1: wall ms"][4] == "0.800"
    assert found["decode batch 1: wall ms"] == ["-", "-", "10.000", "10.000 - 10.000", "-"]
    assert list(summary(RESULTS)["ratio"]) == ["EAGLE 3-1-4 batch 1"]
