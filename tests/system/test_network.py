"""Hosts of this machine alone: nothing here needs a network."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from mnemonics_tf.system import network


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def refusing():
    """A port that nobody listens at: it is taken, and no more."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_one_host_that_answers_is_enough(listening, refusing):
    closed, opened = (f"http://127.0.0.1:{port}/data.tar.gz" for port in (refusing, listening))
    assert not network.any_answers([closed], 5)
    assert network.any_answers([closed, opened], 5)


def test_name_that_takes_long_to_look_up_is_not_waited_for(monkeypatch):
    over = threading.Event()

    def look_up(*args, **kwargs):
        over.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    start = time.monotonic()
    try:
        assert not network.any_answers(["https://data.example/file"], 0.2)
        assert time.monotonic() - start < 5
    finally:
        over.set()


def test_proxy_takes_the_place_of_the_host(monkeypatch, listening, refusing):
    url = f"http://data.example:{refusing}/file"
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listening}")
    assert network.any_answers([url], 5)
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{refusing}")
    assert not network.any_answers([url], 5)
    # Hosts that go round it are asked themselves.
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert network.any_answers([f"http://127.0.0.1:{listening}/file"], 5)


def test_what_cannot_be_tried_counts_as_an_answer(monkeypatch):
    assert network.any_answers(["gs://bucket/file"], 5)
    monkeypatch.setenv("https_proxy", "proxy.example")
    assert network.any_answers(["https://data.example/file"], 5)
