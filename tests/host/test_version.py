from __future__ import annotations

import pytest

from sglang_glm52.errors import HostMismatchError
from sglang_glm52.host.version import check_host_version, host_version


@pytest.mark.parametrize("installed", ["0.5.13.post1", "0.5.13.post1+cu130", host_version()])
def test_tested_versions_pass(installed):
    check_host_version(installed)


@pytest.mark.parametrize("installed", ["0.5.12", "0.5.13", "0.5.13.post2", "0.5.14", "0.5.13.post1.dev2"])
def test_any_other_version_is_refused_with_both_versions_and_a_remedy(installed):
    with pytest.raises(HostMismatchError, match=rf"SGLang {installed} is installed.*==0\.5\.13\.post1.*pip install"):
        check_host_version(installed)
