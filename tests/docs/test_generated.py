"""Tables that are made from the code are those of the code of today."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.generated import GENERATED_PAGES, PARTS, regenerated
from tests.docs.markdown import PAGES, name_of


@pytest.mark.parametrize("page", GENERATED_PAGES, ids=name_of)
def test_generated_parts_are_of_today(page: Path) -> None:
    assert page.read_text() == regenerated(page), "write them anew: python -m tests.docs"


def test_every_generated_part_is_looked_at() -> None:
    marked = {page for page in PAGES if any(f"<!-- generated: {name} -->" in page.read_text() for name in PARTS)}
    assert marked == set(GENERATED_PAGES)
