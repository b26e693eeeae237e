"""The same conversion on a GPU."""

from __future__ import annotations

import json

import pytest
from quantize.checkpoints import contents

from sglang_glm52.quantize.convert import convert
from sglang_glm52.quantize.verify import verify

pytestmark = pytest.mark.gpu
REPORT = "quantize_report.json"


@pytest.mark.parametrize("fmt", ["fp8", "bf16"])
def test_a_gpu_writes_what_a_cpu_writes(fmt, request, tmp_path):
    """Both round alike. Only sums may differ in their last bits, and with them the choice between two scales."""
    source, on_cpu = request.getfixturevalue(fmt), request.getfixturevalue(f"from_{fmt}")
    report = convert(source, tmp_path / "out", device="cuda", workers=3)
    assert verify(source, tmp_path / "out").problems == ()
    written, expected = contents(tmp_path / "out"), contents(on_cpu)
    same = [name for name in expected if written[name] == expected[name]]
    assert {name for name in expected if not name.endswith(".safetensors")} - {REPORT} <= set(same)
    errors = json.loads(expected[REPORT])["int4_error"]["all"]
    assert report["int4_error"]["all"] == pytest.approx(errors, rel=1e-5)
