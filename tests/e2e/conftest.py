"""Fixtures of the end-to-end tests: real processes, each with its own
directory on a real disk.

`sesd` and `relay` are factories with the arguments of harness.Sesd and
harness.Relay. What is checked after every test, whatever it was about: sesd
saw no violation of the protocol, the relay ends with exit code 0 on SIGTERM
(with a sanitizer, that it found nothing), and its log has the password in no
form.
"""

import base64
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import harness  # noqa: E402

os.environ.setdefault("TSAN_OPTIONS", "suppressions=" + str(
    pathlib.Path(__file__).with_name("tsan.txt")))


@pytest.fixture(scope="session")
def certs():
    with harness.Workdir("certs") as directory:
        yield harness.make_certificates(directory)


@pytest.fixture
def directory(request):
    with harness.Workdir("e2e") as path:
        yield path


def check_secrets(relay):
    secrets = [harness.PASSWORD,
               base64.b64encode(harness.PASSWORD.encode()).decode(),
               base64.b64encode(b"\0" + harness.USER.encode() + b"\0" +
                                harness.PASSWORD.encode()).decode()]
    log = relay.log() if relay.log_path.exists() else ""
    for secret in secrets:
        assert secret not in log


class Stage:
    """The processes of one test."""

    def __init__(self, directory, certs):
        self.directory = directory
        self.certs = certs
        self.sesds = []
        self.relays = []

    def sesd(self, **kwargs):
        where = self.directory / f"sesd{len(self.sesds)}"
        kwargs.setdefault("store", True)
        self.sesds.append(harness.Sesd(where, self.certs, **kwargs))
        return self.sesds[-1]

    def relay(self, *args, **kwargs):
        where = self.directory / f"relay{len(self.relays)}"
        self.relays.append(harness.Relay(where, *args, **kwargs))
        return self.relays[-1]

    def end_relay(self, relay):
        if relay.process is None:
            return
        if not relay.process.alive():
            # The test saw to its end: stopped, killed or refused to start.
            assert relay.process.wait() in (0, -9, 71, 75, 78), relay.log()
            return
        try:
            code = relay.stop(timeout=1)
        except subprocess.TimeoutExpired:
            # It waits for a stalled peer, as it should: that one goes.
            for s in self.sesds:
                s.close()
            code = relay.process.wait(60)
        assert code == 0, relay.log()

    def end(self):
        try:
            for s in self.sesds:
                assert s.events("protocol") == []
            for r in self.relays:
                self.end_relay(r)
                check_secrets(r)
        finally:
            for p in self.relays + self.sesds:
                p.close()


@pytest.fixture
def stage(directory, certs):
    s = Stage(directory, certs)
    try:
        yield s
    finally:
        s.end()


@pytest.fixture
def sesd(stage):
    return stage.sesd


@pytest.fixture
def relay(stage):
    return stage.relay


def pytest_runtest_makereport(item, call):
    """A failed test shows what the relay logged."""
    if call.when == "call" and call.excinfo is not None:
        s = item.funcargs.get("stage")
        # A file may have a fixture of its own of that name.
        for r in s.relays if isinstance(s, Stage) else ():
            if r.log_path.exists():
                item.add_report_section("call", "log of the relay",
                                        r.log()[-20000:])
