"""sesd: every way to end or to stall a connection, at every stage of it."""

import socket
import ssl

import pytest

from sesd_peer import Client, DEADLINE, HEAD, MAIL, PLAIN, wait_until

# Stage: phase and condition of the rule.
STAGES = {
    "connect": "CONNECT", "tls": "TLS", "ehlo": "EHLO when tls=0",
    "starttls": "STARTTLS", "ehlo2": "EHLO when tls=1", "auth": "AUTH",
    "mail": "MAIL", "rcpt1": "RCPT when rcpts=0", "rcpt2": "RCPT when rcpts=1",
    "data": "DATA", "body": "BODY when bytes>1000", "dot": "DOT",
    "idle": "IDLE", "quit": "QUIT",
}
BODY = HEAD + b"\r\n" + b"0123456789\r\n" * 200
QUIET = 0.3  # seconds without a reply that count as none


def steps(mode):
    """The stages of a session in order, with what the client sends."""
    if mode == "wrapper":
        yield "tls", None
    yield "connect", b""
    if mode == "starttls":
        yield "ehlo", b"EHLO x\r\n"
        yield "starttls", b"STARTTLS\r\n"
        yield "tls", None
    yield "ehlo2", b"EHLO x\r\n"
    yield "auth", b"AUTH PLAIN " + PLAIN + b"\r\n"
    yield "mail", b"MAIL FROM:<a@x.test>\r\n"
    yield "rcpt1", b"RCPT TO:<b@y.test>\r\n"
    yield "rcpt2", b"RCPT TO:<c@y.test>\r\n"
    yield "data", b"DATA\r\n"
    yield "body", BODY
    yield "dot", MAIL + b".\r\n"
    yield "idle", b""
    yield "quit", b"QUIT\r\n"


def reach(sesd, mode, stage):
    """A client that has just provoked this stage."""
    c = Client.__new__(Client)
    c.sesd, c.data = sesd, b""
    c.sock = socket.create_connection(("127.0.0.1", sesd.ports[mode]),
                                      DEADLINE)
    for name, data in steps(mode):
        if name == stage:
            if name == "idle":
                sesd.set(idle="50ms")
            if data:
                c.send(data)
            return c
        if name == "tls":
            c.wrap()
        elif name not in ("body", "idle"):
            if data:
                c.send(data)
            assert c.reply()[:1] in (b"2", b"3")
    raise AssertionError("no such stage in this mode")


def end(c, stage, timeout=DEADLINE):
    """How it ends for the client: eof, reset, or nothing at all."""
    c.sock.settimeout(timeout)
    try:
        if stage == "tls":
            c.wrap()
            return "handshake"
        while c.sock.recv(1000):
            pass
    except (TimeoutError, socket.timeout):
        return "nothing"
    except ConnectionResetError:
        return "reset"
    except ssl.SSLError as e:
        # Python 3.11 makes an SSLEOFError of ECONNRESET in a read, too.
        return "eof" if stage == "tls" else "reset" if "EOF" in str(e) else e
    return "eof"


def patience(want):
    return QUIET if want == "nothing" else DEADLINE


def modes(stage):
    return [m for m in ("starttls", "wrapper")
            if any(name == stage for name, _ in steps(m))]


@pytest.mark.parametrize("action,want", [
    ("close", "eof"), ("reset", "reset"), ("stall", "nothing"),
    ("halfclose", "eof")])
@pytest.mark.parametrize("stage,mode", [(s, m) for s in STAGES
                                        for m in modes(s)])
def test_end_at_every_stage(sesd, stage, mode, action, want):
    s = sesd("--rule", f"on {STAGES[stage]} {action}")
    c = None
    try:
        c = reach(s, mode, stage)
        assert end(c, stage, patience(want)) == want
    except ConnectionResetError:  # as early as in connect()
        assert (stage, want) in (("tls", "reset"), ("connect", "reset"))
    if action in ("close", "reset"):
        wait_until(lambda: s.stats()["connections"]["now"] == 0)
    elif stage != "tls":  # Python closes the socket of a failed handshake
        assert s.stats()["connections"]["now"] == 1
    [rule] = s.events("rule")
    assert rule["phase"] == STAGES[stage].split()[0]
    assert s.accepted() == [] or stage in ("idle", "quit")
    if c:
        c.sock.close()
    wait_until(lambda: s.stats()["connections"]["now"] == 0)


@pytest.mark.parametrize("action,want", [
    ("close", "eof"), ("reset", "reset"), ("stall", "nothing"),
    ("halfclose", "eof")])
def test_reply_lost_behind_the_dot(sesd, action, want):
    s = sesd("--rule", f"on DOT accept {action}")
    c = reach(s, "wrapper", "dot")
    assert end(c, "dot", patience(want)) == want
    assert len(s.accepted()) == 1


def test_late_reply(sesd):
    s = sesd("--rule", "on DOT times 1 delay 400")
    c = reach(s, "wrapper", "dot")
    assert end(c, "dot", QUIET) == "nothing"
    assert len(s.accepted()) == 1  # while its 250 is still to come
    c.sock.settimeout(DEADLINE)
    assert c.reply().startswith(b"250 Ok ")


def test_two_replies_and_unsolicited_bytes(sesd):
    s = sesd("--rule", 'on NOOP times 1 default inject "250 again\\r\\n"')
    a, b = Client(s, "wrapper"), Client(s, "starttls")
    a.send(b"NOOP\r\n")
    assert (a.reply(), a.reply()) == (b"250 Ok\r\n", b"250 again\r\n")
    assert s.ask('say "451 4.4.2 Timeout\\r\\n" wrapper') == ["1 connections"]
    assert a.reply() == b"451 4.4.2 Timeout\r\n"
    assert s.ask('say "x\\x00y\\r\\n"') == ["2 connections"]
    assert a.reply() == b.reply() == b"x\0y\r\n"
    assert a.do("NOOP") == b.do("NOOP") == b"250 Ok\r\n"
    for wrong in ("say", "say x", 'say "x', 'say "\\q"', 'say "x" 1'):
        with pytest.raises(ValueError):
            s.ask(wrong)
