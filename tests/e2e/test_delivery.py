"""Delivery when nothing is wrong with SES, or little: content and envelope,
the life of connections, and the way to a port and address that answers."""

import json
import re
import socket
import time

import pytest

from harness import (OUTCOME, RCPT, SANITIZED, SENDER, free_port,
                     hosts_namespace, message, wait_until, without_received)

MODES = ["starttls", "wrapper"]


def connections(s):
    """{number: {"connect": event, "close": event, "messages": n}}"""
    out = {}
    for e in s.entries():
        c = out.setdefault(e["conn"], {"messages": 0})
        if "event" not in e:
            c["messages"] += 1
            c["last"] = e["time"]
        elif e["event"] in ("connect", "close", "auth"):
            c[e["event"]] = e
    return out


def delivered(s, r, contents, timeout=30):
    """Waits until each of {qid: content} has arrived, once and unchanged."""
    for qid in contents:
        r.wait_outcome(qid, "sent", timeout=timeout)
    r.wait_empty()
    stored = sorted(without_received(s.stored(e)) for e in s.messages())
    assert stored == sorted(contents.values())


# --- content and envelope ---

@pytest.mark.parametrize("mode", MODES)
def test_one_message(sesd, relay, mode):
    s = sesd()
    r = relay(s, mode)
    content = message(b"line one\r\nline two\r\n")
    qid = r.send(content, "o'brien+tag=x@example.com",
                 ["first.last@example.net", "second@sub.example.org"])
    [e] = s.wait_messages(1)
    assert (e["from"], e["rcpts"]) == (
        "o'brien+tag=x@example.com",
        ["first.last@example.net", "second@sub.example.org"])
    assert without_received(s.stored(e)) == content
    assert f"id {qid};".encode() in s.stored(e)
    assert e["mode"] == mode and e["tls"] in ("TLSv1.2", "TLSv1.3")
    [tls] = s.events("tls")
    assert tls["sni"] == "localhost"
    assert [(a["ok"], a["mechanism"]) for a in s.events("auth")] == [
        (True, "PLAIN")]
    sent = r.wait_outcome(qid, "sent", 2)
    assert [o["to"] for o in sent] == e["rcpts"]
    for o in sent:
        assert o["relay"] == f"localhost[127.0.0.1]:{e['port']}"
        assert o["note"] == f"250 Ok {e['id']}"
        assert o["dsn"] == "2.0.0"
    r.wait_empty()
    assert r.dead_letters() == []


def test_null_sender_ends_in_a_dead_letter(sesd, relay):
    s = sesd()
    r = relay(s)
    content = message(subject="bounce")
    qid = r.send(content, sender="")
    [o] = r.wait_outcome(qid, "bounced")
    assert o["note"].startswith("501 Invalid MAIL FROM address provided")
    assert "rewrite.senders" in o["note"]
    r.wait_empty()
    fields, kept = r.dead_letter(qid)
    assert fields["Sender"] == [""]
    assert without_received(kept) == content
    # The connection goes on with the next message.
    r.send()
    [e] = s.wait_messages(1)
    assert len(connections(s)) == 1 and e["nth"] == 1


LONG_LINE = b"x" * 998 + b"\r\n"


@pytest.mark.parametrize("name,content", [
    ("no body", message(b"")),
    ("no final line end is added", message(b"\r\n\r\n\r\n")),
    ("dots", message(b".\r\n..\r\n.hidden\r\n...\r\nend.\r\n.\r\n")),
    ("dots at every chunk", message(b".x\r\n" * 300_000)),
    ("8-bit", message("Grüße — 日本語\r\n".encode() * 100 + b"\xff\xfe\x80\r\n")),
    ("long lines", message(LONG_LINE * 50)),
    ("received lines", message(headers=b"Received: from a by b; x\r\n" * 20)),
], ids=lambda v: v if isinstance(v, str) else "")
def test_content_arrives_as_it_is(sesd, relay, name, content):
    s = sesd()
    r = relay(s)
    params = " BODY=8BITMIME" if name == "8-bit" else ""
    qid = r.send(content, params=params)
    delivered(s, r, {qid: content})


def test_8bit_without_saying_so(sesd, relay):
    s = sesd()
    r = relay(s, "wrapper")
    content = message("Grüße\r\n".encode())
    delivered(s, r, {r.send(content): content})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, 10_000_000])
def test_large_bodies(sesd, relay, mode, size):
    s = sesd()
    r = relay(s, mode)
    lines = [f"{i:076d}\r\n".encode() for i in range(size // 78 + 1)]
    body = b"".join(lines)[:size - 2] + b"\r\n"
    assert len(body) == size
    content = message(body)
    r.send()
    s.wait_messages(1)
    before = r.peak_memory_kib()
    qid = r.send(content)
    r.wait_outcome(qid, "sent")
    assert without_received(s.stored(s.messages()[1])) == content
    # It streams: memory grows by buffers, not by the message.
    assert SANITIZED or r.peak_memory_kib() - before < 6 * 1024
    r.wait_empty()


def test_header_without_an_empty_line(sesd, relay):
    s = sesd()
    r = relay(s)
    content = message(b"")
    delivered(s, r, {r.send(content[:-2]): content})


def test_empty_content(sesd, relay):
    """It gets the header that SES wants."""
    s = sesd()
    r = relay(s)
    qid = r.send(b"")
    content = without_received(s.stored(s.wait_messages(1)[0]))
    assert re.fullmatch(rb"From: app@example\.com\r\nDate: [^\r]+\r\n"
                        rb"Message-ID: <%s@relay\.test>\r\n\r\n" %
                        qid.encode(), content), content


def test_120_recipients_go_in_three_parts(sesd, relay):
    s = sesd()
    r = relay(s)
    rcpts = [f"user{i:03}@example.net" for i in range(120)]
    content = message()
    qid = r.send(content, rcpts=rcpts)
    r.wait_outcome(qid, "sent", 120)
    r.wait_empty()
    parts = [e["rcpts"] for e in s.messages()]
    assert [len(p) for p in parts] == [50, 50, 20]
    assert sum(parts, []) == rcpts
    assert {without_received(s.stored(e)) for e in s.messages()} == {content}
    assert {e["from"] for e in s.messages()} == {SENDER}
    assert len(r.outcomes(qid)) == 120


def test_recipients_per_message_is_heeded(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.recipients_per_message": "7"})
    qid = r.send(rcpts=[f"u{i}@example.net" for i in range(20)])
    r.wait_outcome(qid, "sent", 20)
    r.wait_empty()
    assert sorted(len(e["rcpts"]) for e in s.messages()) == [6, 7, 7]


def test_same_recipient_twice(sesd, relay):
    s = sesd()
    r = relay(s)
    qid = r.send(rcpts=[RCPT, RCPT])
    r.wait_outcome(qid, "sent")
    r.wait_empty()
    assert len(s.messages()) == 1


@pytest.mark.parametrize("setting", [
    {"bytewise": 1}, {"no_close_notify": 1}, {"starttls_after_tls": 1},
    {"size_advertised": 10485760}, {"latency": 20},
], ids=lambda s: next(iter(s)))
@pytest.mark.parametrize("mode", MODES)
def test_dialects(sesd, relay, mode, setting):
    s = sesd(settings=setting)
    r = relay(s, mode)
    contents = {}
    for _ in range(3):
        content = message()
        contents[r.send(content)] = content
    delivered(s, r, contents)


def test_tls_1_2(sesd, relay):
    s = sesd(options=["--tls-max", "1.2"])
    r = relay(s)
    r.send()
    assert s.wait_messages(1)[0]["tls"] == "TLSv1.2"


# --- the life of a connection ---

def test_a_connection_is_reused_without_a_round_trip(sesd, relay):
    # What would stand between two messages ends the connection.
    s = sesd(rules=["on RSET close", "on NOOP close"])
    r = relay(s, config={"delivery.connections": "1",
                         "delivery.messages_per_connection": "1000"})
    contents = {}
    with r.submit() as client:
        for _ in range(100):
            content = message()
            contents[client.mail(content)] = content
    delivered(s, r, contents)
    assert s.stats()["connections"]["total"] == 1
    assert [e["nth"] for e in s.messages()] == list(range(1, 101))


def test_backlog_opens_connections(sesd, relay):
    s = sesd(settings={"dot_latency": 30})
    r = relay(s, config={"delivery.connections": "4"})
    contents = {}
    with r.submit() as client:
        for _ in range(60):
            content = message()
            contents[client.mail(content)] = content
    delivered(s, r, contents)
    assert 2 <= s.stats()["connections"]["peak"] <= 4
    assert s.stats()["connections"]["total"] <= 6


def test_rotation_by_count(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.connections": "1",
                         "delivery.messages_per_connection": "10"})
    contents = {}
    with r.submit() as client:
        for _ in range(45):
            content = message()
            contents[client.mail(content)] = content
    delivered(s, r, contents)
    *full, last = connections(s).values()
    assert len(full) >= 4
    for c in full:
        assert 9 <= c["messages"] <= 10
        assert c["close"]["reason"] == "quit"
    assert last["messages"] <= 10
    assert {o["status"] for o in r.outcomes()} == {"sent"}


def test_rotation_by_age(sesd, relay):
    s = sesd(settings={"dot_latency": 30})
    r = relay(s, config={"delivery.connections": "1",
                         "delivery.connection_lifetime": '"500ms"'})
    contents = {}
    with r.submit() as client:
        for _ in range(45):
            content = message()
            contents[client.mail(content)] = content
    delivered(s, r, contents)
    *full, last = connections(s).values()
    assert len(full) >= 2
    for c in full:
        assert c["close"]["reason"] == "quit"
        # Its last message began in time.
        assert c["last"] - c["connect"]["time"] < 0.5 + 1
        assert c["messages"] > 1
    assert {o["status"] for o in r.outcomes()} == {"sent"}


def test_idle_connection_is_closed_with_quit(sesd, relay):
    s = sesd(settings={"idle": "5s"})
    r = relay(s, config={"delivery.idle_timeout": '"300ms"'})
    r.send()
    [e] = s.wait_messages(1)
    [close] = s.wait_event("close")
    assert close["reason"] == "quit"
    assert 0.25 < close["time"] - e["time"] < 4
    assert r.status()["connections"]["idle"] == 0
    r.send()
    s.wait_messages(2)
    assert len(connections(s)) == 2


def test_connection_that_ses_cut_for_idleness(sesd, relay):
    s = sesd(settings={"idle": "1s"})
    r = relay(s, config={"delivery.idle_timeout": '"30s"',
                         "log.format": '"json"'})
    r.send()
    s.wait_messages(1)
    [close] = s.wait_event("close")
    assert close["reason"] == "idle"
    content = message()
    qid = r.send(content)
    e = s.wait_messages(2)[1]
    assert without_received(s.stored(e)) == content and e["nth"] == 1
    r.wait_empty()
    mine = [line for line in map(json.loads, r.log().splitlines())
            if line.get("id") == qid and "status" in line]
    assert [(o["status"], int(o["attempt"])) for o in mine] == [("sent", 1)]


def outcomes_json(r, qid):
    return [o for o in map(json.loads, r.log().splitlines())
            if o.get("id") == qid and "status" in o]


@pytest.mark.parametrize("rule", [
    'on MAIL when msgs=1 times 1 raw "451 4.4.2 Timeout waiting for data from '
    'client.\\r\\n" close',
    "on MAIL when msgs=1 times 1 close",
    "on MAIL when msgs=1 times 1 reset",
    'on MAIL when msgs=1 times 1 reply "421 Timeout waiting for data from '
    'client." close',
])
def test_connection_lost_under_the_next_message(sesd, relay, rule):
    s = sesd(rules=[rule])
    r = relay(s, config={"log.format": '"json"'})
    r.send()
    s.wait_messages(1)
    content = message()
    qid = r.send(content)
    r.wait_empty()
    assert [without_received(s.stored(e)) for e in s.messages()][1:] == [
        content]
    *_, last = outcomes_json(r, qid)
    assert (last["status"], int(last["attempt"])) == ("sent", 1)
    assert s.stats()["connections"]["total"] == 2


def test_unsolicited_bytes_on_an_idle_connection(sesd, relay):
    s = sesd(settings={"idle": "300ms"},
             rules=['on IDLE times 1 raw "250 Ok late\\r\\n"'])
    r = relay(s, config={"delivery.idle_timeout": '"30s"'})
    r.send()
    s.wait_messages(1)
    s.wait_event("rule")
    # The relay closes it by itself, not trusting what it would say next.
    [close] = s.wait_event("close")
    assert close["reason"] in ("eof", "truncated", "reset")
    content = message()
    r.send(content)
    e = s.wait_messages(2)[1]
    assert without_received(s.stored(e)) == content and e["conn"] == 2


@pytest.mark.parametrize("phase", ["mail", "data", "dot"])
def test_session_cap(sesd, relay, phase):
    s = sesd(settings={"session_cap": 3, "session_cap_phase": phase})
    r = relay(s, config={"delivery.connections": "1"})
    contents = {}
    with r.submit() as client:
        for _ in range(20):
            content = message()
            contents[client.mail(content)] = content
    delivered(s, r, contents)
    assert s.stats()["max_messages_per_connection"] == 3
    assert r.counter('recipients_total{status="deferred"}') == 0
    assert r.dead_letters() == []
    assert {o["status"] for o in r.outcomes()} == {"sent"}


def test_too_many_connections(sesd, relay):
    s = sesd(settings={"max_connections": 2, "dot_latency": 10})
    r = relay(s, config={"delivery.connections": "10"})
    contents = {}
    with r.submit() as client:
        for _ in range(60):
            content = message()
            contents[client.mail(content)] = content
    delivered(s, r, contents)
    assert r.counter('recipients_total{status="deferred"}') == 0
    assert {o["status"] for o in r.outcomes()} == {"sent"}
    assert s.stats()["connections"]["peak"] == 2
    assert "421 Too many concurrent SMTP connections" in r.log()


# --- the way to SES ---

def test_refused_port_gives_way_to_the_next(sesd, relay):
    s = sesd()
    closed = free_port()
    r = relay(s, start=False)
    r.set_ports((closed, "starttls"), (s.ports["wrapper"], "wrapper"))
    r.write_config()
    r.start()
    r.send()
    [e] = s.wait_messages(1)
    r.wait_empty()
    assert e["mode"] == "wrapper"
    assert f"127.0.0.1]:{closed}: Connection refused" in r.log()
    assert r.status()["upstream"]["port"] == s.ports["wrapper"]
    assert {o["status"] for o in r.outcomes()} == {"sent"}


@pytest.fixture
def silent_port():
    """Connects succeed (the kernel's doing), and then nothing is said."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(64)
        yield s.getsockname()[1]


@pytest.mark.parametrize("mode", MODES)
def test_silent_port_gives_way_to_the_next(sesd, relay, silent_port, mode):
    s = sesd()
    r = relay(s, start=False, config={
        "delivery.timeout_greeting": '"200ms"',
        "delivery.timeout_tls": '"200ms"'})
    r.set_ports((silent_port, mode), (s.ports["starttls"], "starttls"))
    r.write_config()
    r.start()
    qid = r.send()
    s.wait_messages(1)
    r.wait_outcome(qid, "sent")
    assert f"127.0.0.1]:{silent_port}" in r.log()
    assert "timed out" in r.log()
    assert r.counter('recipients_total{status="deferred"}') == 0


@pytest.fixture
def full_port():
    """A SYN to this port is not answered: the queue of it is full."""
    clients = []
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(0)
        for _ in range(64):
            c = socket.socket()
            c.settimeout(0.1)
            clients.append(c)
            try:
                c.connect(s.getsockname())
            except TimeoutError:
                break
        else:
            raise AssertionError("the queue never fills")
        yield s.getsockname()[1]
        for c in clients:
            c.close()


def test_black_hole_gives_way_to_the_next(sesd, relay, full_port):
    s = sesd()
    r = relay(s, start=False, config={"delivery.timeout_connect": '"300ms"'})
    r.set_ports((full_port, "starttls"), (s.ports["starttls"], "starttls"))
    r.write_config()
    r.start()
    qid = r.send()
    s.wait_messages(1)
    r.wait_outcome(qid, "sent")
    assert f"127.0.0.1]:{full_port}" in r.log()
    assert r.counter('recipients_total{status="deferred"}') == 0


@pytest.mark.parametrize("listen,hosts", [
    ("127.0.0.1", "127.0.0.2 127.0.0.1"),
    ("127.0.0.1", "127.0.0.1 127.0.0.2 127.0.0.3"),
    ("127.0.0.3", "127.0.0.1 127.0.0.2 127.0.0.3"),
    ("[::1]", "127.0.0.1 ::1"),
    ("127.0.0.1", "::1 127.0.0.1"),
])
def test_all_addresses_of_the_name_are_tried(
        sesd, relay, directory, listen, hosts):
    s = sesd(modes=[f"{listen}:0=starttls"])
    r = relay(s, start=False, config={"ses.endpoint": '"email-smtp.test"'})
    lines = [f"{a} email-smtp.test\n" for a in hosts.split()]
    r.start(wrap=hosts_namespace(directory, "".join(lines)))
    qid = r.send()
    [e] = s.wait_messages(1)
    [o] = r.wait_outcome(qid, "sent")
    assert o["relay"] == (f"email-smtp.test[{listen.strip('[]')}]:"
                          f"{e['port']}")
    assert {o["status"] for o in r.outcomes()} == {"sent"}
    assert s.events("tls")[0]["sni"] == "email-smtp.test"


@pytest.mark.parametrize("services,resolv", [
    ("files", ""),
    ("files dns", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
], ids=["unknown name", "dead name server"])
def test_name_without_address(sesd, relay, directory, services, resolv):
    s = sesd()
    r = relay(s, start=False, config={"ses.endpoint": '"email-smtp.test"'})
    r.start(wrap=hosts_namespace(directory, "127.0.0.1 localhost\n", resolv,
                                 services))
    content = message()
    qid = r.send(content)
    r.wait_state("unreachable")
    status = r.status()
    assert "email-smtp.test" in status["upstream"]["connect_error"]
    assert r.count() == 1
    assert "UNREACHABLE" in r.ctl("status")
    assert r.outcomes() == [] and r.dead_letters() == []
    # In place, as the daemon sees this very file.
    (directory / "hosts").write_text("127.0.0.1 email-smtp.test\n")
    delivered(s, r, {qid: content})
    r.wait_state("ok")
    assert [o["status"] for o in r.outcomes(qid)] == ["sent"]


def test_ses_is_away_for_a_while(sesd, relay):
    s = sesd()
    r = relay(s)
    contents = {}

    def send(n):
        with r.submit() as client:
            for _ in range(n):
                content = message()
                contents[client.mail(content)] = content
    send(5)
    s.wait_messages(5)
    s.control("refuse on")
    s.control("drop-connections rst")
    send(20)
    r.wait_state("unreachable")
    assert "Connection refused" in r.status()["upstream"]["connect_error"]
    assert "bounced" not in {o["status"] for o in r.outcomes()}
    assert r.count() == 20
    s.control("refuse off")
    delivered(s, r, contents)
    r.wait_state("ok")
    assert r.dead_letters() == []
    assert r.counter('recipients_total{status="failed"}') == 0
    assert re.search(r"connected to localhost\[127\.0\.0\.1\]:\d+ again",
                     r.log())


def test_queue_of_an_earlier_run_is_delivered(sesd, relay):
    s = sesd()
    s.control("refuse on")
    r = relay(s)
    contents = {}
    with r.submit() as client:
        for i in range(10):
            content = message(b"some text\r\n" * (200_000 if i == 5 else 1))
            contents[client.mail(content)] = content
    assert r.stop() == 0
    s.control("refuse off")
    r.start()
    delivered(s, r, contents)
    assert all(m["status"] == "sent" for m in OUTCOME.finditer(r.log()))


def test_uses_the_port_that_worked(sesd, relay):
    """A port in penalty is not tried again for each new connection."""
    s = sesd()
    closed = free_port()
    r = relay(s, start=False,
              config={"delivery.connections": "1",
                      "delivery.messages_per_connection": "1"})
    r.set_ports((closed, "starttls"), (s.ports["starttls"], "starttls"))
    r.write_config()
    r.start()
    with r.submit() as client:
        for _ in range(5):
            client.mail()
    s.wait_messages(5)
    r.wait_empty()
    assert s.stats()["connections"]["total"] == 5
    assert r.log().count(f"127.0.0.1]:{closed}: Connection refused") == 1


def test_scout_where_ses_allows_one_connection(sesd, relay):
    """What a 421 taught holds while a port is looked at, and mail goes
    first."""
    silent = sesd(rules=["on CONNECT stall"])
    s = sesd(rules=[
        'on CONNECT when conns=2 reply "421 Too many concurrent SMTP '
        'connections" close', "on DOT times 1 delay 500 default"])
    r = relay(s, config={"delivery.connections": "2",
                         "delivery.idle_timeout": '"300ms"',
                         "delivery.timeout_greeting": '"2s"'})
    r.set_ports((silent.ports["starttls"], "starttls"),
                (s.ports["starttls"], "starttls"))
    r.stop()
    r.write_config()
    r.start()
    for _ in range(3):
        r.send()

    def limit():
        return r.status()["upstream"]["pool"].get("limit")

    s.wait_messages(3)
    wait_until(lambda: limit() == 1, "the limit")
    wait_until(lambda: sum(r.status()["connections"].values()) == 0,
               "the end of the idle connection")
    r.ctl("resume")
    silent.wait_event("connect", 2)
    begun = time.monotonic()
    r.send()
    s.wait_messages(4)
    assert time.monotonic() - begun < 1.5
    assert limit() == 1
    assert s.stats()["connections"]["peak"] <= 2


def test_a_lost_message_waits_for_no_scout(sesd, relay):
    """It was lost with two connections and asks for a fresh one.  The one that
    is on its way looks at a port, which may take long."""
    silent = sesd(rules=["on CONNECT stall"])
    s = sesd(rules=["on DOT times 3 delay 500 default",
                    "on RCPT when rcpt=bad@example.net times 2 close"])
    r = relay(s, config={"delivery.connections": "5",
                         "delivery.timeout_greeting": '"3s"'}, start=False)
    r.set_ports((silent.ports["starttls"], "starttls"),
                (s.ports["starttls"], "starttls"))
    r.write_config()
    r.start()
    for _ in range(3):
        r.send()
    s.wait_messages(3)
    wait_until(lambda: r.status()["connections"]["idle"] == 3, "three")
    r.ctl("resume")
    silent.wait_event("connect", 4)
    begun = time.monotonic()
    r.send(rcpts=("bad@example.net",))
    s.wait_messages(4)
    assert time.monotonic() - begun < 1.5


def test_a_reload_waits_for_no_connection_of_before(sesd, relay):
    dead, s = sesd(rules=["on CONNECT stall"]), sesd()
    r = relay(dead)
    r.send()
    dead.wait_event("connect")
    r.set_ports((s.ports["starttls"], "starttls"))
    r.write_config()
    r.reload()
    s.wait_messages(1, timeout=10)
    r.wait_empty()
    assert r.counter("connects_total{result=\"failed\"}") == 0


def test_two_relays_do_not_disturb_each_other(sesd, relay):
    s = sesd()
    one, two = relay(s), relay(s, "wrapper")
    a, b = one.send(), two.send()
    s.wait_messages(2)
    assert a != b
    for r in (one, two):
        r.wait_empty()
    wait_until(lambda: len(one.outcomes()) == len(two.outcomes()) == 1,
               "both outcomes")
