"""Which SGLang this package was tested on, and which one is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

from sglang_glm52.errors import HostMismatchError

TESTED = SpecifierSet("==0.5.13.post1")


def host_version() -> str:
    """Version of the installed SGLang; HostMismatchError if there is none."""
    try:
        return version("sglang")
    except PackageNotFoundError:
        raise HostMismatchError(f"SGLang is not installed; run: pip install 'sglang{TESTED}'") from None


def is_tested(installed: str) -> bool:
    """Whether this package was tested on SGLang `installed`; a local label ("+cu130") makes no difference."""
    return TESTED.contains(installed, prereleases=True)


def check_host_version(installed: str) -> None:
    """Raise HostMismatchError unless SGLang `installed` is one this package was tested on."""
    if not is_tested(installed):
        raise HostMismatchError(
            f"SGLang {installed} is installed, but this plugin changes private parts of SGLang and was tested on "
            f"{TESTED} only; run: pip install 'sglang{TESTED}', or take a release of sglang-glm52 made for {installed}"
        )
