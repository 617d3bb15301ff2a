"""The image of CUDA, without a GPU. Not part of ./run-tests: building it takes a toolkit and minutes.

    KIND=cuda deploy/docker/build-with-buildah && .venv/bin/python -m pytest -s tests/deploy/test_cuda_image.py
    LATENTD_TEST_IMAGES=DIR     its STATE (default build/image)
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from conftest import MODEL, ROOT
from container import Container, config_of, has_image, missing_right, mounted, size_of, specification

STATE = Path(os.environ.get("LATENTD_TEST_IMAGES", ROOT / "build/image"))
MEMORY = 512 << 20
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def cuda() -> str:
    if right := missing_right():
        pytest.skip(f"containers cannot be run here: {right}")
    assert has_image(STATE, "latentd:cuda"), f"no latentd:cuda in {STATE}: KIND=cuda deploy/docker/build-with-buildah"
    return "latentd:cuda"


def run_once(image: str, arguments: list[str], bundle: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """What a program of the image says, and its exit code."""
    with mounted(STATE, image) as root:
        container = Container(bundle, specification(root, config_of(STATE, image), arguments, env or {}, MODEL, MEMORY))
        try:
            out, _ = container.process.communicate(timeout=60)
            return container.process.returncode, out
        finally:
            container.remove()


def test_the_cuda_image_has_only_what_the_program_is_linked_with(cuda: str):
    with mounted(STATE, cuda) as root:
        size = size_of(root)
        libraries = {path.name for path in (root / "usr/local/lib").iterdir() if path.is_file()}
        assert (root / "usr/share/latentd/sbom.spdx.json").exists()
    print(f"latentd:cuda has {size / MEGABYTE:.0f} MB of files")
    assert size < 1000 * MEGABYTE
    assert any(name.startswith("libcublasLt.so") for name in libraries), libraries
    assert not [name for name in libraries if re.match("lib(cudnn|nccl|cublas[.]|cuda[.])", name)]
    assert config_of(STATE, cuda)["User"] == "10001:10001"


def test_the_cuda_image_runs_and_says_that_there_is_no_device(cuda: str, tmp_path: Path):
    code, out = run_once(cuda, ["version"], tmp_path / "version")
    assert code == 0 and out.startswith("latentd "), out
    code, out = run_once(cuda, ["inspect", "/model", "--memory", "80GiB"], tmp_path / "inspect")
    assert code == 0 and "MLA" in out, out
    env = {"LATENTD_HTTP_PORT": "0", "LATENTD_GRPC_PORT": "0", "LATENTD_HOST": "127.0.0.1"}
    code, out = run_once(cuda, ["serve"], tmp_path / "serve", env)
    assert code == 1 and "CUDA" in out and "device" in out, out
