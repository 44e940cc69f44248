"""The conversation with local programs: commands and replies, content, and what
may not come of a hostile client.  Where content ends: test_intake_corpus.py."""

import re
import socket
import ssl

import pytest

from harness import DATE, RCPT, SENDER, message, wait_until
from intake_helpers import (Client, accepted, canonical, contents,
                            envelope, has_ipv6, stuff, wait_accepted)

EHLO = (b"250-relay.test\r\n250-PIPELINING\r\n250-SIZE 40000000\r\n"
        b"250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 HELP\r\n")
HELP = b"214 2.0.0 HELO EHLO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT\r\n"


# --- commands and replies ---

def test_greeting_and_ehlo_in_one_segment(relay):
    r = relay()
    with Client(r.port) as c:
        assert c.greeting == b"220 relay.test ESMTP sesrelayd\r\n"
        c.send(b"EHLO client.test\r\n")
        assert c.sock.recv(65536) == EHLO
        c.quit()


def test_helo(relay, sesd):
    s = sesd()
    r = relay(s)
    with Client(r.port) as c:
        assert c.do("HELO client.test") == b"250 relay.test\r\n"
        c.mail()
        c.quit()
    s.wait_messages(1)


DIALOGUES = {
    "before MAIL": [
        ("RCPT TO:<a@example.net>", "503 5.5.1 "),
        ("DATA", "503 5.5.1 "),
        ("RSET", "250 2.0.0 Ok"),
        ("NOOP", "250 2.0.0 Ok"),
        ("NOOP with words", "250 2.0.0 Ok"),
        ("VRFY someone", "252 2.5.0 "),
        ("VRFY", "501 5.5.4 "),
        ("HELP", "214 2.0.0 "),
        ("HELP DATA", "214 2.0.0 "),
        ("RSET now", "501 5.5.4 "),
        ("QUIT now", "501 5.5.4 "),
        ("", "500 5.5.2 "),
        ("FROBNICATE", "500 5.5.2 "),
        ("MAIL", "501 5.5.4 "),
        ("MAIL <a@example.com>", "501 5.5.4 "),
    ],
    "a transaction": [
        ("MAIL FROM:<a@example.com>", "250 2.1.0 Ok"),
        ("MAIL FROM:<b@example.com>", "503 5.5.1 "),
        ("DATA", "554 5.5.1 "),
        ("RCPT", "501 5.5.4 "),
        ("RCPT TO:<b@example.net>", "250 2.1.5 Ok"),
        ("MAIL FROM:<b@example.com>", "503 5.5.1 "),
        ("DATA now", "501 5.5.4 "),
        ("NOOP", "250 2.0.0 Ok"),
        ("RSET", "250 2.0.0 Ok"),
        ("DATA", "503 5.5.1 "),
    ],
    "a greeting ends the transaction": [
        ("MAIL FROM:<a@example.com>", "250 "),
        ("RCPT TO:<b@example.net>", "250 "),
        ("HELO again", "250 relay.test"),
        ("DATA", "503 5.5.1 "),
    ],
    "not offered": [
        ("STARTTLS", "502 5.5.1 "), ("BDAT 10 LAST", "502 5.5.1 "),
        ("ETRN example.com", "502 5.5.1 "), ("EXPN staff", "502 5.5.1 "),
        ("TURN", "502 5.5.1 "), ("XCLIENT ADDR=1.2.3.4", "502 5.5.1 "),
        ("XFORWARD NAME=x", "502 5.5.1 "), ("SAML FROM:<a@b>", "502 5.5.1 "),
        ("DEBUG", "500 5.5.2 "), ("WIZ", "500 5.5.2 "),
        ("AUTH PLAIN AGEAc2VjcmV0LXdvcmQ=", "502 5.5.1 "),
        ("NOOP", "250 2.0.0 Ok"),
    ],
    "legacy programs": [
        ("mail from:<a@example.com>", "250 2.1.0 Ok"),
        ("rcpt to:<b@example.net>", "250 2.1.5 Ok"),
        ("rset", "250 2.0.0 Ok"),
        ("MAIL FROM: <a@example.com>", "250 2.1.0 Ok"),
        ("RCPT TO: <b@example.net>", "250 2.1.5 Ok"),
        ("RSET", "250 2.0.0 Ok"),
        ("MAIL FROM:a@example.com", "250 2.1.0 Ok"),
        ("RCPT TO:b@example.net", "250 2.1.5 Ok"),
        ("RSET", "250 2.0.0 Ok"),
        ("MAIL FROM:<>", "250 2.1.0 Ok"),
        ("RSET  ", "250 2.0.0 Ok"),
        ("MAIL FROM:<@relay.example,@b.example:a@example.com>", "250 2.1.0 "),
    ],
    "senders that are none": [
        ("MAIL FROM:<a@example.com", "501 5.1.7 "),
        ("MAIL FROM:<a b@example.com>", "501 5.1.7 "),
        ("MAIL FROM:<a@>", "501 5.1.7 "),
        ("MAIL FROM:<@>", "501 5.1.7 "),
        ("MAIL FROM:<a@-b.example>", "501 5.1.7 "),
        ("MAIL FROM:<;id;@example.com>", "501 5.1.7 "),
        ("MAIL FROM:<a@example.com>x", "501 5.1.7 "),
        ("MAIL FROM:<" + "a" * 65 + "@example.com>", "501 5.1.7 "),
        ("MAIL FROM:<a@" + "b." * 200 + "example>", "501 5.1.7 "),
        ("MAIL FROM:<caf\u00e9@example.com>", "553 5.6.7 "),
        ("MAIL FROM:<root>", "550 5.1.7 "),
        ("NOOP", "250 2.0.0 Ok"),
    ],
    "parameters": [
        ("MAIL FROM:<a@example.com> SIZE=1000 BODY=8BITMIME", "250 2.1.0 Ok"),
        ("RCPT TO:<b@example.net> NOTIFY=NEVER", "555 5.5.4 "),
        ("RCPT TO:<>", "501 5.1.3 "),
        ("RCPT TO:<postmaster>", "550 5.1.3 "),
        ("RCPT TO:<a\u2028b@example.net>", "553 5.6.7 "),
        ("RSET", "250 2.0.0 Ok"),
        ("MAIL FROM:<a@example.com> AUTH=<>", "250 2.1.0 Ok"),
        ("RSET", "250 2.0.0 Ok"),
        ("MAIL FROM:<a@example.com> SIZE=", "501 5.5.4 "),
        ("MAIL FROM:<a@example.com> SIZE=-1", "501 5.5.4 "),
        ("MAIL FROM:<a@example.com> SIZE=1x", "501 5.5.4 "),
        ("MAIL FROM:<a@example.com> BODY=BINARYMIME", "501 5.5.4 "),
        ("MAIL FROM:<a@example.com> SMTPUTF8", "555 5.6.7 "),
        ("MAIL FROM:<a@example.com> RET=FULL", "555 5.5.4 "),
        ("MAIL FROM:<a@example.com> FOO", "555 5.5.4 "),
        ("MAIL FROM:<a@example.com>", "250 2.1.0 Ok"),
    ],
    "control characters": [
        ("NOOP\r", "501 5.5.2 "), ("NOOP \0", "501 5.5.2 "),
        ("NOOP \x1b[2J", "501 5.5.2 "), ("NOOP \x7f", "501 5.5.2 "),
        ("MAIL FROM:<a\x01b@example.com>", "501 5.5.2 "),
        ("MAIL FROM:<a\rRCPT TO:<x@y>@example.com>", "501 5.5.2 "),
        ("NOOP", "250 2.0.0 Ok"),
    ],
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(relay, name):
    r = relay()
    with Client(r.port) as c:
        c.ehlo()
        for line, want in DIALOGUES[name]:
            reply = c.do(line).decode()
            assert reply.startswith(want), (line, reply)
            assert re.fullmatch(r"\d{3} [ -~]+\r\n", reply), reply
        c.quit()
    # What people type after AUTH is a secret wherever it ends up.
    assert "AGEAc2VjcmV0LXdvcmQ=" not in r.log()


def test_commands_before_any_greeting_are_served(relay, sesd):
    s = sesd()
    r = relay(s)
    with Client(r.port) as c:
        assert c.do("HELP") == HELP
        c.mail()
    assert s.wait_messages(1)[0]["from"] == SENDER


def test_any_authentication_is_accepted_when_asked_for(relay, sesd):
    s = sesd()
    r = relay(s, config={"smtp.accept_any_auth": "true"})
    with Client(r.port) as c:
        assert b"250-AUTH PLAIN LOGIN\r\n" in c.do("EHLO client.test")
        assert c.do("AUTH PLAIN AGEAc2VjcmV0LXdvcmQ=").startswith(b"235 ")
        assert c.do("AUTH PLAIN") == b"334 \r\n"
        assert c.do("AGEAc2VjcmV0LXdvcmQ=").startswith(b"235 ")
        assert c.do("AUTH LOGIN") == b"334 VXNlcm5hbWU6\r\n"
        assert c.do("dXNlcg==") == b"334 UGFzc3dvcmQ6\r\n"
        assert c.do("c2VjcmV0LXdvcmQ=").startswith(b"235 ")
        assert c.do("AUTH LOGIN") == b"334 VXNlcm5hbWU6\r\n"
        assert c.do("*").startswith(b"501 5.7.0 ")
        assert c.do("AUTH CRAM-MD5").startswith(b"504 5.5.4 ")
        c.mail()
        c.quit()
    s.wait_messages(1)
    assert "c2VjcmV0LXdvcmQ" not in r.log()


def test_addresses_without_domain_are_completed(relay, sesd):
    s = sesd()
    r = relay(s, config={"rewrite.default_domain": '"corp.example"'})
    with Client(r.port) as c:
        c.ehlo()
        c.mail(sender="root", rcpts=["admin", "user@example.net"])
    entry = s.wait_messages(1)[0]
    assert entry["from"] == "root@corp.example"
    assert entry["rcpts"] == ["admin@corp.example", "user@example.net"]


# --- pipelining ---

def test_envelope_in_one_segment(relay, sesd):
    s = sesd()
    r = relay(s)
    rcpts = [f"u{i}@example.net" for i in range(5)]
    with Client(r.port) as c:
        c.send(b"EHLO client.test\r\n" + envelope(rcpts=rcpts))
        assert c.reply() == EHLO
        assert c.reply() == b"250 2.1.0 Ok\r\n"
        assert c.replies(5) == [b"250 2.1.5 Ok\r\n"] * 5
        assert c.reply().startswith(b"354 ")
        c.finish(message())
        c.quit()
    assert s.wait_messages(1)[0]["rcpts"] == rcpts


def test_next_transaction_behind_the_dot_is_kept(relay, sesd):
    """Five messages in one segment, each content right behind its DATA."""
    s = sesd()
    r = relay(s)
    sent = [message(f"number {i}\r\n".encode()) for i in range(5)]
    with Client(r.port) as c:
        c.ehlo()
        c.send(b"".join(envelope(f"s{i}@example.com") + stuff(m)
                        for i, m in enumerate(sent)) + b"QUIT\r\n")
        for _ in sent:
            assert [x[:3] for x in c.replies(3)] == [b"250", b"250", b"354"]
            accepted(c.reply())
        assert c.rest() == b"221 2.0.0 Bye\r\n"
    wait_accepted(s, 5)
    assert sorted(contents(s)) == sorted(sent)


def test_reply_comes_before_what_is_behind_the_dot_is_looked_at(relay, sesd):
    """A cut-off behind the dot does not take the 250 with it."""
    s = sesd()
    r = relay(s)
    with Client(r.port) as c:
        c.ehlo().begin()
        c.send(stuff(message()) + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        accepted(c.reply())
        assert c.rest().startswith(b"554 5.5.1 ")
    s.wait_messages(1)


def test_refused_envelope_in_one_segment_stays_in_step(relay):
    r = relay()
    with Client(r.port) as c:
        c.ehlo()
        c.send(b"MAIL FROM:<root>\r\nRCPT TO:<a@example.net>\r\nDATA\r\n")
        assert [x[:3] for x in c.replies(3)] == [b"550", b"503", b"503"]
        c.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<root>\r\nDATA\r\n")
        assert [x[:3] for x in c.replies(3)] == [b"250", b"550", b"554"]
        c.in_step()
        c.quit()


# --- content ---

CONTENTS = {
    "dots": b".\r\n..\r\n...\r\n.a\r\n..b\r\na.\r\n\r\n.\r\n.\r\n",
    "one dot": b".\r\n",
    "no body": b"",
    "empty lines": b"\r\n" * 50,
    "8-bit": "Gr\u00fc\u00dfe \u2014 \u65e5\u672c\u8a9e\r\n".encode() * 20,
    "latin-1": bytes(range(128, 256)) + b"\r\n",
    "separators of others": b"a\x0bb\x0cc\x1cd\x85e\xe2\x80\xa8f\r\n",
    "998 octets": b"x" * 998 + b"\r\n",
    "lines of all lengths": b"".join(
        b"." * (i % 3) + b"z" * i + b"\r\n" for i in range(996)),
}


def test_content_arrives_unchanged(relay, sesd):
    """Also from a client that says nothing of 8-bit content, and in one
    session after another kind of content."""
    s = sesd()
    r = relay(s)
    sent = {name: message(body, name) for name, body in CONTENTS.items()}
    with Client(r.port) as c:
        c.ehlo()
        for content in sent.values():
            c.mail(content)
        assert c.do("MAIL FROM:<a@example.com> BODY=8BITMIME")[:3] == b"250"
        assert c.do("RCPT TO:<b@example.net>")[:3] == b"250"
        assert c.do("DATA")[:3] == b"354"
        sent["declared"] = message(CONTENTS["8-bit"], "declared")
        c.finish(sent["declared"])
        c.quit()
    wait_accepted(s, len(sent))
    got = {re.search(rb"Subject: (.*)\r\n", c)[1].decode(): c
           for c in contents(s)}
    assert got.keys() == sent.keys()
    for name in sent:
        assert got[name] == sent[name], name


def test_longer_lines_are_passed_on_as_they_are(stage):
    """RFC 5321 lets a line have 998 octets; what a program sends beyond that
    is neither cut nor refused by us."""
    s = stage.sesd()
    r = stage.relay(s)
    sent = [message(b"x" * 999 + b"\r\n"),
            message(b"y" * 1000000 + b"\r\n"),
            message(b"." + b"z" * 1000000 + b"\r\n"),
            message(b"w" * 3000000 + b"\r\n.\r\n")]
    with Client(r.port) as c:
        c.ehlo()
        for content in sent:
            c.mail(content)
        c.quit()
    wait_accepted(s, len(sent))
    assert sorted(contents(s)) == sorted(sent)
    # SES's emulator notes such lines as a violation, and nothing else.
    assert {e["violation"] for e in s.events("protocol")} == {"long-line"}
    stage.sesds.remove(s)
    r.wait_empty()
    assert r.stop() == 0
    s.close()


def test_content_split_at_every_byte(relay, sesd):
    s = sesd()
    r = relay(s)
    content = message(CONTENTS["dots"])
    with Client(r.port) as c:
        c.send_bytewise(b"EHLO client.test\r\n")
        assert c.reply() == EHLO
        c.send_bytewise(envelope())
        assert [x[:3] for x in c.replies(3)] == [b"250", b"250", b"354"]
        c.send_bytewise(stuff(content))
        accepted(c.reply())
        c.in_step()
    wait_accepted(s, 1)
    assert contents(s) == [content]


def test_end_of_data_at_the_edges_of_buffers(relay, sesd):
    s = sesd()
    r = relay(s)
    sent = []
    with Client(r.port) as c:
        c.ehlo()
        for size in (4096, 16384, 65536):
            for n in range(size - 6, size + 4):
                head = message(message_id=f"{n}@example.com", body=b"")
                line = b"x" * 62 + b"\r\n"
                body = line * (n // len(line))
                body = body[:n - len(head) - 2] + b"\r\n"
                sent.append(head + re.sub(rb"\r(?!\n)|(?<!\r)\n", b"x", body))
                c.begin()
                # The dot is byte n of what follows the 354.
                c.send(sent[-1] + b".\r\nNOOP\r\n")
                accepted(c.reply())
                assert c.reply() == b"250 2.0.0 Ok\r\n"
    wait_accepted(s, len(sent))
    assert sorted(contents(s)) == sorted(sent)


def test_received_field(relay, sesd):
    s = sesd()
    r = relay(s)
    ids = []
    for greeting in ("EHLO client.test", "HELO client.test",
                     "EHLO evil)(\x80;by <x>", "EHLO [127.0.0.1]",
                     "EHLO " + "x" * 1000):
        with Client(r.port) as c:
            assert c.do(greeting)[:3] == b"250"
            ids.append(c.mail())
    wait_accepted(s, len(ids))
    fields = {}
    for entry in s.messages():
        content = s.stored(entry)
        m = re.match(
            rb"Received: from (\S+)\s+\(localhost\[127\.0\.0\.1\]\)\r\n"
            rb"\tby relay\.test \(sesrelayd\) with (E?SMTP) id ([0-9A-F]{16});"
            rb"\r\n\t(\w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4})\r\n"
            rb"From: ", content)
        assert m, content[:1500]
        fields[m[3].decode()] = (m[1].decode(), m[2].decode())
        for line in content.split(b"\r\n"):
            assert len(line) <= 998
    assert [fields[qid] for qid in ids[:2]] == [
        ("client.test", "ESMTP"), ("client.test", "SMTP")]
    # Nothing of a name may end a comment, a word or the line.
    assert re.fullmatch(r"[\w?.-]+", fields[ids[2]][0]), fields[ids[2]]
    assert fields[ids[3]][0] == "[127.0.0.1]"
    assert re.fullmatch(r"x{10,255}", fields[ids[4]][0])


def test_log_lines_of_an_accepted_message(relay, sesd):
    s = sesd()
    r = relay(s)
    content = message(message_id="a1@host")
    with Client(r.port) as c:
        qid = c.ehlo().mail(content, rcpts=["u@example.net", "v@example.net"])
    size = s.wait_messages(1)[0]["bytes"]
    r.wait_empty()
    for line in (rf"/smtpd\[\d+\]: {qid}: client=localhost\[127\.0\.0\.1\]$",
                 rf"/cleanup\[\d+\]: {qid}: message-id=<a1@host>$",
                 rf"/qmgr\[\d+\]: {qid}: from=<app@example\.com>, "
                 rf"size={size}, nrcpt=2 \(queue active\)$",
                 rf"/qmgr\[\d+\]: {qid}: removed$"):
        assert re.search(line, r.log(), re.M), line


def test_hop_loop(relay, sesd):
    s = sesd()
    r = relay(s)
    with Client(r.port) as c:
        c.ehlo()
        c.mail(b"Received: from a by b\r\n" * 50 + message())
        c.begin()
        c.send(stuff(b"Received: from a by b\r\n" * 51 + message()))
        assert c.reply().startswith(b"554 5.4.6 ")
        c.in_step()
    assert len(wait_accepted(s, 1)) == 1


# --- line ends ---

def test_bare_newlines_are_normalized(relay, sesd):
    s = sesd()
    r = relay(s)
    content = message(b"one\ntwo\r\nthree\n\n.four\n")
    with Client(r.port) as c:
        c.ehlo().begin()
        c.send(content + b"\r\n.\r\n")
        accepted(c.reply())
        c.in_step()
    wait_accepted(s, 1)
    assert contents(s) == [canonical(content) + b"\r\n"]


def test_bare_newlines_are_rejected_when_asked_for(relay, sesd):
    s = sesd()
    r = relay(s, config={"smtp.bare_newline": '"reject"'})
    with Client(r.port) as c:
        c.ehlo().begin()
        c.send(message(b"one\ntwo\r\n") + b".\r\n")
        assert c.reply().startswith(b"550 5.5.2 ")
        c.in_step()
        c.mail()
    assert len(wait_accepted(s, 1)) == 1


def test_commands_that_end_in_newline_are_rejected_when_asked_for(relay):
    r = relay(config={"smtp.bare_newline": '"reject"'})
    with Client(r.port) as c:
        c.send(b"EHLO client.test\nNOOP\r\n")
        assert c.reply().startswith(b"5")
        assert r.count() == 0


LF_SESSION = (b"HELO client\nMAIL FROM:<app@example.com>\n"
              b"RCPT TO:<user@example.net>\nDATA\n"
              b"From: app@example.com\nSubject: by hand\n" + DATE.encode() +
              b"\nMessage-ID: <by@hand.example>\n\n"
              b"one\n..\n.two\nthree\n.\n")
LF_CONTENT = (b"From: app@example.com\r\nSubject: by hand\r\n" +
              DATE.encode() + b"\r\nMessage-ID: <by@hand.example>\r\n\r\n"
              b"one\r\n.\r\n.two\r\nthree\r\n")


@pytest.mark.parametrize("tail", [b"", b"QUIT\n"])
@pytest.mark.parametrize("half_close", [False, True])
def test_printf_into_nc(relay, sesd, tail, half_close):
    """LF alone, everything at once and before the greeting is read; the
    client may shut down its side then."""
    if not tail and not half_close:
        tail = b"NOOP\n"  # something has to show that all was served
    s = sesd()
    r = relay(s)
    with Client(r.port, greeting=False) as c:
        c.send(LF_SESSION + tail)
        if half_close:
            c.sock.shutdown(socket.SHUT_WR)
        replies = c.replies(6 if not tail else 7)
        assert [x[:3] for x in replies[:6]] == [
            b"220", b"250", b"250", b"250", b"354", b"250"], replies
        accepted(replies[5])
        if tail == b"QUIT\n" or half_close:
            assert c.rest() == b""
    wait_accepted(s, 1)
    assert contents(s) == [LF_CONTENT]


def test_one_crlf_ends_the_lf_session(relay, sesd):
    """LF.LF ends data only when no line of the session had a CR."""
    for text in (LF_SESSION.replace(b"HELO client\n", b"HELO client\r\n"),
                 LF_SESSION.replace(b"DATA\n", b"DATA\r\n"),
                 LF_SESSION.replace(b"one\n", b"one\r\n")):
        s = sesd()
        r = relay(s)
        with Client(r.port) as c:
            c.send(text)
            assert [x[:3] for x in c.replies(4)] == [
                b"250", b"250", b"250", b"354"]
            c.send(b"RSET\r\n.\r\n")
            accepted(c.reply())
            c.in_step()
        wait_accepted(s, 1)
        assert contents(s)[0].endswith(b"three\r\n.\r\nRSET\r\n")


@pytest.mark.parametrize("byte,reply", [(b"\r", b"550 5.5.2 "),
                                        (b"\0", b"550 5.6.0 ")])
def test_refused_bytes_are_refused_after_the_true_end(relay, sesd, byte,
                                                      reply):
    s = sesd()
    r = relay(s)
    with Client(r.port) as c:
        c.ehlo()
        for where in (b"a%sb", b"%s", b"a%s", b"%sa", b"a\r\n%s", b"%s\r\n.."):
            c.begin()
            c.send(message(where % byte + b"\r\n") + b".\r\n")
            assert c.reply().startswith(reply), where
            c.in_step()
        # And in the header.
        c.begin()
        c.send(b"From: a@exa" + byte + b"mple.com\r\n\r\nbody\r\n.\r\n")
        assert c.reply().startswith(reply)
        c.mail()
        c.quit()
    assert len(wait_accepted(s, 1)) == 1
    r.wait_empty()


# --- who is no mail program ---

def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="relay.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


MAIL_INSIDE = (b"HELO a\r\n" + envelope() + message() + b".\r\nQUIT\r\n")
FOREIGN = {
    "POST": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n",
    "GET": b"GET / HTTP/1.0\r\n\r\n",
    "lower case": b"get / http/1.1\r\n\r\n",
    "OPTIONS": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT x:25 HTTP/1.1\r\n\r\n",
    "unknown method": b"BREW /pot HTTP/1.1\r\n\r\n",
    "header": b"Host: x\r\n",
    "folded header": b" folded\r\n",
    "gopher": b"_\r\n",
    "junk": bytes(range(128, 256)) + b"\r\n",
    "TLS": None,
}


@pytest.mark.parametrize("greeted", [False, True])
def test_foreign_protocols_are_cut_off(relay, sesd, greeted):
    s = sesd()
    r = relay(s)
    for name, text in FOREIGN.items():
        if text is None:
            text = client_hello() + b"\r\n"
        with Client(r.port) as c:
            if greeted:
                c.ehlo()
            c.send(text + MAIL_INSIDE)
            assert re.fullmatch(rb"554 5\.5\.1 [ -~]+\r\n", c.rest()), name
    assert r.count() == 0
    r.send()
    assert len(wait_accepted(s, 1)) == 1


def test_early_talker_is_cut_off_when_it_is_no_mail_program(relay):
    r = relay()
    with Client(r.port, greeting=False) as c:
        c.send(FOREIGN["POST"] + MAIL_INSIDE)
        assert re.fullmatch(rb"220 [ -~]+\r\n554 5\.5\.1 [ -~]+\r\n", c.rest())
    assert r.count() == 0


def test_early_talker_is_served_when_it_speaks_smtp(relay, sesd):
    s = sesd()
    r = relay(s)
    with Client(r.port, greeting=False) as c:
        c.send(MAIL_INSIDE)
        assert [x[:3] for x in c.replies(7)] == [
            b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
        assert c.rest() == b""
    s.wait_messages(1)


# --- how sessions end ---

def test_client_that_leaves_without_quit(relay, sesd):
    s = sesd()
    r = relay(s)
    with Client(r.port) as c:
        c.ehlo().mail()
    with Client(r.port) as c:
        c.ehlo().begin()
        c.send(b"From: a@example.com\r\n\r\nhalf of a mess")
        c.drained()
    r.wait_log("lost connection after DATA")
    assert len(wait_accepted(s, 1)) == 1
    wait_until(lambda: r.status()["sessions"] == 0, "no session")
    assert r.count() == 0


def test_end_of_input_inside_content_is_no_end_of_data(relay):
    """Not even behind a dot that lacks only its line end."""
    r = relay()
    for tail in (b"", b"\r\n", b"\r\n.", b"\r\n.\r"):
        with Client(r.port) as c:
            c.ehlo().begin()
            c.send(message(b"half") + tail)
            c.sock.shutdown(socket.SHUT_WR)
            assert not c.rest().startswith(b"2")
    assert r.count() == 0


def test_reset_while_content_arrives(relay):
    r = relay()
    with Client(r.port) as c:
        c.ehlo().begin()
        c.send(b"x" * 100000)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                          b"\1\0\0\0\0\0\0\0")
    wait_until(lambda: r.status()["sessions"] == 0, "no session")
    assert r.count() == 0


def test_ipv6(relay, sesd):
    s = sesd()
    r = relay(s, start=False)
    listen = [f'"127.0.0.1:{r.port}"']
    if has_ipv6():
        listen.append(f'"[::1]:{r.port}"')
    r.settings["smtp.listen"] = f"[ {', '.join(listen)} ]"
    r.write_config()
    r.start()
    hosts = ["127.0.0.1"]
    if has_ipv6():
        hosts.append("::1")
    else:
        print("no ::1 on this machine: only IPv4 was tried")
    for host in hosts:
        with Client(r.port, host=host) as c:
            c.ehlo().mail(sender=f"v{len(host)}@example.com")
    wait_accepted(s, len(hosts))
    assert {e["from"] for e in s.messages()} == {
        f"v{len(host)}@example.com" for host in hosts}
    if has_ipv6():
        assert any(b"(localhost[::1])" in s.stored(e) for e in s.messages())
        assert "client=localhost[::1]" in r.log()


def test_every_listen_address_is_served(relay):
    r = relay(start=False)
    r.settings["smtp.listen"] = (f'[ "127.0.0.1:{r.port}", '
                                 f'"127.0.0.2:{r.port}" ]')
    r.write_config()
    r.start()
    for host in ("127.0.0.1", "127.0.0.2"):
        with Client(r.port, host=host) as c:
            c.ehlo().quit()


def test_recipients_reach_sesd_in_the_order_given(relay, sesd):
    """And a recipient that is named twice is not sent to twice by accident
    of ours: SES decides on that."""
    s = sesd()
    r = relay(s)
    rcpts = [RCPT, "b@example.net", "a@example.net"]
    r.send(rcpts=rcpts)
    assert s.wait_messages(1)[0]["rcpts"] == rcpts
