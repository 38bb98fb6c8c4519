"""Asks a running llamahome with Ollama's own Python client; asserts, and exits with 0 when all is as it should be. It pulls, copies
and deletes smollm2, so it is for a server with a home of its own.

    python tests/clients/ollama_client.py http://127.0.0.1:8085 --model smollm2
"""

import argparse
import datetime
import importlib.metadata

import ollama


def check_answers(client, model):
    options = {"num_predict": 5, "temperature": 0}
    said = [{"role": "user", "content": "a"}]
    answer = client.chat(model=model, messages=said, options=options)
    assert answer.done and answer.message.role == "assistant" and answer.message.content, answer
    assert answer.done_reason in ("stop", "length") and 0 < answer.eval_count <= 5, answer
    assert answer.prompt_eval_count > 0 and answer.total_duration >= answer.eval_duration, answer
    parts = list(client.chat(model=model, messages=said, options=options, stream=True))
    assert "".join(part.message.content for part in parts) == answer.message.content, parts
    assert parts[-1].done and not any(part.done for part in parts[:-1]), parts

    whole = client.generate(model=model, prompt="a", options=options)
    text = "".join(part.response for part in client.generate(model=model, prompt="a", options=options, stream=True))
    assert whole.response == text and text, (whole, text)
    stopped = client.generate(model=model, prompt="a", raw=True, options={**options, "stop": text[1]})
    assert stopped.response == text[:1] and stopped.done_reason == "stop", stopped
    told = client.generate(model=model, prompt="a", options=options, logprobs=True, top_logprobs=2)
    assert len(told.logprobs) == 5 and len(told.logprobs[0].top_logprobs) == 2, told

    loaded = client.generate(model=model, keep_alive="10m")
    assert loaded.done_reason == "load" and loaded.response == "", loaded
    (running,) = client.ps().models
    left = running.expires_at - datetime.datetime.now(datetime.timezone.utc)
    assert running.model == model and 500 < left.total_seconds() <= 600, running
    assert client.generate(model=model, keep_alive=0).done_reason == "unload"
    assert client.ps().models == []


def check_models(client):
    steps = list(client.pull("smollm2", stream=True))
    assert steps[-1].status == "success", steps
    sizes = [step for step in steps if step.total]
    assert sizes and sizes[-1].completed == sizes[-1].total, steps
    assert all(a.completed <= b.completed for a, b in zip(sizes, sizes[1:])), sizes
    assert client.pull("smollm2").status == "success"
    (listed,) = client.list().models
    assert listed.model == "smollm2" and listed.size == sizes[-1].total, listed
    assert listed.details.format == "gguf" and listed.details.family == "llama", listed
    assert listed.modified_at.year >= 2026 and len(listed.digest) == 64, listed
    shown = client.show("smollm2:latest")
    assert shown.details == listed.details and shown.capabilities == ["completion", "tools"], shown
    assert shown.modelinfo["llama.block_count"] == 30 and shown.template, shown
    assert client.copy("smollm2", "twin").status == "success"
    assert sorted(model.model for model in client.list().models) == ["smollm2", "twin"]
    for name in ("smollm2", "twin"):
        assert client.delete(name).status == "success"
    assert client.list().models == []


def refused(status, text, ask):
    try:
        ask()
    except ollama.ResponseError as error:
        assert error.status_code == status and text in error.error, error
        return
    raise AssertionError(f"{text} was not raised")


def check_errors(client, nobody, model, context):
    refused(404, "there is no model", lambda: client.chat(model=model + "x"))
    refused(404, "no model", lambda: client.show("nothing"))
    refused(404, "no model", lambda: client.delete("nothing"))
    refused(400, "options.temperature", lambda: client.generate(model=model, prompt="a", options={"temperature": 9}))
    refused(400, "format", lambda: client.generate(model=model, prompt="a", format={"not": {}}))
    refused(400, str(context), lambda: client.generate(model=model, prompt="a b " * (context + 1)))
    refused(404, "no model", lambda: client.pull("nothing"))
    refused(-1, "no model", lambda: list(client.pull("nothing", stream=True)))
    if nobody:
        refused(401, "api key", nobody.list)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--key")
    parser.add_argument("--context", type=int, default=8192, help="the model's context")
    args = parser.parse_args()

    def client(key):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return ollama.Client(host=args.host, headers=headers, timeout=60, trust_env=False)

    known = client(args.key)
    check_answers(known, args.model)
    check_models(known)
    check_errors(known, client("wrong") if args.key else None, args.model, args.context)
    print(f"ollama {importlib.metadata.version('ollama')}: all passed")


if __name__ == "__main__":
    main()
