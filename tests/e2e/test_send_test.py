"""sesrelayctl send-test: one message through the relay, and what SES said."""

import json
import re
import time

import pytest

from harness import RCPT, SENDER


def send_test(r, *args, json_too=False):
    """(exit code, output, errors), and with --json the object."""
    done = r.run_ctl(*(["--json"] if json_too else []), "send-test", *args)
    if json_too:
        [line] = done.stdout.splitlines()
        return done.returncode, json.loads(line)
    return done.returncode, " ".join(done.stdout.split()), done.stderr


def test_sent(sesd, relay):
    s = sesd()
    r = relay(s)
    code, out, err = send_test(r, RCPT, "--from", SENDER)
    [m] = s.messages()
    assert (code, err) == (0, "")
    assert (m["from"], m["rcpts"]) == (SENDER, [RCPT])
    assert f"from <{SENDER}> to <{RCPT}>" in out
    assert re.search(rf"Sent: SES took it after [\d.]+ s SES id: {m['id']}$",
                     out)
    content = s.stored(m)
    for field in ("From: <app@example.com>", "To: <user@example.net>",
                  "Subject: Test of the mail relay on", "Date: ",
                  "Message-ID: <send-test."):
        assert f"\r\n{field}".encode() in content
    r.wait_empty()


def test_json(sesd, relay):
    s = sesd()
    r = relay(s)
    code, o = send_test(r, RCPT, "--from", SENDER, json_too=True)
    [m] = s.messages()
    assert code == 0
    assert o["result"] == "sent" and o["ses_id"] == m["id"]
    assert (o["sender"], o["recipient"]) == (SENDER, RCPT)
    assert re.fullmatch("[0-9A-F]{16}", o["id"]) and o["seconds"] > 0
    s.rule('on DOT reply "554 Message rejected: Email address is not '
           'verified."')
    code, o = send_test(r, RCPT, "--from", SENDER, json_too=True)
    assert code == 1 and o["result"] == "failed"
    assert o["reply"].startswith("554 Message rejected: Email address is not")
    assert "verif" in o["advice"]
    # The meaning depends on where SES says it.
    s.control("clear")
    s.rule('on RCPT reply "550 no such thing"')
    _, o = send_test(r, RCPT, "--from", SENDER, json_too=True)
    assert o["reply"] == "550 no such thing" and o["advice"]
    [letter] = [x for x in r.ctl_json("failed") if x["id"] == o["id"]]
    assert letter["reason"] == f"{o['reply']}; {o['advice']}"


def test_sender(sesd, relay):
    """--from, then bounce.from, then the address itself."""
    s = sesd()
    r = relay(s)
    assert send_test(r, RCPT)[0] == 0
    assert s.messages()[-1]["from"] == RCPT
    code, out, err = send_test(r, "success@simulator.amazonses.com")
    assert (code, out) == (64, "")
    assert "--from" in err and "bounce.from" in err
    r.settings["bounce.from"] = '"noreply@example.com"'
    r.write_config()
    r.ctl("reload")
    assert send_test(r, "success@simulator.amazonses.com")[0] == 0
    assert s.messages()[-1]["from"] == "noreply@example.com"
    assert send_test(r, RCPT, "--from", SENDER)[0] == 0
    assert s.messages()[-1]["from"] == SENDER
    assert len(s.messages()) == 3


FATES = [
    ('on DOT reply "554 Message rejected: Email address is not verified. The '
     'following identities failed the check in region US-EAST-1: x"',
     "Failed: 554 Message rejected", "its dead letter is kept"),
    ('on RCPT reply "501 Invalid RCPT TO address provided"',
     "Failed: 501 Invalid RCPT TO", "its dead letter is kept"),
    ('on DOT reply "451 Temporary service failure"',
     "Deferred: 451 Temporary service failure", "it stays in the queue"),
    ('on DOT reply "454 Throttling failure: Daily message quota exceeded."',
     "Waiting: 454 Throttling failure: Daily", "it stays in the queue"),
    ('on AUTH reply "535 Authentication Credentials Invalid"',
     "Waiting: 535 Authentication Credentials", "it stays in the queue"),
]


@pytest.mark.parametrize("rule,words,rest", FATES,
                         ids=[w for _, w, _ in FATES])
def test_refused(sesd, relay, rule, words, rest):
    s = sesd(rules=[rule])
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    code, out, err = send_test(r, RCPT, "--from", SENDER)
    assert (code, err) == (1, "")
    assert words in out and "Meaning: " in out and rest in out
    assert r.count() == (0 if words.startswith("Failed") else 1)
    # What it names can be done.
    verb = re.search(r'"sesrelayctl (show|failed) ([0-9A-F]{16})"', out)
    assert verb[2] in r.ctl(verb[1], verb[2])


def test_patience_has_an_end(sesd, relay):
    s = sesd(rules=["on DOT delay 60000"])
    r = relay(s)
    begin = time.monotonic()
    code, out, _ = send_test(r, RCPT, "--from", SENDER, "--timeout", "300ms")
    assert time.monotonic() - begin < 10
    assert code == 1 and "Waiting: no answer of SES yet" in out
    s.control("drop-connections rst")


def test_unreachable(relay, certs, sesd):
    s = sesd()
    r = relay(s)
    s.control("refuse on")
    code, out, _ = send_test(r, RCPT, "--from", SENDER, "--timeout", "2s")
    assert code == 1 and "Waiting: " in out and "Connection refused" in out


def test_paused(sesd, relay):
    s = sesd()
    r = relay(s)
    r.ctl("pause")
    code, out, _ = send_test(r, RCPT, "--from", SENDER)
    assert code == 1 and "delivery is paused" in out
    assert "sesrelayctl resume" in out
    r.ctl("resume")
    s.wait_messages(1)
    r.ctl("pause", "intake")
    code, out, err = send_test(r, RCPT, "--from", SENDER)
    assert (code, out) == (1, "") and "did not take it: 452 4.3.2" in err


def test_sockets_of_the_service_manager(sesd, relay, directory):
    """Where it listens is asked of the daemon, not of the file."""
    s = sesd()
    r = relay(s, start=False, config={"smtp.listen": '[ "127.0.0.1:1" ]'})
    wrap = ("/usr/bin/python3", "-c", """
import os, socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
for i, s in enumerate(sockets):
    os.dup2(s.fileno(), 3 + i)
    os.set_inheritable(3 + i, True)
os.environ.update(LISTEN_FDS="2", LISTEN_FDNAMES="smtp:smtp",
                  LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
""")
    r.start(wrap=wrap)
    listening = r.status()["listening"]
    assert len(listening) == 2 and "127.0.0.1:1" not in listening
    assert send_test(r, RCPT, "--from", SENDER)[0] == 0
    s.wait_messages(1)


@pytest.mark.parametrize("args,words", [
    (["nobody"], "looks like user@example.com"),
    (["a@b c"], "no blanks"), (["<a@b.c>"], "no brackets"),
    ([RCPT, "--from", "x"], "looks like user@example.com"),
    ([], "needs an argument"),
    ([RCPT, "--region", "us-east-1"], "--region goes with password"),
])
def test_mistakes(relay, args, words):
    r = relay(start=False)
    code, out, err = send_test(r, *args)
    assert (code, out) == (64, "") and words in err


def test_no_daemon(relay):
    r = relay(start=False)
    code, _, err = send_test(r, RCPT)
    assert code == 69 and "cannot reach the daemon" in err
