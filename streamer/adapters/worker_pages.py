"""What workers say about themselves at `/v1/overview`, asked over HTTP by the indexer's dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx
import orjson

SECONDS: Final = 2.0
_LATER: Final = 10**11  # seconds since the epoch: no sample is of so late a time
_LARGEST: Final = 1 << 20  # bytes of an answer


class WorkerPage:
    """The worker at `url`, one of those in the settings. `token`: its http.token."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        # Proxies of the environment have no business between two roles, and a redirect might lead anywhere. A
        # connection that is kept would be closed by the server about when the next question comes.
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=SECONDS,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def overview(self) -> Mapping[str, Any] | str:
        """What it answers, less its history; or why there is no answer, in words."""
        try:
            async with self._client.stream("GET", f"{self.url}/v1/overview?since={_LATER}") as response:
                body = b""
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _LARGEST:
                        return "answers more than a worker has to say"
            if response.status_code == 401:
                return "wants another token"
            if response.status_code == 403:
                return "is not known by this name: add it to http.allowed_hosts of the worker"
            if response.status_code != 200:
                return f"answers with HTTP status {response.status_code}"
            said = orjson.loads(body)
        except httpx.TimeoutException:
            return f"does not answer within {SECONDS:g} s"
        except httpx.HTTPError:
            return "does not answer"
        except orjson.JSONDecodeError:
            return "answers no JSON"
        return said if isinstance(said, dict) and said.get("role") == "worker" else "is no worker"

    async def aclose(self) -> None:
        await self._client.aclose()
