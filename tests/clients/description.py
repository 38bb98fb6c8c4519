"""Makes up requests from a running llamahome's /openapi.json with schemathesis, good and bad ones, and judges the answers.

    python tests/clients/description.py http://127.0.0.1:8085 KEY
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

# Streams that end when the client leaves, a route that takes as long as it is told to, and one that asks the network.
ENDLESS = ["/v1/models/events", "/v1/monitor/events", "/v1/debug/trace", "/api/pull"]
LEAST = 2000


def main(url, key):
    own = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    config = Path(__file__).with_name("schemathesis.toml")
    command = [*own, "--config-file", str(config), "run", f"{url}/openapi.json", "--checks", "all", "--workers", "1",
               "--phases", "coverage,fuzzing", "--max-examples", "25", "--request-timeout", "60",
               "--header", f"Authorization: Bearer {key}"]
    for path in ENDLESS:
        command += ["--exclude-path", path]
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    cases = re.search(r"(\d+) generated", run.stdout)
    assert run.returncode == 0, f"{run.stdout[-12000:]}\n{run.stderr[-2000:]}"
    assert cases and int(cases.group(1)) >= LEAST, run.stdout[-3000:]
    print(f"{cases.group(1)} requests: all passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
