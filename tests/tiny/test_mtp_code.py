"""Checkpoints with a set MTP acceptance: what both models answer is known beforehand, whatever the context."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.cli import main
from sglang_glm52.errors import ConfigError
from sglang_glm52.testing.torch_model import TorchGlm52
from sglang_glm52.testing.torch_weights import read_weights
from sglang_glm52.tiny import build
from sglang_glm52.tiny.mtp_code import MAX_OVERLAP, MtpCode, accept_lengths, expected_accept_length
from sglang_glm52.tiny.mtp_values import CODE, FLAG, CodedValues, layers_std
from sglang_glm52.tiny.presets import make_config
from sglang_glm52.tiny.tokenizer import STOP_TOKENS, VOCAB_SIZE, token_id
from sglang_glm52.tiny.values import PRINTABLE, Values

LENGTHS = (1, 63, 64, 65, 520)  # on both sides of index_topk
LEAST_LEAD = 10.0  # nats between the known answer and the next; measured: 13 to 17
NUM_STEPS = 5


def code_of(acceptance: float, preset: str = "cpu", seed: int = 0) -> MtpCode:
    arch = Glm52Arch.from_config(make_config(preset, {}))
    return CodedValues.make(Values(arch, seed), acceptance).code


def prompts(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCAB_SIZE - 1, (length,), generator=generator) for length in LENGTHS]


def assert_leads(label: str, logits: torch.Tensor, winners: list[int]) -> None:
    """Every row's argmax is the one given, and by LEAST_LEAD."""
    best = logits.topk(2, dim=1)
    assert best.indices[:, 0].tolist() == winners, label
    lead = float((best.values[:, 0] - best.values[:, 1]).min())
    assert lead > LEAST_LEAD, f"{label}: {lead:.1f} nats"


@pytest.mark.parametrize("fmt", ["bf16", "fp8", "w4afp8"])
@pytest.mark.parametrize("acceptance", [1.0, 0.6, 0.0])
def test_both_models_answer_as_the_code_says(fmt: str, acceptance: float, tmp_path: Path) -> None:
    model = TorchGlm52.from_checkpoint(build(tmp_path / "model", fmt=fmt, mtp_acceptance=acceptance))
    code = code_of(acceptance)
    for ids in prompts(seed=1):
        label = f"{fmt}, {acceptance}, {len(ids)} tokens"
        logits, hidden = model.target(ids)
        assert_leads(f"{label}, target", logits, [code.successor[token] for token in ids.tolist()])
        next_ids = torch.cat([ids[1:], logits[-1:].argmax(dim=1)])
        drafted = [code.drafted[token] for token in next_ids.tolist()]
        assert_leads(f"{label}, MTP", model.mtp(next_ids, hidden)[0], drafted)
        for shares_selection in (True, False):
            token, expected = int(next_ids[-1]), []
            for _ in range(NUM_STEPS):
                expected.append(token := code.drafted[token])
            steps = model.draft_round(ids, NUM_STEPS, shares_selection)
            assert_leads(f"{label}, steps, {shares_selection=}", steps, expected)


def test_the_gpu_presets_model_does_too(tmp_path: Path) -> None:
    overrides = {"num_hidden_layers": 3, "n_routed_experts": 16}  # the widths are what is checked
    model = TorchGlm52.from_checkpoint(build(tmp_path / "model", "gpu", overrides=overrides, mtp_acceptance=0.6))
    code, ids = code_of(0.6, "gpu"), torch.arange(VOCAB_SIZE)
    logits, hidden = model.target(ids)
    assert_leads("target", logits, list(code.successor))
    assert_leads("MTP", model.mtp(ids, hidden)[0], list(code.drafted))


def test_other_tokens_still_depend_on_the_context(tmp_path: Path) -> None:
    model = TorchGlm52.from_checkpoint(build(tmp_path / "model", mtp_acceptance=0.6))
    ids, changed = prompts(2)[-1], prompts(3)[-1]
    changed[-1] = ids[-1]
    difference = model.target(ids)[0][-1].log_softmax(0) - model.target(changed)[0][-1].log_softmax(0)
    assert difference.std() > 0.3  # nats


def test_layers_add_no_more_than_the_gain_allows_for(tmp_path: Path) -> None:
    """The premise of `CodedValues.gain`."""
    model = TorchGlm52.from_checkpoint(build(tmp_path / "model", mtp_acceptance=0.6))
    ids = prompts(4)[-1]
    embedded = model.weights["model.embed_tokens.weight"][ids]
    hidden = model.target(ids)[1] / model.weights["model.norm.weight"]
    hidden = hidden / hidden[:, CODE].abs()[:, :1]  # undo the norm: the code was 1
    assert (hidden[:, CODE] - embedded[:, CODE]).abs().max() < 1e-4
    assert 0.5 * layers_std(model.arch) < (hidden - embedded)[:, CODE.stop :].std() < layers_std(model.arch)


@pytest.mark.parametrize("fmt", ["bf16", "fp8"])
def test_only_the_reserved_channels_differ_from_plain_noise(fmt: str, tmp_path: Path) -> None:
    plain = read_weights(build(tmp_path / "plain", fmt=fmt))
    coded = read_weights(build(tmp_path / "coded", fmt=fmt, mtp_acceptance=0.6))
    assert plain.keys() == coded.keys()
    keep = torch.ones(128, dtype=torch.bool)
    keep[FLAG] = keep[CODE] = False
    columns = ("embed_tokens.weight", "lm_head.weight")
    for name, weight in plain.items():
        if name.endswith(columns):
            assert torch.equal(weight[:, keep], coded[name][:, keep]), name
        elif name.endswith(("norm.weight", "enorm.weight", "eh_proj.weight", "o_proj.weight", "down_proj.weight")):
            if len(weight) == 128 and fmt == "bf16":  # a block's largest weight may stand in a reserved row
                assert torch.equal(weight[keep], coded[name][keep]), name
        else:
            assert torch.equal(weight, coded[name]), name


def test_the_checkpoint_depends_on_the_arguments_alone(tmp_path: Path) -> None:
    first, again = (build(tmp_path / name, mtp_acceptance=0.5) for name in ("first", "again"))
    for file in first.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    assert (first / "config.json").read_bytes() == (build(tmp_path / "plain") / "config.json").read_bytes()


@pytest.mark.parametrize("seed", [0, 1])
def test_cycles_and_codes(seed: int) -> None:
    code = code_of(0.6, seed=seed)
    text, token = [], PRINTABLE[0]
    while token not in text:
        text.append(token)
        token = code.successor[token]
    assert sorted(text) == list(PRINTABLE) and text != list(PRINTABLE)
    others = [token_id(STOP_TOKENS[0])]
    while (token := code.successor[others[-1]]) != others[0]:
        others.append(token)
    assert sorted(others + text) == list(range(VOCAB_SIZE - 1))
    assert {token_id(name) for name in STOP_TOKENS} <= set(others)
    assert code.successor[code.decoy] == code.decoy == VOCAB_SIZE - 1
    assert len(code.misled & set(text)) == round(0.4 * len(text))
    assert len(code.misled & set(others)) == round(0.4 * len(others))
    products = code.signs @ code.signs.T
    assert products.fill_diagonal_(0).abs().max() <= MAX_OVERLAP


def test_another_acceptance_changes_the_misled_tokens_alone() -> None:
    few, many, all_tokens = code_of(0.9), code_of(0.3), code_of(0.0)
    assert few.successor == many.successor and torch.equal(few.signs, many.signs)
    assert few.misled < many.misled < all_tokens.misled == set(range(VOCAB_SIZE - 1))
    assert code_of(1.0).misled == set() and code_of(0.6, seed=1).successor != few.successor


def test_rounds_are_counted_by_walking() -> None:
    successor = (1, 2, 3, 4, 0)
    rounds = list(islice(accept_lengths(successor, {2}, start=0, num_steps=2), 5))
    assert rounds == [(0, 3), (3, 3), (1, 2), (3, 3), (1, 2)]  # 0 1 2 right; 3 4 0 right; 1 right, 2 misled
    assert expected_accept_length(successor, {2}, start=0, num_steps=2) == 2.5  # the first round never comes again
    assert expected_accept_length(successor, {2}, start=0, num_steps=1) == pytest.approx(5 / 3)
    assert expected_accept_length(successor, {2}, start=0, num_steps=0) == 1.0


@pytest.mark.parametrize("num_steps", [1, 2, 3, 5])
def test_expected_accept_length_is_near_that_of_independent_drafts(num_steps: int) -> None:
    start = ord("A")
    for acceptance in (0.0, 0.3, 0.6, 0.9, 1.0):
        code = code_of(acceptance)
        got = expected_accept_length(code.successor, code.misled, start, num_steps)
        independent = sum(acceptance**draft for draft in range(num_steps + 1))
        assert got == pytest.approx(independent, rel=0.0 if acceptance in (0.0, 1.0) else 0.25), acceptance


@pytest.mark.parametrize(
    ("acceptance", "overrides", "message"),
    [
        (1.1, {}, "1.1 is not a probability"),
        (-0.1, {}, "-0.1 is not a probability"),
        (float("nan"), {}, "nan is not a probability"),
        (0.5, {"num_nextn_predict_layers": 0}, "without an MTP layer has no MTP acceptance"),
        (0.5, {"hidden_size": 64}, "hidden_size must be at least 128, got 64"),
        (0.5, {"vocab_size": 64}, "vocab_size 64 does not hold the printable bytes"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(acceptance, overrides, message, tmp_path) -> None:
    with pytest.raises(ConfigError, match=message):
        build(tmp_path / "model", overrides=overrides, mtp_acceptance=acceptance)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys) -> None:
    assert main(["tiny", str(tmp_path / "model"), "--mtp-acceptance", "0.6"]) == 0
    assert "seed 0, MTP acceptance 0.6" in capsys.readouterr().out
    coded = read_weights(tmp_path / "model")["model.embed_tokens.weight"]
    assert coded[:, FLAG].nonzero().flatten().tolist() == sorted(code_of(0.6).misled)
    assert main(["tiny", str(tmp_path / "other"), "--mtp-acceptance", "2"]) == 2
    assert "2.0 is not a probability" in capsys.readouterr().err
