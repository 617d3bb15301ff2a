#!/usr/bin/env python3
"""Asks a server for the beginning of a story over gRPC: complete.py ADDRESS PROTO (the folder that holds latentd/v1)."""

import sys
import tempfile
from pathlib import Path

import grpc
from grpc_tools import protoc

address, protos = sys.argv[1], Path(sys.argv[2])
with tempfile.TemporaryDirectory() as generated:
    source = protos / "latentd/v1/generation.proto"
    if protoc.main(["", f"-I{protos}", f"--python_out={generated}", f"--grpc_python_out={generated}", str(source)]):
        sys.exit("the service's definition does not compile")
    sys.path.insert(0, generated)
    from latentd.v1 import generation_pb2 as messages
    from latentd.v1 import generation_pb2_grpc as services

    story = messages.ChatMessage(role="user", content="Tell me a story about a fox")
    request = messages.GenerateRequest(chat=messages.Chat(messages=[story]))
    request.stopping.max_tokens = 60
    request.sampling.temperature = 0
    with grpc.insecure_channel(address) as channel:
        answers = list(services.GenerationStub(channel).Generate(request, timeout=30))
    print("".join(answer.text for answer in answers))
    print(f"{answers[-1].usage.completion_tokens} tokens over gRPC")
