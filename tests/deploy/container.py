"""Runs an image of buildah's storage under runc, as locked down as the manifests say.

Read-only root, uid 10001, no capabilities, no new privileges, the container engines' default seccomp profile, a memory limit,
nothing writable but /tmp; own pid, mount, ipc and uts namespaces. The network is this machine's, so that tests reach the ports.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conftest import ROOT

SECCOMP = Path("/usr/share/containers/seccomp.json")
STORAGE = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}


def missing_right() -> str:
    """Which right to run containers this machine does not give; empty when it gives all."""
    if os.geteuid() != 0:
        return "not root"
    if not Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        return "the kernel has no seccomp filters"
    for kind in ("mount", "pid", "ipc", "uts"):
        if subprocess.run(["unshare", f"--{kind}", "--fork", "true"], capture_output=True, check=False).returncode:
            return f"no new {kind} namespace"
    mount = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    if (result := subprocess.run(mount, capture_output=True, text=True, check=False)).returncode:
        return "no mounts: " + result.stderr.strip()
    groups = Path("/sys/fs/cgroup")
    memory = groups if (groups / "cgroup.controllers").exists() else groups / "memory"
    try:
        group = memory / f"latentd-test-{uuid.uuid4().hex[:12]}"
        group.mkdir()
        group.rmdir()
    except OSError as error:
        return f"no control groups: {error}"
    return ""


def has_image(state: Path, image: str) -> bool:
    if not (state / "storage.conf").exists():
        return False
    command = ["buildah", "inspect", "--type", "image", image]
    return subprocess.run(command, env=_env(state), capture_output=True, check=False).returncode == 0


def build(state: Path, kind: str) -> None:
    """Builds latentd:KIND from the sources as they are; objects that were compiled before are taken from ccache."""
    cache = subprocess.run(["ccache", "--get-config", "cache_dir"], check=True, capture_output=True, text=True).stdout.strip()
    env = {**os.environ, "STATE": str(state), "KIND": kind, **({"CCACHE": cache} if Path(cache).is_dir() else {})}
    command = ["deploy/docker/build-with-buildah"]
    result = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, "\n".join(result.stdout.splitlines()[-60:])


def _env(state: Path) -> dict[str, str]:
    return {**os.environ, **STORAGE, "CONTAINERS_STORAGE_CONF": str(state / "storage.conf")}


def _buildah(state: Path, *arguments: str) -> str:
    result = subprocess.run(["buildah", *arguments], env=_env(state), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def config_of(state: Path, image: str) -> dict[str, Any]:
    return json.loads(_buildah(state, "inspect", "--type", "image", image))["Docker"]["config"]


@contextlib.contextmanager
def mounted(state: Path, image: str) -> Iterator[Path]:
    """The files of the image."""
    container = _buildah(state, "from", "--pull-never", "--signature-policy", str(state / "policy.json"), image)
    try:
        yield Path(_buildah(state, "mount", container))
    finally:
        _buildah(state, "rm", container)


def seccomp() -> dict[str, Any]:
    """The default profile without what it grants to capabilities, as the runtime specification has it."""
    profile = json.loads(SECCOMP.read_text())

    def everybody(rule: dict[str, Any]) -> bool:
        condition = rule.get("includes") or {}
        return not condition.get("caps") and "amd64" in condition.get("arches", ["amd64"])

    rules = [
        {key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)}
        for rule in profile["syscalls"]
        if everybody(rule) and rule["action"] == "SCMP_ACT_ALLOW"
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }


def specification(root: Path, config: dict[str, Any], arguments: list[str], env: dict[str, str], model: Path, memory: int) -> dict[str, Any]:
    uid, gid = (int(part) for part in config["User"].split(":"))
    none: list[str] = []
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": True},
        "hostname": "latentd",
        "process": {
            "terminal": False,
            "user": {"uid": uid, "gid": gid},
            "args": [*config["Entrypoint"], *arguments],
            "env": [*config["Env"], *(f"{key}={value}" for key, value in env.items())],
            "cwd": "/",
            "capabilities": {kind: none for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 1024}],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=64k"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "noexec", "size=16m"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "nodev", "noexec"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "nodev", "noexec"]},
            {"destination": "/model", "type": "bind", "source": str(model), "options": ["rbind", "ro", "nosuid", "nodev", "noexec"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "resources": {"memory": {"limit": memory}, "devices": [{"allow": False, "access": "rwm"}]},
            "seccomp": seccomp(),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


# Hides shells and all other programs of the base.
NO_PROGRAMS = {"destination": "/usr/bin", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nosuid", "nodev", "noexec", "size=4k"]}


class Container:
    """A container that was started; its program's output is `process.stdout`."""

    def __init__(self, bundle: Path, specification: dict[str, Any]):
        bundle.mkdir(parents=True)
        (bundle / "config.json").write_text(json.dumps(specification))
        self.name = "latentd-test-" + uuid.uuid4().hex[:12]
        self.bundle = bundle
        self.process = subprocess.Popen(
            ["runc", "run", "--bundle", bundle, self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def execute(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs another program in it, with the same rights: as a health check does."""
        spec = json.loads((self.bundle / "config.json").read_text())["process"]
        (self.bundle / "exec.json").write_text(json.dumps({**spec, "args": list(arguments)}))
        command = ["runc", "exec", "--process", self.bundle / "exec.json", self.name]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def pid(self) -> int:
        """Of its program, as this machine counts."""
        state = subprocess.run(["runc", "state", self.name], check=True, capture_output=True, text=True).stdout
        return json.loads(state)["pid"]

    def signal(self, name: str) -> None:
        subprocess.run(["runc", "kill", self.name, name], check=True)

    def remove(self) -> None:
        subprocess.run(["runc", "delete", "--force", self.name], capture_output=True, check=False)
        self.process.wait(20)


def size_of(root: Path) -> int:
    seen: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.lstat(os.path.join(folder, name))
            seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())
