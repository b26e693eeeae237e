"""The model class that stands in for GLM-5.2's where this plugin cannot work.

Without it the host's own class of that name would serve the model, without a word.
"""

from __future__ import annotations

from torch import nn

from sglang_glm52.errors import HostMismatchError
from sglang_glm52.host.state import STATE


class RefusedModel(nn.Module):
    """Raises the reason when it is built."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        super().__init__()
        raise HostMismatchError(f"GLM-5.2 is not served: {STATE.failure}") from STATE.failure
