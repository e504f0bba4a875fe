"""Whether the machines that something is to be downloaded from can be reached at all, found out in seconds."""

from __future__ import annotations

import queue
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable

_PORTS = {"http": 80, "https": 443, "ftp": 21}


def any_answers(urls: Iterable[str], seconds: float) -> bool:
    """Whether a connection can be opened to the host of some URL, or to the proxy that the environment names for it.

    Nothing is sent or read. A URL of which this cannot be tried (another scheme, a proxy without a port) counts as one
    that answers.

    Args:
      urls: such as `https://host/file`, at least one.
      seconds: how long to wait at most; looking up a name takes no longer either.
    """
    addresses = {_address(url) for url in urls}
    answers: queue.Queue[bool] = queue.Queue()
    for address in addresses:
        if address is None:
            return True
        # The system has no limit for looking up a name, so that nothing waits for the threads themselves.
        threading.Thread(target=lambda own=address: answers.put(_answers(own, seconds)), daemon=True).start()
    end = time.monotonic() + seconds
    try:
        return any(answers.get(timeout=max(0.0, end - time.monotonic())) for _ in addresses)
    except queue.Empty:
        return False


def _answers(address: tuple[str, int], seconds: float) -> bool:
    try:
        with socket.create_connection(address, timeout=seconds):
            return True
    except (OSError, UnicodeError):  # the latter of a name that no host can have
        return False


def _address(url: str) -> tuple[str, int] | None:
    """Host and port that a download of the URL would connect to first; None if that cannot be told."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
        proxies = urllib.request.getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy and host and not urllib.request.proxy_bypass(host):
            through = urllib.parse.urlsplit(proxy if "://" in proxy else f"//{proxy}")
            host, port = through.hostname, through.port
    except ValueError:  # a port that is no number
        return None
    return (host, port) if host and port else None
