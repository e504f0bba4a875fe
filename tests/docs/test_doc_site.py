"""The documentation is built as a site, strictly, and whoever reads it needs no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from doc_pages import text_of


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--config-file", "launch/mkdocs.yml"]
    finished = subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    # A broken link, an anchor that is not there, a page that nothing leads to or a name that Python has not: all fail.
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
