"""sesd: the dialect, the content, and what counts as a violation."""

import base64
import hashlib
import re

import pytest

from sesd_peer import Client, HEAD, ID, MAIL, PASSWORD, PLAIN, USER


def test_dialect_starttls(sesd):
    s = sesd()
    c = Client(s)
    assert re.fullmatch(rb"220 email-smtp\.amazonaws\.com ESMTP "
                        rb"SimpleEmailService-d-[A-Z0-9]{9} \w{20}\r\n",
                        c.greeting)
    assert c.do("EHLO Unusual") == (
        b"250-email-smtp.amazonaws.com\r\n250-8BITMIME\r\n250-STARTTLS\r\n"
        b"250-AUTH PLAIN LOGIN\r\n250 Ok\r\n")
    assert c.do("STARTTLS now").startswith(b"501 ")
    assert c.do("STARTTLS") == b"220 Ready to start TLS\r\n"
    c.wrap()
    assert c.do("EHLO Unusual") == (
        b"250-email-smtp.amazonaws.com\r\n250-8BITMIME\r\n"
        b"250-AUTH PLAIN LOGIN\r\n250 Ok\r\n")
    assert c.do("MAIL FROM:<a@x.test>") == b"530 Authentication required\r\n"
    assert c.do("AUTH PLAIN") == b"334 Ok\r\n"
    assert c.do(PLAIN.decode()) == b"235 Authentication successful.\r\n"
    assert c.do("AUTH PLAIN x").startswith(b"503 Refusing any other AUTH")
    assert c.do("NOOP") == b"250 Ok\r\n"
    assert ID.fullmatch(c.mail())
    assert c.do("RSET") == b"250 Ok\r\n"
    assert c.do("QUIT") == b"221 Bye\r\n"
    assert c.end() == "eof"
    assert s.violations() == []
    assert [e["reason"] for e in s.events("close")] == ["quit"]


def test_wrapper_login_and_ipv6(sesd):
    s = sesd()
    c = Client(s, "wrapper")
    assert b"STARTTLS" not in c.do("EHLO x")
    assert c.do("AUTH LOGIN") == b"334 VXNlcm5hbWU6\r\n"
    assert (c.do(base64.b64encode(USER.encode()).decode())
            == b"334 UGFzc3dvcmQ6\r\n")
    assert (c.do(base64.b64encode(b"wrong").decode())
            == b"535 Authentication Credentials Invalid\r\n")
    assert c.do("AUTH LOGIN " + base64.b64encode(USER.encode()).decode()) \
        == b"334 UGFzc3dvcmQ6\r\n"
    assert (c.do(base64.b64encode(PASSWORD.encode()).decode())
            == b"235 Authentication successful.\r\n")
    assert ID.fullmatch(c.mail())
    assert ID.fullmatch(Client(s, "ipv6").start().mail())
    assert [e["ok"] for e in s.events("auth")] == [False, True, True]
    assert PASSWORD not in s.journal_file.read_text()


def test_auth_errors(sesd):
    s = sesd()
    c = Client(s, "wrapper")
    c.do("EHLO x")
    assert c.do("AUTH CRAM-MD5") == (b"504 The requested authentication "
                                     b"mechanism is not supported\r\n")
    assert c.do("AUTH PLAIN !!!!").startswith(b"501 ")
    assert c.do("AUTH PLAIN AAAA").startswith(b"535 ")
    assert c.do("AUTH PLAIN YWJj").startswith(b"501 ")
    assert c.do("AUTH LOGIN").startswith(b"334 ")
    assert c.do("*").startswith(b"501 ")
    s.set(auth="LOGIN")
    assert b"AUTH LOGIN\r\n" in c.do("EHLO x")
    assert c.do("AUTH PLAIN").startswith(b"504 ")
    s.set(auth="")
    assert b"AUTH" not in c.do("EHLO x")
    s.set(auth="PLAIN LOGIN", account="unsubscribed")
    assert (c.do("AUTH PLAIN " + PLAIN.decode())
            == b"535 Account not subscribed to SES\r\n")
    s.set(account="ok", password="other")
    assert c.do("AUTH PLAIN " + PLAIN.decode()).startswith(b"535 ")


def test_envelope_errors(sesd):
    s = sesd()
    c = Client(s, "wrapper").start()
    bad_from = b"501 Invalid MAIL FROM address provided\r\n"
    bad_rcpt = b"501 Invalid RCPT TO address provided\r\n"
    assert c.do("RCPT TO:<b@y.test>").startswith(b"503 ")
    assert c.do("DATA").startswith(b"503 ")
    assert c.do("MAIL FROM:<>") == bad_from
    assert c.do("MAIL FROM:<root>") == bad_from
    assert c.do("MAIL FROM:<@x>") == bad_from
    assert c.do("MAIL TO:<a@x>").startswith(b"501 Syntax")
    assert c.do("MAIL FROM:<a@x.test> BODY=8BITMIME") == b"250 Ok\r\n"
    assert c.do("MAIL FROM:<a@x.test>") == (
        b"503 5.5.1 Sender already specified.\r\n")
    assert c.do("DATA").startswith(b"503 ")
    assert c.do("RCPT TO:<root>") == bad_rcpt
    assert c.do("RCPT TO:<re>c@y.test>") == bad_rcpt
    for odd in ("re(c", "re<c", "re c", ".a", "a..b", '"a>b"'):
        assert c.do(f"RCPT TO:<{odd}@y.test>") == b"250 Ok\r\n"
    assert c.do("FROB").startswith(b"500 ")
    assert c.do("VRFY x").startswith(b"502 ")
    assert s.violations() == ["unknown-command"]


def test_in_clear(sesd):
    s = sesd()
    must = b"530 Must issue a STARTTLS command first\r\n"
    for mode in ("plain", "starttls"):
        c = Client(s, mode)
        assert (b"STARTTLS" in c.do("EHLO x")) == (mode == "starttls")
        assert c.do("AUTH PLAIN " + PLAIN.decode()) == must
        assert c.do("MAIL FROM:<a@x.test>") == must
    assert Client(s, "plain").do("STARTTLS").startswith(b"454 TLS not")
    assert s.violations() == ["auth-in-clear", "mail-in-clear"] * 2


def test_refused_data_keeps_transaction(sesd):
    s = sesd()
    c = Client(s, "wrapper").start()
    assert (c.mail(b"Subject: x\r\n\r\nx\r\n") ==
            b"554 Transaction failed: Missing required header 'From'.\r\n")
    assert c.do("MAIL FROM:<a@x.test>") == (
        b"503 5.5.1 Sender already specified.\r\n")
    assert c.do("RSET") == b"250 Ok\r\n"
    assert ID.fullmatch(c.mail())
    refused = s.events("refused")
    assert refused[0]["phase"] == "DOT" and refused[0]["recipients"] == 1


@pytest.mark.parametrize("line", [b"NOOP\n", b"NO\rOP\r\n", b"NOOP\r\r\n"])
def test_bare_line_end_in_command(sesd, line):
    s = sesd()
    c = Client(s, "wrapper")
    c.send(line)
    assert c.reply().startswith(b"501 Syntax error at character position ")
    assert c.end() == "eof"
    assert s.violations() == ["bare-line-end"]


def test_long_command(sesd):
    s = sesd()
    c = Client(s)
    assert c.do("NOOP " + 993 * "x") == b"250 Ok\r\n"
    c.send(b"x" * 2000)
    assert c.reply().startswith(b"500 ")
    assert c.end() == "eof"
    assert s.violations() == ["long-command"]


@pytest.mark.parametrize("head,error", [
    (b"From: a@x.test\r\nSubject: 1\r\nSubject: 2\r\n",
     b"Duplicate header 'Subject'."),
    (b"From: a@x.test\r\nTo: root\r\n", b"Missing final '@domain'"),
    (b"From: root (Cron Daemon)\r\n", b"Missing final '@domain'"),
    (b"From: a@x.test\r\nCc: b@y.test,\r\n root\r\n",
     b"Missing final '@domain'"),
])
def test_header_faults(sesd, head, error):
    s = sesd()
    c = Client(s, "wrapper").start()
    assert (c.mail(head + b"\r\nx\r\n") ==
            b"554 Transaction failed: " + error + b"\r\n")
    s.set(strict_headers=0)
    c.do("RSET")
    assert ID.fullmatch(c.mail(head + b"\r\nx\r\n"))


def test_header_lists_accepted(sesd):
    c = Client(sesd(), "wrapper").start()
    assert ID.fullmatch(c.mail(
        b'From: "Root, the <first>" <a@x.test>\r\n'
        b"To: undisclosed-recipients:;\r\n"
        b"Cc: team: b@y.test (b, c), \"d\" <d@y.test>;, e@y.test\r\n"
        b"Received: 1\r\nReceived: 2\r\n\r\nx\r\n"))


def test_bad_recipients_at_dot(sesd):
    c = Client(sesd(), "wrapper").start()
    assert c.mail(rcpts=["b@y.test", "re:ceiver@d.test"]) == (
        b"554 Transaction failed: Address contains illegal characters in "
        b"user name: '<\"re:ceiver\"@d.test>'.\r\n")
    c.do("RSET")
    assert c.mail(rcpts=["b@-y.test"]) == (
        b"554 Transaction failed: Invalid domain name: '-y.test'.\r\n")


def test_unstuffing_and_hashes(sesd):
    s = sesd()
    c = Client(s, "wrapper").start()
    body = b".\r\n..\r\n.x\r\nplain \xe9\r\n\r\n"
    content = HEAD + b"\r\n" + body
    c.envelope()
    c.data_phase()
    wire = re.sub(rb"(?m)^\.", b"..", content) + b".\r\n"
    for i in range(len(wire)):  # every split at once
        c.send(wire[i:i + 1])
    reply = c.reply()
    assert ID.fullmatch(reply)
    [e] = s.accepted()
    assert e["sha256"] == hashlib.sha256(content).hexdigest()
    assert e["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert e["bytes"] == len(content)
    assert e["id"] == reply.split()[2].decode()
    assert (s.store / (e["id"] + ".eml")).read_bytes() == content
    assert s.violations() == []


@pytest.mark.parametrize("extra,kinds", [
    (b"a\rb\r\n", ["bare-cr"]),
    (b"a\r\r\n", ["bare-cr"]),
    (b"a\nb\r\n", ["bare-lf"]),
    (b"a\n.\r\n", ["bare-lf"]),
    (b"a\0b\r\n", ["nul"]),
    (b"x" * 998 + b"\r\n", []),
    (b"x" * 999 + b"\r\n", ["long-line"]),
    (b".x\r\n", ["not-dot-stuffed"]),
    (b".\rx\r\n", ["bare-cr", "not-dot-stuffed"]),
])
def test_content_violations(sesd, extra, kinds):
    s = sesd()
    c = Client(s, "wrapper").start()
    assert ID.fullmatch(c.mail(MAIL + extra))
    assert s.violations() == kinds
    assert s.stats()["violations"] == len(kinds)


def test_empty_content(sesd):
    s = sesd()
    s.set(strict_headers=0)
    assert ID.fullmatch(Client(s, "wrapper").start().mail(b""))
    [e] = s.accepted()
    assert e["bytes"] == 0
    assert e["sha256"] == e["body_sha256"] == hashlib.sha256().hexdigest()


def test_large_message(sesd):
    s = sesd()
    content = MAIL + (b"y" * 76 + b"\r\n") * 150000
    assert ID.fullmatch(Client(s).start().mail(content))
    assert s.accepted()[0]["sha256"] == hashlib.sha256(content).hexdigest()


def test_pipelining_is_noted(sesd):
    s = sesd()
    c = Client(s, "wrapper").start()
    c.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n")
    assert c.reply() == c.reply() == b"250 Ok\r\n"
    assert s.violations() == ["pipelining"]
    s.set(latency=500)
    c.send(b"NOOP\r\n")
    c.send(b"NOOP\r\n")  # while the reply is held back
    assert c.reply() == c.reply() == b"250 Ok\r\n"
    assert s.violations() == ["pipelining"] * 2


def test_bytes_before_tls(sesd):
    s = sesd()
    c = Client(s)
    c.do("EHLO x")
    c.send(b"STARTTLS\r\nEHLO evil\r\n")
    assert c.reply().startswith(b"220 ")
    c.wrap()
    assert c.do("NOOP") == b"250 Ok\r\n"  # and no reply to the injected
    assert s.violations() == ["bytes-before-tls"]


def test_no_ehlo_after_starttls(sesd):
    s = sesd()
    c = Client(s)
    c.do("EHLO x")
    c.do("STARTTLS")
    c.wrap()
    assert c.do("AUTH PLAIN " + PLAIN.decode()).startswith(b"235")
    assert s.violations() == ["no-ehlo"]


def test_parameters(sesd):
    s = sesd()
    c = Client(s, "wrapper").start()
    assert c.do("MAIL FROM:<a@x.test> SIZE=10 RET=HDRS") == b"250 Ok\r\n"
    assert c.do("RCPT TO:<b@y.test> NOTIFY=NEVER") == b"250 Ok\r\n"
    assert s.violations() == ["parameter-not-offered"] * 3
    s.set(size_advertised=1000)
    assert b"250-SIZE 1000\r\n" in c.do("EHLO x")
    assert c.do("MAIL FROM:<a@x.test> SIZE=1001").startswith(b"552 5.3.4 ")
    assert c.do("MAIL FROM:<a@x.test> SIZE=1000") == b"250 Ok\r\n"
    assert len(s.violations()) == 3


def test_trace(sesd):
    """Every command, never what it logs in with."""
    s = sesd("--set", "trace=1")
    Client(s).start().mail()
    c = Client(s, "wrapper")
    c.do("EHLO test")
    c.do("AUTH LOGIN")
    c.do("QUFB")
    c.do("QkJC")
    lines = [(e["conn"], e["line"], e["tls"]) for e in s.events("command")]
    assert lines == [
        (1, "EHLO test", False), (1, "STARTTLS", False),
        (1, "EHLO test", True), (1, "AUTH ...", True),
        (1, "MAIL FROM:<a@x.test>", True), (1, "RCPT TO:<b@y.test>", True),
        (1, "DATA", True), (2, "EHLO test", True), (2, "AUTH ...", True),
        (2, "AUTH ...", True), (2, "AUTH ...", True)]
    s.set(trace=0)
    c.do("NOOP")
    assert len(s.events("command")) == len(lines)
