"""The console in a real Chromium: what it shows under load, with and without a key, in both themes, by keyboard, and to axe."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, complete, eventually
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

KEY = "sesame-open"
PROMPT = "Once upon a time there was a little girl. " * 40
TOKENS = 16384  # of the cache


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "no chromium: tools/install-packages tools/packages-browser.txt"
    with sync_playwright() as playwright:
        # A container has no user namespaces for Chromium's sandbox; it sees nothing but our own page.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(start_server: Callable[..., str]) -> str:
    return start_server("--api-key", KEY, "--kv-cache-tokens", str(TOKENS))


@pytest.fixture(scope="module")
def load(server: str) -> Iterator[None]:
    """Requests that share a prompt, as long as the tests of this module run."""
    stop = threading.Event()

    def run(number: int) -> None:
        while not stop.is_set():
            try:
                complete(server, 120, PROMPT + str(number), KEY)
            except OSError:  # a slow machine is no reason to stop
                stop.wait(0.2)

    # A picture wants a busy map; the tests need no more than three.
    clients = 12 if "CONSOLE_SCREENSHOTS" in os.environ else 3
    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


class Console:
    """A page of the console. Nothing may be reported that the browser finds wrong, least of all a breach of the policy."""

    def __init__(self, browser: Browser, url: str, theme: str):
        self.context = browser.new_context(viewport={"width": 1240, "height": 960}, color_scheme=theme, reduced_motion="reduce")
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(url + "/")

    def _hear(self, message: ConsoleMessage) -> None:
        # A 401 is the server's question for a key.
        if message.type in ("error", "warning") and "401" not in message.text:
            self.faults.append(message.text)

    def give_key(self, key: str = KEY) -> None:
        expect(self.page.get_by_role("dialog")).to_be_visible()
        self.page.get_by_label("Key", exact=True).fill(key)
        self.page.keyboard.press("Enter")


@pytest.fixture
def console(browser: Browser, server: str) -> Iterator[Console]:
    opened = Console(browser, server, "light")
    yield opened
    opened.context.close()
    assert opened.faults == []


def number_in(page: Page, identifier: str) -> float:
    text = page.locator("#" + identifier).inner_text().replace(",", "")
    found = re.search(r"[\d.]+", text)
    return float(found[0]) if found else -1.0


def wait_until_positive(page: Page, identifier: str) -> None:
    """The page's policy forbids what `wait_for_function` does, evaluating a string: we ask from here."""
    eventually(lambda: number_in(page, identifier) > 0, 20)


def test_asks_for_the_key_and_shows_nothing_without_it(console: Console, load: None):
    page = console.page
    expect(page.locator("#state")).to_have_text("a key is needed")
    expect(page.locator("#tokens-rate")).to_have_text("–")
    console.give_key("wrong")
    expect(page.locator("#key-why")).to_have_text("The server does not know that key.")
    console.give_key()
    expect(page.locator("#state")).to_have_text("ready")
    # In memory alone: it is nowhere that outlives the page.
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.reload()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_shows_the_engine_at_work(console: Console, load: None):
    page = console.page
    console.give_key()
    wait_until_positive(page, "tokens-rate")
    wait_until_positive(page, "running")
    wait_until_positive(page, "inter-token")
    expect(page.locator("#requests tr").first).to_be_visible(timeout=20000)
    # Prompts are shared while they run, and their pages stay cached: all four states make up the pool.
    wait_until_positive(page, "count-shared")
    counts = page.evaluate("['free', 'private', 'shared', 'cached'].map(n => Number(document.getElementById('count-' + n).textContent.replace(',', '')))")
    assert sum(counts) == TOKENS / 64
    # The map has been drawn in more than one colour.
    colours = page.evaluate(
        """() => {
          const canvas = document.getElementById('pool');
          const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          const seen = new Set();
          for (let i = 0; i < data.length; i += 4) if (data[i + 3]) seen.add(data.slice(i, i + 3).join());
          return seen.size;
        }"""
    )
    assert colours >= 3
    assert number_in(page, "mha-bytes") / number_in(page, "kv-bytes") == pytest.approx(4.8, rel=0.05)
    assert "Once upon" not in page.locator("#requests").inner_text()


def test_the_playground_streams_a_chat(console: Console):
    page = console.page
    console.give_key()
    expect(page.locator("#state")).to_have_text("ready")
    page.get_by_label("Most tokens").fill("40")
    page.get_by_label("Message").fill("Tell me a story about a shy girl named Anna.")
    page.keyboard.press("Control+Enter")
    answer = page.locator("#talk .turn").nth(1)
    expect(answer.locator(".who")).to_contain_text("tokens", timeout=20000)
    assert len(answer.inner_text()) > 40
    # The call is in the list, with its cost and without its text.
    first = page.locator("#requests tr", has_text="/v1/chat/completions").first
    expect(first).to_be_visible(timeout=5000)
    assert "Anna" not in page.locator("#requests").inner_text()


def test_the_playground_can_be_stopped_and_says_what_failed(console: Console):
    page = console.page
    console.give_key()
    expect(page.locator("#state")).to_have_text("ready")
    page.get_by_label("Most tokens").fill("900")
    page.get_by_label("Message").fill("Tell me a long story.")
    # Pressed as soon as it can be, in the page itself: the model may have told its story before a driver gets there.
    page.evaluate("""() => {
        const stop = document.getElementById("stop");
        new MutationObserver((_, once) => { once.disconnect(); stop.click(); }).observe(stop, {attributes: true});
    }""")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#talk .who").nth(1)).to_contain_text("stopped")
    page.get_by_label("Most tokens").fill("100000")
    page.get_by_label("Message").fill("Tell me more.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#talk .who").nth(3)).to_contain_text("failed:")
    # The browser itself reports that answer, which we asked for.
    console.faults = [fault for fault in console.faults if "400 (Bad Request)" not in fault]


def test_keyboard_alone_reaches_everything(console: Console):
    page = console.page
    console.give_key()
    expect(page.locator("#state")).to_have_text("ready")
    reached: list[str] = []
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        # Where the focus is can be seen.
        assert page.evaluate("document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'")
    assert {"skip", "key-button", "theme-button", "talk", "message", "max-tokens", "temperature", "send", "clear", "scroll"} <= set(reached)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_and_the_picture_is_taken(browser: Browser, server: str, load: None, theme: str):
    console = Console(browser, server, theme)
    page = console.page
    expect(page.get_by_role("dialog")).to_be_visible()
    asked = Axe().run(page)
    assert asked.violations_count == 0, asked.generate_report()
    console.give_key()
    wait_until_positive(page, "tokens-rate")
    page.get_by_label("Most tokens").fill("60")
    page.get_by_label("Message").fill("Tell me a story about a shy girl named Anna.")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#talk .who").nth(1)).to_contain_text("tokens", timeout=20000)
    wait_until_positive(page, "count-shared")
    shown = Axe().run(page)
    assert shown.violations_count == 0, shown.generate_report()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(14, 18, 23)") == (theme == "dark")
    if folder := os.environ.get("CONSOLE_SCREENSHOTS"):
        page.wait_for_timeout(25_000)  # a plot worth looking at
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=Path(folder) / f"console-{theme}.png")
    console.context.close()
    assert console.faults == []


def test_without_keys_nothing_is_asked(browser: Browser, start_server: Callable[..., str]):
    console = Console(browser, start_server(), "light")
    expect(console.page.locator("#state")).to_have_text("ready")
    expect(console.page.get_by_role("dialog")).to_be_hidden()
    console.context.close()
    assert console.faults == []


def test_screenshots_in_the_manual_are_small():
    for theme in ("light", "dark"):
        assert 20_000 < (ROOT / f"docs/console-{theme}.png").stat().st_size < 200_000


def test_the_page_has_a_strict_policy_and_names_no_other_place(server: str):
    for path in ("/", "/console/console.css", "/console/console.js", "/console/icon.svg"):
        with urllib.request.urlopen(server + path, timeout=10) as response:
            policy = response.headers["Content-Security-Policy"]
            text = response.read().decode()
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"\s(style|on\w+)=|https?://(?!www\.w3\.org/2000/svg)", text), path
    size = sum(len(f.read_bytes()) for f in (ROOT / "server/http/console").iterdir())
    assert size < 64_000


def test_the_state_needs_the_key(server: str):
    result = subprocess.run(["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", server + "/console/state"], capture_output=True, text=True, check=True)
    assert result.stdout == "401"
