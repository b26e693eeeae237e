"""The records themselves, and the document made from them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from sglang_glm52.host import docs
from sglang_glm52.host.ledger import HOOKS, REGISTRATIONS
from sglang_glm52.host.version import is_tested

ROOT = Path(__file__).parents[2]
HOOK_FILES = sorted(f for f in (ROOT / "sglang_glm52/host/hooks").glob("*.py") if f.stem != "__init__")
TESTED_VERSIONS = ("0.5.13.post1",)


def test_tested_versions_are_the_hosts():
    assert all(is_tested(version) for version in TESTED_VERSIONS)


def test_one_file_a_hook_and_one_hook_a_file():
    assert sorted(spec.name for spec in HOOKS) == [file.stem for file in HOOK_FILES]


@pytest.mark.parametrize("spec", HOOKS, ids=lambda spec: spec.name)
def test_a_record_is_whole(spec):
    assert spec.impl.startswith(f"sglang_glm52.host.hooks.{spec.name}:")
    assert re.fullmatch(r"sglang(\.\w+)+", spec.target)
    assert re.match(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+$|none: \S", spec.upstream), spec.upstream
    assert spec.reason.endswith(".") and spec.drop_when
    hosts = SpecifierSet(spec.hosts)
    assert any(hosts.contains(v, prereleases=True) for v in TESTED_VERSIONS), "no tested host needs it: delete the hook"


@pytest.mark.parametrize("file", HOOK_FILES, ids=lambda file: file.stem)
def test_a_hook_file_offers_one_name_and_says_what_it_is_for(file):
    tree = ast.parse(file.read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    defined = [node.name for node in tree.body if isinstance(node, kinds) and node.name[0] != "_"]
    exported = [ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and "__all__" in ast.dump(n)]
    assert len(exported[0] if exported else defined) == 1
    docstring = " ".join(ast.get_docstring(tree).split())
    assert "The host assumes" in docstring and "Read in" in docstring and "Without" in docstring


@pytest.mark.parametrize("registration", REGISTRATIONS, ids=lambda registration: registration.name)
def test_a_registration_names_both_sides(registration):
    assert re.fullmatch(r"sglang(\.\w+)+:\w+(\.\w+)*", registration.registry)
    assert re.fullmatch(r"sglang_glm52(\.\w+)+:\w+", registration.provider)
    assert registration.reason.endswith(".")


def test_names_are_unique():
    names = [spec.name for spec in HOOKS] + [registration.name for registration in REGISTRATIONS]
    assert len(names) == len(set(names))


def test_the_document_is_up_to_date():
    assert (ROOT / "docs/hooks.md").read_text() == docs.hooks_markdown(), docs.__doc__
