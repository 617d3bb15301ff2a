"""langchain-openai speaks to the bundled model."""

from __future__ import annotations

import asyncio

import langchain_openai
import pytest
from conftest import ROOT, Server
from pydantic import BaseModel


@pytest.fixture(scope="module")
def mini(start_server) -> Server:
    model = ROOT / "models/latent-mini"
    return start_server("--served-model-name", "mini", "--kv-cache-tokens", "16384", model=model)


@pytest.fixture
def chat(mini):
    return langchain_openai.ChatOpenAI(
        model="mini", base_url=mini.url + "/v1", api_key="none", max_tokens=40, temperature=0, max_retries=0, timeout=60
    )


def test_messages_in_and_a_message_out(chat):
    answer = chat.invoke([("system", "You tell stories."), ("user", "Tell me about a fox.")])
    assert answer.content and answer.response_metadata["finish_reason"] in ("stop", "length")
    assert answer.usage_metadata["output_tokens"] <= 40 < 40 + answer.usage_metadata["input_tokens"]


def test_streams_and_batches_say_the_same(chat):
    prompt = [("user", "Tell me about a fox.")]
    whole = chat.invoke(prompt).content
    parts = list(chat.stream(prompt))
    assert "".join(part.content for part in parts) == whole and len(parts) > 3
    assert [answer.content for answer in chat.batch([prompt] * 4)] == [whole] * 4

    async def run() -> str:
        return "".join([part.content async for part in chat.astream(prompt)])

    assert asyncio.run(run()) == whole


def test_structured_output_follows_its_schema(chat):
    class Pet(BaseModel):
        name: str
        legs: int

    pet = chat.with_structured_output(Pet, method="json_schema").invoke([("user", "A dog?")])
    assert isinstance(pet, Pet)


def test_completions(mini):
    model = langchain_openai.OpenAI(model="mini", base_url=mini.url + "/v1", api_key="none", max_tokens=20, temperature=0)
    assert len(model.invoke("Once upon a time")) > 20
