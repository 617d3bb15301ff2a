"""Renders a kustomization twice: by kubectl, and by the part of kustomize that deploy/kubernetes uses, read here.

That part: resources, components, images, patches by target (JSON 6902 with object paths and `-`) and `$patch: delete`. Anything
else is an error, so that the manifests never use more than what an old kustomize has, and both must give the same.
"""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]


def render(kubectl: Path, folder: Path) -> list[Resource]:
    text = subprocess.run([kubectl, "kustomize", folder], check=True, capture_output=True, text=True).stdout
    theirs, ours = list(yaml.safe_load_all(text)), _apply(folder, [])
    assert sorted(map(str, map(_sorted, theirs))) == sorted(map(str, map(_sorted, ours))), folder
    return ours


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _apply(folder: Path, resources: list[Resource]) -> list[Resource]:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    known = {"apiVersion", "kind", "resources", "components", "images", "patches"}
    assert set(kustomization) <= known, f"{folder}: {set(kustomization) - known}"
    resources = copy.deepcopy(resources)
    for name in kustomization.get("resources", []):
        path = folder / name
        if path.is_dir():
            resources += _apply(path.resolve(), [])
        else:
            resources += [document for document in yaml.safe_load_all(path.read_text()) if document]
    for name in kustomization.get("components", []):
        resources = _apply((folder / name).resolve(), resources)
    for patch in kustomization.get("patches", []):
        resources = _patch(resources, patch)
    for image in kustomization.get("images", []):
        _set_image(resources, image)
    return resources


def _patch(resources: list[Resource], patch: dict[str, Any]) -> list[Resource]:
    body = yaml.safe_load(patch["patch"])
    target = patch.get("target") or {"kind": body["kind"], "name": body["metadata"]["name"]}
    chosen = [r for r in resources if r["kind"] == target["kind"] and r["metadata"]["name"] == target["name"]]
    assert chosen, f"no {target}"
    if isinstance(body, dict):
        assert body["$patch"] == "delete"
        return [r for r in resources if r not in chosen]
    for resource in chosen:
        for operation in body:
            _operate(resource, operation)
    return resources


def _operate(resource: Resource, operation: dict[str, Any]) -> None:
    *path, last = operation["path"].strip("/").split("/")
    at: Any = resource
    for step in path:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if isinstance(at, list) and last == "-":
        assert operation["op"] == "add"
        at.append(operation["value"])
        return
    key: Any = int(last) if isinstance(at, list) else last
    if operation["op"] == "remove":
        del at[key]
        return
    if operation["op"] == "replace":
        assert isinstance(at, list) or key in at, operation["path"]
    at[key] = operation["value"]


def _set_image(resources: list[Resource], image: dict[str, str]) -> None:
    for resource in resources:
        for container in resource.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            if container["image"].split(":")[0] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
