"""What the operator does to queued mail with sesrelayctl: every verb, what it
says, what lasts over a restart, and the same answers from the spool when the
daemon is down."""

import calendar
import json
import os
import pty
import re
import socket
import subprocess
import threading
import time

import pytest

from harness import BUILD, RCPT, message, wait_until, without_received
from intake_helpers import Client, injected, stuff

DOWN = "sesrelayctl: the daemon is down; reading the spool "


def ctl(r, *args, **kwargs):
    """sesrelayctl as a package has it: by the configuration file."""
    return subprocess.run(
        [str(BUILD / "sesrelayctl"), "-c", str(r.config_file), *args],
        capture_output=True, text=True, timeout=60, **kwargs)


def restart(r, n):
    """After a kill or stop; it finds n messages."""
    r.start()
    wait_until(lambda: "spool read: " in r.log()[r.log_start:], "the scan")
    assert f"spool read: {n} messages" in r.log()[r.log_start:]


def states(r):
    return {e["id"]: e["state"] for e in r.ctl_json("queue")}


def connect_to(relay, sesd):
    relay.settings["ses.ca_file"] = f'"{sesd.certs / "ca.pem"}"'
    relay.set_ports((sesd.ports["starttls"], "starttls"))
    relay.write_config()


def held_back(sesd, relay, n, **config):
    """(sesd, relay, ids): n messages that wait for SES to be there."""
    s = sesd()
    s.control("refuse on")
    r = relay(s, config=config)
    ids = [r.send(message(message_id=f"m{i}@example.com")) for i in range(n)]
    return s, r, ids


def message_ids(s):
    return sorted(e["message_id"].strip("<>") for e in s.messages())


# --- hold, release, delete ---

def test_hold_and_release(sesd, relay):
    s, r, ids = held_back(sesd, relay, 3)
    done = r.run_ctl("hold", ids[0], ids[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{ids[0]}  held\n{ids[2]}  held\n"
    assert states(r) == {ids[0]: "held", ids[1]: "ready", ids[2]: "held"}
    s.control("refuse off")
    r.ctl("retry")
    r.wait_outcome(ids[1], "sent")
    wait_until(lambda: r.count() == 2, "the other one to be gone")
    # Again is no mistake, and what is not held cannot be released.
    assert r.run_ctl("hold", ids[0]).stdout == f"{ids[0]}  held\n"
    assert r.ctl("release", ids[0]) == f"{ids[0]}  released\n"
    r.wait_outcome(ids[0], "sent")
    assert message_ids(s) == ["m0@example.com", "m1@example.com"]
    assert states(r) == {ids[2]: "held"}
    assert f"{ids[2]}: held by uid {os.getuid()}" in r.log()


@pytest.mark.parametrize("every", [False, True])
def test_what_was_answered_lasts_over_a_kill(sesd, relay, every):
    """kill -9 right behind the answer."""
    s, r, ids = held_back(sesd, relay, 6)
    for verb, those in (("hold", ids), ("release", ids[:2]),
                        ("delete", ids[4:])):
        what = ["--all"] if every and verb == "hold" else those
        done = r.run_ctl(verb, *what)
        r.kill()
        assert done.returncode == 0, done.stderr
        restart(r, 6 if verb != "delete" else 4)
    assert states(r) == {ids[0]: "ready", ids[1]: "ready", ids[2]: "held",
                         ids[3]: "held"}
    # Why it is held is known after a restart, too.
    for e in r.ctl_json("queue", "held"):
        assert e["last_reply"] == f"held by uid {os.getuid()}"
    s.control("refuse off")
    r.ctl("retry")
    wait_until(lambda: r.count() == 2, "those that may go to be gone")
    assert message_ids(s) == ["m0@example.com", "m1@example.com"]
    assert r.dead_letters() == []


def test_delete_all_lasts_over_a_kill(sesd, relay):
    s, r, ids = held_back(sesd, relay, 30)
    done = r.run_ctl("delete", "--all", "--yes")
    r.kill()
    assert done.stdout == "30 messages deleted\n"
    s.control("refuse off")
    restart(r, 0)
    r.send(message(message_id="later@example.com"))
    s.wait_messages(1)
    assert message_ids(s) == ["later@example.com"]
    assert r.dead_letters() == []
    assert f"{ids[7]}: deleted by uid {os.getuid()}" in r.log()


def test_a_request_that_is_too_long(sesd, relay):
    """It is told, and takes no answer with it that was asked for before."""
    r = relay(sesd())
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(str(r.control))
        s.sendall(b"count\n" * 3 + b"show " + b"A" * 4200 + b"\ncount\n")
        answer = b"".join(iter(lambda: s.recv(4096), b""))
    assert answer.decode().splitlines() == ['{"messages":0}', "OK"] * 3 + [
        "ERR 64 a request is at most 4096 bytes long"]
    assert r.count() == 0


def test_delete_all_asks(sesd, relay):
    s, r, ids = held_back(sesd, relay, 2)
    done = r.run_ctl("delete", "--all")
    assert done.returncode == 64 and "--yes" in done.stderr
    for answer, left in ((b"n\n", 2), (b"\n", 2), (b"y\n", 0)):
        master, slave = pty.openpty()
        with subprocess.Popen(
                [str(BUILD / "sesrelayctl"), "-s", str(r.control), "delete",
                 "--all"], stdin=slave, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True) as p:
            os.write(master, answer)
            out, err = p.communicate(timeout=30)
        os.close(master)
        os.close(slave)
        assert "Delete all 2 messages in the queue?" in err
        assert p.returncode == (1 if left else 0), err
        assert r.count() == left
    assert s.messages() == []


@pytest.mark.parametrize("verb,answer", [("delete", True), ("delete", False),
                                         ("hold", True), ("hold", False)])
def test_one_that_is_being_sent(sesd, relay, verb, answer):
    """SES has the content; what it says decides, the wish comes after."""
    s = sesd()
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    if not answer:
        s.rule('on DOT times 1 delay 1500 reply "451 Try again"')
    else:
        s.rule("on DOT times 1 delay 1500 default")
    qid = r.send(message(message_id="one@example.com"))
    wait_until(lambda: "conn=1 data: 354" in r.log(), "the content to go")
    [said] = r.ctl_json(verb, qid)
    assert said == {"id": qid, "result": "later"}
    past = {"delete": "deleted", "hold": "held"}[verb]
    if answer:
        r.wait_outcome(qid, "sent")
        r.wait_empty()
        assert message_ids(s) == ["one@example.com"]
    else:
        r.wait_outcome(qid, "deferred")
        r.wait_log(f"{qid}: {past} by uid {os.getuid()} while it was being "
                   "sent")
        assert states(r) == ({} if verb == "delete" else {qid: "held"})
        r.kill()
        restart(r, 0 if verb == "delete" else 1)
        assert states(r) == ({} if verb == "delete" else {qid: "held"})
        assert s.messages() == []
    assert r.dead_letters() == []


def test_one_that_is_only_loaded_is_taken_back(sesd, relay):
    """It is in memory and waits for the one connection to be free."""
    s = sesd()
    r = relay(s, config={"delivery.connections": "1"})
    r.ctl("pause")
    ids = [r.send(message(message_id=f"m{i}@example.com")) for i in range(3)]
    s.rule("on DOT times 1 delay 1500 default")
    r.ctl("resume")
    wait_until(lambda: "conn=1 data: 354" in r.log(), "the content to go")
    assert states(r) == {ids[0]: "active", ids[1]: "active", ids[2]: "ready"}
    said = r.ctl_json("delete", *ids[1:])
    assert [e["result"] for e in said] == ["deleted", "deleted"]
    r.wait_outcome(ids[0], "sent")
    r.wait_empty()
    r.send(message(message_id="next@example.com"))
    r.wait_empty()
    assert message_ids(s) == ["m0@example.com", "next@example.com"]


def test_one_that_is_being_loaded_is_taken_back(sesd, relay):
    """The disk is slow to give it back."""
    s, r, ids = held_back(sesd, relay, 2, **{"delivery.connections": "1"})
    r.kill()
    restart(r, 2)
    with injected(r, "pread64:delay_enter=700000"):
        s.control("refuse off")
        r.ctl("retry")
        wait_until(lambda: r.status()["queue"]["active"] == 2, "loads")
        said = r.ctl_json("delete", ids[0]) + r.ctl_json("hold", ids[1])
        assert [e["result"] for e in said] == ["deleted", "held"]
        r.ctl("release", ids[1])
        r.wait_outcome(ids[1], "sent")
    r.wait_empty()
    assert message_ids(s) == ["m1@example.com"]


def test_delete_spares_who_was_served(sesd, relay):
    """Of several recipients the rest is deleted, with no letter and no word
    to those who have it."""
    s = sesd(rules=['on RCPT when rcpt=b@example.org reply "450 not now"'])
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    qid = r.send(rcpts=["a@example.org", "b@example.org"])
    r.wait_outcome(qid, "deferred")
    wait_until(lambda: states(r) == {qid: "waiting"}, "the message to wait")
    r.ctl("delete", qid)
    assert r.count() == 0 and r.dead_letters() == []
    s.control("clear")
    r.kill()
    restart(r, 0)
    assert [e["rcpts"] for e in s.messages()] == [["a@example.org"]]


def test_ids_from_standard_input(sesd, relay):
    """More than one line of the protocol takes, as mailq prints them."""
    s, r, ids = held_back(sesd, relay, 1)
    with Client(r.port) as c:
        c.ehlo()
        ids += [c.mail() for _ in range(520)]
    done = ctl(r, "hold", "-", input="\n".join(ids))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(f"{i}  held\n" for i in ids)
    mailq = ctl(r, "mailq").stdout
    assert mailq.count("!") == 521
    done = ctl(r, "delete", "-", input=mailq)
    assert done.returncode == 0, done.stderr
    assert r.count() == 0
    done = ctl(r, "delete", "-", input=ids[0] + "\nrubbish\n")
    assert done.returncode == 65
    assert f"{ids[0]}: no such message" in done.stderr
    assert "rubbish is no queue id" in done.stderr


def test_results_and_exit_codes(sesd, relay):
    s, r, ids = held_back(sesd, relay, 2)
    none = "0000000000000001"
    done = r.run_ctl("hold", ids[0], none)
    assert done.returncode == 65
    assert done.stdout == f"{ids[0]}  held\n"
    assert done.stderr == (
        f"sesrelayctl: {none}: no such message in the queue\n")
    # 1 says more than 65.
    done = r.run_ctl("retry", ids[0], none)
    assert done.returncode == 1
    assert f"{ids[0]}: it is held" in done.stderr
    assert r.run_ctl("release", ids[1]).stdout == f"{ids[1]}  not held\n"
    for wrong in (("hold",), ("delete",), ("hold", "x"), ("hold", "--yes",
                  ids[0]), ("hold", "--all", ids[0]), ("retry", "-l"),
                  ("pause", "all"), ("drain", "--timeout", "1x"),
                  ("mailq", "-l"), ("re", ids[0])):
        assert r.run_ctl(*wrong).returncode == 64, wrong
    assert r.run_ctl("rele", "--a").stdout == "1 message released\n"


def test_nothing_is_promised_that_cannot_be_recorded(relay):
    """A spool that takes no outcomes: refused, and nothing changed."""
    r = relay()
    qid = r.send()
    with injected(r, "fdatasync:error=EIO", "pwritev:error=EIO",
                  "pwrite64:error=EIO", "openat:error=EROFS"):
        with Client(r.port) as c:
            c.ehlo()
            c.begin()
            c.send(stuff(message()))
            assert c.reply()[:1] == b"4"
        wait_until(lambda: not r.status()["spool"]["healthy"],
                   "an unhealthy spool")
        done = r.run_ctl("hold", qid)
        assert done.returncode == 1
        assert "so nothing was changed" in done.stderr
        assert states(r) == {qid: "ready"}


# --- retry ---

def test_retry_goes_at_once(sesd, relay):
    s = sesd(rules=['on DOT times 2 reply "451 Temporary service failure"'])
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    ids = [r.send(), r.send()]
    for qid in ids:
        r.wait_outcome(qid, "deferred")
    wait_until(lambda: set(states(r).values()) == {"waiting"}, "both to wait")
    assert r.ctl("retry", ids[1]) == f"{ids[1]}  goes out now\n"
    r.wait_outcome(ids[1], "sent")
    assert states(r) == {ids[0]: "waiting"}
    assert r.ctl("retry") == "1 message ready to go\n"
    r.wait_empty()
    assert len(s.messages()) == 2


def test_retry_knocks_at_a_closed_gate(sesd, relay):
    """SES said "credentials refused": the next try were in a minute."""
    s = sesd(rules=['on AUTH times 1 reply "535 Authentication Credentials '
                    'Invalid"'])
    r = relay(s)
    r.send()
    r.wait_state("credentials refused")
    r.ctl("retry")
    r.wait_empty()


# --- pause and resume ---

def test_pause_delivery(sesd, relay):
    s = sesd()
    r = relay(s)
    r.send()
    r.wait_empty()
    assert r.ctl("pause") == "Delivery is PAUSED, intake is on\n"
    qid = r.send()
    wait_until(lambda: sum(r.status()["connections"].values()) == 0,
               "connections to be closed")
    assert "closing after 1 messages: delivery is paused" in r.log()
    assert r.state() == "paused"
    assert "SES: PAUSED" in r.ctl("status")
    # Nothing happens by itself or by retry.
    r.ctl("retry")
    assert sum(r.status()["connections"].values()) == 0
    assert states(r) == {qid: "ready"}
    r.ctl("resume")
    r.wait_empty()
    assert len(s.messages()) == 2


def test_pause_lets_the_one_under_way_finish(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.connections": "1"})
    s.rule("on DOT times 1 delay 500 default")
    first = r.send()
    wait_until(lambda: "conn=1 data: 354" in r.log(), "the content to go")
    second = r.send()
    r.ctl("pause", "delivery")
    r.wait_outcome(first, "sent")
    wait_until(lambda: sum(r.status()["connections"].values()) == 0,
               "connections to be closed")
    assert list(states(r)) == [second]
    assert len(s.messages()) == 1
    # A pause is a state of this process.
    r.stop()
    r.start()
    r.wait_empty()


def test_pause_intake(sesd, relay):
    s = sesd()
    r = relay(s)
    with r.submit() as c:
        c.begin()
        assert r.ctl("pause", "intake") == (
            "Delivery is on, intake is PAUSED\n")
        c.content(message())  # it had begun
        reply = c.do("MAIL FROM:<a@example.com>", 452)
        assert reply == "452 4.3.2 Mail intake is paused by the operator\r\n"
        r.wait_empty()
        assert "Intake:       PAUSED" in r.ctl("status")
        r.ctl("resume", "intake")
        c.mail()
    r.wait_empty()
    assert len(s.messages()) == 2


# --- drain ---

def test_drain(sesd, relay):
    s = sesd(rules=['on DOT times 3 reply "451 Temporary service failure"'])
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    ids = [r.send() for _ in range(3)]
    for qid in ids:
        r.wait_outcome(qid, "deferred")
    wait_until(lambda: set(states(r).values()) == {"waiting"}, "all to wait")
    r.ctl("hold", ids[2])
    with Client(r.port) as c:
        c.ehlo()
        done = r.run_ctl("drain", "--timeout", "30s")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Drained;")
        assert "1 held message stays" in done.stdout
        assert states(r) == {ids[2]: "held"}
        assert len(s.messages()) == 2
        # Whoever drains is about to take the machine away.
        assert c.do("MAIL FROM:<a@example.com>") == (
            b"452 4.3.2 Mail intake is paused by the operator\r\n")
        r.ctl("resume", "intake")
        c.mail()
    wait_until(lambda: len(s.messages()) == 3, "new mail to go")


def test_drain_with_a_timeout(sesd, relay):
    s, r, ids = held_back(sesd, relay, 2)
    with r.submit() as c:
        with subprocess.Popen(
                [str(BUILD / "sesrelayctl"), "-s", str(r.control), "drain",
                 "--timeout", "1500ms"], stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True) as p:
            wait_until(lambda: r.status()["paused"]["draining"], "a drain")
            reply = c.do("MAIL FROM:<a@example.com>", 452)
            assert reply.startswith("452 4.3.2 The relay is being drained")
            assert r.run_ctl("drain").returncode == 1
            out, err = p.communicate(timeout=30)
        assert p.returncode == 1
        assert err == "sesrelayctl: 2 messages are left\n"
        c.do("MAIL FROM:<a@example.com>", 250)


def test_drain_ends_with_its_client(sesd, relay):
    s, r, ids = held_back(sesd, relay, 1)
    p = subprocess.Popen([str(BUILD / "sesrelayctl"), "-s", str(r.control),
                          "drain"], stdout=subprocess.DEVNULL)
    wait_until(lambda: r.status()["paused"]["draining"], "a drain")
    p.kill()
    p.wait()
    wait_until(lambda: not r.status()["paused"]["draining"], "its end")
    with r.submit() as c:
        c.mail()


def test_drain_waits_for_what_is_arriving(sesd, relay):
    s = sesd()
    r = relay(s)
    with Client(r.port) as c:
        c.ehlo().begin()
        with subprocess.Popen(
                [str(BUILD / "sesrelayctl"), "-s", str(r.control), "drain"],
                stdout=subprocess.PIPE, text=True) as p:
            wait_until(lambda: r.status()["paused"]["draining"], "a drain")
            c.send(message()[:50])
            c.drained()
            assert p.poll() is None
            c.send(stuff(message()[50:]))
            assert c.reply()[:3] == b"250"
            assert "Drained" in p.communicate(timeout=30)[0]
    assert len(s.messages()) == 1 and r.count() == 0


# --- dead letters ---

def refused(sesd, relay, n=1, content=None, **config):
    """(sesd, relay, ids of messages that SES refused)"""
    s = sesd(rules=['on DOT reply "554 Transaction failed: no"'])
    r = relay(s, config=config)
    ids = [r.send(content or message(message_id=f"dead{i}@example.com"),
                  rcpts=["a@example.org", "b@example.org"])
           for i in range(n)]
    for qid in ids:
        r.wait_outcome(qid, "bounced", 2)
    r.wait_empty()
    return s, r, ids


def letters_of(r, qid):
    return [n for n in r.dead_letters() if n.startswith(qid)]


def test_failed(sesd, relay):
    s, r, ids = refused(sesd, relay, 3)
    listed = r.ctl_json("failed")
    assert {e["id"] for e in listed} == set(ids)
    assert [e["id"] for e in listed] == sorted(e["id"] for e in listed)
    for e in listed:
        assert e["sender"] == "app@example.com"
        assert "554 Transaction failed: no" in e["reason"]
        assert e["message_id"].strip("<>") == f"dead{ids.index(e['id'])}@example.com"
        assert abs(time.time() - time.mktime(time.strptime(
            e["time"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 60
    text = r.ctl("failed")
    for qid in ids:
        assert qid in text
    assert "(554 Transaction failed: no" in text
    shown = r.ctl("failed", ids[1])
    assert "a@example.org" in shown or "b@example.org" in shown
    assert "dead1@example.com" in shown and ids[0] not in shown
    body = r.ctl("failed", ids[1], "--headers", "--body")
    assert "Message-ID: <dead1@example.com>" in body
    assert "X-Sesrelayd-" not in body
    assert r.run_ctl("failed", "0000000000000001").returncode == 65
    assert r.run_ctl("failed", "--body").returncode == 64


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_requeue(sesd, relay, size):
    """Delivered with the same Message-ID and content, to the recipients of
    the letter."""
    content = message(b"y" * 70 + b"\r\n." + b"z" * 9 + b"\r\n" +
                      (b"x" * 78 + b"\r\n") * (size // 80),
                      message_id="again@example.com")
    s, r, [qid] = refused(sesd, relay, 1, content)
    letters = r.dead_letters()
    rcpts = sorted(x for n in letters for x in
                   r.dead_letter(n[:-4])[0]["Recipient"])
    assert rcpts == ["a@example.org", "b@example.org"]
    s.control("clear")
    said = r.ctl_json("requeue", qid)
    assert [e["id"] for e in said] == [qid] * len(letters)
    assert all(e["new_id"] > qid for e in said)
    r.wait_empty()
    assert r.dead_letters() == []
    assert r.status()["spool"]["failed"] == 0
    got = s.messages()
    assert sorted(x for e in got for x in e["rcpts"]) == rcpts
    for e in got:
        assert e["message_id"].strip("<>") == "again@example.com"
        assert without_received(s.stored(e)) == content
    wait_until(lambda: not list((r.spool / "large").iterdir()), "no file")
    assert r.run_ctl("requeue", qid).returncode == 65


def test_requeue_all_and_what_is_damaged(sesd, relay):
    """Rubbish in failed/ is told, and stops nobody."""
    s, r, ids = refused(sesd, relay, 3)
    failed = r.spool / "failed"
    (failed / f"{ids[0]}.9.eml").write_text("not a letter\r\n")
    (failed / "0000000000000007.eml").write_bytes(b"")
    (failed / "0000000000000008.eml").symlink_to("/etc/passwd")
    (failed / "README.eml").write_text("x")
    done = r.run_ctl("failed")
    assert done.returncode == 1
    for qid in ids:
        assert qid in done.stdout
    for name in (f"{ids[0]}.9.eml", "0000000000000007.eml",
                 "0000000000000008.eml"):
        assert f"sesrelayctl: {name}: " in done.stderr
    s.control("clear")
    done = r.run_ctl("requeue", "--all")
    assert done.returncode == 1
    new = dict(re.findall(r"^(\w{16}) -> (\w{16})$", done.stdout, re.M))
    assert set(new) == set(ids)
    r.wait_empty()
    assert {e["message_id"].strip("<>") for e in s.messages()} == {
        f"dead{i}@example.com" for i in range(3)}
    # Nothing was taken away that is not understood.
    assert len(r.dead_letters()) == 4


def test_requeue_is_durable_before_the_letter_goes(sesd, relay):
    """Killed behind the answer: the message is there, the letter is not.
    Killed at the removal: both are."""
    s, r, [first, second] = refused(sesd, relay, 2)
    s.control("clear")
    s.control("refuse on")
    r.ctl("pause")
    n = len(letters_of(r, first))
    r.ctl("requeue", first)
    r.kill()
    assert letters_of(r, first) == []
    r.start()
    wait_until(lambda: r.count() == n, "the message to be there")
    with injected(r, "unlinkat:error=EIO"):
        done = r.run_ctl("requeue", second)
    assert done.returncode == 1 and "is still there" in done.stderr
    assert letters_of(r, second)
    r.kill()
    r.start()
    s.control("refuse off")
    r.ctl("retry")
    r.wait_empty()
    assert {e["message_id"].strip("<>") for e in s.messages()} == {
        "dead0@example.com", "dead1@example.com"}
    assert letters_of(r, second)


def test_requeue_into_a_full_queue(sesd, relay):
    s, r, [qid] = refused(sesd, relay, 1)
    r.settings["spool.max_size"] = "10"
    r.write_config()
    r.ctl("reload")
    done = r.run_ctl("requeue", qid)
    assert done.returncode == 1 and "Mail queue is full" in done.stderr
    assert r.count() == 0 and letters_of(r, qid)


# --- trace ---

def test_trace_without_its_letter(sesd, relay):
    """History alone knows a message by its Message-ID, when that failed."""
    r = relay(sesd(rules=['on RCPT reply "554 no such mailbox"']))
    qid = r.send(message(message_id="lost@example.com"))
    r.wait_outcome(qid, "bounced")
    wait_until(lambda: r.count() == 0, "it to be done")
    [letter] = letters_of(r, qid)
    (r.spool / "failed" / letter).unlink()
    r.stop()  # its arrival goes, too
    r.start()
    story = r.ctl_json("trace", "lost@example.com")
    assert [e["event"] for e in story] == ["accepted", "failed"]
    assert {e["id"] for e in story} == {qid}
    assert "554 no such mailbox" in story[-1]["reply"]


def test_trace(sesd, relay):
    """By each of the three names, in queue, dead letters and history, from
    the daemon and from the spool."""
    s = sesd(rules=['on RCPT when rcpt=bad@example.org reply "554 no such '
                    'mailbox"',
                    'on RCPT when rcpt=later@example.org reply "450 not now"'])
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    gone = r.send(message(message_id="gone@example.com"))
    r.wait_outcome(gone, "sent")
    dead = r.send(message(message_id="dead@example.com"),
                  rcpts=["good@example.org", "bad@example.org"])
    r.wait_outcome(dead, "bounced")
    wait = r.send(message(message_id="wait@example.com"),
                  rcpts=["good@example.org", "later@example.org"])
    r.wait_outcome(wait, "deferred")
    wait_until(lambda: states(r) == {wait: "waiting"}, "two to be done")
    ses_id = {e["message_id"].strip("<>"): e["id"] for e in s.messages()}
    names = {qid: [qid, f"{what}@example.com", f"<{what}@example.com>",
                   ses_id[f"{what}@example.com"]]
             for qid, what in ((gone, "gone"), (dead, "dead"),
                               (wait, "wait"))}
    want = {gone: ["accepted", "sent"],
            dead: ["accepted", "sent", "dead letter", "failed"],
            wait: ["accepted", "sent", "in queue"]}
    online = {}

    def check(stories):
        for qid, texts in names.items():
            for text in texts:
                story = stories(text)
                assert {e["id"] for e in story} == {qid}, text
                events = [e["event"] for e in story]
                assert sorted(events) == sorted(want[qid]), text
                assert events[0] == "accepted"
                assert [e["time"] for e in story] == sorted(
                    e["time"] for e in story)
                sent = story[1]
                assert sent["event"] == "sent"
                assert sent["ses_id"] == ses_id[sent["message_id"]]
                assert sent["recipients"] == [
                    RCPT if qid == gone else "good@example.org"]
                online.setdefault(text, events)
                assert online[text] == events
        story = {e["event"]: e for e in stories(dead)}
        assert story["failed"]["recipients"] == ["bad@example.org"]
        assert "554 no such mailbox" in story["dead letter"]["reply"]

    check(lambda text: r.ctl_json("trace", text))
    assert r.ctl_json("trace", wait)[-1]["state"] == "waiting"
    text = r.ctl("show", wait, "--log")
    assert "to=<good@example.org>, 250 Ok " + ses_id["wait@example.com"] \
        in text
    done = r.run_ctl("trace", "nobody@example.com")
    assert done.returncode == 65
    r.ctl("hold", wait)
    want[wait].insert(2, "held")
    online.clear()
    check(lambda text: r.ctl_json("trace", text))
    r.stop()

    def offline(text):
        done = ctl(r, "--json", "trace", text)
        assert done.returncode == 0
        assert "the daemon is down; reading the spool " in json.loads(
            done.stderr)["notice"]
        return [json.loads(line) for line in done.stdout.splitlines()]
    check(offline)
    assert offline(wait)[-1]["state"] == "held"
    done = ctl(r, "trace", "nobody@example.com")
    assert done.returncode == 65
    # After a restart as well.
    restart(r, 1)
    check(lambda text: r.ctl_json("trace", text))


# --- when the daemon is down ---

def test_offline(sesd, relay):
    """The same answers from the spool; what changes anything is refused."""
    s, r, dead = refused(sesd, relay, 1)
    s.control("clear")
    s.control("refuse on")
    r.ctl("pause")
    ids = [r.send(message(message_id=f"m{i}@example.com"),
                  rcpts=[f"a{i}@example.org", f"b{i}@example.org"])
           for i in range(5)]
    big = r.send(message((b"b" * 78 + b"\r\n") * 30000))
    r.ctl("hold", ids[3])

    def ask(*args):
        done = ctl(r, *args)
        assert done.returncode == 0, (args, done.stderr)
        return done

    def answers():
        # A connection may be trying; in the end all wait for it.
        wait_until(lambda: "active" not in states(r).values()
                   if r.process.alive() else True, "no attempt")
        queue = [json.loads(x)
                 for x in ask("--json", "queue").stdout.splitlines()]
        for e in queue:
            e["state"] = "held" if e["state"] == "held" else "ready"
            if e["state"] == "ready":
                e["last_reply"] = ""
            e.pop("next_attempt", None)
            e["attempts"] = 0
        return {"queue": sorted(queue, key=lambda e: e["id"]),
                "held": ask("--json", "queue", "held").stdout,
                "count": ask("count").stdout,
                "show": ask("show", ids[1], "--headers", "--body").stdout,
                "big": ask("show", big, "--body").stdout,
                "failed": ask("--json", "failed").stdout,
                "letter": ask("failed", dead[0], "--headers",
                              "--body").stdout}

    online = answers()
    assert len(online["queue"]) == 6 and online["count"] == "6\n"
    assert len(online["big"]) > 2_000_000
    r.kill()  # and its socket stays: nobody listens on it
    assert r.control.exists()
    assert answers() == online
    assert ask("count").stderr.startswith(DOWN + str(r.spool))
    assert "held by uid" in ask("queue", "-l", "held").stdout
    assert f"{ids[3]}!" in ask("mailq").stdout
    assert ctl(r, "show", "0000000000000001").returncode == 65
    assert ctl(r, "failed", "0000000000000001").returncode == 65
    for verb in (("hold", ids[0]), ("release", ids[3]), ("retry",),
                 ("delete", ids[0]), ("requeue", "--all"), ("pause",),
                 ("resume",), ("drain",), ("reload",)):
        done = ctl(r, *verb)
        assert done.returncode == 69, verb
        assert "systemctl status sesrelayd" in done.stderr
    restart(r, 6)
    assert answers() == online


def test_offline_without_a_right_to_it(relay):
    r = relay()
    r.send()
    r.stop()
    for up in (r.dir.parent, r.dir):
        up.chmod(0o755)
    if os.geteuid() != 0:
        pytest.fail("this test needs to be root to be somebody else")
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
         str(BUILD / "sesrelayctl"), "-c", str(r.config_file), "queue"],
        capture_output=True, text=True, timeout=30)
    assert done.returncode == 69, (done.stdout, done.stderr)
    assert "Permission denied" in done.stderr
    assert "as root" in done.stderr


def test_a_spool_that_is_not_there(relay, directory):
    conf = directory / "x.conf"
    conf.write_text(f'control: {{ socket = "{directory}/none"; }};\n'
                    f'spool: {{ directory = "{directory}/nospool"; }};\n')
    done = subprocess.run([str(BUILD / "sesrelayctl"), "-c", str(conf),
                           "queue"], capture_output=True, text=True)
    assert done.returncode == 69
    assert f"cannot read the spool {directory}/nospool" in done.stderr


# --- Postfix's forms ---

def test_mailq(sesd, relay):
    """Byte for byte."""
    s = sesd(rules=['on DOT times 1 reply "451 Temporary service failure"',
                    "on DOT times 1 delay 1500 default"])
    r = relay(s, config={"delivery.retry": '[ "1h" ]',
                         "delivery.connections": "1"})
    assert r.ctl("mailq") == "Mail queue is empty\n"
    assert r.ctl("mailq", "-j") == ""
    waits = r.send(rcpts=["a@example.org", "b@example.org"])
    r.wait_outcome(waits, "deferred", 2)
    r.ctl("pause")
    ready = r.send(message(b"x" * 4000 + b"\r\n"), sender="")
    held = r.send()
    r.ctl("hold", held)
    rows = {e["id"]: e for e in r.ctl_json("queue")}
    env = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}

    def when(qid):
        t = time.strptime(rows[qid]["arrival"][:19], "%Y-%m-%dT%H:%M:%S")
        day = time.strftime("%a %b ", t) + f"{t.tm_mday:2d}"
        return day + time.strftime(" %H:%M:%S", t)

    def size(qid):
        return f'{rows[qid]["size"]:8d}'
    pad = " " * 47
    total = sum(e["size"] for e in rows.values()) // 1024
    reply = rows[waits]["last_reply"]
    assert reply == "451 Temporary service failure"
    mine = f"held by uid {os.getuid()}"
    assert ctl(r, "mailq", env=env).stdout == (
        "----Queue ID----- --Size-- ---Arrival Time---- "
        "--Sender/Recipient------\n"
        f"{waits}  {size(waits)} {when(waits)} app@example.com\n"
        f"{' ' * (76 - len(reply))}({reply})\n"
        f"{pad}a@example.org\n{pad}b@example.org\n\n"
        f"{ready}  {size(ready)} {when(ready)} MAILER-DAEMON\n"
        f"{pad}{RCPT}\n\n"
        f"{held}! {size(held)} {when(held)} app@example.com\n"
        f"{' ' * (76 - len(mine))}({mine})\n{pad}{RCPT}\n\n"
        f"-- {total} Kbytes in 3 Requests.\n")

    def epoch(qid):
        t = time.strptime(rows[qid]["arrival"][:19], "%Y-%m-%dT%H:%M:%S")
        return calendar.timegm(t)
    lines = ctl(r, "mailq", "-j").stdout.splitlines()
    assert lines[0] == (
        f'{{"queue_name": "deferred", "queue_id": "{waits}", '
        f'"arrival_time": {epoch(waits)}, '
        f'"message_size": {rows[waits]["size"]}, "forced_expire": false, '
        '"sender": "app@example.com", "recipients": ['
        f'{{"address": "a@example.org", "delay_reason": "{reply}"}}, '
        f'{{"address": "b@example.org", "delay_reason": "{reply}"}}]}}')
    assert [json.loads(x)["queue_name"] for x in lines] == [
        "deferred", "incoming", "hold"]
    assert json.loads(lines[1])["sender"] == "MAILER-DAEMON"
    assert ctl(r, "--json", "mailq").stdout.splitlines() == lines
    r.ctl("delete", waits, ready, held)
    r.ctl("resume")
    one = r.send()
    wait_until(lambda: r.ctl("mailq").startswith("----") and
               f"\n{one}* " in r.ctl("mailq"), "it to be active")
    assert r.ctl("mailq").endswith("-- 0 Kbytes in 1 Request.\n")


# --- the list ---

def test_damaged_one_in_the_list(relay, sesd):
    """A held message that cannot be read is a row with what is known, and no
    failure of the list."""
    r = relay()
    with Client(r.port) as c:
        c.ehlo()
        ids = [c.mail(message(b"d" * 70000 + b"\r\n")) for _ in range(3)]
    r.ctl("hold", "--all")
    segment = sorted((r.spool / "arrivals").iterdir())[0]
    data = bytearray(segment.read_bytes())
    at = re.search(rb"message 1 \w{16} \d{10} \d{10} " + ids[1].encode(),
                   data).start()
    data[at + 139 + 30] ^= 0x20
    with segment.open("r+b") as f:
        f.write(data)
    done = r.run_ctl("--json", "queue")
    assert done.returncode == 0, done.stderr
    rows = {e["id"]: e for e in map(json.loads, done.stdout.splitlines())}
    assert rows.keys() == set(ids)
    bad = rows[ids[1]]
    assert "damaged" in bad["damaged"] and "error" not in bad
    assert bad["state"] == "held" and bad["size"] == rows[ids[0]]["size"]
    assert bad["last_reply"] == f"held by uid {os.getuid()}"
    done = r.run_ctl("queue")
    assert done.returncode == 0
    assert re.search(rf"^{ids[1]} .* held .* cannot be read: ", done.stdout,
                     re.M)
    assert ctl(r, "mailq").returncode == 0
    # One that cannot be read can still be deleted.
    assert r.ctl("delete", ids[1]) == f"{ids[1]}  deleted\n"
    assert set(states(r)) == {ids[0], ids[2]}


def test_list_reads_no_content(relay):
    """A long queue of long messages: only heads come from the disk."""
    r = relay(config={"delivery.connections": "1"})
    body = (b"l" * 98 + b"\r\n") * 9000
    with Client(r.port) as c:
        c.ehlo()
        for _ in range(30):
            c.mail(message(body))
    r.kill()
    restart(r, 30)

    def read_bytes():
        with open(f"/proc/{r.process.pid}/io") as f:
            return int(re.search(r"rchar: (\d+)", f.read())[1])
    before = read_bytes()
    assert len(r.ctl("queue").splitlines()) == 32
    assert read_bytes() - before < 1_000_000


def test_many(relay):
    """Thousands: each verb answers whole, and others are served meanwhile."""
    r = relay(verbose=False)
    with Client(r.port) as c:
        c.ehlo()
        n = 0
        one = (b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
               b"DATA\r\n")
        for _ in range(40):
            for _ in range(100):
                c.send(one)
                assert [x[:3] for x in c.replies(3)] == [
                    b"250", b"250", b"354"]
                c.send(b"Subject: x\r\n\r\n.\r\n")
                n += 1
                assert c.reply()[:3] == b"250"
    assert len(r.ctl_json("queue")) == n
    assert r.ctl("hold", "--all") == f"{n} messages held\n"
    assert len(r.ctl_json("queue", "held")) == n
    assert r.ctl("release", "--all") == f"{n} messages released\n"
    assert r.ctl("delete", "--all", "--yes") == f"{n} messages deleted\n"
    assert r.count() == 0


def test_client_that_goes_in_the_middle(relay):
    """Of a long answer, or of a long operation: nothing is left behind."""
    r = relay(verbose=False)
    with Client(r.port) as c:
        c.ehlo()
        for _ in range(600):
            c.mail(rcpts=[f"u{i}@example.org" for i in range(20)])
    for request in (b"queue\n", b"hold --all\n", b"trace nothing\n",
                    b"failed\n", b"requeue --all\n", b"drain\n"):
        for read in (0, 1000):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(r.control))
                s.sendall(request)
                if read and request in (b"queue\n", b"hold --all\n"):
                    assert s.recv(10)
        assert r.count() == 600
    wait_until(lambda: not r.status()["paused"]["draining"], "no drain")
    # And one that is there when the daemon stops.
    r.ctl("release", "--all")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(r.control))
        s.sendall(b"drain\n")
        wait_until(lambda: r.status()["paused"]["draining"], "a drain")
        assert r.stop() == 0


def showq(directory, rows):
    """What the real postqueue asks for its list: a socket that answers with
    these messages, once for each form."""
    (directory / "public").mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "public" / "showq"))
    listener.listen()

    def attributes(**pairs):
        return b"".join(f"{k}\0{v}\0".encode() for k, v in pairs.items())
    names = {"active": "active", "waiting": "deferred", "held": "hold",
             "ready": "incoming"}
    answer = attributes(protocol="mail_queue_list_protocol") + b"\0"
    for e in rows:
        t = time.strptime(e["arrival"][:19], "%Y-%m-%dT%H:%M:%S")
        answer += attributes(
            queue_name=names[e["state"]], queue_id=e["id"],
            time=calendar.timegm(t), size=e["size"], forced_expire=0,
            sender=e["sender"] or "MAILER-DAEMON")
        for rcpt in e["recipients"]:
            answer += attributes(recipient=rcpt["address"],
                                 reason=e["last_reply"])
        answer += b"\0"

    def serve():
        for _ in range(2):
            c, _ = listener.accept()
            with c:
                c.sendall(answer + b"\0")
                c.shutdown(socket.SHUT_WR)
                c.recv(100)
        listener.close()
    threading.Thread(target=serve, daemon=True).start()


def test_mailq_is_what_postqueue_prints(sesd, relay, directory):
    """The same queue, printed by Postfix's own program."""
    s = sesd(rules=['on DOT times 1 reply "451 Temporary service failure"'])
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    r.wait_outcome(r.send(rcpts=["a@example.org", "b@example.org"]),
                   "deferred", 2)
    r.ctl("pause")
    r.send(message(b"x" * 4000 + b"\r\n"), sender="")
    r.ctl("hold", r.send())
    (directory / "conf").mkdir()
    (directory / "conf" / "main.cf").write_text(
        f"queue_directory = {directory}/q\nmail_owner = postfix\n"
        "setgid_group = postdrop\nenable_long_queue_ids = yes\n"
        "compatibility_level = 3.6\nimport_environment = MAIL_CONFIG TZ\n")
    showq(directory / "q", r.ctl_json("queue"))
    env = {**os.environ, "TZ": "UTC",
           "MAIL_CONFIG": str(directory / "conf")}
    for postfix, ours in (("-p", ()), ("-j", ("-j",))):
        theirs = subprocess.run(
            ["/usr/sbin/postqueue", "-c", str(directory / "conf"), postfix],
            capture_output=True, text=True, timeout=30, env=env)
        assert theirs.returncode == 0 and theirs.stdout, theirs.stderr
        assert ctl(r, "mailq", *ours, env=env).stdout == theirs.stdout
