"""Asks a running llamahome with langchain-openai; asserts, and says so when all is as it should be.

    python tests/clients/langchain_client.py http://127.0.0.1:8085/v1 KEY MODEL
"""

import sys
import typing

import pydantic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


class Colour(pydantic.BaseModel):
    """A colour and how light it is."""

    name: typing.Literal["red", "green", "blue"]
    light: bool


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


def main(url, key, model):
    chat = ChatOpenAI(base_url=url, api_key=key, model=model, temperature=0, max_completion_tokens=60, max_retries=0)
    answer = chat.invoke("Say hello.")
    assert answer.content and answer.usage_metadata["output_tokens"] > 0, answer
    assert "".join(chunk.content for chunk in chat.stream("Say hello.")) == answer.content

    for method in ["json_schema", "function_calling"]:
        told = chat.with_structured_output(Colour, method=method).invoke("Name a light colour.")
        assert isinstance(told, Colour), told

    called = chat.bind_tools([add], tool_choice="required", parallel_tool_calls=False).invoke("What is 3 plus 4?")
    assert called.tool_calls[0]["name"] == "add", called
    assert {"a", "b"} == set(called.tool_calls[0]["args"]), called

    vectors = OpenAIEmbeddings(base_url=url, api_key=key, model=model, check_embedding_ctx_length=False)
    assert len(vectors.embed_documents(["a", "b"])) == 2
    print("all passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
