"""Asks a running llamahome with the `llm` command, as a model of its extra-openai-models.yaml.

    python tests/clients/llm_client.py http://127.0.0.1:8085/v1 KEY MODEL
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile


def main(url, key, model):
    with tempfile.TemporaryDirectory() as folder:
        lines = ["- model_id: home", f"  model_name: {model}", f"  api_base: {url}", "  api_key_name: home"]
        pathlib.Path(folder, "extra-openai-models.yaml").write_text("\n".join(lines) + "\n")
        pathlib.Path(folder, "keys.json").write_text(json.dumps({"home": key}))

        def llm(*arguments):
            own = [sys.executable, "-c", "from llm.cli import cli; cli()", *arguments]
            run = subprocess.run(own, env={**os.environ, "LLM_USER_PATH": folder}, capture_output=True, text=True)
            assert run.returncode == 0, run.stderr
            return run.stdout.strip()

        options = ["-m", "home", "-o", "temperature", "0", "-o", "max_tokens", "12"]
        whole = llm("prompt", "Say hello.", "--no-stream", *options)
        assert whole and llm("prompt", "Say hello.", *options) == whole
        assert llm("prompt", "-c", "And goodbye.")
        assert "home" in llm("logs", "-n", "1")
    print("all passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
