"""The documentation is built as a site, strictly, and whoever reads it needs no network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from doc_pages import text_of


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "launch/mkdocs.yml"]
    finished = subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    # A broken link, an anchor that is not there, a page that nothing leads to or a name that Python has not: all fail.
    # With --quiet none would, as MkDocs counts the warnings that it shows.
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


def test_no_page_fetches_anything_from_elsewhere(site):
    fetched = re.compile(r"<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*//")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert [page.name for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []
    foreign = re.compile(r"@import|url\(\s*[\"']?(?:https?:)?//")
    assert [sheet.name for sheet in site.rglob("*.css") if foreign.search(sheet.read_text(encoding="utf-8"))] == []


def test_every_page_of_how_to_is_in_the_navigation_without_being_listed(site):
    front = (site / "index.html").read_text(encoding="utf-8")
    pages = sorted(page.stem for page in (ROOT / "docs/how-to").glob("*.md"))
    assert len(pages) >= 8
    assert [page for page in pages if f'href="how-to/{page}.html"' not in front] == []
    listed = text_of(ROOT / "docs/.nav.yml")
    assert [page for page in pages if f"{page}.md" in listed] == []


def test_reference_shows_what_docstrings_say(site):
    page = (site / "reference/python.html").read_text(encoding="utf-8")
    # A sentence of `IncrementalLearner.learn`, and the name of an argument in the list of its arguments.
    assert "Until it returns nothing of the learner changes" in page
    assert re.search(r"<code[^>]*>class_names</code>", page)


def test_scripts_that_draw_are_not_part_of_the_site(site):
    assert (site / "pictures/exemplars.png").is_file()
    assert list(site.rglob("*.py")) == []


def test_script_refuses_what_it_does_not_know():
    finished = subprocess.run(["bash", str(ROOT / "launch/docs.sh"), "publish"], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == "docs.sh takes 'build' or 'serve'. Received: publish\n"


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("chromedriver"), reason="No Chromium is installed.")
def test_site_opens_from_disk_with_its_search_and_without_a_complaint(site):
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.set_window_size(1200, 900)
        browser.get((site / "faq.html").as_uri())
        box = browser.find_element("css selector", "input.md-search__input")
        box.send_keys("herding")
        titles = WebDriverWait(browser, 30).until(lambda b: b.find_elements("css selector", ".md-search-result__link"))
        assert any("reference/" in title.get_attribute("href") for title in titles)
        # A narrow screen: nothing but tables and code is wider, and those scroll by themselves.
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True},
        )
        for page in ("index", "paper-to-code", "reference/settings", "tutorials/read-the-report"):
            browser.get((site / f"{page}.html").as_uri())
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
        assert browser.get_log("browser") == []
    finally:
        browser.quit()
