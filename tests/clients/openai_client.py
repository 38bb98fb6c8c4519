"""Asks a running llamahome with OpenAI's own Python client; asserts, and exits with 0 when all is as it should be.

    python tests/clients/openai_client.py http://127.0.0.1:8085/v1 --model smollm2
"""

import argparse

import openai


def chat(model, text, **more):
    message = {"role": "user", "content": text}
    return {"model": model, "messages": [message], "max_completion_tokens": 5, "temperature": 0, **more}


def check_chat(client, model):
    answer = client.chat.completions.create(**chat(model, "a"))
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content, answer
    assert choice.finish_reason in ("stop", "length"), answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0, answer
    assert answer.kv["tokens_seen"] > 0 and answer.kv["bytes"] > 0, answer

    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**chat(model, "a", stream=True, stream_options=options)))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == choice.message.content, (text, choice)
    assert [c.choices[0].delta.role for c in chunks if c.choices].count("assistant") == 1, chunks
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == choice.finish_reason and not any(reasons[:-1]), reasons
    assert chunks[-1].choices == [] and chunks[-1].usage == answer.usage, chunks[-1]
    assert all(c.usage is None for c in chunks[:-1]), chunks

    told = client.chat.completions.create(**chat(model, "a", logprobs=True, top_logprobs=2))
    content = told.choices[0].logprobs.content
    assert content and all(t.logprob <= 0 and len(t.top_logprobs) == 2 for t in content), told

    parts = [{"type": "text", "text": "a"}]
    same = client.chat.completions.create(**chat(model, parts, extra_body={"kv": {"policy": "full"}}))
    assert same.kv["budget"] is None, same


def check_completion(client, model, token):
    ask = {"model": model, "prompt": [token], "max_tokens": 4, "temperature": 0}
    answer = client.completions.create(**ask, logprobs=2)
    told = answer.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset) == 4, answer
    text = "".join(c.choices[0].text for c in client.completions.create(**ask, stream=True))
    assert text == answer.choices[0].text, (text, answer)
    two = client.completions.create(**ask, n=2)
    assert [c.index for c in two.choices] == [0, 1], two


def check_models(client, model):
    assert model in [m.id for m in client.models.list()]
    assert client.models.retrieve(model).object == "model"


def refused(kind, code, param, ask):
    try:
        ask()
    except openai.APIStatusError as error:
        assert type(error) is kind, error
        assert (error.code, error.param) == (code, param), (error.code, error.param)
        assert error.request_id, error
        return error.body
    raise AssertionError(f"{code} was not raised")


def check_errors(client, model, context):
    create = client.chat.completions.create
    bad, missing = openai.BadRequestError, openai.NotFoundError
    refused(missing, "model_not_found", "model", lambda: create(**chat(model + "x", "a")))
    refused(missing, "model_not_found", "model", lambda: client.models.retrieve("nothing"))
    refused(bad, "invalid_value", "temperature", lambda: create(**{**chat(model, "a"), "temperature": 9}))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    refused(bad, "unsupported_parameter", "tools", lambda: create(**chat(model, "a", tools=tools)))
    long = "a b " * (context + 1)
    body = refused(bad, "context_length_exceeded", "messages", lambda: create(**chat(model, long)))
    assert body["prompt_tokens"] > body["context_length"] == context, body
    nobody = client.with_options(api_key="wrong")
    if client.api_key != "none":
        refused(openai.AuthenticationError, "invalid_api_key", None, lambda: nobody.models.list())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base_url")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--key", default="none")
    parser.add_argument("--context", type=int, default=8192, help="the model's context")
    parser.add_argument("--token", type=int, default=5, help="a token id to go on from")
    args = parser.parse_args()
    client = openai.OpenAI(base_url=args.base_url, api_key=args.key, max_retries=0, timeout=60)
    check_chat(client, args.model)
    check_completion(client, args.model, args.token)
    check_models(client, args.model)
    check_errors(client, args.model, args.context)
    print(f"openai {openai.__version__}: all passed")


if __name__ == "__main__":
    main()
