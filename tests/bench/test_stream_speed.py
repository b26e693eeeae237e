import json

from bench.rounds_made_up import RESULTS, result

from sglang_glm52.bench.speculation import PROBABILITIES, Speculation
from sglang_glm52.bench.stream_speed import StreamSpeed, speed_numbers, stream_speeds


def test_speed_is_tokens_over_the_rounds_time():
    speed = StreamSpeed("ours", Speculation(3, 1, 4), step_ms=20.0)
    assert speed.tokens_per_second(0.0) == 50.0 and speed.tokens_per_second(1.0) == 200.0
    assert speed.tokens_per_second(0.5) == 1.875 / 0.020


def test_plain_decode_does_not_depend_on_acceptance():
    speed = StreamSpeed("ours", None, step_ms=10.0)
    assert {speed.tokens_per_second(p) for p in PROBABILITIES} == {100.0}


def test_only_batch_1_is_a_single_stream():
    labels = [speed.label for speed in stream_speeds(RESULTS)]
    assert labels == ["ours plain decode", "ours 1-1-2", "host 3-1-4", "ours 3-1-4"]
    assert stream_speeds({"ours": result("x", {"EAGLE 3-1-4 batch 16": RESULTS["host"]}, {})}) == []


def test_the_numbers_fit_a_json_line():
    found = json.loads(json.dumps(speed_numbers(stream_speeds(RESULTS)), allow_nan=False))
    assert found["ours 3-1-4"]["0.5"] == 93.75 and found["ours plain decode"]["1.0"] == 100.0
