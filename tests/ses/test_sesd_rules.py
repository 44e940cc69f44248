"""sesd: fault rules."""

import socket
import ssl
import struct
import time

import pytest

from sesd_peer import Client, HEAD, ID, MAIL, wait_until


def test_rule_counting(sesd):
    s = sesd("--rule", 'on NOOP skip 1 times 2 every 2 reply "450 no"')
    c = Client(s)
    replies = [c.do("NOOP")[:3] for _ in range(8)]
    assert replies == [b"250", b"250", b"450", b"250", b"450"] + 3 * [b"250"]
    assert s.ask("rules") == [
        '1 matched=8 acted=2 on NOOP skip 1 times 2 every 2 reply "450 no"']
    s.ask("clear")
    assert s.ask("rules") == []


def test_rules_file_and_conditions(sesd, tmp_path):
    rules = tmp_path / "rules"
    rules.write_text(
        '# comment\n\n'
        'on RCPT when rcpt~bad@ and from=a@x.test reply "550 bad"\n'
        'on RCPT when rcpt != good@y.test reply "450 not good"\n'
        'on DOT when message_id = "two@x.test" reply "554-no\\n554 two"\n'
        'on MAIL when msgs>=1 and total < 2 reply "451 later"\n')
    s = sesd("--rules", str(rules))
    c = Client(s, "wrapper").start()
    c.do("MAIL FROM:<a@x.test>")
    assert c.do("RCPT TO:<bad@y.test>") == b"550 bad\r\n"
    assert c.do("RCPT TO:<x@y.test>") == b"450 not good\r\n"
    assert c.do("RCPT TO:<good@y.test>") == b"250 Ok\r\n"
    c.data_phase()
    c.send(MAIL.replace(b"m1@", b"two@") + b".\r\n")
    assert c.reply() == b"554-no\r\n554 two\r\n"
    c.do("RSET")
    assert ID.fullmatch(c.mail(rcpts=["good@y.test"]))
    assert c.do("MAIL FROM:<a@x.test>") == b"451 later\r\n"
    [e] = s.accepted()
    assert e["rcpts"] == ["good@y.test"]
    faults = s.events("rule")
    assert [e["rule"] for e in faults] == [1, 2, 3, 4]
    assert faults[2]["message_id"] == "two@x.test"


@pytest.mark.parametrize("rule", [
    "", "on", "on NOWHERE close", "on NOOP", "on NOOP when", "on NOOP frob",
    "on NOOP when msgs close", "on NOOP when msgs~1 close",
    "on NOOP when from>1 close", 'on NOOP reply "x', "on NOOP reply x",
    'on NOOP raw "\\q"', "on NOOP times 0 close", "on NOOP close reset",
    "on NOOP accept", "on NOOP delay x", 'on NOOP reply "a" raw "b"',
    "on NOOP no-starttls", "on QUIT abort-tls", "on NOOP repeat 5",
    'on NOOP raw "xxxxxxxx" repeat 99999999', "off NOOP close",
    "on OTHER close",
])
def test_bad_rules(sesd, rule):
    s = sesd()
    with pytest.raises(ValueError, match="ERR "):
        s.ask("rule " + rule)
    assert s.ask("rules") == []


def test_accept_and_close_loses_the_reply(sesd):
    s = sesd("--rule", "on DOT times 1 accept close")
    c = Client(s, "wrapper").start()
    assert c.mail() == b""
    assert len(s.accepted()) == 1
    [rule] = s.events("rule")
    assert rule["id"] == s.accepted()[0]["id"]
    c = Client(s, "wrapper").start()
    assert ID.fullmatch(c.mail())
    assert len(s.accepted()) == 2


@pytest.mark.parametrize("mode", ["starttls", "wrapper"])
@pytest.mark.parametrize("action,end", [
    ("close", "eof"), ("reset", "reset"), ("default close", "eof"),
    ('reply "451 x" close', "eof"), ("halfclose", "eof")])
def test_ends(sesd, mode, action, end):
    s = sesd("--rule", f"on DOT {action}")
    c = Client(s, mode).start()
    c.envelope()
    c.data_phase()
    c.send(MAIL + b".\r\n")
    if "reply" in action:
        assert c.reply() == b"451 x\r\n"
    if "default" in action:
        assert ID.fullmatch(c.reply())
    assert c.end() == end
    assert len(s.accepted()) == ("default" in action)
    if action == "halfclose":
        assert s.stats()["connections"]["now"] == 1
        c.sock.close()
    wait_until(lambda: s.stats()["connections"]["now"] == 0)


def test_stall(sesd):
    s = sesd("--rule", "on MAIL stall")
    c = Client(s, "wrapper").start()
    s.set(idle="100ms")
    c.send(b"MAIL FROM:<a@x.test>\r\n")
    wait_until(lambda: s.events("rule"))
    c.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        c.reply()
    c.sock.close()
    wait_until(lambda: s.stats()["connections"]["now"] == 0)


def test_what_a_reply_of_a_rule_means(sesd):
    s = sesd()
    c = Client(s, "wrapper").start()

    def dot(action):
        s.ask("clear")
        s.ask("rule on DOT times 1 " + action)
        before = len(s.accepted())
        c.envelope()
        c.data_phase()
        c.send(MAIL + b".\r\n")
        reply = c.reply()
        c.do("RSET")
        return reply, len(s.accepted()) - before

    assert dot('reply "250 Ok"') == (b"250 Ok\r\n", 1)
    assert dot('raw "250-a\\r\\n250 b\\r\\n"') == (b"250-a\r\n250 b\r\n", 1)
    assert dot('raw "250-a\\r\\n251 b\\r\\n"')[1] == 0
    assert dot('raw "250 lf\\n"') == (b"250 lf\n", 0)
    assert dot('raw "25x no\\r\\n"') == (b"25x no\r\n", 0)
    assert dot('raw "2500 no\\r\\n"')[1] == 0
    assert dot('reply "451 no"') == (b"451 no\r\n", 0)
    assert dot('accept reply "451 lie"') == (b"451 lie\r\n", 1)
    assert dot('accept raw "250-a\\r\\n" repeat 3 inject "250 z\\r\\n"') \
        == (b"250-a\r\n" * 3 + b"250 z\r\n", 1)


def test_raw_partial_then_stall(sesd):
    s = sesd("--rule", 'on DOT raw "25" stall')
    c = Client(s, "wrapper").start()
    c.envelope()
    c.data_phase()
    c.send(MAIL + b".\r\n")
    assert c.sock.recv(10) == b"25"
    assert s.accepted() == []


def test_repeat_huge_reply(sesd):
    s = sesd("--rule", 'on EHLO raw "250-xxxx\\r\\n" repeat 300000 close')
    c = Client(s, "wrapper")
    c.send(b"EHLO x\r\n")
    total = 0
    while True:
        piece = c.sock.recv(1 << 20)
        if not piece:
            break
        total += len(piece)
    assert total == 3000000


def test_drip_and_delay(sesd):
    s = sesd("--rule", "on NOOP drip 20", "--rule", "on RSET delay 200")
    c = Client(s)
    began = time.monotonic()
    assert c.do("NOOP") == b"250 Ok\r\n"
    assert time.monotonic() - began > 0.12
    began = time.monotonic()
    assert c.do("RSET") == b"250 Ok\r\n"
    assert time.monotonic() - began > 0.15


def test_connect_rules(sesd):
    s = sesd("--rule", 'on CONNECT times 2 reply "421 no" close',
             "--rule", "on CONNECT times 1 reset")
    for mode in ("starttls", "wrapper"):
        c = Client(s, mode)
        assert c.greeting == b"421 no\r\n"
        assert c.end() == "eof"
    with pytest.raises(ConnectionResetError):
        Client(s)
    assert Client(s).greeting.startswith(b"220")


def test_starttls_rules(sesd):
    s = sesd("--rule", "on EHLO times 1 no-starttls")
    c = Client(s)
    assert b"STARTTLS" not in c.do("EHLO x")
    assert b"STARTTLS" in c.do("EHLO x")
    s.ask('rule on STARTTLS times 1 reply "454 TLS not available"')
    assert c.do("STARTTLS") == b"454 TLS not available\r\n"
    s.ask('rule on STARTTLS times 1 inject "250 injected\\r\\n"')
    c.send(b"STARTTLS\r\n")
    assert (c.sock.recv(1000) ==
            b"220 Ready to start TLS\r\n250 injected\r\n")
    c.wrap()  # and TLS goes on all the same
    assert c.do("NOOP") == b"250 Ok\r\n"


@pytest.mark.parametrize("rule,mode", [
    ("on STARTTLS abort-tls", "starttls"), ("on TLS abort-tls", "starttls"),
    ("on TLS abort-tls", "wrapper"), ("on TLS abort-tls reset", "wrapper"),
    ("on TLS close", "wrapper"), ("on TLS reset", "starttls"),
    ('on TLS raw "220 plain\\r\\n" stall', "wrapper")])
def test_tls_rules(sesd, rule, mode):
    s = sesd("--rule", rule)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        c = Client(s, mode)
        c.do("EHLO x")
        assert c.do("STARTTLS").startswith(b"220")
        c.wrap()
    wait_until(lambda: s.stats()["connections"]["now"] == 0)
    assert s.violations() == []


@pytest.mark.parametrize("mode", ["starttls", "wrapper"])
def test_tls_delayed(sesd, mode):
    s = sesd("--rule", "on TLS delay 200")
    assert ID.fullmatch(Client(s, mode).start().mail())
    assert s.violations() == []


@pytest.mark.parametrize("action", [
    'reply "451 enough" close', "reset", "close", 'reply "451 enough"'])
def test_body_rules(sesd, action):
    s = sesd("--rule", f"on BODY when bytes>1000 times 1 {action}")
    c = Client(s, "wrapper").start()
    assert ID.fullmatch(c.mail())  # too short for it
    c.envelope()
    c.data_phase()
    c.send(HEAD + b"\r\n" + b"0123456789\r\n" * 200)
    if "reply" in action:
        assert c.reply() == b"451 enough\r\n"
    if action == 'reply "451 enough"':
        c.send(b".\r\n")
        assert ID.fullmatch(c.reply())
        return
    assert c.end() == ("reset" if action == "reset" else "eof")
    assert len(s.accepted()) == 1


def test_body_rule_within_one_segment(sesd):
    s = sesd("--rule", 'on BODY when bytes>10 skip 1 times 1 reply "451 x"')
    c = Client(s, "wrapper").start()
    assert ID.fullmatch(c.mail())
    assert c.mail() == b"451 x\r\n"
    assert ID.fullmatch(c.reply())
    assert len(s.accepted()) == 2


@pytest.mark.parametrize("action", ["halfclose", "stall", "close", "reset"])
def test_body_rule_with_the_dot_in_the_same_segment(sesd, action):
    s = sesd("--rule", f"on BODY when bytes>10 {action}")
    c = Client(s, "wrapper").start()
    c.envelope()
    c.data_phase()
    c.send(MAIL + b".\r\n")
    wait_until(lambda: s.events("rule"))
    c.sock.close()
    wait_until(lambda: s.stats()["connections"]["now"] == 0)
    assert s.accepted() == []


def test_body_stall_closes_the_window(sesd):
    s = sesd("--rule", "on BODY when bytes>1000 stall")
    c = Client(s, "wrapper").start()
    c.envelope()
    c.data_phase()
    c.sock.settimeout(1)
    with pytest.raises(TimeoutError):
        while True:
            c.send(b"0123456789\r\n" * 10000)
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                      struct.pack("ii", 1, 0))
    c.sock.close()
    wait_until(lambda: s.stats()["connections"]["now"] == 0)


def test_receive_buffer(sesd):
    """What a session has not read stays with the client, beyond so much, even
    where the kernel has learned that it comes fast."""
    s = sesd("--rule", "on BODY skip 1 stall", "--set", "receive_buffer=65536")
    c = Client(s, "wrapper").start()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    c.mail(MAIL + b"0123456789\r\n" * 1_000_000)
    c.envelope()
    c.data_phase()
    c.sock.settimeout(1)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            c.send(b"0123456789\r\n" * 1000)
            sent += 12000
    assert sent < 300_000


def test_idle_rules(sesd):
    s = sesd("--rule", "on IDLE times 1 reset",
             "--rule", 'on IDLE times 1 raw "250 late\\r\\n"',
             "--rule", "on IDLE times 1 close")
    c = Client(s, "wrapper")
    s.set(idle="100ms")
    assert c.end() == "reset"
    s.set(idle="10s")
    c = Client(s, "wrapper")
    s.set(idle="100ms")
    assert c.reply() == b"250 late\r\n"
    assert c.end() == "eof"


def test_quit_rules(sesd):
    s = sesd("--rule", 'on QUIT times 1 reply "500 stay"')
    c = Client(s)
    assert c.do("QUIT") == b"500 stay\r\n"
    assert c.do("QUIT") == b"221 Bye\r\n"
    assert c.end() == "eof"
