"""The checksum of a run's gin files: what counts, and that it ends."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "launch"))

from sweeping.gin_files import checksum


@pytest.fixture
def arguments(tmp_path):
    """Of a run whose file includes one in a subfolder, which includes another by its path from the first."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "top.gin").write_text('a.b = 1\ninclude "parts/one.gin"\n')
    (tmp_path / "parts/one.gin").write_text("include 'parts/two.gin'\n")
    (tmp_path / "parts/two.gin").write_text("include 'configs/methods/lwf.gin'  # from the project's root\n")
    return (f"--gin_file={tmp_path / 'top.gin'}", "--gin_param=c.d = 2")


@pytest.mark.parametrize("name", ["top.gin", "parts/one.gin", "parts/two.gin"])
def test_every_file_counts(arguments, tmp_path, name):
    before = checksum(arguments)
    assert checksum(arguments) == before
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(text + "e.f = 3\n")
    assert checksum(arguments) != before
    (tmp_path / name).write_text(text)
    assert checksum(arguments) == before


def test_include_of_a_comment_does_not_count(arguments, tmp_path):
    before = checksum(arguments)
    (tmp_path / "other.gin").write_text("e.f = 3\n")
    (tmp_path / "top.gin").write_text((tmp_path / "top.gin").read_text() + '# include "other.gin"\n')
    with_comment = checksum(arguments)
    (tmp_path / "other.gin").unlink()
    assert checksum(arguments) == with_comment != before


def test_order_of_files_counts():
    files = ("--gin_file=configs/methods/lwf.gin", "--gin_file=configs/base_method.gin")
    assert checksum(files) != checksum(files[::-1])


def test_files_that_include_one_another_or_are_missing_end_all_the_same(tmp_path):
    (tmp_path / "a.gin").write_text('include "b.gin"\ninclude "nowhere.gin"\n')
    (tmp_path / "b.gin").write_text('include "a.gin"\n')
    assert checksum((f"--gin_file={tmp_path / 'a.gin'}", "--gin_file=no/such.gin"))


def test_modules_beside_a_file_count_and_others_do_not(arguments, tmp_path):
    (tmp_path / "mine.py").write_text("WEIGHT = 1\n")
    (tmp_path / "stranger.py").write_text("WEIGHT = 1\n")
    (tmp_path / "parts/package").mkdir()
    (tmp_path / "parts/package/__init__.py").write_text("")
    (tmp_path / "parts/one.gin").write_text("import mine\nimport package\nimport json\ninclude 'parts/two.gin'\n")
    before = checksum(arguments)
    (tmp_path / "stranger.py").write_text("WEIGHT = 2\n")
    assert checksum(arguments) == before
    (tmp_path / "mine.py").write_text("WEIGHT = 2\n")
    after = checksum(arguments)
    assert after != before
    (tmp_path / "parts/package/__init__.py").write_text("WEIGHT = 2\n")
    assert checksum(arguments) != after
