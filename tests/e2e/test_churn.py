"""Many clients at both doors that come, go and leave half way: nothing may leak and nothing may hang."""

from __future__ import annotations

import json
import random
import socket
import threading

import grpc


def over_http(server, rng: random.Random) -> None:
    body = json.dumps(
        {
            "prompt": "x" * rng.randint(1, 300),
            "max_tokens": rng.randint(1, 400),
            "n": rng.randint(1, 3),
            "stream": rng.random() < 0.7,
            "ignore_eos": True,
        }
    ).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=30) as sock:
        sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        for _ in range(rng.choice([0, 1, 3, 10_000])):  # most leave before the end
            if not sock.recv(1024):
                break


def over_grpc(stub, messages, rng: random.Random) -> None:
    request = messages.GenerateRequest(
        text="y" * rng.randint(1, 300),
        stopping=messages.StoppingParams(max_tokens=rng.randint(1, 400), ignore_eos=True),
        output=messages.OutputParams(n=rng.randint(1, 3)),
    )
    call = stub.Generate(request, timeout=rng.choice([0.01, 0.05, 30]))
    try:
        for i, _ in enumerate(call):
            if i >= rng.choice([0, 2, 10_000]):
                call.cancel()
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED), error


def test_clients_that_come_and_go_leave_nothing_behind(server, stub, proto):
    seed = 20261124
    print("seed", seed)
    failures: list[BaseException] = []

    def client(number: int) -> None:
        rng = random.Random(seed + number)
        try:
            for _ in range(12):
                if number % 2:
                    over_http(server, rng)
                else:
                    over_grpc(stub, proto.messages, rng)
        except Exception as error:  # told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    after = server.wait_until_idle(20)
    pages = [after[f'latentd_kv_pages{{state="{state}"}}'] for state in ("used", "cached", "free")]
    assert sum(pages) == 131072 / 64
    assert server.client().completions.create(model="tiny", prompt="x", max_tokens=1).usage.completion_tokens == 1
