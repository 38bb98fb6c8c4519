"""Asks a running llamahome with litellm, by OpenAI's API, Ollama's and Anthropic's; asserts, and says so when all is as it should be.

    python tests/clients/litellm_client.py http://127.0.0.1:8085 KEY MODEL
"""

import json
import os
import sys

# Else it asks the network for prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

MESSAGES = [{"role": "user", "content": "Say hello."}]
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
COLOUR = {
    "type": "object",
    "properties": {"name": {"enum": ["red", "green", "blue"]}, "light": {"type": "boolean"}},
    "required": ["name", "light"],
    "additionalProperties": False,
}


def main(url, key, model):
    def ask(provider="openai", base=f"{url}/v1", **more):
        return litellm.completion(
            model=f"{provider}/{model}", api_base=base, api_key=key, messages=MESSAGES, temperature=0,
            max_tokens=60, num_retries=0, **more)

    def streamed(**more):
        return "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True, **more))

    answer = ask()
    text = answer.choices[0].message.content
    assert text and answer.usage.completion_tokens > 0, answer
    assert streamed() == text
    for provider, base in [("ollama_chat", url), ("anthropic", url)]:
        assert ask(provider, base).choices[0].message.content == text, provider
        assert streamed(provider=provider, base=base) == text, provider

    formed = ask(response_format={
        "type": "json_schema", "json_schema": {"name": "colour", "strict": True, "schema": COLOUR}})
    colour = json.loads(formed.choices[0].message.content)
    assert colour["name"] in ["red", "green", "blue"] and isinstance(colour["light"], bool), colour

    called = ask(tools=[ADD], tool_choice="required").choices[0].message.tool_calls
    assert called[0].function.name == "add" and set(json.loads(called[0].function.arguments)) == {"a", "b"}, called

    vectors = litellm.embedding(
        model=f"openai/{model}", api_base=f"{url}/v1", api_key=key, input=["a", "b"], encoding_format="float")
    assert len(vectors.data) == 2, vectors

    for wrong, error in [({"api_key": "wrong"}, litellm.AuthenticationError), ({"model": "openai/none"}, litellm.NotFoundError)]:
        try:
            litellm.completion(**{
                "model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": key, "messages": MESSAGES,
                "num_retries": 0, "max_retries": 0} | wrong)
            assert False, wrong
        except error:
            pass
    print("all passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
