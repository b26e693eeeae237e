import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_glm52.bench.speculation import Speculation, decode_phase, round_phase, speculation_of
from sglang_glm52.errors import ConfigError


@pytest.mark.parametrize("text", ["1-1-2", "3-1-4", "5-1-6"])
def test_a_setting_is_read_and_written_alike(text):
    assert str(Speculation.from_text(text)) == text


@pytest.mark.parametrize("text", ["", "3", "3-1", "3-1-4-5", "a-1-4", "0-1-1", "3--4", "-3-1-4", "3.0-1-4", "³-1-4"])
def test_what_is_not_three_positive_numbers_is_refused(text):
    with pytest.raises(ConfigError, match="expected STEPS-TOPK-DRAFT_TOKENS, three positive numbers such as 3-1-4"):
        Speculation.from_text(text)


def test_a_tree_is_refused_with_the_chain_instead():
    with pytest.raises(ConfigError, match="3-4-8: top-k 4, but GLM-5.2 is served with chains; use 3-1-4"):
        Speculation.from_text("3-4-8")


@pytest.mark.parametrize("text", ["3-1-3", "3-1-5"])
def test_another_number_of_draft_tokens_is_refused_with_the_right_one(text):
    with pytest.raises(ConfigError, match=f"3 steps .* are 4 tokens to verify, found {text[-1]}; use 3-1-4"):
        Speculation.from_text(text)


def test_tokens_of_a_round():
    three = Speculation(3, 1, 4)
    assert [three.tokens_per_round(p) for p in (0.0, 0.5, 1.0)] == [1.0, 1.875, 4.0]


@given(steps=st.integers(1, 10), p=st.floats(0.0, 0.99))
def test_tokens_of_a_round_are_the_geometric_sum(steps, p):
    found = Speculation(steps, 1, steps + 1).tokens_per_round(p)
    assert found == pytest.approx((1 - p ** (steps + 1)) / (1 - p)) and 1.0 <= found <= steps + 1


def test_a_phase_tells_its_setting():
    three = Speculation(3, 1, 4)
    name = round_phase(three, 16)
    assert name == "EAGLE 3-1-4 batch 16" and speculation_of(name, batch=16) == three
    assert speculation_of(name, batch=1) is None and speculation_of(decode_phase(16), batch=16) is None


def test_flags():
    flags = Speculation(5, 1, 6).flags()
    assert flags["--speculative-num-steps"] == ["5"] and flags["--speculative-num-draft-tokens"] == ["6"]
