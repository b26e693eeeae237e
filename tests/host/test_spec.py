"""Hooks on a stand-in host module, through SGLang's own hook registry."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from sglang.srt.plugins.hook_registry import HookRegistry

from sglang_glm52.errors import HostMismatchError
from sglang_glm52.host.spec import HookSpec, install_hooks, require_hooks, wanted_hooks

HOST = """
    class Gate:
        def forward(self, hidden):
            return hidden

        @classmethod
        def build(cls, size):
            return size

    def route(logits, topk):
        return logits[:topk]

    TOPK = 8
"""
IMPLS = """
    import host_stand_in

    def double(original, *args, **kwargs):
        return 2 * original(*args, **kwargs)

    def swapped(original, topk, logits):
        return original(logits, topk)

    class Gate(host_stand_in.Gate):
        def forward(self, hidden):
            return -hidden
"""
FORWARD = HookSpec(
    name="forward",
    target="host_stand_in.Gate.forward",
    kind="around",
    impl="hook_stand_in:double",
    needs=("hidden",),
    when="always",
    reason="it is needed",
    upstream="none: a test",
    hosts="==1.0",
    drop_when="never",
)
BUILD = replace(FORWARD, name="build", target="host_stand_in.Gate.build", needs=("size",))
ROUTE = replace(FORWARD, name="route", target="host_stand_in.route", needs=("topk",))


@pytest.fixture(autouse=True)
def host(make_module, monkeypatch):
    monkeypatch.setattr(HookRegistry, "_hooks", defaultdict(list))
    monkeypatch.setattr(HookRegistry, "_patched", set())
    host = make_module("host_stand_in", HOST)
    make_module("hook_stand_in", IMPLS)
    return host


def test_installed_and_applied_hooks_pass_and_work(host):
    originals = install_hooks([FORWARD, BUILD])
    HookRegistry.apply_hooks()
    require_hooks([FORWARD, BUILD], originals)
    assert host.Gate().forward(3) == 6
    assert host.Gate.build(5) == 10


def test_a_class_is_replaced(host):
    spec = replace(FORWARD, target="host_stand_in.Gate", kind="replace", impl="hook_stand_in:Gate", needs=())
    originals = install_hooks([spec])
    HookRegistry.apply_hooks()
    require_hooks([spec], originals)
    assert host.Gate().forward(3) == -3


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (replace(ROUTE, target="host_stand_in.route_tokens"), "host_stand_in.route_tokens"),
        (replace(ROUTE, target="host_stand_in.Router.forward"), "Router"),
        (replace(ROUTE, target="host_gone.route"), "host_gone"),
        (replace(ROUTE, needs=("top_k",)), r"no parameter top_k; it has \(logits, topk\)"),
        (replace(ROUTE, impl="hook_stand_in:swapped"), r"hook expects \(topk, logits\)"),
        (replace(ROUTE, impl="hook_stand_in:gone"), "gone"),
        (replace(ROUTE, target="host_stand_in.TOPK"), "is a int"),
    ],
    ids=["renamed", "class-renamed", "module-gone", "parameter-renamed", "parameters-swapped", "no-impl", "a-value"],
)
def test_one_misfit_leaves_the_host_unchanged(host, broken, words):
    forward = host.Gate.forward
    with pytest.raises(HostMismatchError, match=rf"hook route does not fit this SGLang: .*{words}"):
        install_hooks([FORWARD, broken])
    HookRegistry.apply_hooks()
    assert host.Gate.forward is forward and not HookRegistry._hooks


def test_a_hook_the_host_did_not_apply_is_named():
    originals = install_hooks([FORWARD, BUILD, ROUTE])
    HookRegistry._hooks.pop(BUILD.target)
    HookRegistry.apply_hooks()
    with pytest.raises(HostMismatchError, match=r"not applied in this process: build on host_stand_in\.Gate\.build;"):
        require_hooks([FORWARD, BUILD, ROUTE], originals)


@pytest.mark.parametrize(
    ("when", "hosts", "engine", "is_wanted"),
    [
        ("always", "==1.0", "cpu", True),
        ("cpu", "==1.0", "cpu", True),
        ("cuda", "==1.0", "cpu", False),
        ("cpu", "==1.0", "cuda", False),
        ("always", ">=1.1", "cuda", False),
        ("always", ">=0.5.13rc1,<2", "cuda", True),
    ],
)
def test_hooks_are_picked_by_engine_and_host_version(when, hosts, engine, is_wanted):
    spec = replace(FORWARD, when=when, hosts=hosts)
    assert wanted_hooks([spec], "1.0", engine) == ([spec] if is_wanted else [])
