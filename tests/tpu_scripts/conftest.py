"""A folder with a fake gcloud for each test."""

from pathlib import Path

import pytest

from tests.tpu_scripts.scripts import Scripts


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)
