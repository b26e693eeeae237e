"""`glm52 plan` as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sglang_glm52 import cli
from sglang_glm52.tiny import build

ROOT = Path(__file__).parents[2]
H200 = ("--gpu", "h200", "--gpus", "8", "--context", "1048576")


def glm52(*arguments: object) -> int:
    return cli.main(["plan", *map(str, arguments)])


def cells(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {name: values for name, *values in rows}


def test_the_table(capsys):
    assert glm52("--preset", "w4afp8", *H200) == 0
    text = capsys.readouterr().out
    table = cells(text)
    assert table["checkpoint, GB"] == ["399.69"] and table["KV bytes a token"] == ["53940"]
    assert table["requests of 1048576 tokens"] == ["1"] and table["fits"] == ["yes"]
    assert "w4afp8: fits\n  python -m sglang.launch_server --model-path PhalaCloud/GLM-5.2-W4AFP8 --tp 8" in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


def test_the_pool_is_sglangs_on_request(capsys):
    found = {}
    for pool in ("compact", "host"):
        assert glm52("--preset", "w4afp8", *H200, "--pool", pool) == 0
        found[pool] = capsys.readouterr().out
    assert glm52("--preset", "w4afp8", *H200) == 0
    assert capsys.readouterr().out == found["compact"]
    assert "fp8_e4m3 KV cache, host pool" in found["host"] and cells(found["host"])["KV bytes a token"] == ["61464"]
    assert "KV cache: indexer keys nothing reads" in cells(found["host"]).keys() - cells(found["compact"]).keys()
    assert "w4afp8: fits\n  SGLANG_GLM52_KV_POOL=host python -m sglang.launch_server" in found["host"]


def test_two_formats_side_by_side_and_one_does_not_fit(capsys):
    assert glm52("--preset", "w4afp8", "--preset", "fp8", *H200) == 1
    text = capsys.readouterr().out
    assert cells(text)["fits"] == ["yes", "no"] and cells(text)["checkpoint, GB"] == ["399.69", "755.62"]
    assert "fp8: does not fit: the KV cache holds " in text and text.count("launch_server") == 1


def test_json(capsys):
    assert glm52("--preset", "w4afp8", *H200, "--json", "--pool", "host", "--mtp", "--mem-fraction-static", "0.85") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is True and found["problem"] is None
    assert found["weights_bytes_total"] == 399_693_745_856
    assert found["weights_bytes_per_gpu"] == sum(found["weights_bytes_by_kind"].values())
    assert found["kv_bytes_per_token"] == 61464 + 788
    assert found["kv_bytes_per_token_by_part"]["of_these_never_read"] == 7524
    assert found["max_tokens"] % 64 == 0 and found["max_tokens"] > 1048576
    used = [found["weights_bytes_per_gpu"], found["kv_pool_bytes"], found["start_bytes"]["bytes"], found["left_bytes"]]
    assert sum(used) + sum(space["bytes"] for space in found["workspaces"].values()) == found["gpu_bytes"]


def test_json_of_what_does_not_fit(capsys):
    assert glm52("--preset", "w4afp8", "--gpu", "h100", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False and "GiB a GPU short" in found["problem"] and found["max_tokens"] < 1048576


def test_json_of_two_is_a_list(capsys):
    assert glm52("--preset", "w4afp8", "--preset", "fp8", "--context", "65536", "--json") == 0
    assert [one["format"] for one in json.loads(capsys.readouterr().out)] == ["w4afp8", "fp8"]


def test_a_checkpoint_and_its_config_alone(tmp_path, capsys):
    folder = build(tmp_path / "tiny", preset="gpu", fmt="w4afp8")
    found = []
    for path in (folder, folder / "config.json"):
        assert glm52(path, "--gpus", 1, "--json") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [one.pop("shapes_from") for one in found] == ["the headers of 2 shards", "config.json"]
    assert found[0] == found[1] and found[0]["context"] == 65536 and found[0]["model"] == str(folder)


def test_a_gpu_by_its_memory(capsys):
    assert glm52("--preset", "w4afp8", "--gpu-memory-gib", "94.5", "--context", "131072", "--json") == 0
    assert json.loads(capsys.readouterr().out)["gpu_bytes"] == int(94.5 * 2**30)


def test_a_gpu_that_the_server_refuses_is_said_to_be(capsys):
    glm52("--preset", "w4afp8", "--gpu", "b200")
    assert "b200-192 is not a Hopper GPU: the server refuses it" in capsys.readouterr().out


def test_the_picture(tmp_path, capsys):
    file = tmp_path / "plan.png"
    glm52("--preset", "w4afp8", "--preset", "fp8", "--plot", file)
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10_000
    assert "fits" in capsys.readouterr().out


def shown(document: str) -> list[tuple[str, str]]:
    """Each (arguments, output) of the blocks that show a command and what it prints."""
    text = (ROOT / document).read_text()
    return re.findall(r"^```\n\$ glm52 plan (.*?)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_document_shows_what_the_commands_print(capsys):
    blocks = shown("docs/memory.md")
    assert len(blocks) == 2
    for arguments, expected in blocks:
        glm52(*arguments.split())
        assert capsys.readouterr().out == expected


def test_the_readme_shows_the_same_without_the_sources(capsys):
    [(arguments, expected)] = shown("README.md")
    glm52(*arguments.split())
    assert re.sub(r"^sizes a GPU.*?(?=^w4afp8: )", "", capsys.readouterr().out, flags=re.M | re.S) == expected


def test_the_readme_shows_the_commands_that_are_printed(capsys):
    shown_commands = re.findall(r"^# glm52 plan (.*)\n(python -m .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(shown_commands) == 2
    for arguments, command in shown_commands:
        glm52(*arguments.split())
        assert f"\n  {command}\n" in capsys.readouterr().out


MISTAKES = {
    "no model": ((), "name either a checkpoint or --preset"),
    "two models": (("somewhere", "--preset", "fp8"), "name either a checkpoint or --preset"),
    "preset": (("--preset", "int3"), "--preset int3: unknown; expected one of w4afp8, fp8, bf16"),
    "gpu": (("--preset", "w4afp8", "--gpu", "a100"), "--gpu a100: unknown; expected one of b200"),
    "pool": (("--preset", "w4afp8", "--pool", "cpu"), "--pool cpu: unknown; expected one of compact, host"),
    "kv": (
        ("--preset", "w4afp8", "--kv-cache-dtype", "int8"),
        "--kv-cache-dtype int8: unknown; expected one of fp8_e4m3",
    ),
    "draft": (("--preset", "w4afp8", "--mtp", "--draft-tokens", "1"), "--draft-tokens 1: expected 2 or more"),
    "tp": (("--preset", "w4afp8", "--tp", "6"), "splits 64 heads over 6 GPUs"),
    "context": (("--preset", "w4afp8", "--context", "2000000"), "--context 2000000: expected 1 to 1048576"),
    "plot": (("--preset", "w4afp8", "--plot", "/nowhere/a.png"), "there is no folder /nowhere; create it first"),
    "checkpoint": (("/nowhere",), "/nowhere/config.json does not exist"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(case, capsys):
    arguments, message = MISTAKES[case]
    assert glm52(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("glm52 plan: ") and message in captured.err and captured.out == ""


def test_mtp_without_an_mtp_layer(tmp_path, capsys):
    folder = build(tmp_path / "tiny", overrides={"num_nextn_predict_layers": 0})
    assert glm52(folder, "--kv-cache-dtype", "bfloat16", "--gpus", 1, "--mtp") == 2
    assert "--mtp: the checkpoint has no MTP layer" in capsys.readouterr().err
