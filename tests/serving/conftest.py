"""What the tests of this folder share."""

from __future__ import annotations

import pytest
from exported import Exported, export


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An exported model, read only."""
    return export(tmp_path_factory.mktemp("serving") / "model")
