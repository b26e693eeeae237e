"""A made-up run of `glm52 bench moe`."""

from __future__ import annotations

from sglang_glm52.bench.moe_result import MoeResult, Point, Row
from sglang_glm52.bench.record import Environment
from sglang_glm52.bench.spread import Spread

SETTINGS = {
    "tokens": (1, 64, 1024),
    "inner": 256,
    "routing": "uniform",
    "which": ("ours", "host", "humming"),
    "tune": True,
    "hidden": 6144,
    "experts": 256,
    "topk": 8,
    "weight_sets": 3,
    "routings": 16,
}
ENVIRONMENT = Environment(gpu="NVIDIA H200", driver="580", torch="2.11.0", sglang="0.5.13.post1", commit=None)
MISSING = "not installed: No module named 'humming'"
TIMES = {
    "ours": {1: 10.0, 64: 200.0, 1024: 300.0},
    "host": {1: 40.0, 64: 400.0, 1024: 600.0},
    "decode": {1: 10.0, 64: 200.0},
    "grouped": {1: 90.0, 64: 210.0, 1024: 300.0},
}


def made_up(times: dict[str, dict[int, float]] = TIMES) -> MoeResult:
    points = [
        Point(tokens=1, experts=8.0, weight_bytes=20e6, flops=75e6, floor_us=5.0),
        Point(tokens=64, experts=222.5, weight_bytes=540e6, flops=5e9, floor_us=125.0),
        Point(tokens=1024, experts=256.0, weight_bytes=620e6, flops=75e9, floor_us=150.0),
    ]
    rows = [
        Row(contender=name, tokens=tokens, us=Spread(us, us - 1.0, us + 2.0), difference=0.035)
        for name, by_tokens in times.items()
        for tokens, us in by_tokens.items()
    ]
    if "decode" in times:
        rows.append(Row(contender="decode", tokens=1024, problem="ValueError: at most 128 tokens"))
    rows += [Row(contender="humming-w4a8", tokens=point.tokens, problem=MISSING) for point in points]
    return MoeResult(SETTINGS, ENVIRONMENT, 4.3e12, points, rows)
