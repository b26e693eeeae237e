"""Refuse more than one tokenizer worker for GLM-5.2.

The host assumes that plugins matter to the processes it loads them in; workers of `--tokenizer-worker-num` are started
by the HTTP server and load none, yet they are the ones that parse reasoning and tool calls. Hooked here because this is
the last check of the arguments before processes are started, in a process that has loaded the plugins. Read in
0.5.13.post1 (`server_args.py`, `check_server_args`; `entrypoints/http_server.py`). Without the hook such a server
answers with the host's parsers, and nothing says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang_glm52.arch import is_glm52
from sglang_glm52.errors import ConfigError

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs


def refuse_tokenizer_workers(self: ServerArgs) -> None:
    """BEFORE `ServerArgs.check_server_args`."""
    if self.tokenizer_worker_num > 1 and is_glm52(self.get_model_config().hf_config):
        raise ConfigError(
            f"--tokenizer-worker-num {self.tokenizer_worker_num}: SGLang loads no plugin in tokenizer workers, so they "
            "would parse GLM-5.2's output without this one; leave the option out"
        )
