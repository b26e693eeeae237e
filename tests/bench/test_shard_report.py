import json

import pytest

from sglang_glm52.bench.kernel_table import KernelRow
from sglang_glm52.bench.record import Environment
from sglang_glm52.bench.shard_report import ratio, report, summary
from sglang_glm52.bench.shard_result import Phase, ShardResult

ENVIRONMENT = Environment(gpu="NVIDIA H200", driver="580", torch="2.11.0", sglang="0.5.13.post1", commit="abc")


def result(model_class: str, wall_ms: float, kernels: dict[str, tuple[float, float]]) -> ShardResult:
    rows = tuple(KernelRow(name, *numbers) for name, numbers in kernels.items())
    return ShardResult(
        model_class=model_class,
        environment=ENVIRONMENT,
        weight_gb=95.5,
        experts_hit={16: 101.5},
        phases={"decode batch 16": Phase.of([wall_ms], [rows])},
    )


RESULTS = {
    "host": result("sglang.X", 20.0, {"fused_moe_kernel": (150, 8.0), "rmsnorm": (312, 2.0), "Memset": (4, 0.5)}),
    "ours": result("sglang_glm52.X", 18.0, {"fused_moe_kernel": (150, 8.0), "rmsnorm": (156, 1.0)}),
}


def lines_with(text: str, start: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [row for row in rows if row[0].startswith(start)]


def test_ratios_are_ours_over_the_hosts():
    found = summary(RESULTS)["ratio"]["decode batch 16"]
    assert found == {"wall": 0.9, "kernel": round(9.0 / 10.5, 4), "launches": round(306 / 466, 4)}


@pytest.mark.parametrize("missing", [(None, 1.0), (1.0, None), (1.0, 0.0)])
def test_no_ratio_without_both_numbers(missing):
    assert ratio(*missing) is None


def test_one_class_alone_is_reported_without_ratios():
    alone = {"ours": RESULTS["ours"]}
    assert "ratio" not in summary(alone)
    [row] = lines_with(report(alone, 5), "decode batch 16: kernel sum ms")
    assert row[1:] == ["-", "-", "9.000", "9.000 - 9.000", "-"]


def test_a_long_kernel_name_is_cut():
    mangled = {"ours": result("sglang_glm52.X", 1.0, {"_ZN7cutlass" + 1000 * "I": (1, 1.0)})}
    [row] = lines_with(report(mangled, 5), "_ZN7cutlass")
    assert len(row[0]) == 64 and row[0].endswith("…")


def test_the_summary_fits_a_json_line():
    found = json.loads(json.dumps(summary(RESULTS), allow_nan=False))
    assert found["host"]["phases"]["decode batch 16"]["groups_ms"] == {
        "routed experts, GEMMs": 8.0,
        "norms": 2.0,
        "copies, fills, casts": 0.5,
    }


def test_totals_stand_side_by_side():
    text = report(RESULTS, 0)
    [wall] = lines_with(text, "decode batch 16: wall ms")
    assert (wall[1], wall[3], wall[5]) == ("20.000", "18.000", "0.900")
    [kernels] = lines_with(text, "decode batch 16: kernels")
    assert (kernels[1], kernels[3], kernels[5]) == ("466", "306", "0.657")


def test_a_kernel_of_one_class_alone_has_no_ratio():
    [row] = lines_with(report(RESULTS, 5), "Memset")
    assert row[1:] == ["4", "0.500", "-", "-", "-"]


def test_what_is_not_listed_is_summed():
    text = report(RESULTS, 1)
    [rest] = lines_with(text, "2 more")
    assert rest[1:5] == ["316", "2.500", "156", "1.000"]
    for row in lines_with(text, "sum"):
        assert row[1:] == ["466", "10.500", "306", "9.000", "0.857"]


def test_routing_stands_beside_the_uniform_expectation():
    [row] = lines_with(report(RESULTS, 0), "16")
    assert row == ["16", "101.50", "101.50", "101.96"]
