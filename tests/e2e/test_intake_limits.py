"""What one client, or many, cannot do to the others: sizes, numbers, time and
memory are bounded, and the session goes on where it can."""

import hashlib
import select
import time

import pytest

from harness import RCPT, SENDER, free_port, message, wait_until
from intake_helpers import (Client, accepted, by_message_id, check_memory,
                            contents, envelope, push, push_until_stuck,
                            run_relay, send_together, sessions, stuff,
                            unstarted, wait_accepted)


# --- size ---

def test_size_is_judged_at_mail(relay, sesd):
    s = sesd()
    r = relay(s, config={"smtp.max_message_size": '"10K"'})
    with Client(r.port) as c:
        assert b"250-SIZE 10000\r\n" in c.do("EHLO client.test")
        for size in (10001, 2**31, 2**32, 2**63, 2**64, 10**40):
            reply = c.do(f"MAIL FROM:<a@example.com> SIZE={size}")
            assert reply.startswith(b"552 5.3.4 "), (size, reply)
        # Nothing of it is left behind.
        assert c.do("RCPT TO:<b@example.net>").startswith(b"503 ")
        for size in (0, 1, 10000):
            reply = c.do(f"MAIL FROM:<a@example.com> SIZE={size}")
            assert reply.startswith(b"250 "), (size, reply)
            c.do("RSET")
        c.mail()
    assert len(wait_accepted(s, 1)) == 1


def test_size_is_judged_while_data_arrives(relay, sesd):
    """The declared size is no promise; what stands behind the true end of a
    message that is thrown away is served."""
    s = sesd()
    r = relay(s, config={"smtp.max_message_size": '"100K"'})
    line = b"x" * 98 + b"\r\n"
    with Client(r.port) as c:
        c.ehlo()
        for n in (1001, 1100, 5000, 100000):
            assert c.do("MAIL FROM:<a@example.com> SIZE=100")[:3] == b"250"
            assert c.do("RCPT TO:<b@example.net>")[:3] == b"250"
            assert c.do("DATA")[:3] == b"354"
            c.send(message(line * n) + b".\r\nNOOP\r\n")
            assert c.reply().startswith(b"552 5.3.4 "), n
            assert c.reply() == b"250 2.0.0 Ok\r\n"
        small = message(line * 10)
        c.mail(small)
        c.quit()
    wait_accepted(s, 1)
    assert contents(s) == [small]
    r.wait_empty()


def test_size_limit_is_exact(relay, sesd):
    s = sesd()
    r = relay(s, config={"smtp.max_message_size": "5000"})
    head = message(b"")
    with Client(r.port) as c:
        c.ehlo()
        for total, ok in ((4999, True), (5000, True), (5001, False)):
            body = b"x" * 98 + b"\r\n"
            body *= (total - len(head)) // 100 - 1
            rest = total - len(head) - len(body)
            content = head + body + b"y" * (rest - 2) + b"\r\n"
            assert len(content) == total
            c.begin()
            c.send(stuff(content))
            reply = c.reply()
            assert reply.startswith(b"250" if ok else b"552"), (total, reply)
    assert len(wait_accepted(s, 2)) == 2


# --- numbers ---

def test_max_recipients(relay, sesd):
    """Those that were taken get the message, the others are for another
    transaction."""
    s = sesd()
    r = relay(s, config={"smtp.max_recipients": "5"})
    with Client(r.port) as c:
        c.ehlo()
        assert c.do("MAIL FROM:<a@example.com>")[:3] == b"250"
        rcpts = [f"u{i}@example.net" for i in range(8)]
        c.send(b"".join(b"RCPT TO:<%s>\r\n" % x.encode() for x in rcpts))
        replies = c.replies(8)
        assert [x[:3] for x in replies] == [b"250"] * 5 + [b"452"] * 3
        assert replies[5].startswith(b"452 4.5.3 ")
        assert c.do("DATA")[:3] == b"354"
        c.finish(message())
        c.mail(rcpts=rcpts[5:])
    wait_accepted(s, 2)
    assert sorted(e["rcpts"] for e in s.messages()) == [rcpts[:5], rcpts[5:]]


def test_a_thousand_recipients(relay, sesd):
    s = sesd()
    r = relay(s)
    rcpts = [f"user{i:04}@example.net" for i in range(1000)]
    with Client(r.port) as c:
        c.ehlo()
        c.send(envelope(rcpts=rcpts + ["onemore@example.net"]))
        assert c.reply()[:3] == b"250"
        assert [x[:3] for x in c.replies(1001)] == [b"250"] * 1000 + [b"452"]
        assert c.reply()[:3] == b"354"
        c.finish(message())
    wait_accepted(s, 20)
    r.wait_empty()
    got = [x for e in s.messages() for x in e["rcpts"]]
    assert sorted(got) == rcpts


def test_long_command_lines(relay, sesd):
    s = sesd()
    r = relay(s)
    with Client(r.port) as c:
        c.ehlo()
        assert c.do("NOOP " + "x" * 2043) == b"250 2.0.0 Ok\r\n"
        assert c.do("NOOP " + "x" * 2044).startswith(b"500 5.5.2 ")
        c.in_step()
        for n in (3000, 70000, 5000000):
            c.send(b"NOOP " + b"x" * n + b"\r\nNOOP\r\n")
            assert c.reply().startswith(b"500 5.5.2 "), n
            assert c.reply() == b"250 2.0.0 Ok\r\n"
        c.mail()
        c.quit()
    assert len(wait_accepted(s, 1)) == 1


def test_too_many_errors(relay):
    r = relay()
    with Client(r.port) as c:
        c.ehlo()
        for _ in range(3):
            for _ in range(19):
                assert c.do("FROBNICATE")[:3] == b"500"
            c.in_step()  # begins the count anew
        for _ in range(19):
            assert c.do("FROBNICATE")[:3] == b"500"
        assert c.do("FROBNICATE").startswith(b"421 4.7.0 ")
        assert c.rest() == b""


def test_too_many_errors_in_one_segment(relay):
    r = relay()
    with Client(r.port) as c:
        c.ehlo()
        c.send(b"FROBNICATE\r\n" * 1000)
        lines = c.rest().splitlines()
        assert [x[:3] for x in lines] == [b"500"] * 19 + [b"421"]
    r.send()


def test_max_sessions(relay, sesd):
    s = sesd()
    r = relay(s, config={"smtp.max_sessions": "3"})
    clients = [Client(r.port) for _ in range(3)]
    assert all(c.greeting.startswith(b"220 ") for c in clients)
    with Client(r.port) as refused:
        assert refused.greeting.startswith(b"421 4.3.2 ")
        assert refused.rest() == b""
    # The others go on, and a free place is given away.
    clients[0].ehlo().mail()
    clients[1].ehlo().quit()

    def admitted():
        with Client(r.port) as c:
            return c.greeting.startswith(b"220 ")
    wait_until(admitted, "a place")
    for c in clients:
        c.close()
    wait_accepted(s, 1)


def test_a_thousand_sessions_at_a_time(relay, sesd):
    """All open at once, each hands in a message; one more is refused."""
    s = sesd()
    r = relay(s)
    with sessions(r, 1000) as clients:
        assert r.status()["sessions"] == 1000
        with Client(r.port) as c:
            assert c.greeting.startswith(b"421 4.3.2 ")
        for c in clients:
            c.send(envelope())
        for c in clients:
            assert [x[:3] for x in c.replies(3)] == [b"250", b"250", b"354"]
        sent = {f"m{i}@example.com": message(b"body %d\r\n" % i,
                                             message_id=f"m{i}@example.com")
                for i in range(1000)}
        for c, content in zip(clients, sent.values()):
            c.send(stuff(content))
        ids = {accepted(c.reply()) for c in clients}
        assert len(ids) == 1000
        assert r.status()["sessions"] == 1000
    wait_accepted(s, 1000)
    assert by_message_id(s) == sent
    r.wait_empty()


# --- time ---

def test_timeout_of_a_command(relay):
    r = relay(config={"smtp.timeout": '"300ms"'})
    start = time.monotonic()
    with Client(r.port) as c:
        # Each command that is complete gives time for the next.
        while time.monotonic() < start + 0.6:
            select.select([c.sock], [], [], 0.02)
            c.in_step()
        start = time.monotonic()
        assert c.reply().startswith(b"421 4.4.2 ")
        assert c.rest() == b""
        assert 0.25 < time.monotonic() - start < 5
    with Client(r.port) as c:
        assert c.reply().startswith(b"421 4.4.2 ")  # no command at all
    with Client(r.port) as c:
        c.send(b"NOOP")  # no line end
        assert c.reply().startswith(b"421 4.4.2 ")


def drip(client, data, gap=0.05):
    """A byte each `gap` until the relay says something; (reply, seconds)."""
    start = time.monotonic()
    for i in range(len(data)):
        ready, _, _ = select.select([client.sock], [], [], gap)
        if ready:
            break
        client.send(data[i:i + 1])
    return client.reply(), time.monotonic() - start


def test_drip_does_not_extend_the_deadline_of_a_command(relay):
    r = relay(config={"smtp.timeout": '"500ms"'})
    with Client(r.port) as c:
        c.ehlo()
        reply, seconds = drip(c, b"NOOP " + b"x" * 1000)
        assert reply.startswith(b"421 4.4.2 ")
        assert 0.4 < seconds < 5
        assert c.rest() == b""


def test_timeout_of_content(relay):
    r = relay(config={"smtp.timeout": '"300ms"'})
    with Client(r.port) as c:
        c.ehlo().begin()
        c.send(message(b"half of it\r\n"))
        start = time.monotonic()
        assert c.reply().startswith(b"421 4.4.2 ")
        assert c.rest() == b""
        assert 0.2 < time.monotonic() - start < 5
    assert r.count() == 0


def test_content_that_comes_slowly_is_taken(relay, sesd):
    """Longer than the time-out in all, but never so long without a byte."""
    s = sesd()
    r = relay(s, config={"smtp.timeout": '"600ms"'})
    content = message(b"slowly\r\n")
    wire = stuff(content)
    with Client(r.port) as c:
        c.ehlo().begin()
        step = len(wire) // 12 + 1
        for i in range(0, len(wire), step):
            select.select([c.sock], [], [], 0.08)
            c.send(wire[i:i + step])
        accepted(c.reply())
    wait_accepted(s, 1)
    assert contents(s) == [content]


def test_drip_does_not_extend_the_deadline_of_a_message(relay):
    """Twelve times smtp.timeout is all that a message may take."""
    r = relay(config={"smtp.timeout": '"150ms"'})
    with Client(r.port) as c:
        c.ehlo().begin()
        reply, seconds = drip(c, b"x" * 1000, gap=0.02)
        assert reply.startswith(b"421 4.4.2 ")
        assert 1.5 < seconds < 8
    assert r.count() == 0


def test_timeout_is_said_to_those_who_read_only(relay):
    """Silent clients go, and leave nothing behind."""
    r = relay(config={"smtp.timeout": '"300ms"'})
    clients = [Client(r.port) for _ in range(50)]
    for c in clients:
        assert c.rest().startswith(b"421 4.4.2 ")
        c.close()
    wait_until(lambda: r.status()["sessions"] == 0, "no session")


# --- who may ---

def test_allow(relay, sesd):
    s = sesd()
    r = relay(s, config={"smtp.allow": '[ "127.0.0.2/32" ]'})
    with Client(r.port) as c:
        assert c.greeting.startswith(b"554 5.7.1 ")
        assert c.rest() == b""
    with Client(r.port, greeting=False) as c:
        c.send(b"EHLO x\r\n" + envelope() + stuff(message()))
        assert c.rest().startswith(b"554 5.7.1 ")
    with Client(r.port, source="127.0.0.2") as c:
        c.ehlo().mail(sender="two@example.com")
    assert [e["from"] for e in wait_accepted(s, 1)] == ["two@example.com"]
    assert "from localhost[127.0.0.1]: 554 5.7.1" in r.log()


def test_allow_changes_with_a_reload(relay):
    r = relay()
    r.settings["smtp.allow"] = '[ "192.0.2.0/24" ]'
    r.write_config()
    r.ctl("reload")
    with Client(r.port) as c:
        assert c.greeting.startswith(b"554 5.7.1 ")
    r.settings["smtp.allow"] = '[ "127.0.0.0/8" ]'
    r.write_config()
    r.ctl("reload")
    with Client(r.port) as c:
        assert c.greeting.startswith(b"220 ")


@pytest.mark.parametrize("address", [
    "0.0.0.0", "[::]", "192.0.2.1", "[2001:db8::1]", "[::ffff:192.0.2.1]"])
def test_listening_beyond_loopback_needs_an_allow_list(relay, address):
    port = free_port()
    r = unstarted(relay, **{"smtp.listen": f'[ "{address}:{port}" ]'})
    for options in ((), ("-t",)):
        done = run_relay(r.config_file, *options)
        assert done.returncode == 78, done.stderr
        assert f"{r.config_file}:3: 'smtp.listen'" in done.stderr
        assert "smtp.allow" in done.stderr
    # The default spelled out is the default still.
    r.settings["smtp.allow"] = '[ "127.0.0.0/8", "::1/128" ]'
    r.write_config()
    assert run_relay(r.config_file).returncode == 78


def test_listening_beyond_loopback_with_an_allow_list(relay, sesd):
    s = sesd()
    r = relay(s, start=False)
    r.settings["smtp.listen"] = f'[ "0.0.0.0:{r.port}" ]'
    r.settings["smtp.allow"] = '[ "127.0.0.1", "192.0.2.0/24" ]'
    r.write_config()
    r.start()
    r.send()
    with Client(r.port, source="127.0.0.9") as c:
        assert c.greeting.startswith(b"554 5.7.1 ")
    assert len(wait_accepted(s, 1)) == 1


# --- memory ---

def test_memory_while_many_send_much(relay, sesd):
    """1 GB at the same time, none of it delivered meanwhile: it goes to the
    disk, and comes back from there."""
    s = sesd(store=False)
    r = relay(s, config={"delivery.retry": '[ "1s" ]'})
    s.control("refuse on")
    body = b"".join(b"%070d\r\n" % i for i in range(5000000 // 72))
    with sessions(r, 200) as clients:
        for c in clients:
            c.begin()
        send_together(clients, [message(body) + b".\r\n"] * 200)
        for c in clients:
            accepted(c.reply())
        assert r.count() == 200
    check_memory(r, 200 * 1024)
    s.control("refuse off")
    digest = hashlib.sha256(body).hexdigest()
    assert [e["body_sha256"] for e in wait_accepted(s, 200)] == [digest] * 200
    check_memory(r, 200 * 1024)
    r.wait_empty()
    wait_until(lambda: not list((r.spool / "large").iterdir()), "no file")


def test_memory_while_replies_are_not_read(relay):
    """Who does not read its replies is not read either; when it reads, all of
    them are there.  A million commands, and no more than one line of the log
    tells of all that are refused."""
    r = relay(config={"smtp.max_recipients": "1"})
    before = r.peak_memory_kib()
    n = 1000000
    command = b"RCPT TO:<u@example.net>\r\n"
    with Client(r.port, receive_buffer=4096) as c:
        assert c.do("MAIL FROM:<a@example.com>")[:3] == b"250"
        c.do(command.strip())
        refusal = c.do(command.strip())
        assert refusal == b"452 4.5.3 Too many recipients\r\n"
        want = len(refusal) * n
        data = command * n
        sent = push_until_stuck(c, data)
        assert sent < len(data) / 2
        r.send()  # others are served
        check_memory(r, 4 * 1024, before)
        got = 0
        while got < want:
            readable, writable, _ = select.select(
                [c.sock], [c.sock] if sent < len(data) else [], [], 30)
            assert readable or writable, f"{got} of {want} bytes of replies"
            if readable:
                chunk = c.sock.recv(65536)
                assert chunk
                got += len(chunk)
            if writable:
                sent += push(c, data[sent:sent + 65536])
        assert got == want
        c.in_step()
    check_memory(r, 4 * 1024, before)
    # Some are told one by one, for those who count lines.
    r.wait_log(f"NOQUEUE: {n - 20} times more")
    assert r.log().count("Too many recipients") == 21


def test_memory_of_a_line_without_end(relay):
    r = relay()
    before = r.peak_memory_kib()
    with Client(r.port) as c:
        c.ehlo()
        for _ in range(200):
            c.send(b"x" * 1000000)
        c.send(b"\r\n")
        assert c.reply().startswith(b"500 5.5.2 ")
        c.in_step()
    check_memory(r, 8 * 1024, before)


def test_memory_of_content_that_is_thrown_away(relay):
    r = relay(config={"smtp.max_message_size": '"1M"'})
    before = r.peak_memory_kib()
    with Client(r.port) as c:
        c.ehlo().begin()
        for _ in range(200):
            c.send((b"x" * 98 + b"\r\n") * 10000)
        c.send(b".\r\n")
        assert c.reply().startswith(b"552 5.3.4 ")
        c.in_step()
    check_memory(r, 16 * 1024, before)
    wait_until(lambda: not list((r.spool / "large").iterdir()), "no file")


def test_slow_clients_leave_the_others_alone(relay, sesd):
    """500 that say half a command, 400 that say half a message."""
    s = sesd()
    r = relay(s)
    with sessions(r, 900) as clients:
        for c in clients[:500]:
            c.send(b"MAIL FR")
        for c in clients[500:]:
            c.begin()
            c.send(b"From: a@example.com\r\n\r\nhalf")
        start = time.monotonic()
        r.send()
        assert time.monotonic() - start < 2
        assert [e["rcpts"] for e in wait_accepted(s, 1)] == [[RCPT]]
        assert s.messages()[0]["from"] == SENDER
        # 64 KiB a session is more than any of them may cost.
        check_memory(r, 900 * 64 + 32 * 1024)
