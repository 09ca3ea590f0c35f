"""Too few file handles are told before anything is opened."""

from __future__ import annotations

import resource

import pytest

from streamer.app.handles import FEWEST, check_file_handles
from streamer.errors import ConfigurationError


@pytest.mark.parametrize("allowed", [FEWEST, FEWEST + 1, 1_048_576])
def test_enough_are_enough(monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    check_file_handles()


def test_too_few_are_a_setting_to_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (FEWEST - 1, 1_048_576))
    with pytest.raises(ConfigurationError, match=rf"^{FEWEST - 1} file handles are too few: .*ulimit -n"):
        check_file_handles()
