"""What holds for every test: a clean environment, nothing left behind, and no skip that hides missing recordings."""

import gc
import os
import ssl
import threading
import time
from pathlib import Path

import hypothesis
import pytest
import trustme

from llmws import default
from tests.owner import Guard


ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
# How long what a test started may take to end; reached by leaks alone.
PATIENCE = 5.0
# A plain run tries few examples of what hypothesis makes up, ``.ci/run`` more, ``python -m tests.fuzz`` as many as one
# likes. None has a deadline: a busy machine is no failure.
hypothesis.settings.register_profile("quick", max_examples=40, deadline=None)
hypothesis.settings.register_profile("deep", max_examples=100, deadline=None)
hypothesis.settings.load_profile("quick")


def pytest_configure(config):
    # For the whole run, so that fixtures of every scope and child processes see the same.
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower() in PROXIES:
            del os.environ[name]


def pytest_collection_finish():
    # All modules and tests are here for good; each look for garbage would cost a quarter of a second on them.
    gc.collect()
    gc.freeze()


# A skip for want of the recordings beside the repository is right in a lone clone, and a defect where they are.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return needing_shared((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return needing_shared((yield))


def needing_shared(report):
    """Turn a report of a skip that names ``../shared`` into a failure, if that folder exists."""
    if report.outcome == "skipped" and "../shared" in str(report.longrepr) and SHARED.is_dir():
        report.outcome = "failed"
        report.longrepr = f"../shared exists, and yet this was skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def tls():
    """Return the contexts of a server on 127.0.0.1 and of a client that trusts it."""
    return contexts()


@pytest.fixture(scope="session")
def tls_without_tickets():
    """
    Return the same for clients that read and write one TLS object from two threads.

    Where TLS 1.3 sends session tickets, some of their handshakes fail (websockets 15, which the vendor's SDK uses).
    """
    server, client = contexts()
    server.num_tickets = 0
    return server, client


def contexts():
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


# A socket belongs to one thread at a time.


@pytest.fixture(scope="session", autouse=True)
def guard():
    """Watch every socket of the whole run."""
    with Guard().watching() as guard:
        yield guard


@pytest.fixture(autouse=True)
def only_its_owner_touches_a_socket(guard):
    """Fail a test in which another thread touched a socket of llmws."""
    yield
    assert guard.take() == []


# What a test starts, it ends.


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Fail a test that leaves a thread of llmws or an open socket, pipe or selector."""
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    yield
    close_default_session()
    deadline = time.monotonic() + PATIENCE
    left = joined([thread for thread in new_threads(threads) if is_ours(thread)], deadline)
    if left or open_descriptors() - descriptors:
        gc.collect()  # What was forgotten is to end once it is collected; an exception may have held it.
        left = [thread for thread in joined(new_threads(threads), deadline) if is_ours(thread)]
    assert [thread.name for thread in left] == []
    assert sorted(open_descriptors() - descriptors) == []


@pytest.fixture(scope="module")
def no_finalizers():
    """Keep other tests' garbage from being collected at the end of the stack, where its finalizers would fail."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def close_default_session():
    session, default._default.session = default._default.session, None
    if session is not None:
        session.close()


def is_ours(thread):
    # A callback thread without work ends by itself half a second later; nobody waits for that.
    return thread.name.startswith("llmws-") and "-callbacks-" not in thread.name


def new_threads(before):
    return [thread for thread in threading.enumerate() if thread not in before]


def joined(threads, deadline):
    """Wait for threads; return those that still run."""
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def open_descriptors():
    """Return the open sockets, pipes and selectors as ``(number, target)``; nothing where /proc is not to be had."""
    found = set()
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # The descriptor of the listing itself.
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:")):
            found.add((int(name), target))
    return found
