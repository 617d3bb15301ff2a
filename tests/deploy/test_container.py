"""The image of the CPU, built here by buildah from debootstrap's base, and run under runc as locked down as the manifests say.

    LATENTD_TEST_IMAGES=DIR     the STATE of a deploy/docker/build-with-buildah whose latentd:cpu is tested as it is
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MODEL, ROOT, complete, eventually
from container import NO_PROGRAMS, Container, build, config_of, has_image, missing_right, mounted, size_of, specification

STATE = Path(os.environ.get("LATENTD_TEST_IMAGES", ROOT / "build/image"))
MEMORY = 512 << 20
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def cpu() -> str:
    if right := missing_right():
        pytest.skip(f"containers cannot be run here: {right}")
    if "LATENTD_TEST_IMAGES" in os.environ:
        assert has_image(STATE, "latentd:cpu"), f"no latentd:cpu in {STATE}"
    else:
        build(STATE, "cpu")
    return "latentd:cpu"


@pytest.fixture(scope="module")
def files(cpu: str) -> Iterator[Path]:
    with mounted(STATE, cpu) as root:
        yield root


@pytest.fixture(scope="module")
def running(cpu: str, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Container, str]]:
    """A server of the image and its URL. There is no shell, nor any other program but the server, where it runs."""
    env = {"LATENTD_HOST": "127.0.0.1", "LATENTD_HTTP_PORT": "0", "LATENTD_GRPC_PORT": "0", "LATENTD_DRAIN_PROPAGATION": "0"}
    config = config_of(STATE, cpu)
    spec = specification(files, config, config["Cmd"], env, MODEL, MEMORY)
    spec["mounts"].append(NO_PROGRAMS)
    container = Container(tmp_path_factory.mktemp("run") / "bundle", spec)
    try:
        assert container.process.stdout is not None
        lines, port = [], None
        for line in container.process.stdout:
            lines.append(line)
            if match := re.search(r'"http":\s*"127\.0\.0\.1:(\d+)"', line):
                port = match[1]
            if '"ready"' in line:
                break
        assert port, "".join(lines)
        yield container, f"http://127.0.0.1:{port}"
    finally:
        container.remove()


def test_the_cpu_image_is_small_and_says_what_is_in_it(cpu: str, files: Path):
    size = size_of(files)
    print(f"latentd:cpu has {size / MEGABYTE:.0f} MB of files")
    assert size < 200 * MEGABYTE
    config = config_of(STATE, cpu)
    assert config["User"] == "10001:10001" and config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/local/bin/latentd", "health"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert {"title", "description", "licenses", "version", "revision"} <= set(labels)
    if "LATENTD_TEST_IMAGES" not in os.environ:
        assert labels["io.latentd.program"] == "compiled from this revision while building the image"
    version = re.search(r"project\(latentd VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())
    assert version and labels["version"] == version[1]
    bill = json.loads((files / "usr/share/latentd/sbom.spdx.json").read_text())
    packages = {package["name"]: package for package in bill["packages"]}
    assert bill["spdxVersion"] == "SPDX-2.3" and {"latentd", "libc6", "libgrpc++1.51"} <= set(packages)
    assert packages["latentd"]["versionInfo"] == version[1]
    # What it lists is what is there: dpkg's own list, package by package.
    text = (files / "var/lib/dpkg/status").read_text()
    installed = {re.search(r"^Package: (.+)$", entry, re.M)[1] for entry in text.split("\n\n") if "\nStatus: install ok installed" in entry}
    assert installed | {"latentd"} == set(packages)


def test_nobody_becomes_another_user_in_it(files: Path):
    for folder, _, names in os.walk(files):
        for name in names:
            assert not os.lstat(os.path.join(folder, name)).st_mode & 0o6000, (folder, name)


def test_it_serves_with_no_rights_at_all(running: tuple[Container, str]):
    container, url = running
    complete(url, 8, "Once upon a time")
    with urllib.request.urlopen(url + "/", timeout=10) as response:
        assert b"latentd console" in response.read()
    assert container.execute("/usr/local/bin/latentd", "version").returncode == 0
    port = url.rsplit(":", 1)[1]
    probe = container.execute("/usr/local/bin/latentd", "health", "--http-port", port)
    assert probe.returncode == 0, probe.stderr
    assert container.execute("/bin/sh", "-c", "true").returncode != 0
    status = Path(f"/proc/{container.pid()}/status").read_text()
    fields = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.M))
    assert fields["Uid"].split()[0] == "10001" and fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[kind], 16) == 0, kind


def test_its_root_cannot_be_written(cpu: str, files: Path, tmp_path: Path):
    def touch(*paths: str) -> tuple[int, str]:
        config = {**config_of(STATE, cpu), "Entrypoint": ["/bin/touch"]}
        container = Container(tmp_path / paths[0].replace("/", "-"), specification(files, config, list(paths), {}, MODEL, MEMORY))
        try:
            out, _ = container.process.communicate(timeout=60)
            return container.process.returncode, out
        finally:
            container.remove()

    forbidden = ["/usr/local/bin/x", "/model/x", "/etc/x", "/x"]
    code, out = touch(*forbidden)
    assert code != 0 and all(f"'{path}'" in out for path in forbidden), out
    assert touch("/tmp/x") == (0, "")


def test_the_cache_follows_the_memory_limit(running: tuple[Container, str]):
    _, url = running
    with urllib.request.urlopen(url + "/metrics", timeout=10) as response:
        metrics = response.read().decode()
    pages = float(re.search(r'^latentd_cache_config_info\{.*num_gpu_blocks="(\d+)"', metrics, re.M)[1])
    bytes_per_token = float(re.search(r"^latentd_kv_bytes_per_token\{.*\} (\S+)$", metrics, re.M)[1])
    assert 0.2 * MEMORY < pages * 64 * bytes_per_token <= MEMORY / 4


def test_it_drains_on_sigterm(running: tuple[Container, str]):
    container, _ = running
    container.signal("TERM")
    assert eventually(lambda: container.process.poll() is not None, 20)
    assert container.process.returncode == 0
