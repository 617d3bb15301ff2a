"""The manifests: valid, agreeing with the binary's real options, and as locked down as they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from conftest import DEPLOY, ROOT
from kustomize import Resource, render

OVERLAYS = sorted(path.name for path in (DEPLOY / "kubernetes/overlays").iterdir())
# The versions between which we promise to work: `sleep` in preStop came with the first.
VERSIONS = ("1.30", "1.37")
CUSTOM = ("monitoring.coreos.com", "keda.sh", "inference.networking.k8s.io", "gateway.networking.k8s.io")


@pytest.fixture(params=OVERLAYS)
def resources(request: pytest.FixtureRequest, kubectl: Path) -> list[Resource]:
    return render(kubectl, DEPLOY / "kubernetes/overlays" / request.param)


def one(resources: list[Resource], kind: str, name: str = "latentd") -> Resource:
    (found,) = [r for r in resources if r["kind"] == kind and r["metadata"]["name"] == name]
    return found


def pod(resources: list[Resource]) -> dict[str, Any]:
    return one(resources, "Deployment")["spec"]["template"]["spec"]


def environment(resources: list[Resource]) -> dict[str, str | None]:
    return {entry["name"]: entry.get("value") for entry in pod(resources)["containers"][0]["env"]}


def test_there_is_an_overlay_for_each_way_to_run():
    assert {"cpu", "single-gpu", "autoscaled", "autoscaled-keda", "gateway"} <= set(OVERLAYS)


def test_yaml_is_well_kept():
    command = [Path(sys.executable).parent / "yamllint", "--strict", "-c", DEPLOY / ".yamllint", DEPLOY]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_resources_are_valid(resources: list[Resource], version: str):
    checked = 0
    for resource in resources:
        if not resource["apiVersion"].startswith(CUSTOM):
            kubernetes_validate.validate(resource, version, strict=True)
            checked += 1
    assert checked >= 6
    assert len({(r["kind"], r["metadata"]["name"]) for r in resources}) == len(resources)


def with_components(kubectl: Path, tmp_path: Path, overlay: str, *names: str) -> list[Resource]:
    """An overlay with components added, as an operator adds them."""
    folder = tmp_path / "own"
    folder.mkdir()
    (tmp_path / "kubernetes").symlink_to(DEPLOY / "kubernetes")
    components = ", ".join(f"../kubernetes/components/{name}" for name in names)
    lines = [f"resources: [../kubernetes/overlays/{overlay}]", f"components: [{components}]"]
    (folder / "kustomization.yaml").write_text("\n".join(lines))
    resources = render(kubectl, folder)
    for resource in resources:
        if not resource["apiVersion"].startswith(CUSTOM):
            kubernetes_validate.validate(resource, "1.37", strict=True)
    return resources


def test_a_model_can_be_an_image(kubectl: Path, tmp_path: Path):
    resources = with_components(kubectl, tmp_path, "cpu", "model-image")
    assert pod(resources)["volumes"] == [
        {"name": "model", "image": {"reference": "latentd-model:latest", "pullPolicy": "IfNotPresent"}}
    ]
    assert not [r for r in resources if r["kind"] == "PersistentVolumeClaim"]


def test_certificates_and_keys_come_from_secrets(kubectl: Path, tmp_path: Path, variables: set[str]):
    resources = with_components(kubectl, tmp_path, "single-gpu", "tls", "key-file")
    settings, spec = environment(resources), pod(resources)
    assert set(settings) <= variables
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    secrets = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
    assert {name: secret["secretName"] for name, secret in secrets.items()} == {"tls": "latentd-tls", "keys": "latentd-keys"}
    for name, secret in secrets.items():
        assert mounts[name]["readOnly"] and secret["defaultMode"] == 0o440
    # The files that the settings name are those that the secrets bring.
    assert settings["LATENTD_TLS_CERT"] == mounts["tls"]["mountPath"] + "/tls.crt"
    assert settings["LATENTD_TLS_KEY"] == mounts["tls"]["mountPath"] + "/tls.key"
    assert settings["LATENTD_API_KEY_FILE"] == mounts["keys"]["mountPath"] + "/" + secrets["keys"]["items"][0]["path"]


def test_spans_go_to_a_collector_and_nothing_else_goes_out(kubectl: Path, tmp_path: Path, variables: set[str]):
    resources = with_components(kubectl, tmp_path, "single-gpu", "tracing")
    settings = environment(resources)
    assert set(settings) <= variables
    service, port = str(settings["LATENTD_OTLP_ENDPOINT"]).split(":")
    collector, names = one(resources, "NetworkPolicy")["spec"]["egress"]
    assert collector["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": service.split(".")[1]}}}]
    assert [rule["port"] for rule in collector["ports"]] == [int(port)]
    assert {rule["port"] for rule in names["ports"]} == {53}


def test_settings_are_options_of_the_binary(resources: list[Resource], variables: set[str], latentd: str):
    settings = environment(resources)
    assert set(settings) <= variables
    # The binary takes their values too: it then fails for want of a model (1), not for its command line (2).
    values = {name: value for name, value in settings.items() if value is not None}
    env = {**os.environ, **values, "LATENTD_MODEL": "/no/such/model", "LATENTD_HTTP_PORT": "0", "LATENTD_GRPC_PORT": "0"}
    result = subprocess.run([latentd, "serve"], env=env, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 1 and "/no/such/model" in result.stderr, result.stderr


def test_ports_probes_and_mounts_agree_with_the_settings(resources: list[Resource]):
    settings, container = environment(resources), pod(resources)["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {name: int(settings[f"LATENTD_{name.upper()}_PORT"]) for name in ("http", "grpc", "metrics")}
    service = {port["targetPort"]: port["port"] for port in one(resources, "Service")["spec"]["ports"]}
    assert service == ports
    probes = {name: container[name + "Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    # The port that speaks plain HTTP whatever keys and certificates there are.
    assert all(probe["port"] == "metrics" for probe in probes.values())
    assert [probes[name]["path"] for name in probes] == ["/readyz", "/readyz", "/healthz"]
    assert settings["LATENTD_MODEL"] == container["volumeMounts"][0]["mountPath"]
    allowed = {port["port"] for port in one(resources, "NetworkPolicy")["spec"]["ingress"][0]["ports"]}
    assert allowed == set(ports)
    for resource in resources:
        if resource["kind"] == "InferencePool":
            assert resource["spec"]["targetPorts"] == [{"number": ports["http"]}]
            picker = one(resources, "Deployment", "latentd-endpoint-picker")["spec"]["template"]["spec"]["containers"][0]
            assert f"--model-server-metrics-port={ports['metrics']}" in picker["args"]
        if resource["kind"] == "ServiceMonitor":
            assert {endpoint["port"] for endpoint in resource["spec"]["endpoints"]} <= set(service)


def test_a_drain_is_never_cut_short(resources: list[Resource]):
    settings, spec = environment(resources), pod(resources)
    wait = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(settings["LATENTD_DRAIN_PROPAGATION"]) + float(settings["LATENTD_DRAIN_TIMEOUT"])
    assert spec["terminationGracePeriodSeconds"] >= wait + drain + 10
    probe = spec["containers"][0]["readinessProbe"]
    assert float(settings["LATENTD_DRAIN_PROPAGATION"]) >= probe["periodSeconds"] * probe["failureThreshold"]


def test_pods_are_locked_down(resources: list[Resource]):
    for deployment in (r for r in resources if r["kind"] == "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]
    spec = pod(resources)
    assert spec["automountServiceAccountToken"] is False and spec["securityContext"]["runAsUser"] == 10001
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"]
    assert one(resources, "NetworkPolicy")["spec"]["egress"] == []


def test_names_that_refer_to_each_other_exist(resources: list[Resource]):
    labels = one(resources, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for kind, path in (("Service", ("selector",)), ("PodDisruptionBudget", ("selector", "matchLabels"))):
        selector: Any = one(resources, kind)["spec"]
        for step in path:
            selector = selector[step]
        assert selector.items() <= labels.items()
    names = {(r["kind"], r["metadata"]["name"]) for r in resources}
    for resource in resources:
        if resource["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            assert ("Deployment", resource["spec"]["scaleTargetRef"]["name"]) in names
            assert "replicas" not in one(resources, "Deployment")["spec"]
        if resource["kind"] == "InferencePool":
            assert ("Service", resource["spec"]["endpointPickerRef"]["name"]) in names


def test_the_operators_rules_are_the_tested_ones():
    rule = yaml.safe_load((DEPLOY / "kubernetes/components/monitoring/prometheus-rule.yaml").read_text())
    groups = [
        group
        for name in ("recording", "alerts")
        for group in yaml.safe_load((DEPLOY / f"prometheus/{name}.yml").read_text())["groups"]
    ]
    assert rule["spec"]["groups"] == groups


def test_images_ask_for_nothing_that_the_binary_lacks(variables: set[str]):
    for name in ("docker/Dockerfile.cpu", "docker/Dockerfile.cuda", "docker/compose.yaml"):
        text = (DEPLOY / name).read_text()
        assert set(re.findall(r"LATENTD_[A-Z_]+(?==|:)", text)) - {"LATENTD_TESTS", "LATENTD_CUDA"} <= variables, name
    assert ROOT.joinpath(".dockerignore").exists()
