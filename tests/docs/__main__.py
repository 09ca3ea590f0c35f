"""Writes the generated parts of the pages anew."""

from tests.docs.generated import GENERATED_PAGES, regenerated

for page in GENERATED_PAGES:
    page.write_text(regenerated(page))
