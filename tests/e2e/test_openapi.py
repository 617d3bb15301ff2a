"""The OpenAPI document is what is served: by its routes, by its fields, and as schemathesis tries it on a server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import openai
import pytest
from conftest import ROOT, Server, eventually

DOCUMENT = json.loads((ROOT / "server/http/openapi.json").read_text())
MODEL = ROOT / "models/latent-mini"
SCHEMAS = DOCUMENT["components"]["schemas"]
REQUESTS = {
    path: SCHEMAS[item["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]]
    for path, item in DOCUMENT["paths"].items()
    if "post" in item
}


def properties_of(schema: dict) -> dict[str, dict]:
    """Of an object, whichever of its shapes has them."""
    found = dict(schema["properties"])
    for shape in schema.get("anyOf", []):
        found |= shape["properties"]
    return found


UNDOCUMENTED = re.compile(r"^/(console/.*)?$")  # pages for people


BODIES = {
    "/v1/completions": {"prompt": "x"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/responses": {"input": "x"},
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [1]},
}


@pytest.fixture(scope="module")
def mini(start_server) -> Server:
    # Every request may be large: sequences of a short context keep the run quick.
    flags = ["--kv-cache-tokens", "16384", "--max-model-len", "256", "--default-max-tokens", "8", "--api-key", "sesame"]
    return start_server("--served-model-name", "mini", *flags, model=MODEL)


def test_the_server_serves_the_document(mini):
    request = urllib.request.Request(mini.url + "/openapi.json", headers={"Authorization": "Bearer sesame"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["content-type"] == "application/json"
        assert json.load(answer) == DOCUMENT


def test_it_has_the_routers_paths_methods_and_keys():
    source = (ROOT / "server/http/router.cc").read_text()
    entries = re.findall(r'Entry\{"([^"]+)", Route::\w+, (true|false), (?:"([A-Z, ]+)"|kRead)\}', source)
    routes = {path: ({"get"} if not methods else {methods.lower()}, key == "true") for path, key, methods in entries}
    routes["/v1/models/{model}"] = ({"get"}, True)
    routes = {path: route for path, route in routes.items() if not UNDOCUMENTED.match(path)}
    documented = {
        path: (set(item), all(operation.get("security") != [] for operation in item.values()))
        for path, item in DOCUMENT["paths"].items()
    }
    assert documented == routes


def test_it_has_every_field_that_the_routes_read():
    """By the names in the sources: of JsonFields' readers, and of the tables of what is refused."""
    known = {name for schema in REQUESTS.values() for name in properties_of(schema)}
    known |= {"include_usage", "continuous_usage_stats"}  # of stream_options
    sources = "".join(path.read_text() for path in sorted((ROOT / "server/http").glob("*.cc")))
    sources += (ROOT / "server/http/generation_fields.h").read_text()
    names = set(re.findall(r'\b(?:fields|options)\.(?:read\w*|find|fault)\("(\w+)"', sources))
    names |= set(re.findall(r'\bmember\("(\w+)"\)', sources))
    names |= {name for name, _ in re.findall(r'\{"(\w+)", "(is not supported[^"]*)"\}', sources)}
    assert len(names) > 40 and names <= known, sorted(names - known)


def test_every_field_of_it_is_checked(mini):
    """A value of a type that its schema does not have is a 400 that names the field: it is read, not ignored."""
    client = mini.client("sesame")
    for path, schema in REQUESTS.items():
        for name, field in schema["properties"].items():
            if not {"type", "enum", "anyOf", "$ref"} & set(field):
                continue  # anything goes
            types = json.dumps(field)
            kinds = (("object", {"a": 1}), ("number", 0.5), ("boolean", True))
            wrong = next(value for kind, value in kinds if f'"{kind}"' not in types)
            body = {**BODIES[path], name: wrong}
            with pytest.raises(openai.BadRequestError) as error:
                print(path, body)
                client.with_options(base_url=mini.url).post(path, body=body, cast_to=object)
            assert name in (error.value.param or ""), (path, name, error.value.message)


CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
]


def test_schemathesis_finds_nothing(mini, tmp_path):
    """Some 1,500 requests that follow the document, or break it in one place. A seed: the same ones every time.

    positive_data_acceptance is left out: fields depend on each other (n x prompts, top_logprobs on logprobs, the context).
    """
    command = [Path(sys.executable).parent / "schemathesis", "run", ROOT / "server/http/openapi.json", "--url", mini.url]
    bounds = ["--max-examples", "20", "--phases", "examples,coverage,fuzzing", "--seed", "20261124", "--no-shrink"]
    checks = ["--checks", ",".join(CHECKS), "--header", "Authorization: Bearer sesame"]
    ran = subprocess.run(
        [*command, *bounds, *checks, "--continue-on-failure"], capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert int(re.search(r"(\d+) generated", ran.stdout)[1]) > 500
    eventually(lambda: mini.metrics("sesame")['latentd_kv_pages{state="used"}'] == 0, timeout=30)
