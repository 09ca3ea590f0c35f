"""What all sections of the settings have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Positive: TypeAlias = Annotated[int, Field(gt=0)]
OptionalPath: TypeAlias = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]


class Section(BaseModel):
    """One table of `streamer.toml`. Every key has a description, which `streamer config --example` prints."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
