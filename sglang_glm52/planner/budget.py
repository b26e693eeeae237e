"""One GPU's memory, added up, and how many tokens fit into it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sglang_glm52.planner.constants import (
    MAX_MEM_FRACTION,
    MEM_FRACTION_STEP,
    START_BYTES,
    START_BYTES_ONE_GPU,
    Constant,
)
from sglang_glm52.planner.kv import KvBytes, kv_bytes, pool_tokens, slots
from sglang_glm52.planner.model import Model
from sglang_glm52.planner.scenario import Scenario, check_scenario
from sglang_glm52.planner.weights import MTP, weight_bytes
from sglang_glm52.planner.workspaces import Workspace, prefill_workspaces, standing_workspaces


@dataclass(frozen=True, slots=True)
class Plan:
    """What a server would do with one GPU's memory; all sizes are bytes on one GPU."""

    model: Model
    scenario: Scenario
    start: Constant  # in use before weights are loaded
    weights: Mapping[str, int]  # by kind, all that the server loads
    kv: KvBytes  # a token
    mem_fraction_static: float
    max_tokens: int  # in the pool of one DP rank: the server's max_total_num_tokens
    workspaces: tuple[Workspace, ...]

    @property
    def weights_per_gpu(self) -> int:
        return sum(self.weights.values())

    @property
    def pool_bytes(self) -> int:
        return slots(self.max_tokens) * self.kv.total

    def used_bytes(self, *, without: Collection[str] = ()) -> int:
        """In use in a long prefill, all workspaces at their peaks but those of these names."""
        workspaces = sum(workspace.num_bytes for workspace in self.workspaces if workspace.name not in without)
        return int(self.start.value) + self.weights_per_gpu + self.pool_bytes + workspaces

    @property
    def left_bytes(self) -> int:
        """Unused; below 0 the server runs out of memory, at start or in its first long prefill."""
        return self.scenario.gpu.total_bytes - self.used_bytes()

    @property
    def tokens_needed(self) -> int:
        """In the pool of one DP rank."""
        return self.scenario.concurrency_per_rank * self.scenario.context

    @property
    def full_requests(self) -> int:
        """Requests of the whole context that fit at a time, all DP ranks together."""
        return self.max_tokens // self.scenario.context * self.scenario.parallel.dp


def make_plan(model: Model, scenario: Scenario) -> Plan:
    """Size everything; ConfigError for a scenario that no server would start with."""
    check_scenario(model.arch, scenario)
    loaded = weight_bytes(model, scenario.parallel)
    if scenario.mem_fraction_static is not None:
        return _plan(model, scenario, loaded, scenario.mem_fraction_static)
    steps = range(round(MAX_MEM_FRACTION / MEM_FRACTION_STEP), 0, -1)
    plans = [_plan(model, scenario, loaded, round(step * MEM_FRACTION_STEP, 3)) for step in steps]
    return next((plan for plan in plans if plan.left_bytes >= 0), plans[0])


def _plan(model: Model, scenario: Scenario, loaded: Mapping[str, int], mem_fraction_static: float) -> Plan:
    arch, use_mtp = model.arch, scenario.use_mtp
    start = START_BYTES if scenario.parallel.tp > 1 else START_BYTES_ONE_GPU
    target = {kind: count for kind, count in loaded.items() if kind != MTP}
    weights = loaded if use_mtp else target
    kv = kv_bytes(arch, scenario.kv_dtype, scenario.pool, use_mtp=use_mtp)
    free = scenario.gpu.total_bytes - int(start.value)
    max_tokens = pool_tokens(free, sum(target.values()), mem_fraction_static, kv)
    return Plan(
        model=model,
        scenario=scenario,
        start=start,
        weights=weights,
        kv=kv,
        mem_fraction_static=mem_fraction_static,
        max_tokens=max_tokens,
        workspaces=standing_workspaces(arch, scenario) + prefill_workspaces(arch, scenario),
    )
