"""sesd: limits, account states, TLS."""

import socket
import ssl
import time

import pytest

from sesd_peer import Client, DEADLINE, ID, MAIL, wait_until


def test_rate(sesd):
    s = sesd("--set", "rate=0.5")
    c = Client(s, "wrapper").start()
    assert ID.fullmatch(c.mail(rcpts=["a@y.test", "b@y.test", "c@y.test"]))
    assert c.mail() == (b"454 Throttling failure: Maximum sending rate "
                        b"exceeded.\r\n")
    assert len(s.events("throttled")) == s.stats()["throttled"] == 1

    s.set(rate=100)  # the debt of two is soon paid

    def passes():
        c.do("RSET")
        return ID.fullmatch(c.mail())
    wait_until(passes)
    s.set(rate=0)
    for _ in range(20):
        assert ID.fullmatch(c.mail())


def test_daily(sesd):
    s = sesd("--set", "daily=2")
    c = Client(s, "wrapper").start()
    assert ID.fullmatch(c.mail(rcpts=["a@y.test", "b@y.test"]))
    assert c.mail() == (b"454 Throttling failure: Daily message quota "
                        b"exceeded.\r\n")
    s.set(daily=3)
    c.do("RSET")
    assert ID.fullmatch(c.mail())


@pytest.mark.parametrize("phase", ["mail", "data", "dot"])
def test_session_cap(sesd, phase):
    s = sesd("--set", "session_cap=2", "--set", f"session_cap_phase={phase}")
    c = Client(s, "wrapper").start()
    assert ID.fullmatch(c.mail())
    assert ID.fullmatch(c.mail())
    capped = (b"421 Connection closed by server. Maximum message count per "
              b"session reached.\r\n")
    if phase == "mail":
        assert c.do("MAIL FROM:<a@x.test>") == capped
    else:
        c.envelope()
        if phase == "data":
            assert c.do("DATA") == capped
        else:
            c.data_phase()
            c.send(MAIL + b".\r\n")
            assert c.reply() == capped
    assert c.end() == "eof"
    assert s.events("close")[0]["reason"] == "session-cap"
    assert s.events("close")[0]["messages"] == 2
    assert s.stats()["max_messages_per_connection"] == 2


def test_max_connections(sesd):
    s = sesd("--set", "max_connections=1")
    first = Client(s)
    for mode in ("starttls", "wrapper"):
        c = Client(s, mode)
        assert c.greeting == b"421 Too many concurrent SMTP connections\r\n"
        assert c.end() == "eof"
    first.do("QUIT")
    assert first.end() == "eof"
    assert Client(s).greeting.startswith(b"220 ")
    assert s.stats()["connections"]["peak"] == 1


def test_idle(sesd):
    s = sesd()
    c = Client(s, "wrapper").start()
    s.set(idle="150ms")  # reaches connections that live
    began = time.monotonic()
    assert c.reply() == (b"451 4.4.2 Timeout waiting for data from client."
                         b"\r\n")
    assert time.monotonic() - began > 0.1
    assert c.end() == "eof"
    s.set(idle="10s")
    c = Client(s, "wrapper").start()
    c.envelope()
    c.data_phase()
    s.set(idle="100ms")  # and those in the middle of a message
    assert c.reply().startswith(b"451 ")
    assert {e["reason"] for e in s.events("close")} == {"idle"}


def test_recipients_and_size(sesd):
    s = sesd("--set", "max_size=2000")
    c = Client(s, "wrapper").start()
    many = [f"r{i}@y.test" for i in range(51)]
    assert c.mail(rcpts=many) == (b"554 Transaction failed: Recipient count "
                                  b"exceeds 50.\r\n")
    c.do("RSET")
    assert ID.fullmatch(c.mail(rcpts=many[:50]))
    assert s.accepted()[0]["rcpts"] == many[:50]
    long = MAIL + b"0123456789\r\n" * 200
    assert c.mail(long) == b"552 Message is too long.\r\n"


def test_latency_holds_only_its_connection(sesd):
    s = sesd()
    slow = Client(s, "wrapper").start()
    s.set(latency="300ms", dot_latency="0")
    began = time.monotonic()
    slow.send(b"NOOP\r\n")
    wait_until(lambda: s.ask("stats"))
    s.set(latency=0)
    other = Client(s, "wrapper").start()
    assert other.do("NOOP") == b"250 Ok\r\n"
    assert slow.reply() == b"250 Ok\r\n"
    assert time.monotonic() - began > 0.25
    s.set(dot_latency=200)
    other.envelope()
    other.data_phase()
    began = time.monotonic()
    other.send(MAIL + b".\r\n")
    assert ID.fullmatch(other.reply())
    assert time.monotonic() - began > 0.15


def test_account_and_identities(sesd):
    s = sesd()
    c = Client(s, "wrapper").start()
    s.set(account="paused")
    assert c.mail().startswith(b"554 Message rejected: Sending paused for "
                               b"this account. For more information, ")
    c.do("RSET")
    s.set(account="denied")
    assert c.mail().startswith(b"554 Access denied: User `arn:aws:iam::")
    c.do("RSET")
    s.set(account="ok", verified="x.test,only@z.test")
    assert ID.fullmatch(c.mail(sender="bounce@sub.x.test"))
    assert ID.fullmatch(c.mail(sender="only@z.test"))
    assert c.mail(MAIL.replace(b"a@x", b"a@evil"), sender="o@z.test") == (
        b"554 Message rejected: Email address is not verified. The following "
        b"identities failed the check in region US-EAST-1: o@z.test, "
        b"a@evil.test\r\n")


def test_bytewise_is_one_byte_a_record(sesd):
    s = sesd("--set", "bytewise=1")
    c = Client(s, "wrapper")
    c.sock.settimeout(DEADLINE)
    c.send(b"NOOP\r\n")
    pieces = [c.sock.recv(100) for _ in b"250 Ok\r\n"]
    assert pieces == [bytes([b]) for b in b"250 Ok\r\n"]
    c = Client(s)
    assert c.do("EHLO x").endswith(b"250 Ok\r\n")


def test_starttls_after_tls(sesd):
    s = sesd("--set", "starttls_after_tls=1")
    c = Client(s, "wrapper")
    assert b"250-STARTTLS\r\n" in c.do("EHLO x")
    assert c.do("STARTTLS").startswith(b"454 ")


def test_no_close_notify(sesd):
    s = sesd("--set", "no_close_notify=1")
    c = Client(s, "wrapper")
    assert c.do("QUIT") == b"221 Bye\r\n"
    assert c.end() == "truncated"


def test_tls_max(sesd):
    s = sesd("--tls-max", "1.1")
    with pytest.raises(ssl.SSLError):
        Client(s, "wrapper")
    c = Client(s)
    c.do("STARTTLS")
    context = ssl.create_default_context(cafile=s.certs / "ca.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    c.sock = context.wrap_socket(c.sock, server_hostname="localhost")
    assert c.sock.version() == "TLSv1.1"
    assert c.do("EHLO x").endswith(b"250 Ok\r\n")


@pytest.mark.parametrize("cert,word", [
    ("expired", "expired"), ("notyet", "not yet valid"),
    ("othername", "mismatch"), ("selfsigned", "self-signed"),
    ("unknownca", "unable to get local issuer"), ("cn-only", "mismatch"),
    ("wrongwild", "mismatch"), ("nochain", "unable to get local issuer"),
    ("chain", None), ("good", None),
])
def test_certificates(sesd, cert, word):
    s = sesd(cert=cert)
    if word is None:
        assert ID.fullmatch(Client(s, "wrapper").start().mail())
        return
    with pytest.raises(ssl.SSLCertVerificationError, match=word):
        Client(s, "wrapper")
    wait_until(lambda: s.events("close"))
    assert s.stats()["connections"]["now"] == 0


def test_cert_changed_at_run_time(sesd):
    s = sesd()
    old = Client(s, "wrapper")
    s.ask(f"cert {s.certs}/expired.pem {s.certs}/expired.key")
    assert old.do("NOOP") == b"250 Ok\r\n"
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(s, "wrapper")
    with pytest.raises(ValueError):
        s.ask("cert /nowhere /nowhere")


def test_plain_talk_on_wrapper_port(sesd):
    s = sesd()
    sock = socket.create_connection(("127.0.0.1", s.ports["wrapper"]))
    sock.settimeout(DEADLINE)
    sock.sendall(b"EHLO x\r\n")
    while sock.recv(1000):
        pass
    assert len(s.events("tls-failed")) == 1
