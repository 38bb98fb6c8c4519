"""Asks a running llamahome with OpenAI's own Python client; asserts, and exits with 0 when all is as it should be.

    python tests/clients/openai_client.py http://127.0.0.1:8085/v1 --model smollm2
"""

import argparse
import typing

import openai
import pydantic


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
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]
    refused(bad, "invalid_value", "tools#/0/function/parameters/not", lambda: create(**chat(model, "a", tools=tools)))
    long = "a b " * (context + 1)
    body = refused(bad, "context_length_exceeded", "messages", lambda: create(**chat(model, long)))
    assert body["prompt_tokens"] > body["context_length"] == context, body
    nobody = client.with_options(api_key="wrong")
    if client.api_key != "none":
        refused(openai.AuthenticationError, "invalid_api_key", None, lambda: nobody.models.list())


class Weather(pydantic.BaseModel):
    city: typing.Literal["Paris", "Rome"]
    degrees: typing.Annotated[int, pydantic.Field(ge=-40, le=50)]


def check_forms(client, model):
    """What a model that talks is asked for: forms and calls."""
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    ask = {"model": model, "messages": question, "max_completion_tokens": 120, "temperature": 0}
    parsed = client.chat.completions.parse(**ask, response_format=Weather).choices[0].message.parsed
    assert isinstance(parsed, Weather), parsed
    tool = openai.pydantic_function_tool(Weather, name="weather")
    called = client.chat.completions.parse(**ask, tools=[tool], tool_choice="required", parallel_tool_calls=False)
    (call,) = called.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather), called
    assert called.choices[0].finish_reason == "tool_calls", called
    with client.chat.completions.stream(**ask, tools=[tool], tool_choice="required", parallel_tool_calls=False) as stream:
        events = [event.type for event in stream]
        same = stream.get_final_completion()
    assert events.count("tool_calls.function.arguments.delta") > 3, events
    assert same.choices[0].message.tool_calls[0].function.arguments == call.function.arguments, same
    told = question + [called.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}]
    answer = client.chat.completions.create(model=model, messages=told, max_completion_tokens=8)
    assert answer.choices[0].message.content, answer

    formed = client.responses.parse(model=model, input="The weather in Rome?", text_format=Weather, max_output_tokens=120)
    assert isinstance(formed.output_parsed, Weather), formed
    more = client.responses.create(model=model, input="And now?", previous_response_id=formed.id, max_output_tokens=8)
    assert more.output_text and more.usage.input_tokens > formed.usage.input_tokens, more
    with client.responses.stream(model=model, input="Name a colour.", max_output_tokens=8) as stream:
        events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text and events[-1].type in ("response.completed", "response.incomplete"), events[-1]
    assert events[-1].response.output_text == text, (text, events[-1])
    assert client.responses.retrieve(more.id).output_text == more.output_text
    client.responses.delete(more.id)

    vectors = client.embeddings.create(model=model, input=["a cat", "a kitten"]).data
    assert len(vectors) == 2 and abs(sum(x * x for x in vectors[0].embedding) - 1) < 1e-3, vectors
    plain = client.embeddings.create(model=model, input="a cat", encoding_format="float").data[0].embedding
    assert max(abs(a - b) for a, b in zip(plain, vectors[0].embedding)) < 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base_url")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--key", default="none")
    parser.add_argument("--context", type=int, default=8192, help="the model's context")
    parser.add_argument("--token", type=int, default=5, help="a token id to go on from")
    parser.add_argument("--forms", action="store_true", help="ask for forms, calls, responses and vectors, too: a model that talks")
    args = parser.parse_args()
    client = openai.OpenAI(base_url=args.base_url, api_key=args.key, max_retries=0, timeout=60)
    check_chat(client, args.model)
    check_completion(client, args.model, args.token)
    check_models(client, args.model)
    check_errors(client, args.model, args.context)
    if args.forms:
        check_forms(client, args.model)
    print(f"openai {openai.__version__}: all passed")


if __name__ == "__main__":
    main()
