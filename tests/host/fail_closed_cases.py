"""Start the plugin in processes where something is wrong, as SGLang would, and print what came of it as JSON.

Run as a program by test_fail_closed.py. One process imports SGLang, which takes most of the time, and forks one child a
case.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pkgutil
from collections.abc import Callable
from dataclasses import replace

from packaging.specifiers import SpecifierSet
from sglang.srt.function_call.function_call_parser import FunctionCallParser
from sglang.srt.layers.attention.attention_registry import ATTENTION_BACKENDS
from sglang.srt.models.registry import ModelRegistry
from sglang.srt.parser.reasoning_parser import ReasoningParser
from sglang.srt.plugins import load_plugins
from sglang.srt.plugins.hook_registry import HookRegistry

from sglang_glm52.host import guard, ledger, version

ARCHITECTURE = "GlmMoeDsaForCausalLM"
GOOD_HOOK = ledger.HOOKS[0]


def nothing() -> None:
    """Leave everything as it is."""


def renamed_target() -> None:
    _use_hooks(GOOD_HOOK, replace(GOOD_HOOK, name="broken", target=GOOD_HOOK.target + "_renamed"))


def changed_signature() -> None:
    _use_hooks(GOOD_HOOK, replace(GOOD_HOOK, name="broken", needs=("parameter_of_another_version",)))


def untested_version() -> None:
    version.TESTED = SpecifierSet("==0.4.0")


def bad_variable() -> None:
    os.environ["SGLANG_GLM52_NO_SUCH_VARIABLE"] = "1"


def model_does_not_import() -> None:
    ledger.REGISTRATIONS = tuple(
        replace(r, provider="sglang_glm52.models.gone:Model") if r.key == ARCHITECTURE else r
        for r in ledger.REGISTRATIONS
    )


def hook_not_applied() -> None:
    apply = HookRegistry._apply_target

    def fail_on_one(target: str, hooks: list) -> None:
        if target == GOOD_HOOK.target:
            raise TypeError("the host fails to apply this hook")
        apply(target, hooks)

    HookRegistry._apply_target = fail_on_one


def plugin_not_loaded() -> None:
    os.environ["SGLANG_PLUGINS"] = "another"
    # a user who leaves the plugin out gets the host's class; who builds ours without loading it is refused
    ModelRegistry.models[ARCHITECTURE] = pkgutil.resolve_name("sglang_glm52.models.glm52:GlmMoeDsaForCausalLM")


CASES: tuple[Callable[[], None], ...] = (
    nothing,
    renamed_target,
    changed_signature,
    untested_version,
    bad_variable,
    model_does_not_import,
    hook_not_applied,
    plugin_not_loaded,
)


def _use_hooks(*specs: object) -> None:
    ledger.HOOKS = guard.HOOKS = specs


def _host_state() -> dict[str, int]:
    """Identity of everything this plugin may change for other models."""
    targets = {spec.target: pkgutil.resolve_name(spec.target) for spec in ALL_HOOKS}
    tables = {f"models[{k!r}]": v for k, v in ModelRegistry.models.items() if k != ARCHITECTURE}
    tables |= {f"attention[{k!r}]": v for k, v in ATTENTION_BACKENDS.items()}
    tables |= {f"tool_call[{k!r}]": v for k, v in FunctionCallParser.ToolCallParserEnum.items()}
    tables |= {f"reasoning[{k!r}]": v for k, v in ReasoningParser.DetectorMap.items()}
    return {name: id(value) for name, value in (targets | tables).items()}


def _run(case: Callable[[], None], connection: object) -> None:
    case()
    before = _host_state()
    load_plugins()
    after = _host_state()
    refusal = ""
    try:
        ModelRegistry.resolve_model_cls([ARCHITECTURE])[0](config=None)
    except Exception as error:  # reported, and judged by the test
        refusal = f"{type(error).__name__}: {error}"
    llama = ModelRegistry.resolve_model_cls(["LlamaForCausalLM"])[0]
    changed = sorted(name for name in before if before[name] != after[name])
    connection.send({"refusal": refusal, "llama": llama.__module__, "changed": changed})


ALL_HOOKS = ledger.HOOKS


def main() -> None:
    context = multiprocessing.get_context("fork")
    results = {}
    for case in CASES:
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_run, args=(case, sender))
        child.start()
        sender.close()
        results[case.__name__] = receiver.recv()
        child.join()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
