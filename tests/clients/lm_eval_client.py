"""Measures a running llamahome with lm-eval: one task that generates, one of likelihoods, both from files.

    python tests/clients/lm_eval_client.py http://127.0.0.1:8085/v1 MODEL FOLDER_WITH_TOKENIZER
"""

import json
import os
import pathlib
import sys

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import lm_eval  # noqa: E402 (the hub is told to stay offline first)
from lm_eval.tasks import TaskManager  # noqa: E402

CAPITALS = [("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Japan", "Tokyo")]


def write_tasks(folder):
    rows = [{"question": f"The capital of {land} is", "answer": f" {city}",
             "choices": [f" {other}" for _, other in CAPITALS], "label": place}
            for place, (land, city) in enumerate(CAPITALS)]
    data = folder / "capitals.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = f"""dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
    (folder / "choose.yaml").write_text("task: capitals_choose\noutput_type: multiple_choice\n" + common + """
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""")
    (folder / "generate.yaml").write_text("task: capitals_generate\noutput_type: generate_until\n" + common + """
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n", "."], max_gen_toks: 8, temperature: 0.0, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}]
""")


def main(url, model, folder):
    folder = pathlib.Path(folder)
    write_tasks(folder)
    os.environ["HF_HOME"] = str(folder / "cache")
    told = lm_eval.simple_evaluate(
        model="local-completions",
        model_args=f"model={model},base_url={url}/completions,tokenizer={folder},tokenized_requests=False,"
                   "num_concurrent=2,max_retries=1,max_length=512",
        tasks=["capitals_choose", "capitals_generate"], bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False))
    results = told["results"]
    assert results["capitals_choose"]["acc,none"] >= 0.75, results
    assert 0.0 <= results["capitals_generate"]["exact_match,none"] <= 1.0, results
    said = told["samples"]["capitals_generate"]
    assert all(sample["resps"][0][0].strip() for sample in said), said
    print("all passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
