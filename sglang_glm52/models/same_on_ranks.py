"""What must be the same on all ranks, which on several nodes are started one by one."""

from __future__ import annotations

import torch.distributed as dist

from sglang_glm52 import __version__
from sglang_glm52.env import Settings, settings, variables
from sglang_glm52.errors import ConfigError


def check_same_on_ranks(group: dist.ProcessGroup) -> None:
    """Raise ConfigError on every rank of `group` if this package's version or variables differ between them.

    Ranks that go different ways would wait for each other in a collective without end.
    """
    mine = {"the version of sglang-glm52": __version__}
    mine |= {name: getattr(settings(), field.name) for name, field in variables(Settings).items()}
    everyones: list[dict[str, object]] = [{}] * group.size()
    dist.all_gather_object(everyones, mine, group=group)
    first, *others = everyones
    for name, value in first.items():
        for rank, theirs in enumerate(others, start=1):
            if theirs.get(name) != value:
                raise ConfigError(
                    f"{name} is {value} on rank 0 and {theirs.get(name)} on rank {rank}; start every node with the "
                    "same environment"
                )
