from collections.abc import Iterator

import pytest
import structlog

from tests.otp.puppets import Puppets


@pytest.fixture
def puppets() -> Puppets:
    """Children to play with."""
    return Puppets()


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[structlog.typing.EventDict]]:
    """What the supervisors report during the test."""
    with structlog.testing.capture_logs() as captured:
        yield captured
