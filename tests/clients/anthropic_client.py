"""Asks a running llamahome with Anthropic's own Python client; asserts, and exits with 0 when all is as it should be.

    python tests/clients/anthropic_client.py http://127.0.0.1:8085 --model smollm2
"""

import argparse

import anthropic


def check_messages(client, model):
    ask = {"model": model, "max_tokens": 8, "extra_body": {"temperature": 0}, "messages": [{"role": "user", "content": "Name a colour."}]}
    answer = client.messages.create(**ask)
    assert answer.content[0].type == "text" and answer.content[0].text, answer
    assert answer.stop_reason in ("end_turn", "max_tokens") and answer.usage.output_tokens <= 8, answer
    with client.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == answer.content[0].text == final.content[0].text, (text, answer)
    assert final.usage.output_tokens == answer.usage.output_tokens, final
    system = client.messages.create(**ask, system="Be brief.", stop_sequences=[text[2]])
    assert system.stop_reason in ("stop_sequence", "end_turn", "max_tokens"), system
    counted = client.messages.count_tokens(model=model, messages=ask["messages"])
    used = answer.usage
    assert counted.input_tokens == used.input_tokens + used.cache_read_input_tokens, (counted, used)


def check_tools(client, model):
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
              "additionalProperties": False}
    tool = {"name": "weather", "description": "The weather of a city", "input_schema": schema}
    said = [{"role": "user", "content": "What is the weather in Paris?"}]
    choice = {"type": "any", "disable_parallel_tool_use": True}
    ask = {"model": model, "max_tokens": 96, "extra_body": {"temperature": 0}, "tools": [tool], "tool_choice": choice}
    answer = client.messages.create(**ask, messages=said)
    (use,) = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use" and use.input["city"] in ("Paris", "Rome"), answer
    with client.messages.stream(**ask, messages=said) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[-1].input == use.input, streamed
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "18 degrees"}
    said += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    more = client.messages.create(model=model, max_tokens=8, messages=said)
    assert more.content, more


def refused(kind, code, param, ask):
    try:
        ask()
    except anthropic.APIStatusError as error:
        assert type(error) is kind, error
        body = error.body["error"]
        assert (body["code"], body["param"]) == (code, param), body
        return
    raise AssertionError(f"{code} was not raised")


def check_errors(client, model):
    def ask(**more):
        said = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "a"}], **more}
        return lambda: client.messages.create(**said)

    bad = anthropic.BadRequestError
    refused(anthropic.NotFoundError, "model_not_found", "model", ask(model=model + "x"))
    refused(bad, "invalid_value", "temperature", ask(extra_body={"temperature": 9}))
    refused(bad, "unsupported_parameter", "thinking.type", ask(thinking={"type": "enabled", "budget_tokens": 1024}))
    if client.api_key != "none":
        nobody = client.with_options(api_key="wrong")
        said = [{"role": "user", "content": "a"}]
        create = nobody.messages.create
        refused(anthropic.AuthenticationError, "invalid_api_key", None,
                lambda: create(model=model, max_tokens=5, messages=said))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base_url")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--key", default="none")
    args = parser.parse_args()
    client = anthropic.Anthropic(base_url=args.base_url, api_key=args.key, max_retries=0, timeout=60)
    check_messages(client, args.model)
    check_tools(client, args.model)
    check_errors(client, args.model)
    print(f"anthropic {anthropic.__version__}: all passed")


if __name__ == "__main__":
    main()
