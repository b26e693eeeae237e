"""Entries in a stand-in registry."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from sglang_glm52.errors import HostMismatchError
from sglang_glm52.host.registries import Registration, add_registrations, require_registrations, wanted_registrations

HOST = """
    class Registry:
        models = {"GlmMoeDsaForCausalLM": "the host's"}
        archs = []
"""
MODEL = Registration(
    name="model",
    registry="registry_stand_in:Registry.models",
    key="GlmMoeDsaForCausalLM",
    provider="provider_stand_in:Model",
    when="always",
    reason="a test",
)


@pytest.fixture(autouse=True)
def _modules(write_module):
    write_module("registry_stand_in", HOST)
    write_module("provider_stand_in", "class Model: ...")


def add(registration):
    providers, failures = {}, []
    add_registrations([registration], providers, failures.append)
    host = importlib.import_module("registry_stand_in")
    return host, providers, failures


def test_the_entry_is_written_when_the_registry_is_imported():
    host, providers, failures = add(MODEL)
    assert host.Registry.models["GlmMoeDsaForCausalLM"].__name__ == "Model"
    assert not failures
    require_registrations([MODEL], providers)


def test_an_entry_overwritten_later_is_refused():
    host, providers, _ = add(MODEL)
    host.Registry.models["GlmMoeDsaForCausalLM"] = "another plugin's"
    with pytest.raises(HostMismatchError, match=r"\['GlmMoeDsaForCausalLM'\] is no longer provider_stand_in:Model"):
        require_registrations([MODEL], providers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"registry": "registry_stand_in:Registry.gone"}, "gone"),
        ({"registry": "registry_stand_in:Registry.archs"}, "is a list, not a dict"),
        ({"provider": "provider_stand_in:Gone"}, "Gone"),
        ({"provider": "provider_gone:Model"}, "No module named 'provider_gone'"),
    ],
)
def test_a_misfit_is_reported_and_the_host_import_goes_on(change, words):
    host, providers, failures = add(replace(MODEL, **change))
    assert host.Registry.models == {"GlmMoeDsaForCausalLM": "the host's"} and not providers
    assert len(failures) == 1 and words in str(failures[0]) and "registration model" in str(failures[0])


def test_registrations_are_picked_by_engine():
    on_cpu = replace(MODEL, when="cpu")
    assert wanted_registrations([MODEL, on_cpu], "cuda") == [MODEL]
    assert wanted_registrations([MODEL, on_cpu], "cpu") == [MODEL, on_cpu]
