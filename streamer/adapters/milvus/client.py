"""The `pymilvus` package, an extra: imported where it is needed, quiet, and its errors in our words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from streamer.errors import MissingExtra, Unreachable, without_credentials

try:
    import grpc
    import pymilvus
    from pymilvus.exceptions import MilvusException
except ImportError as exc:
    raise MissingExtra("pymilvus", "milvus") from exc

# They log each failed call with a traceback, and what Milvus Lite does not implement. Whoever called tells it, once.
for _name in ("pymilvus", "milvus_lite", "grpc"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

TYPES: Final[Any] = pymilvus.DataType

_LONGEST_REASON: Final = 300  # characters


def is_file(uri: str) -> bool:
    """Whether this is the path of a database that this process opens itself, with Milvus Lite."""
    return "://" not in uri


def connect(uri: str, token: str, timeout: float) -> Any:
    """A MilvusClient. Raises Unreachable, and MissingExtra where the package for files is missing."""
    if is_file(uri):
        try:
            import milvus_lite  # noqa: F401  # pymilvus would end the process without it
        except ImportError as exc:
            raise MissingExtra("milvus-lite", "milvus") from exc
    with told(uri):
        return pymilvus.MilvusClient(uri, token=token, timeout=timeout)


def collections(uri: str, token: str, timeout: float) -> list[str]:
    """The names of all. Raises as `connect`."""
    client = connect(uri, token, timeout)
    with told(uri):
        try:
            return list(client.list_collections(timeout=timeout))
        finally:
            client.close()


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Raises Unreachable for whatever the client raises: it has errors of its own, of gRPC, and plain ones."""
    try:
        yield
    except MilvusException as exc:
        raise Unreachable(f"Milvus at {without_credentials(uri)}: {_short(str(exc.message) or repr(exc))}") from exc
    except (grpc.RpcError, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as exc:
        raise Unreachable(f"Milvus at {without_credentials(uri)}: {_short(repr(exc))}") from exc


def _short(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"
