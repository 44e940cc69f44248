"""sesd: latency, slow wires, slow reading, the rate limit."""

import socket
import time

import pytest

from sesd_peer import Client, ID, MAIL


def took(what):
    began = time.monotonic()
    what()
    return time.monotonic() - began


def quickest(what):
    """Of some: this machine may have other things to do."""
    return min(took(what) for _ in range(5))


def test_latency_of_each_phase(sesd):
    s = sesd("--set", "latency=1ms")
    c = Client(s, "wrapper").start()
    for key, line in (("mail", "MAIL FROM:<a@x.test>"),
                      ("rcpt", "RCPT TO:<b@y.test>"), ("data", "DATA"),
                      ("dot", MAIL.decode() + "."), ("rset", "RSET"),
                      ("noop", "NOOP"), ("ehlo", "EHLO x")):
        s.set(**{f"{key}_latency": "200ms"})
        assert took(lambda: c.do(line)) > 0.15, key
        s.set(**{f"{key}_latency": 0})
    assert quickest(lambda: c.do("NOOP")) < 0.15
    s.set(quit_latency=200)
    assert took(lambda: c.do("QUIT")) > 0.15
    for key in ("connect", "tls"):
        s.set(**{f"{key}_latency": 200})
        assert took(lambda: Client(s, "wrapper")) > 0.15, key
        s.set(**{f"{key}_latency": 0})
    s.set(starttls_latency=200)
    c = Client(s)
    assert took(lambda: c.do("STARTTLS")) > 0.15
    s.set(auth_latency=200)
    assert took(lambda: Client(s, "wrapper").start()) > 0.15


@pytest.mark.parametrize("how", ["setting", "rule"])
def test_jitter(sesd, how):
    s = sesd("--set", "jitter=100ms") if how == "setting" else sesd(
        "--rule", "on NOOP jitter 100")
    c = Client(s)
    times = [took(lambda: c.do("NOOP")) for _ in range(10)]
    assert max(times) - min(times) > 0.02
    assert 0.1 < sum(times)


def test_write_rate_in_clear(sesd):
    s = sesd("--set", "write_rate=200")
    c = Client(s, "plain", read_greeting=False)
    assert len(c.sock.recv(1000)) <= 10  # a twentieth of a second's worth
    assert took(c.reply) > 0.2
    s.set(write_rate=0)
    assert quickest(lambda: Client(s)) < 0.2


@pytest.mark.parametrize("mode", ["wrapper", "starttls"])
def test_write_rate_in_tls(sesd, mode):
    """It is bytes on the wire: the handshake drips, and a record's pieces."""
    s = sesd("--rule", "on TLS times 1 write-rate 1200")
    c = None

    def shake():
        nonlocal c
        c = Client(s, mode)
        if mode == "starttls":
            c.do("STARTTLS")
            c.wrap()
    assert took(shake) > 0.15
    assert took(lambda: c.do("EHLO " + "x" * 20)) > 0.02
    assert ID.fullmatch(c.start().mail())
    assert quickest(shake) < 0.15  # the rule was for one connection


@pytest.mark.parametrize("how", ["setting", "rule"])
def test_read_rate(sesd, how):
    s = sesd() if how == "setting" else sesd(
        "--rule", "on DATA times 1 read-rate 1000000")
    c = Client(s, "wrapper").start()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    if how == "setting":
        s.set(read_rate=1000000)
    content = MAIL + (b"y" * 76 + b"\r\n") * 12000
    c.envelope()
    c.data_phase()
    assert took(lambda: c.send(content)) > 0.3  # its window was closed
    c.send(b".\r\n")
    assert ID.fullmatch(c.reply())
    assert s.accepted()[0]["bytes"] == len(content)
    if how == "setting":
        s.set(read_rate=0)
    fresh = Client(s, "wrapper").start()
    assert quickest(lambda: fresh.mail(content)) < 0.5


@pytest.mark.parametrize("settings,want", [
    ((), 5), (("--set", "rate_burst=3s"), 15)])
def test_burst(sesd, settings, want):
    s = sesd("--set", "rate=5", *settings)
    c = Client(s, "wrapper").start()
    n = 0
    while ID.fullmatch(c.mail()):
        n += 1
        assert n < 100
    assert want <= n <= want + 1


def test_rate_is_kept(sesd):
    """However hard it is tried: what is throttled costs nothing, and what is
    accepted is the rate and one second's worth."""
    s = sesd("--set", "rate=60")
    c = Client(s, "wrapper").start()
    began, good, bad = time.monotonic(), 0, 0
    while time.monotonic() - began < 2:
        if ID.fullmatch(c.mail(rcpts=["a@y.test", "b@y.test"])):
            good += 2
        else:
            c.do("RSET")
            bad += 1
    elapsed = time.monotonic() - began
    assert bad > 20
    assert 60 * elapsed + 60 - 8 <= good <= 60 * elapsed + 60 + 2
    assert s.stats()["recipients"] == good
    assert s.stats()["throttled_recipients"] == 2 * bad
