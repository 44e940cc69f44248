"""Mail that programs send as they always did becomes mail that SES takes:
envelope, header lines, aliases; what SES is sure to refuse is refused while the
program listens; and what needs nothing goes on byte for byte."""

import json
import re
import subprocess
import threading

import pytest

from harness import (BUILD, DATE, RCPT, SENDER, message, wait_until,
                     without_received)
from intake_helpers import check_memory, send_together, sessions

# What cron on ip-10-0-0-1.internal hands in, as sendmail -FCronDaemon makes it.
CRON = (b"From: root (Cron Daemon)\r\nTo: root\r\n"
        b"Subject: Cron <root@ip-10-0-0-1> run-parts /etc/cron.daily\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=UTF-8\r\n"
        b"Content-Transfer-Encoding: 8bit\r\nX-Cron-Env: <HOME=/root>\r\n"
        b"\r\nno space left on /\r\n")
# The three lines that it takes.
RULES = {
    "rewrite.default_domain": '"ip-10-0-0-1.internal"',
    "rewrite.senders":
        '( { match = "*@*.internal"; address = "noreply@example.com"; } )',
    "rewrite.recipients":
        '( { match = "root"; address = "ops@example.org"; } )',
}
STRICT = {"strict_headers": 1, "verified": "example.com"}


def fields(content):
    """[(name, value)] of the header, unfolded, without Received."""
    head = re.sub(rb"\r\n(?=[ \t])", b"",
                  without_received(content).split(b"\r\n\r\n", 1)[0])
    return [tuple(x.strip().decode() for x in line.split(b":", 1))
            for line in head.split(b"\r\n")]


def field(content, name):
    """The value of a field that is there once."""
    value, = [v for n, v in fields(content) if n.lower() == name.lower()]
    return value


def body(content):
    return content.split(b"\r\n\r\n", 1)[1]


def refused(relay, content, **envelope):
    """What the relay says to the content."""
    with relay.submit() as s:
        s.begin(**envelope)
        s.sock.sendall(content + b".\r\n")
        reply = s.reply()
        s.do("NOOP", 250)
    return reply


def rewritten(relay, qid):
    """The names in the log line about the message's header, or None."""
    m = re.search(rf"/cleanup\[\d+\]: {qid}: rewritten: (.*)", relay.log())
    return m[1].split(", ") if m else None


# --- what cron sends ---


def test_cron_to_root_by_three_lines(relay, sesd):
    s = sesd(settings=STRICT)
    r = relay(s, config=RULES)
    qid = r.send(CRON, sender="root", rcpts=["root"])
    e, = s.wait_messages(1)
    r.wait_outcome(qid, "sent")
    assert e["from"] == "noreply@example.com"
    assert e["rcpts"] == ["ops@example.org"]
    got = s.stored(e)
    assert "noreply@example.com" in field(got, "From")
    assert "root@ip-10-0-0-1.internal" in field(got, "Reply-To")
    assert field(got, "To") == "root@ip-10-0-0-1.internal"
    assert field(got, "Date") and "@" in field(got, "Message-ID")
    assert field(got, "X-Cron-Env") == "<HOME=/root>"
    assert body(got) == body(CRON)
    r.wait_log("rewritten:")
    assert {"From", "To", "Reply-To", "Date", "Message-ID"} <= set(
        rewritten(r, qid))
    # The log and trace know it by the id that it has now.
    assert f"message-id={field(got, 'Message-ID')}" in r.log()


def lines_of(relay, qid):
    """[(component, rest)] of the log."""
    return re.findall(rf" sesrelayd/(\w+)\[\d+\]: {qid}: (.*)", relay.log())


def test_log_tells_what_was_asked_for(relay, sesd):
    """Where mail goes that was for somebody else, in the line of each attempt,
    after a restart and out of a dead letter too."""
    s = sesd()
    s.rule('on DATA reply "451 Temporary service failure" times 1')
    r = relay(s, config={**RULES, "delivery.retry": '[ "4h" ]'})
    qid = r.send(CRON, sender="root", rcpts=["root", RCPT])
    r.wait_outcome(qid, "deferred", 2)
    assert ("cleanup", "from=<noreply@example.com>, orig_from=<root>") in \
        lines_of(r, qid)
    before = [(o["to"], o["orig_to"]) for o in r.outcomes(qid)]
    assert before == [("ops@example.org", "root"), (RCPT, None)]
    assert r.stop() == 0
    s.rule('on RCPT when rcpt=ops@example.org times 1 reply "550 5.1.1 no"')
    r.start()
    r.ctl("retry", "--all")
    o, = r.wait_outcome(qid, "bounced")
    assert o["orig_to"] == "root"
    assert r.wait_outcome(qid, "sent")[0]["orig_to"] is None
    r.wait_empty()
    assert r.dead_letter(qid)[0]["Original-Recipient"] == ["root"]
    # Put back, under a new id; now in JSON.
    r.settings["log.format"] = '"json"'
    r.write_config()
    assert r.stop() == 0
    r.start()
    r.ctl("requeue", qid)
    r.wait_log('"event":"sent"')
    sent = next(json.loads(line) for line in r.log().splitlines()
                if '"event":"sent"' in line)
    assert (sent["to"], sent["orig_to"]) == ("ops@example.org", "root")
    r.send(message(), sender="root")
    wait_until(lambda: '"event":"rewritten"' in r.log(), "the sender's line")
    told = next(json.loads(line) for line in r.log().splitlines()
                if '"event":"rewritten"' in line)
    assert (told["from"], told["orig_from"]) == ("noreply@example.com", "root")


def test_log_says_nothing_of_addresses_that_stay(relay, sesd):
    r = relay(sesd(), config=RULES)
    qid = r.send(message())
    r.wait_outcome(qid, "sent")
    assert "orig_" not in r.log()


def test_without_rules_cron_is_told_what_to_set(relay, sesd):
    r = relay(sesd(settings=STRICT))
    with r.submit() as c:
        reply = c.do("MAIL FROM:<root>")
        assert reply == ("550 5.1.7 Address has no domain; set "
                         "rewrite.default_domain in sesrelayd.conf\r\n")
        c.do(f"MAIL FROM:<{SENDER}>", 250)
        assert c.do("RCPT TO:<root>").startswith("550 5.1.3 Address has no ")
        assert c.do("DATA").startswith("554 5.5.1 No valid recipients")


def test_unverified_senders_would_be_refused(relay, sesd):
    """That the rules of the emulator are strict: the same mail without rules
    for senders dies there."""
    s = sesd(settings=STRICT)
    r = relay(s, config={**RULES, "rewrite.senders": None})
    qid = r.send(CRON, sender="root", rcpts=["root"])
    note = r.wait_outcome(qid, "bounced")[0]["note"]
    assert "not verified" in note


# --- aliases ---


def with_aliases(relay, upstream, text, **config):
    r = relay(upstream, start=False, config={
        "rewrite.default_domain": '"example.com"', **config})
    (r.dir / "aliases").write_text(text)
    r.settings["rewrite.aliases_file"] = f'"{r.dir / "aliases"}"'
    r.write_config()
    r.start()
    return r


def test_aliases_lead_to_lists(relay, sesd):
    s = sesd(settings=STRICT)
    r = with_aliases(relay, s,
                     "# who minds this host\nroot: ops, \"night shift\"@e.org\n"
                     "ops: one@example.org,\n     two@example.org, root2\n"
                     "postmaster: ROOT\n")
    qid = r.send(message(), rcpts=["Postmaster", RCPT, "ops@example.com"])
    e, = s.wait_messages(1)
    # Each once, though ops came by two ways.
    assert e["rcpts"] == ["one@example.org", "two@example.org",
                          "root2@example.com", '"night shift"@e.org', RCPT]
    assert len(r.wait_outcome(qid, "sent", 5)) == 5
    # Nothing of the content had to be touched.
    assert without_received(s.stored(e)).endswith(b"hello\r\n")
    assert rewritten(r, qid) is None


def test_bad_aliases_are_found_before_they_matter(relay, sesd):
    s = sesd()
    r = with_aliases(relay, s, "root: ops@example.org\n")
    aliases = r.dir / "aliases"
    for text, words in (("x: y\nroot: |/usr/bin/vacation\n",
                         ":2: \"|/usr/bin/vacation\" is a program"),
                        ("a: b\nb: a\n", ":2: b leads to a"),
                        ("a: :include:/etc/list\n", ":1: \":include:")):
        aliases.write_text(text)
        done = subprocess.run(
            [str(BUILD / "sesrelayd"), "-t", "-c", str(r.config_file)],
            capture_output=True, text=True)
        assert done.returncode == 78
        assert re.search(rf"sesrelayd\.conf:\d+: 'rewrite\.aliases_file': "
                         rf"{aliases}{re.escape(words)}", done.stderr)
        done = r.run_ctl("reload")
        assert done.returncode == 1 and words in done.stderr + done.stdout
    # The one before is in force.
    r.send(message(), rcpts=["root"])
    assert s.wait_messages(1)[0]["rcpts"] == ["ops@example.org"]
    aliases.write_text("root: other@example.org\n")
    assert f"1 aliases from {aliases}" in r.ctl("reload")
    r.send(message(), rcpts=["root"])
    assert s.wait_messages(2)[1]["rcpts"] == ["other@example.org"]


def test_lists_beyond_the_limit(relay, sesd):
    s = sesd()
    names = ", ".join(f"u{i}@example.org" for i in range(6))
    r = with_aliases(relay, s, f"six: {names}\n",
                     **{"smtp.max_recipients": "10"})
    with r.submit() as c:
        c.do(f"MAIL FROM:<{SENDER}>", 250)
        c.do("RCPT TO:<six>", 250)
        assert c.do("RCPT TO:<six>").startswith("452 4.5.3 ")
        for i in range(4):
            c.do(f"RCPT TO:<v{i}@example.org>", 250)
        assert c.do(f"RCPT TO:<{RCPT}>").startswith("452 4.5.3 ")
        c.do("DATA", 354)
        c.content(message())
    assert len(s.wait_messages(1)[0]["rcpts"]) == 10


# --- single fields ---

TWICE = (f"From: {SENDER}\r\nSubject: one\r\nSubject: two\r\n{DATE}\r\n"
         "Message-ID: <twice@example.com>\r\n\r\nbody\r\n").encode()


def test_doubled_fields_first_stays(relay, sesd):
    s = sesd(settings=STRICT)
    r = relay(s)
    qid = r.send(TWICE)
    e, = s.wait_messages(1)
    assert field(s.stored(e), "Subject") == "one"
    r.wait_log("rewritten:")
    assert rewritten(r, qid) == ["Subject"]


def test_doubled_fields_rejected(relay, sesd):
    s = sesd(settings=STRICT)
    r = relay(s, config={"rewrite.duplicate_headers": '"reject"'})
    reply = refused(r, TWICE)
    assert re.match(r"55\d 5\.6\.0 .*Subject", reply), reply
    assert "rewrite.duplicate_headers" in reply
    assert r.count() == 0
    # Only after its true end, and large ones leave nothing behind.
    large = TWICE + b"x" * 70 + b"\r\n"
    large += (b"y" * 70 + b"\r\n") * 40000
    assert refused(r, large) == reply
    assert not list((r.spool / "large").glob("*"))
    r.send(message())
    s.wait_messages(1)


def test_what_cannot_be_mended_is_told(relay, sesd):
    """Only who wrote 8-bit bytes knows the charset; one line a message."""
    s = sesd()
    r = relay(s)
    content = message(headers=b"X-Name: J\xc3\xb6rg\r\nX-Other: \xff\r\n")
    qid = r.send(content)
    assert without_received(s.stored(s.wait_messages(1)[0])) == content
    r.wait_outcome(qid, "sent")
    told = re.findall(rf"warning: {qid}: (.*)", r.log())
    assert len(told) == 1
    assert "SES may refuse or alter it: X-Name: bytes beyond ASCII" in told[0]
    assert rewritten(r, qid) is None
    done = rewrite_test(r, content, "--from", SENDER)
    assert done.stdout.startswith(
        f"Envelope:\n  from {SENDER}\nHeader:\n  X-Name: bytes beyond ASCII, "
        "which Amazon SES wants as encoded words (RFC 2047)\n    X-Name: J")


def test_signed_mail_is_not_altered_silently(relay, sesd):
    s = sesd(settings=STRICT)
    r = relay(s)
    signed = TWICE.replace(
        b"Subject: one", b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; "
        b"s=x; h=from:subject; bh=eA==; b=eA==\r\nSubject: one")
    qid = r.send(signed)
    r.wait_log(f"warning: {qid}: it has a DKIM-Signature")
    quiet = r.send(signed.replace(b"Subject: two\r\n", b""))
    s.wait_messages(2)
    r.wait_outcome(quiet, "sent")
    assert rewritten(r, quiet) is None
    assert f"warning: {quiet}: it has" not in r.log()


# --- fields for SES ---

OURS = {"ses.configuration_set": '"orders"',
        "ses.tags": '[ "team=billing", "host=app1" ]',
        "ses.tenant": '"shop-7"'}
THEIRS = message(headers=b"X-SES-CONFIGURATION-SET: evil\r\n"
                         b"X-SES-SOURCE-ARN: arn:aws:ses:x:1:identity/y\r\n"
                         b"X-Other: stays\r\n")


def ses_fields(content):
    return {n.upper(): v for n, v in fields(content)
            if n.upper().startswith("X-SES-")}


def test_our_ses_headers_arrive_and_clients_do_not(relay, sesd):
    s = sesd(settings={**STRICT, "configuration_sets": "orders"})
    r = relay(s, config=OURS)
    stripped = r.send(THEIRS)
    plain = r.send(message())
    for e in s.wait_messages(2):
        assert ses_fields(s.stored(e)) == {
            "X-SES-CONFIGURATION-SET": "orders",
            "X-SES-MESSAGE-TAGS": "team=billing, host=app1",
            "X-SES-TENANT": "shop-7"}
    assert field(s.stored(s.messages()[0]), "X-Other") == "stays"
    r.wait_outcome(plain, "sent")
    assert set(rewritten(r, stripped)) == {"X-SES-CONFIGURATION-SET",
                                           "X-SES-SOURCE-ARN"}
    # What the configuration adds to all of them is no news.
    assert rewritten(r, plain) is None


def test_clients_ses_headers_are_kept_when_they_may(relay, sesd):
    s = sesd()
    r = relay(s, config={"ses.client_headers": '"keep"'})
    r.send(THEIRS)
    e, = s.wait_messages(1)
    assert ses_fields(s.stored(e)) == {
        "X-SES-CONFIGURATION-SET": "evil",
        "X-SES-SOURCE-ARN": "arn:aws:ses:x:1:identity/y"}


# --- what is refused while the program listens ---


def test_addresses_that_ses_cannot_take(relay, sesd):
    r = relay(sesd())
    with r.submit() as c:
        def reply(line):
            c.sock.sendall(line.encode() + b"\r\n")
            return c.reply()
        assert reply("MAIL FROM:<jö@example.com>") == (
            "553 5.6.7 Amazon SES takes no address beyond ASCII\r\n")
        assert reply("MAIL FROM:<app@müller.example>") == (
            "553 5.6.7 Amazon SES takes no domain beyond ASCII; write it in "
            "punycode (xn--...)\r\n")
        c.do("MAIL FROM:<app@xn--mller-kva.example>", 250)
        assert reply("RCPT TO:<jö@example.com>").startswith("553 5.6.7 ")
        assert reply("DATA").startswith("554 5.5.1 No valid recipients")


def test_too_large_by_announcement_and_as_it_comes(relay, sesd):
    s = sesd()
    r = relay(s)
    with r.submit() as c:
        assert c.do(f"MAIL FROM:<{SENDER}> SIZE=40000001") == (
            "552 5.3.4 Message is larger than 40000000 bytes\r\n")
        c.begin(params=" SIZE=40000000")
        line = b"z" * 998 + b"\r\n"
        for _ in range(400):
            c.sock.sendall(line * 100)
        c.sock.sendall(line + b".\r\n")
        assert c.reply() == ("552 5.3.4 Message is too large: "
                             "smtp.max_message_size is 40000000\r\n")
        c.mail()
    s.wait_messages(1)


def test_long_headers_of_many_clients(relay):
    """What is kept of headers is bounded for all of them together: those
    beyond get 452, after their true end, and the others their 250."""
    r = relay()
    before = r.peak_memory_kib()
    long = f"From: {SENDER}\r\n".encode() + b"X-Long: " + b"x" * 900 + b"\r\n"
    long += (b" " + b"y" * 900 + b"\r\n") * 270
    with sessions(r, 700) as clients:
        for c in clients:
            c.begin()
        send_together(clients, [long] * len(clients))
        for c in clients:
            c.drained()
            c.send(b"\r\n.\r\n")
        got = [c.reply()[:9] for c in clients]
    assert set(got) == {b"250 2.0.0", b"452 4.3.1"}
    assert 350 < got.count(b"250 2.0.0") < 650
    assert r.count() == got.count(b"250 2.0.0")
    check_memory(r, 500 * 1024, before)


# --- what needs nothing ---


@pytest.mark.parametrize("config", [{}, RULES])
def test_clean_mail_stays_as_it_is(relay, sesd, config):
    """Odd but right: folding, case, order, 8-bit, no body, and large ones
    that go through the disk."""
    s = sesd(settings={**STRICT, "verified": ""})
    r = relay(s, config=config)
    head = (f"from:  \"A, B\" <{SENDER}>\r\nTO: a@example.net,\r\n\t"
            f"Group: b@example.org;\r\n{DATE}\r\nmessage-id:\r\n <x@y.z>\r\n"
            "X-Empty:\r\nReceived: from a by b; some day\r\n"
            "Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\n").encode()
    contents = [head + tail for tail in (
        b"", b"\r\n", b"From: not me\r\nBcc: in the body\r\n",
        b"8-bit \xff\xfe and \xc3\xbc\r\n.\r\n..\r\n",
        b"w" * 900 + b"\r\n" + b"large\r\n" * 400000)]
    for content in contents:
        r.send(content)
    s.wait_messages(len(contents))
    assert sorted(without_received(s.stored(e)) for e in s.messages()) == \
        sorted(contents)
    assert "rewritten:" not in r.log()


def test_cut_anywhere(relay, sesd):
    """A header that arrives in pieces becomes the same one."""
    s = sesd(settings=STRICT)
    r = relay(s, config=RULES)
    content = CRON.replace(b"Subject", b"Date: Sat, 21 Nov 2026 10:00:00 "
                           b"+0000\r\nMessage-ID: <c@d.e>\r\nSubject")
    for step in (1, 7, 64, len(content)):
        with r.submit() as c:
            c.begin("root", ["root"])
            for i in range(0, len(content), step):
                c.sock.sendall(content[i:i + step])
            c.sock.sendall(b".\r\n")
            assert c.reply().startswith("250 2.0.0 Ok: queued as ")
    got = {without_received(s.stored(e)) for e in s.wait_messages(4)}
    assert len(got) == 1


# --- reload ---


def test_reload_changes_rules_under_load(relay, sesd):
    """Each message is sent by the rules before or those after, whole; none
    is lost; a header that is half here when the rules go ends by its own."""
    s = sesd(settings={"strict_headers": 1})
    r = relay(s, config=RULES)
    slow = r.submit()
    slow.begin("root", ["root"])
    slow.sock.sendall(CRON[:30])
    sent, stop, trouble = [], threading.Event(), []

    def client():
        try:
            with r.submit() as c:
                while not stop.is_set():
                    sent.append(c.mail(CRON, "root", ["root"]))
        except Exception as e:  # noqa: BLE001
            trouble.append(e)

    threads = [threading.Thread(target=client) for _ in range(3)]
    for t in threads:
        t.start()
    try:
        for i in range(10):
            r.settings["rewrite.senders"] = (
                '( { match = "*@*.internal"; '
                f'address = "s{i}@example.com"; }} )')
            r.settings["rewrite.recipients"] = (
                f'( {{ match = "root"; address = "r{i}@example.org"; }} )')
            r.write_config()
            r.ctl("reload")
            n = len(sent)
            wait_until(lambda: len(sent) > n + 5 or trouble, "more mail")
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not trouble, trouble
    slow.sock.sendall(CRON[30:] + b".\r\n")
    assert slow.reply().startswith("250 2.0.0 Ok: queued as ")
    slow.close()
    entries = s.wait_messages(len(sent) + 1)
    assert len(entries) == len(sent) + 1
    seen = set()
    for e in entries:
        name = re.fullmatch(r"(noreply|s\d)@example\.com", e["from"])[1]
        # MAIL, RCPT and DATA may fall on both sides of a reload.
        rcpt = e["rcpts"][0].split("@")[0]
        assert rcpt in ("ops", *(f"r{i}" for i in range(10)))
        assert re.search(r"(noreply|s\d)@example\.com",
                         field(s.stored(e), "From"))
        seen.add(name)
    assert seen >= {"noreply", "s0", "s9"}
    # The one that was on its way all the time.
    assert entries[-1]["rcpts"] == ["ops@example.org"]
    assert "noreply@example.com" in field(s.stored(entries[-1]), "From")


# --- rewrite-test ---


def rewrite_test(relay, content, *options):
    path = relay.dir / "m.eml"
    path.write_bytes(content)
    return subprocess.run(
        [str(BUILD / "sesrelayctl"), "-c", str(relay.config_file), *options,
         "rewrite-test", str(path)], capture_output=True, text=True,
        timeout=30)


def test_rewrite_test_shows_what_would_become(relay):
    r = relay(start=False, config=RULES)
    r.log_path.touch()
    done = rewrite_test(r, CRON.replace(b"\r\n", b"\n"), "--from", "root",
                        "--to", "root", "--to", RCPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "Envelope:\n  from root -> noreply@example.com\n"
        "  to   root -> ops@example.org\n"
        f"  to   {RCPT}\nHeader:\n  From: ")
    assert "    - From: root (Cron Daemon)\n    + From: " in done.stdout
    assert "    - To: root\n    + To: root@ip-10-0-0-1.internal\n" in \
        done.stdout
    assert done.stdout.endswith("\nAccepted.\n")
    # As it goes over the wire.
    done = rewrite_test(r, CRON.replace(b"\r\n", b"\n"), "--json")
    parts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [p["before"] for p in parts if p.get("field") == "From"] == [
        "From: root (Cron Daemon)\r\n"]
    # Nothing to do.
    done = rewrite_test(r, message(), "--from", SENDER)
    assert done.stdout == (f"Envelope:\n  from {SENDER}\n"
                           "Header:\n  stays as it is\nAccepted.\n")


def test_rewrite_test_in_objects(relay, sesd):
    r = relay(start=False, config={
        **RULES, "rewrite.duplicate_headers": '"reject"'})
    r.log_path.touch()
    done = rewrite_test(r, TWICE, "--json", "--from", "root", "--to", "root",
                        "--to", "a b@c")
    assert done.returncode == 1
    parts = [json.loads(line) for line in done.stdout.splitlines()]
    assert parts[:3] == [
        {"part": "sender", "before": "root",
         "after": ["noreply@example.com"]},
        {"part": "recipient", "before": "root",
         "after": ["ops@example.org"]},
        {"part": "recipient", "before": "a b@c", "after": [],
         "refused": "501 5.1.3 Bad address syntax"}]
    assert parts[-1]["part"] == "verdict" and not parts[-1]["accepted"]
    assert re.match(r"554 5\.6\.0 .*Subject", parts[-1]["refused"])
    for part in parts[3:-1]:
        assert part["part"] == "header" and part["change"]


def test_rewrite_test_says_what_the_relay_says(relay, sesd):
    """The words are those that a program gets."""
    r = relay(sesd(), config={"rewrite.duplicate_headers": '"reject"'})
    done = rewrite_test(r, TWICE, "--from", SENDER)
    assert done.returncode == 1
    assert f"Refused: {refused(r, TWICE).strip()}\n" in done.stdout
    done = rewrite_test(r, message(), "--from", "root")
    assert done.returncode == 1
    with r.submit() as c:
        assert c.do("MAIL FROM:<root>").strip() in done.stdout


def test_rewrite_test_without_a_message(relay):
    r = relay(start=False)
    r.log_path.touch()
    done = rewrite_test(r, message(), "--to", RCPT, "-c", "/nonexistent")
    assert done.returncode == 78 and "/nonexistent" in done.stderr
    for path, words in ((r.dir / "none.eml", "none.eml: No such file"),
                        (r.dir, "Is a directory")):
        done = subprocess.run(
            [str(BUILD / "sesrelayctl"), "-c", str(r.config_file),
             "rewrite-test", str(path)], capture_output=True, text=True)
        assert done.returncode == 66 and words in done.stderr
