"""The client for Python programs, against a real broker and a real indexer's API."""

from __future__ import annotations

import uuid

import anyio
import numpy as np
import pytest

from streamer.client import (
    Deletion,
    SearchClient,
    SearchMatch,
    Text,
    TextProducer,
    VectorConsumer,
    VectorEvent,
    Verdict,
    VerdictConsumer,
)
from streamer.core.verdicts import decode_verdict, encode_verdict
from streamer.errors import StreamerError, Unreachable
