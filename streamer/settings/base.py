"""What all sections of the settings have in common."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Positive: TypeAlias = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """One table of `streamer.toml`. Every key has a description, which `streamer config --example` prints."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
