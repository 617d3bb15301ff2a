"""Loading shows how far it is: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess


def test_a_terminal_sees_a_bar(request, model_dir):
    ours, theirs = pty.openpty()
    command = [request.config.getoption("--latentd"), "serve", "--model", str(model_dir), "--http-port", "0", "--grpc-port", "0"]
    flags = ["--cpu-threads", "1", "--kv-cache-tokens", "16384", "--drain-propagation", "0", "--device", "cpu"]
    process = subprocess.Popen([*command, *flags], stderr=theirs, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    os.close(theirs)
    seen = b""
    try:
        while b"ready" not in seen:
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert re.search(rb"\rweights \[#{24}\] 100 %  [\d.]+ of [\d.]+ GB, [\d.]+ GB/s\x1b\[K\r?\n", seen), seen


def test_a_log_gets_a_line(server):
    line = server.wait_for_line(r"weights: ([\d.]+) of ([\d.]+) GB")
    assert line[1] == line[2]
