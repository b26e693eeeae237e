"""What `glm52 bench node` measures, and with which server."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from sglang_glm52.bench.speculation import Speculation
from sglang_glm52.bench.window_spec import Device
from sglang_glm52.planner.parallel import Parallel
from sglang_glm52.testing.server import CPU_ENVIRON

START, MEMORY, LONG, SINGLE, MANY = "start", "memory", "long", "single", "many"
PHASES = (MEMORY, LONG, SINGLE, MANY)  # in the order in which one server is measured
NO_SPECULATION = "none"
RUNNING_REQUESTS = 64  # --max-running-requests at least, as `glm52 plan` prints it
CPU_DTYPE = "float32"  # of a tiny model on the CPU engine


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """Settings that all rows of one file share. One server is started for each class and speculation."""

    model: str  # what is served, in words that stay: a folder without weights is another at each call
    model_dir: str
    form: str  # "bf16", "fp8" or "w4afp8"
    is_seeded: bool  # the folder has no weights: they are drawn from `seed`
    device: Device
    tp: int
    ep: int
    dp: int
    context_length: int
    mem_fraction_static: float
    chunk: int
    long: int  # tokens of the long prompt
    input: int  # tokens of the other prompts
    output: int  # new tokens of each of them
    concurrency: int
    repeats: int  # requests one after the other on each stream
    acceptance: float | None  # simulated: that a draft token is accepted, given those before it; None: the model's own
    seed: int
    server_args: tuple[str, ...]  # further words of the server's command line
    variables: dict[str, str]  # SGLANG_GLM52_* of the environment

    @property
    def parallel(self) -> Parallel:
        return Parallel(self.tp, self.ep, self.dp)

    @property
    def max_running_requests(self) -> int:
        return max(self.concurrency, RUNNING_REQUESTS)

    def settings(self) -> dict[str, Any]:
        """What must be equal for two rows to belong together, as JSON has it."""
        return {name: value for name, value in json.loads(json.dumps(asdict(self))).items() if name != "model_dir"}

    def server_flags(self, speculation: Speculation | None) -> list[str]:
        """Those of `python -m sglang.launch_server` after --model-path, --host and --port."""
        flags: dict[str, list[str]] = {
            "--tp": [str(self.tp)],
            "--disable-shared-experts-fusion": [],
            "--reasoning-parser": ["glm45"],
            "--tool-call-parser": ["glm47"],
            "--context-length": [str(self.context_length)],
            "--mem-fraction-static": [f"{self.mem_fraction_static:g}"],
            "--chunked-prefill-size": [str(self.chunk)],
            "--max-running-requests": [str(self.max_running_requests)],
            "--random-seed": [str(self.seed)],
            "--device": [self.device],
        }
        if self.ep > 1:
            flags["--ep-size"] = [str(self.ep)]
        if self.dp > 1:
            flags |= {"--dp-size": [str(self.dp)], "--enable-dp-attention": []}
        if self.is_seeded:
            flags["--load-format"] = ["dummy"]
        if self.device == "cuda":
            flags["--kv-cache-dtype"] = ["fp8_e4m3"]
            flags["--cuda-graph-max-bs"] = [str(-(-self.max_running_requests // self.dp))]
            if self.form == "w4afp8":
                flags["--quantization"] = ["w4afp8"]
        else:
            flags["--dtype"] = [CPU_DTYPE]
        if speculation is not None:
            flags |= speculation.flags()
        return [word for flag, values in flags.items() for word in (flag, *values)] + list(self.server_args)

    def server_environ(self, speculation: Speculation | None) -> dict[str, str]:
        """What a server's environment has beside this process's.

        The host draws each round's number of tokens around SGLANG_SIMULATE_ACC_LEN (`spec_utils.py`), which counts the
        token that the target model adds.
        """
        environ = {"PYTHONUNBUFFERED": "1"}
        if speculation is not None and self.acceptance is not None:
            environ["SGLANG_SIMULATE_ACC_LEN"] = f"{speculation.tokens_per_round(self.acceptance):.4f}"
        if self.device == "cpu":
            environ |= CPU_ENVIRON
            environ["SGLANG_CPU_OMP_THREADS_BIND"] = "|".join(map(str, range(self.tp)))  # the host's wants NUMA nodes
        return environ


def speculation_name(speculation: Speculation | None) -> str:
    return NO_SPECULATION if speculation is None else str(speculation)


def row_name(speculation: str, phase: str) -> str:
    """The name of a phase in the file: "none single", "3-1-4 many"."""
    return f"{speculation} {phase}"
