"""The pinned versions lie inside the declared bounds, on both sides of the Python version that splits them."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# Their versions are tied to jax's by jax itself, or differ with the hardware.
UNPINNED_EXTRAS = {"gpu", "tpu"}


def applying(lines: list[str], python: str) -> list[Requirement]:
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"python_version": python})]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_direct_dependency_is_pinned_within_its_bounds(python: str):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(r for name in extras.keys() - UNPINNED_EXTRAS for r in extras[name])]
    pins = {canonicalize_name(r.name): r for r in applying((ROOT / "constraints.txt").read_text().splitlines(), python)}
    for requirement in applying(declared, python):
        (pin,) = pins[canonicalize_name(requirement.name)].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), f"{requirement} against {pin}"
