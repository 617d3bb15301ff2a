"""TLS on both doors: versions, client certificates, certificates that change while the server runs."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import grpc
import httpx2 as httpx
import openai
import pytest
from conftest import CONTEXT, Server, eventually

LONG = {"prompt": "run", "max_tokens": CONTEXT - 10}


class Authority:
    """A certificate authority of the test's own, made by openssl."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self._openssl("req", "-x509", *self._new_key(self.key), "-out", self.certificate, "-days", "30", "-subj", f"/CN={name}")

    @staticmethod
    def _openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    @staticmethod
    def _new_key(path: Path) -> list[str | Path]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path]

    def issue(self, name: str, days: int = 10) -> tuple[Path, Path]:
        """A certificate for this machine, and its key."""
        certificate, key, request = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
        self._openssl("req", *self._new_key(key), "-out", request, "-subj", f"/CN={name}")
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signer = ["-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"]
        self._openssl(
            "x509", "-req", "-in", request, *signer, "-days", str(days), "-extfile", extensions, "-out", certificate
        )
        return certificate, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "test-ca")


def install(issued: tuple[Path, Path], folder: Path) -> tuple[Path, Path]:
    """Puts a certificate and its key where the server looks, as a renewal does."""
    targets = folder / "tls.crt", folder / "tls.key"
    for source, target in zip(issued, targets, strict=True):
        fresh = target.with_suffix(".new")
        fresh.write_bytes(source.read_bytes())
        os.replace(fresh, target)
    return targets


@pytest.fixture(scope="module")
def secure(start_server, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server = serve(start_server, authority, tmp_path_factory.mktemp("tls"), "--api-key", "sesame")
    server.url = f"https://localhost:{server.http_port}"
    return server


def serve(start_server, authority: Authority, folder: Path, *flags: str) -> Server:
    certificate, key = install(authority.issue("server"), folder)
    files = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    return start_server("--served-model-name", "tiny", "--metrics-port", "0", *files, *flags)


def context_of(authority: Authority, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if client:
        context.load_cert_chain(*map(str, client))
    return context


def client_of(server: Server, context: ssl.SSLContext, key: str = "sesame") -> openai.OpenAI:
    url = f"https://localhost:{server.http_port}/v1"
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, http_client=httpx.Client(verify=context, timeout=20))


def channel_of(server: Server, authority: Authority, client: tuple[Path, Path] | None = None) -> grpc.Channel:
    certificate, key = (path.read_bytes() for path in client) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes(), key, certificate)
    return grpc.secure_channel(f"localhost:{server.grpc_port}", credentials)


def connect(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = socket.create_connection(("localhost", server.http_port), timeout=20)
    return context.wrap_socket(sock, server_hostname="localhost")


def post(body: bytes) -> bytes:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer sesame\r\n"
    return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_the_openai_client_speaks_over_https(secure, authority):
    client = client_of(secure, context_of(authority))
    arguments = {"model": "tiny", "prompt": "x", "max_tokens": 20, "temperature": 0, "extra_body": {"ignore_eos": True}}
    whole = client.completions.create(**arguments)
    assert whole.usage.completion_tokens == 20
    assert "".join(part.choices[0].text for part in client.completions.create(**arguments, stream=True)) == (
        whole.choices[0].text
    )
    with pytest.raises(openai.AuthenticationError):
        client_of(secure, context_of(authority), "wrong").models.list()


def test_grpc_speaks_over_tls_and_asks_for_the_key(secure, authority, proto):
    request = proto.messages.GenerateRequest(text="x", stopping=proto.messages.StoppingParams(max_tokens=3))
    metadata = [("authorization", "Bearer sesame")]
    with channel_of(secure, authority) as channel:
        stub = proto.stubs.GenerationStub(channel)
        assert list(stub.Generate(request, metadata=metadata, timeout=20))[-1].usage.completion_tokens == 3
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(request, timeout=20))
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
        # Refused before its message is decoded: this one is no GenerateRequest, and no such method has it.
        for path in ("/latentd.v1.Generation/Generate", "/no.such.Service/Method"):
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary(path)(b"\xff\xff\xff", timeout=20)
            assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_client_that_does_not_know_the_authority_does_not_talk(secure, tmp_path):
    with pytest.raises(openai.APIConnectionError):
        client_of(secure, context_of(Authority(tmp_path, "other"))).models.list()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("door", ["http_port", "grpc_port"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(secure, door, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("localhost", getattr(secure, door)), timeout=20) as sock:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            context.wrap_socket(sock, server_hostname="localhost")
    context.maximum_version = context.minimum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("localhost", getattr(secure, door)), timeout=20) as sock:
        assert context.wrap_socket(sock, server_hostname="localhost").version() == "TLSv1.2"


def test_plain_http_on_a_tls_door_is_closed(secure):
    with socket.create_connection(("localhost", secure.http_port), timeout=20) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        answer = sock.recv(4096)
    assert not answer.startswith(b"HTTP/1.1 200")


def test_a_silent_client_is_given_up(secure):
    began = time.monotonic()
    with socket.create_connection(("localhost", secure.http_port), timeout=20) as sock:
        assert sock.recv(1) == b""
    assert 9 < time.monotonic() - began < 15


def test_requests_in_one_go_are_answered_in_order(secure, authority):
    with connect(secure, context_of(authority)) as sock:
        sock.sendall(post(b'{"prompt": "x", "max_tokens": 400, "ignore_eos": true}'))
        time.sleep(0.02)  # so that the next comes while the first is awaited
        sock.sendall(post(b'{"prompt": "x", "max_tokens": 2}') * 2)
        stream = sock.makefile("rb")
        for _ in range(3):
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while line := stream.readline().strip().lower():
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            stream.read(length)


@pytest.mark.parametrize("stream", [b"true", b"false"])
def test_a_client_that_leaves_is_noticed(secure, authority, stream):
    name = 'latentd_requests_cancelled_total{cause="disconnect"}'
    before = secure.metrics()[name]
    body = b'{"prompt": "run", "max_tokens": %d, "ignore_eos": true, "stream": %b}' % (CONTEXT - 10, stream)
    with connect(secure, context_of(authority)) as sock:
        sock.sendall(post(body))
        eventually(lambda: secure.metrics()["latentd_num_requests_running"] > 0)
        sock.settimeout(20)
        sock.unwrap() if stream == b"false" else sock.close()  # close_notify, or none
    eventually(lambda: secure.metrics()[name] == before + 1)
    secure.wait_until_idle()


def test_metrics_and_health_have_a_port_of_their_own(secure, request):
    assert secure.metrics()["latentd_certificate_expiry_timestamp_seconds"] > time.time() + 9 * 86400
    plain = f"http://127.0.0.1:{secure.metrics_port}"
    assert [httpx.get(plain + path).status_code for path in ("/healthz", "/readyz", "/version")] == [200] * 3
    assert httpx.get(plain + "/v1/models").status_code == 404
    assert httpx.post(plain + "/v1/completions", json={"prompt": "x"}).status_code == 404
    binary = request.config.getoption("--latentd")
    subprocess.run([binary, "health", "--metrics-port", str(secure.metrics_port)], check=True, timeout=20)


def test_metrics_have_left_the_main_port(secure, authority):
    with httpx.Client(verify=context_of(authority), headers={"Authorization": "Bearer sesame"}) as client:
        assert client.get(secure.url + "/metrics").status_code == 404
        assert client.get(secure.url + "/healthz").status_code == 200


def test_a_renewed_certificate_is_used_without_a_restart(start_server, authority, tmp_path, proto):
    server = serve(start_server, authority, tmp_path)

    def seen(port: int) -> str:
        """The name in the certificate that a door shows now."""
        context = context_of(authority)
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("localhost", port), timeout=20) as sock:
            with context.wrap_socket(sock, server_hostname="localhost") as secured:
                return dict(pair[0] for pair in secured.getpeercert()["subject"])["commonName"]

    assert seen(server.http_port) == seen(server.grpc_port) == "server"
    expiry = "latentd_certificate_expiry_timestamp_seconds"
    before = server.metrics()[expiry]
    with connect(server, context_of(authority)) as old:
        install(authority.issue("renewed", days=20), tmp_path)
        server.wait_for_line(r"\bcertificate\W+expires")
        assert seen(server.http_port) == "renewed"
        eventually(lambda: seen(server.grpc_port) == "renewed")
        assert server.metrics()[expiry] > before + 9 * 86400
        old.sendall(post(b'{"prompt": "x", "max_tokens": 1}'))  # goes on under the old one
        assert old.recv(4096).startswith(b"HTTP/1.1 200")
    (tmp_path / "tls.crt").write_text("no certificate")
    server.wait_for_line(r"the certificate stays as it was: .*tls\.crt")
    assert seen(server.http_port) == "renewed"


def test_client_certificates_are_demanded_when_an_authority_is_given(start_server, authority, tmp_path, proto):
    server = serve(start_server, authority, tmp_path, "--tls-client-ca", str(authority.certificate))
    ours = authority.issue("client")
    stranger = Authority(tmp_path, "stranger").issue("nobody")
    for client in (None, stranger):
        with pytest.raises(openai.APIConnectionError):
            client_of(server, context_of(authority, client)).models.list()
        with channel_of(server, authority, client) as channel, pytest.raises(grpc.RpcError) as error:
            proto.stubs.GenerationStub(channel).GetModel(proto.messages.GetModelRequest(), timeout=5)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    for _ in range(2):  # the second may resume the first's session
        assert client_of(server, context_of(authority, ours)).models.list().data
    with channel_of(server, authority, ours) as channel:
        answer = proto.stubs.GenerationStub(channel).GetModel(proto.messages.GetModelRequest(), timeout=20)
    assert answer.model == "tiny"


def test_wrong_files_are_said_at_the_start(request, authority, model_dir, tmp_path):
    certificate, key = authority.issue("one")
    other = authority.issue("two")[1]
    (tmp_path / "empty").write_text("")

    def error_of(*flags: str | Path) -> str:
        command = [request.config.getoption("--latentd"), "serve", "--model", str(model_dir), "--http-port", "0"]
        ended = subprocess.run(
            [*command, "--grpc-port", "0", *map(str, flags)], capture_output=True, text=True, timeout=20
        )
        assert ended.returncode != 0
        return ended.stderr

    assert "tls-key" in error_of("--tls-cert", certificate)
    assert "tls-key" in error_of("--tls-cert", certificate, "--tls-key", other)
    assert "empty" in error_of("--tls-cert", tmp_path / "empty", "--tls-key", key)
    assert "missing" in error_of("--tls-cert", tmp_path / "missing", "--tls-key", key)
    assert "tls-client-ca" in error_of("--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", tmp_path / "empty")


def test_many_clients_at_once_over_tls(secure, authority):
    context, failures = context_of(authority), []

    def run() -> None:
        try:
            client = client_of(secure, context)
            stream = client.completions.create(
                model="tiny", prompt="x", max_tokens=50, stream=True, extra_body={"return_token_ids": True, "ignore_eos": True}
            )
            assert sum(len(part.choices[0].token_ids) for part in stream) == 50
        except BaseException as error:  # told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
