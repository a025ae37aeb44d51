"""The page in a real browser: photos are dropped, pasted and picked, classes and heat maps appear, errors are told."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services import Service, png, service
from test_export import NAMES, loaded, photos, weights  # fixtures

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
DROP = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const given = new DataTransfer();
  given.items.add(new File([bytes], name, { type }));
  const kind = name.startsWith("pasted") ? new ClipboardEvent("paste", { clipboardData: given, bubbles: true })
    : new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true });
  document.getElementById("drop").dispatchEvent(kind);
}"""

__all__ = ["loaded", "photos", "weights"]


@pytest.fixture(scope="module")
def running(weights: Path) -> Iterator[Service]:
    with service(weights) as running:
        yield running


@pytest.fixture
def page(running: Service) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 900, "height": 900})
        page.asked, page.faults = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.goto(f"http://127.0.0.1:{running.port}/")
        yield page
        own = f"http://127.0.0.1:{running.port}/"
        assert all(url.startswith((own, "blob:", "data:")) for url in page.asked)  # nobody else was asked
        browser.close()


def drop(page: Any, name: str, data: bytes, kind: str = "image/png") -> Any:
    page.evaluate(DROP, [name, kind, base64.b64encode(data).decode()])
    return page.locator("#results .result").first


def test_a_photo_is_dropped_and_explained(page: Any) -> None:
    page.get_by_text("3 classes").wait_for()
    row = drop(page, "leaf.png", png())
    row.locator(".bars button").first.wait_for()
    assert row.locator("h2").text_content() == "leaf.png" and row.locator(".bars button").count() == 3
    assert set(row.locator(".name").all_text_contents()) == set(NAMES)
    assert " ms" in row.locator(".soft").first.text_content()
    picture = row.locator("img")
    assert picture.get_attribute("src").startswith("blob:")
    row.locator(".bars button").nth(1).click()
    page.locator(".result img[src^='data:image/png']").wait_for()
    assert "where the model looks for" in picture.get_attribute("alt")
    assert page.evaluate("(() => { const i = document.querySelector('.result img'); return i.naturalWidth; })()") == 448
    row.locator(".bars button").nth(1).click()
    page.locator(".result img[src^='blob:']").wait_for()
    assert page.faults == []


def test_text_is_refused_with_the_reason_and_the_next_photo_works(page: Any) -> None:
    row = drop(page, "notes.txt", b"just text", "text/plain")
    row.locator(".bad").wait_for()
    assert "not an image of a known format" in row.locator(".bad").text_content()
    assert "notes.txt" in page.locator("#status").text_content()
    drop(page, "pasted.png", png()).locator(".bars button").first.wait_for()
    assert page.locator("#results .result").count() == 2


def test_the_keyboard_reaches_everything(page: Any, tmp_path: Path) -> None:
    (tmp_path / "picked.png").write_bytes(png())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    page.locator("#files").set_input_files(tmp_path / "picked.png")
    page.locator(".bars button").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.bars') !== null")
    page.keyboard.press("Enter")
    page.locator(".result img[src^='data:image/png']").wait_for()
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert page.locator("#facts dt").count() >= 4 and page.locator("#facts").is_visible()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_cut_off_at_any_width(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    drop(page, "a-name-without-any-blank-that-goes-on-and-on-and-on-and-on-and-on-and-on.png", png()).locator(
        ".bars button"
    ).first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_interface_is_described_without_asking_anybody(page: Any, running: Service) -> None:
    page.goto(f"http://127.0.0.1:{running.port}/docs")
    page.locator("section").nth(5).wait_for()
    assert {"POST /v1/predict", "POST /v1/explain", "GET /metrics"} <= set(page.locator("h2").all_text_contents())
    assert page.faults == []


def test_a_key_is_asked_for(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame\n")
    with service(weights, "--api-key-file", str(tmp_path / "key")) as locked, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{locked.port}/")
        page.locator("#key").wait_for(state="visible")
        page.locator("#key").fill("sesame")
        page.locator("#key").press("Tab")
        page.get_by_text("3 classes").wait_for()
        drop(page, "leaf.png", png()).locator(".bars button").first.wait_for()
        browser.close()
