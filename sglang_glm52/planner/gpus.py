"""GPUs by name, with the memory that the driver leaves to programs (`torch.cuda.mem_get_info`, the total)."""

from __future__ import annotations

from dataclasses import dataclass

from sglang_glm52.errors import ConfigError
from sglang_glm52.planner.constants import GIB

# What nvidia-smi shows for an H200, 143,771 MiB, is 0.59 GiB more than a program sees.
_SMI_H200 = "nvidia-smi: 143,771 MiB; programs see 139.81 GiB, https://github.com/modelscope/ms-swift/issues/9191"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU."""

    name: str
    total_bytes: int
    source: str
    is_hopper: bool = True

    @property
    def total_gib(self) -> float:
        return self.total_bytes / GIB


def _gpu(name: str, gib: float, source: str, *, is_hopper: bool = True) -> Gpu:
    return Gpu(name, int(gib * GIB), source, is_hopper)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("h100-80", 79.11, "the least of the totals in torch's out-of-memory messages, 79.11 to 79.18 GiB"),
        _gpu("h200-141", 139.81, _SMI_H200),
        _gpu("h20-96", 94.99, "nvidia-smi: 97,871 MiB, less what an H200's driver keeps"),
        _gpu("h20-141", 139.81, "nvidia-smi shows 143,771 MiB as for an H200"),
        _gpu("b200-192", 178.0, "https://github.com/sgl-project/sglang/pull/25453", is_hopper=False),
    )
}
ALIASES = {"h100": "h100-80", "h200": "h200-141", "h20": "h20-96", "h20-3e": "h20-141", "b200": "b200-192"}


def find_gpu(name: str) -> Gpu:
    """The GPU called `name`, in any case; ConfigError lists the known names."""
    key = name.lower()
    key = ALIASES.get(key, key)
    if key not in GPUS:
        raise ConfigError(
            f"--gpu {name}: unknown; expected one of {', '.join(sorted(GPUS | ALIASES))}, or give its memory with "
            "--gpu-memory-gib"
        )
    return GPUS[key]


def custom_gpu(gib: float, name: str = "custom") -> Gpu:
    """A GPU that leaves `gib` GiB to programs; ConfigError if that is not above 0."""
    if not gib > 0:
        raise ConfigError(f"--gpu-memory-gib {gib:g}: expected a number above 0, as torch.cuda.mem_get_info() gives")
    return _gpu(name, gib, "--gpu-memory-gib")
