"""The life of a message beyond one attempt and one process: failure notices,
the spool clock, messages that crash the daemon, what survives a restart."""

import email
import email.policy
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from harness import (BUILD, RCPT, SENDER, message, wait_until,
                     without_received)

ONE = {"delivery.connections": "1"}
POSTMASTER = "postmaster@example.com"
BOUNCER = "relay@example.com"
REFUSED = "554 Message rejected: Email address is not verified"

# A sanitized daemon takes other libraries before its own, dies of signals as
# any program does, and looks for no leaks while it is traced.
SIGNALS = [f"handle_{sig}=0" for sig in ("segv", "abort", "sigbus", "sigill",
                                         "sigfpe")]
PLAIN = ("ASAN_OPTIONS=" + ":".join(
             ["verify_asan_link_order=0", "detect_leaks=0", *SIGNALS]),
         "TSAN_OPTIONS=" + ":".join([os.environ["TSAN_OPTIONS"], *SIGNALS]))


# --- notices ---

def notices(s):
    """What sesd took as a notice: (envelope, parsed message, raw)."""
    found = []
    for e in s.messages():
        raw = s.stored(e)
        m = email.message_from_bytes(raw, policy=email.policy.default)
        if m.get_content_type() == "multipart/report":
            found.append((e, m, raw))
    return found


def check_mime(raw):
    """7-bit, short lines, nothing that a strict parser finds wrong."""
    assert max(raw) < 128
    assert not re.search(rb"[^\r]\n|\r[^\n]|\0", raw)
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    m = email.message_from_bytes(raw, policy=email.policy.default)
    for part in m.walk():
        assert part.defects == []
        for value in part.values():
            assert not getattr(value, "defects", ()), value
    return m


def fields_of(report):
    """Blocks of message/delivery-status: one of the message, then one for
    each recipient."""
    return [dict(block.items()) for block in report.get_payload()]


def refuse(*addresses, reply=REFUSED, at="RCPT"):
    return [f'on {at} when rcpt={a} reply "{reply}"' for a in addresses]


def test_notice_to_the_sender(sesd, relay):
    s = sesd(rules=refuse("bad@example.org", "worse@example.org",
                          reply="553 <x> address unknown"))
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"'})
    content = message(subject="the bill")
    message_id = re.search(rb"Message-ID: <(.*)>", content)[1].decode()
    qid = r.send(content, rcpts=["bad@example.org", RCPT,
                                 "worse@example.org"])
    s.wait_messages(2)
    r.wait_empty()
    [(envelope, _, raw)] = notices(s)
    assert envelope["from"] == BOUNCER
    assert envelope["rcpts"] == [SENDER]
    m = check_mime(raw)
    assert m["From"].addresses[0].addr_spec == BOUNCER
    assert m["From"].addresses[0].display_name == "Mail relay on relay.test"
    assert m["To"].addresses[0].addr_spec == SENDER
    assert m["Auto-Submitted"] == "auto-replied"
    assert m["In-Reply-To"] == f"<{message_id}>"
    assert m["Date"].datetime and m["Message-ID"] and m["Subject"]
    assert m["Message-ID"] != f"<{message_id}>"
    assert m["Content-Type"].params["report-type"] == "delivery-status"
    text, report, headers = m.iter_parts()

    assert text.get_content_type() == "text/plain"
    words = text.get_content()
    for fact in (qid, "bad@example.org", "worse@example.org", message_id,
                 "553 <x> address unknown", f"sesrelayctl requeue {qid}"):
        assert fact in words
    assert RCPT not in words  # that one was delivered

    assert report.get_content_type() == "message/delivery-status"
    about, *recipients = fields_of(report)
    assert about["Reporting-MTA"] == "dns; relay.test"
    assert about["X-Sesrelayd-Queue-ID"] == qid
    assert email.utils.parsedate_to_datetime(about["Arrival-Date"])
    assert [f["Final-Recipient"] for f in recipients] == [
        "rfc822; bad@example.org", "rfc822; worse@example.org"]
    for f in recipients:
        assert f["Action"] == "failed"
        assert re.fullmatch(r"5\.\d+\.\d+", f["Status"])
        assert f["Remote-MTA"] == "dns; localhost"
        assert f["Diagnostic-Code"] == "smtp; 553 <x> address unknown"

    assert headers.get_content_type() == "text/rfc822-headers"
    block = content[:content.index(b"\r\n\r\n") + 2].decode()
    assert headers.get_payload().replace("\r\n", "\n").rstrip("\n").endswith(
        block.replace("\r\n", "\n").rstrip("\n"))

    # As people and log parsers look for it.
    notice_id = re.search(
        rf"/bounce\[\d+\]: {qid}: sender non-delivery notification: (\w+)$",
        r.log(), re.M)[1]
    assert f": {notice_id}: from=<{BOUNCER}>" in r.log()
    r.wait_outcome(notice_id, "sent")
    assert r.counter("notices_total") == 1
    assert r.dead_letters() == [f"{qid}.eml"]


def test_notice_of_each_reply(sesd, relay):
    s = sesd(rules=[*refuse("a@example.org", reply="553 <a> address unknown"),
                    *refuse("b@example.org", reply="501 Invalid RCPT TO")])
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"'})
    r.send(rcpts=["a@example.org", "b@example.org"])
    s.wait_messages(1)
    [(_, m, _)] = notices(s)
    _, report, _ = m.iter_parts()
    assert [f["Diagnostic-Code"] for f in fields_of(report)[1:]] == [
        "smtp; 553 <a> address unknown", "smtp; 501 Invalid RCPT TO"]


def test_notice_to_an_address(sesd, relay):
    """Also of what has a null sender, or was sent by a program."""
    s = sesd(rules=refuse(RCPT))
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"',
                         "bounce.to": f'"{POSTMASTER}"'})
    r.send()
    r.send(message(headers=b"Auto-Submitted: auto-generated\r\n"))
    r.send(sender="")
    s.wait_messages(3)
    r.wait_empty()
    assert [e["rcpts"] for e, _, _ in notices(s)] == [[POSTMASTER]] * 3
    assert len(r.dead_letters()) == 3


def silent(sesd, relay, config=None, **mail):
    """The message fails and nobody is told."""
    s = sesd(rules=refuse(RCPT))
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"', **(config or {})})
    qid = r.send(**mail)
    r.wait_outcome(qid, "bounced")
    r.wait_empty()
    assert r.dead_letters() == [f"{qid}.eml"]
    assert s.messages() == []
    assert "non-delivery" not in r.log()


def test_no_notice_without_a_sender_for_it(sesd, relay):
    silent(sesd, relay, {"bounce.from": None})


def test_no_notice_to_the_null_sender(sesd, relay):
    silent(sesd, relay, sender="")


@pytest.mark.parametrize("field", [
    b"Auto-Submitted: auto-replied\r\n",
    b"AUTO-SUBMITTED:\r\n\t(by cron) auto-generated (cron); x=y\r\n",
    b"Auto-Submitted: auto-notified\r\nAuto-Submitted: no\r\n",
])
def test_no_notice_to_programs(sesd, relay, field):
    silent(sesd, relay, content=message(headers=field))


def test_no_notice_of_what_was_ours(sesd, relay):
    """A notice that comes back from the dead letters is one all the same."""
    silent(sesd, relay, {"bounce.to": f'"{POSTMASTER}"'}, sender=BOUNCER,
           content=message(headers=b"Auto-Submitted: auto-replied\r\n"))


@pytest.mark.parametrize("field", [b"Auto-Submitted: No (really)\r\n",
                                   b"X-Auto-Submitted: auto-replied\r\n",
                                   b"Subject: a\r\n"
                                   b" Auto-Submitted: auto-replied\r\n"])
def test_notice_to_people(sesd, relay, field):
    s = sesd(rules=refuse(RCPT))
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"'})
    r.send(message(headers=field))
    s.wait_messages(1)
    assert len(notices(s)) == 1


@pytest.mark.parametrize("restart", [False, True])
def test_no_notice_of_a_notice(sesd, relay, restart):
    # Put off once, refused from then on.
    s = sesd(rules=[*refuse(RCPT),
                    f'on RCPT when rcpt={SENDER} times 1 reply "450 not now"',
                    *refuse(SENDER)])
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"',
                         "bounce.to": f'"{SENDER}"'})
    r.send()
    wait_until(lambda: "non-delivery" in r.log(), "the notice")
    notice_id = re.search(r"notification: (\w+)", r.log())[1]
    r.wait_outcome(notice_id, "deferred")
    if restart:
        # It is known for what it is by its head in the spool.
        r.kill()
        r.start()
    r.wait_outcome(notice_id, "bounced")
    r.wait_empty()
    assert len(r.dead_letters()) == 2
    assert s.messages() == []
    assert r.log().count("non-delivery") == 1


HOSTILE = {
    "8-bit": b"Subject: gr\xc3\xbc\xc3\x9fe \xff\r\nX-\xe4: y\r\n",
    "boundary": b"X: a\r\n --=_0000\r\nContent-Type: multipart/mixed\r\n",
    "long": b"X-Long: " + b"x" * 5000 + b"\r\nX-Words: " +
            b"word " * 1000 + b"\r\n",
    "many": b"".join(b"X-%d: %s\r\n" % (i, b"v" * 60) for i in range(2000)),
    "blanks": b"X-Blank: a \t \r\nX-Equals: =20=\r\n=\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", ["small", "large"])
def test_notice_of_hostile_content(sesd, relay, name, size):
    s = sesd(rules=refuse(RCPT))
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"'})
    body = b"a line\r\n" * (200_000 if size == "large" else 1)
    r.send(message(body, headers=HOSTILE[name]))
    s.wait_messages(1)
    [(_, _, raw)] = notices(s)
    m = check_mime(raw)
    _, report, headers = m.iter_parts()
    assert len(fields_of(report)) == 2
    assert len(raw) < 110_000
    got = headers.get_payload(decode=True)
    assert b"\nSubject: test" in got
    assert b"a line" not in got


@pytest.mark.parametrize("reply", [
    "554 " + "x" * 450,
    "554-one\\r\\n554-5.1.1 two\\r\\n554 three",
    "554 5.1.1 gr\\xc3\\xbc\\xc3\\x9fe \\x01\\x1b[31m",
    "554 --=_boundary Final-Recipient: rfc822; other@example.org",
])
def test_notice_of_hostile_replies(sesd, relay, reply):
    s = sesd(rules=refuse(RCPT, reply=reply))
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"'})
    r.send()
    s.wait_messages(1)
    [(_, _, raw)] = notices(s)
    m = check_mime(raw)
    _, report, _ = m.iter_parts()
    [_, fields] = fields_of(report)
    assert fields["Final-Recipient"] == f"rfc822; {RCPT}"
    assert fields["Diagnostic-Code"].startswith("smtp; 554 ")


def test_notice_is_sent_as_all_mail_of_the_account(sesd, relay):
    """An account may take no mail without its configuration set or tenant;
    after a reload with those that it brings."""
    s = sesd(rules=refuse(RCPT))
    fields = {"ses.configuration_set": '"orders"', "ses.tenant": '"shop-7"',
              "ses.tags": '[ "team=billing", "host=app1" ]',
              "ses.source_arn": '"arn:aws:ses:eu-west-1:1:identity/b.org"'}
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"', **fields})
    for n, name in enumerate(("orders", "bills"), 1):
        r.settings["ses.configuration_set"] = f'"{name}"'
        r.write_config()
        r.ctl("reload")
        r.send()
        s.wait_messages(n)
        _, m, raw = notices(s)[n - 1]
        check_mime(raw)
        assert [(k, v) for k, v in m.items() if k.startswith("X-SES-")] == [
            ("X-SES-CONFIGURATION-SET", name),
            ("X-SES-MESSAGE-TAGS", "team=billing, host=app1"),
            ("X-SES-SOURCE-ARN", "arn:aws:ses:eu-west-1:1:identity/b.org"),
            ("X-SES-TENANT", "shop-7")]


def test_notice_of_an_expired_message(sesd, relay):
    s = sesd(rules=refuse(RCPT, reply="451 Temporary service failure"))
    r = relay(s, config={"bounce.from": f'"{BOUNCER}"',
                         "delivery.expire": '"500ms"'})
    qid = r.send()
    s.wait_messages(1)
    [(_, m, _)] = notices(s)
    text, report, _ = m.iter_parts()
    [_, fields] = fields_of(report)
    assert "too old (delivery.expire)" in text.get_content()
    assert fields["Diagnostic-Code"] == "smtp; 451 Temporary service failure"
    assert fields["Status"].startswith("4.")
    r.wait_empty()
    assert r.dead_letter(qid)[0]["Reply"] == ["451 Temporary service failure"]


# --- messages that crash the daemon ---

# Overrides a function of libevent and one of libc in the daemon: where the
# content that goes out, or the id of a large file that is opened, has the
# marker in it, this is what a bug would be.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

typedef int (*add)(void *, const void *, size_t);

int evbuffer_add(void *buf, const void *data, size_t len)
{
	static add next;
	const char *how = getenv("POISON_SIGNAL");

	if (next == NULL)
		next = (add)dlsym(RTLD_NEXT, "evbuffer_add");
	if (memmem(data, len, "P0ISON", 6) != NULL)
		raise(how != NULL ? atoi(how) : SIGSEGV);
	return next(buf, data, len);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    where = tmp_path_factory.mktemp("shim")
    (where / "shim.c").write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", where / "shim.so",
                    where / "shim.c", "-ldl"], check=True)
    return where / "shim.so"


def crashes(r, wrap, n):
    """Starts the relay n times, and each time it ends by a signal."""
    for i in range(n):
        r.start(wait=False, wrap=wrap)
        code = r.process.wait(30)
        assert code in (-signal.SIGSEGV, -signal.SIGABRT,
                        128 + signal.SIGSEGV, 128 + signal.SIGABRT), r.log()
        r.process.close()


def queued(s, r, contents):
    """Accepted while SES was away; the daemon is down."""
    s.rule('on MAIL reply "451 not now"')
    r.start()
    ids = [r.send(c) for c in contents]
    for qid in ids:
        r.wait_outcome(qid, "deferred")
    r.stop()
    s.control("clear")
    return ids


def quarantined(r, qid):
    wanted = rf"error: {qid}: (crashed the daemon 3 times .*)"
    wait_until(lambda: re.search(wanted, r.log()), "the quarantine")
    [line] = re.findall(wanted, r.log())
    assert f"sesrelayctl show {qid}" in line
    assert f"sesrelayctl release {qid}" in line
    return line


@pytest.mark.parametrize("sig", [signal.SIGSEGV, signal.SIGABRT])
def test_quarantine_of_what_crashes_in_sending(sesd, relay, shim, sig):
    s = sesd()
    r = relay(s, config=ONE, start=False)
    contents = [message(), message(b"P0ISON\r\n"), message()]
    ids = queued(s, r, contents)
    marks = r.spool / "crashed"
    wrap = ["env", *PLAIN, f"LD_PRELOAD={shim}", f"POISON_SIGNAL={int(sig)}"]
    crashes(r, wrap, 3)
    assert marks.read_text() == f"{ids[1]} send\n" * 3
    # From now on it is left alone, and the others are delivered.
    for start in range(2):
        r.start(wrap=wrap)
        s.wait_messages(2)
        wait_until(lambda: r.count() == 1, "the others gone")
        # What was in flight beside it when it crashed may come twice.
        assert {without_received(s.stored(e)) for e in s.messages()} == {
            contents[0], contents[2]}
        assert len(s.messages()) <= 2 + 3
        line = quarantined(r, ids[1])
        assert "while it was being sent: held" in line
        [q] = r.ctl_json("queue")
        assert (q["id"], q["state"]) == (ids[1], "held")
        # One line and one count, not one for each start.
        assert r.counter("messages_quarantined_total") == 1 - start
        r.stop()
    assert marks.read_text() == f"{ids[1]} send\n" * 3


def test_two_crashes_are_forgiven(sesd, relay, shim):
    s = sesd()
    r = relay(s, config=ONE, start=False)
    contents = [message(b"P0ISON\r\n")]
    queued(s, r, contents)
    crashes(r, ["env", *PLAIN, f"LD_PRELOAD={shim}"], 2)
    assert (r.spool / "crashed").read_text().count(" send\n") == 2
    r.start()
    s.wait_messages(1)
    r.wait_empty()
    r.stop()
    r.start()
    wait_until(lambda: (r.spool / "crashed").read_text() == "",
               "no mark of what is gone")


def test_kill_9_is_nobodys_fault(sesd, relay, shim):
    s = sesd()
    r = relay(s, config=ONE, start=False)
    queued(s, r, [message(b"P0ISON\r\n")])
    for _ in range(4):
        r.start(wait=False, wrap=["env", *PLAIN, f"LD_PRELOAD={shim}",
                                  "POISON_SIGNAL=9"])
        assert r.process.wait(30) == -signal.SIGKILL
        r.process.close()
    assert (r.spool / "crashed").read_text() == ""
    r.start()
    s.wait_messages(1)
    r.wait_empty()


def test_quarantine_of_what_crashes_in_loading(sesd, relay):
    """On a disk thread: opening the content of that message is deadly."""
    s = sesd()
    r = relay(s, config=ONE, start=False)
    contents = [message(), message(b"a line\r\n" * 200_000), message()]
    ids = queued(s, r, contents)
    wrap = ["env", *PLAIN, "strace", "-f", "-qq", "-o", "/dev/null", "-P",
            ids[1],
            "-e", "trace=openat", "-e", "inject=openat:signal=SIGSEGV"]
    crashes(r, wrap, 3)
    assert (r.spool / "crashed").read_text() == f"{ids[1]} load\n" * 3
    r.start()
    wait_until(lambda: r.count() == 1, "the others gone")
    assert "being loaded: held" in quarantined(r, ids[1])
    assert {without_received(s.stored(e)) for e in s.messages()} == {
        contents[0], contents[2]}


# --- the clock ---

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Clock:
    """A wall clock that jumps, under a daemon that runs."""

    def __init__(self, directory):
        self.file = pathlib.Path(directory) / "time"
        self.wrap = ["env", *PLAIN, f"LD_PRELOAD={FAKETIME}",
                     f"FAKETIME_TIMESTAMP_FILE={self.file}",
                     "FAKETIME_NO_CACHE=1", "NO_FAKE_STAT=1",
                     "FAKETIME_DONT_FAKE_MONOTONIC=1"]
        self.jump("+0")

    def jump(self, to):
        new = self.file.with_suffix(".new")
        new.write_text(to + "\n")
        new.rename(self.file)


@pytest.fixture(scope="module")
def timeless(tmp_path_factory):
    """A certificate that is good whatever the clock says."""
    where = tmp_path_factory.mktemp("timeless")
    subprocess.run(
        ["faketime", "1970-01-01 00:00:01", "openssl", "req", "-x509",
         "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "40000", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost",
         "-keyout", where / "good.key", "-out", where / "good.pem"],
        check=True, stderr=subprocess.DEVNULL, env={**os.environ, "TZ": "UTC"})
    (where / "ca.pem").write_bytes((where / "good.pem").read_bytes())
    return where


@pytest.fixture
def timeless_sesd(stage, timeless):
    stage.certs = timeless
    return stage.sesd


JUMPS = ["+1d", "-1d", "+400d", "@1970-01-01 00:00:10"]


def age(r):
    return max(q["age"] for q in r.ctl_json("queue"))


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("when", ["run", "restart"])
def test_clock_jumps(timeless_sesd, relay, directory, jump, when):
    s = timeless_sesd(rules=['on MAIL reply "451 not now"'])
    clock = Clock(directory)
    r = relay(s, start=False, config={
        **ONE, "delivery.expire": '"1h"', "delivery.retry": '[ "300ms" ]',
        "bounce.from": f'"{BOUNCER}"'})
    r.start(wrap=clock.wrap)
    content = message()
    qid = r.send(content)
    r.wait_outcome(qid, "deferred")
    if when == "restart":
        r.stop()
    clock.jump(jump)
    if when == "restart":
        r.start(wrap=clock.wrap)
    n = len(r.outcomes(qid))
    # Tried again in its own time: no storm, no early end, no sleep.
    later = r.wait_outcome(qid, "deferred", n + 3)
    assert all(float(o["delay"]) < 60 for o in later)
    assert r.outcomes(qid)[-1]["status"] == "deferred"
    another = r.send(message())
    assert int(another, 16) > int(qid, 16)
    s.control("clear")
    s.wait_messages(2)
    r.wait_empty()
    assert r.dead_letters() == []
    assert without_received(s.stored(s.messages()[0])) == content or \
        without_received(s.stored(s.messages()[1])) == content
    # Back again, and once more over a restart.
    clock.jump("+0")
    r.stop()
    r.start(wrap=clock.wrap)
    third = r.send()
    assert int(third, 16) > int(another, 16)
    s.wait_messages(3)


def test_age_goes_on_over_a_restart(timeless_sesd, relay, directory):
    """What was too old before the restart is so behind it, whatever the
    clock says now; but the first refusal that the new process sees is not the
    last word, as it does not know what kept the message waiting before."""
    s = timeless_sesd(rules=['on MAIL reply "451 not now"'])
    clock = Clock(directory)
    r = relay(s, start=False, config={**ONE, "delivery.expire": '"2s"',
                                      "delivery.retry": '[ "1h" ]'})
    r.start(wrap=clock.wrap)
    qid = r.send()
    r.wait_outcome(qid, "deferred")
    r.kill()
    clock.jump("-1d")
    # Two seconds of its life, in and out of a process.
    died = time.monotonic()
    wait_until(lambda: time.monotonic() > died + 2, "two seconds of life")
    r.start(wrap=clock.wrap)
    r.wait_outcome(qid, "deferred", n=2)
    r.ctl("retry", "--all")
    [o] = r.wait_outcome(qid, "bounced")
    assert o["note"].startswith("451 not now")
    r.wait_empty()
    fields, _ = r.dead_letter(qid)
    assert fields["Reason"][0].startswith("too old (delivery.expire)")
    assert fields["Reply"] == ["451 not now"]
