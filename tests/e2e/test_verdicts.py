"""What SES says, and what becomes of the mail: sent, deferred, bounced or
held, as the log, the queue, the dead letters and sesd's journal have it."""

import datetime
import json
import re
import time

import pytest

from harness import RCPT, message, wait_until, without_received

ONE = {"delivery.connections": "1"}
# A body that no socket buffers swallow, so that its end is not yet sent.
HUGE = message(b"a line of text\r\n" * 1_500_000)


def contents(s):
    return [without_received(s.stored(e)) for e in s.messages()]


def once(s, r, *wanted):
    """They arrived, exactly once; nothing is left, nothing was given up."""
    s.wait_messages(len(wanted))
    r.wait_empty()
    assert contents(s) == list(wanted)
    assert r.counter('recipients_total{status="failed"}') == 0
    assert r.dead_letters() == []


def warm_up(s, r):
    """A first message, whose connection the next one will use."""
    content = message()
    r.send(content)
    s.wait_messages(1)
    r.wait_empty()
    return content


# --- for good ---

UNVERIFIED = ("554 Message rejected: Email address is not verified. The "
              "following identities failed the check in region US-EAST-1: "
              "app@example.com")
BOUNCES = [
    ("MAIL", "501 Invalid MAIL FROM address provided", "rewrite.senders"),
    ("MAIL", "553 <app@example.com> Invalid email address", "sender"),
    ("MAIL", "552 5.3.4 Message size exceeds fixed limit", "smaller"),
    ("RCPT", "501 Invalid RCPT TO address provided", "malformed"),
    ("RCPT", "553 <user@example.net> address unknown", "recipient"),
    ("DATA", "554 Transaction failed", "correct the program"),
    ("DOT", UNVERIFIED, "verify the sender's domain"),
    ("DOT", "554 Transaction failed: Duplicate header 'Subject'.",
     "rewrite.duplicate_headers"),
    ("DOT", "554 Transaction failed: Missing start boundary", "MIME"),
    ("DOT", "554 Transaction failed: Missing final '@domain'",
     "rewrite.default_domain"),
    ("DOT", "554 Transaction failed: Address contains illegal characters in "
     "user name: '<\\\"us:er\\\"@example.net>'.", "malformed address"),
    ("DOT", "554 Transaction failed: Invalid domain name: '-x'.",
     "malformed domain"),
    ("DOT", "552 Message is too long.", "smtp.max_message_size"),
    ("DOT", "554 Something new", "the reply says why"),
    ("DOT", "550 5.7.1 no", "the reply says why"),
]


@pytest.mark.parametrize("phase,reply,advice", BOUNCES,
                         ids=[f"{p}: {r[:50]}" for p, r, _ in BOUNCES])
def test_refused_for_good(sesd, relay, phase, reply, advice):
    s = sesd(rules=[f'on {phase} times 1 reply "{reply}"'])
    r = relay(s, config=ONE)
    content = message()
    qid = r.send(content)
    [o] = r.wait_outcome(qid, "bounced")
    said = reply.replace('\\"', '"')
    assert o["note"].startswith(said)
    assert advice in o["note"]
    assert o["dsn"].startswith("5.")
    r.wait_empty()
    assert s.messages() == []
    assert r.dead_letters() == [f"{qid}.eml"]
    fields, kept = r.dead_letter(qid)
    assert without_received(kept) == content
    assert fields["Recipient"] == [RCPT]
    assert fields["Id"] == [qid]
    assert fields["Reason"][0].startswith(said[:20])
    assert r.counter('recipients_total{status="failed"}') == 1
    assert len(r.outcomes(qid)) == 1
    # What comes next is not affected.
    following = message()
    r.send(following)
    s.wait_messages(1)
    assert contents(s) == [following]


def test_one_of_three_recipients_refused(sesd, relay):
    s = sesd(rules=['on RCPT when rcpt=bad@example.org reply '
                    '"501 Invalid RCPT TO address provided"'])
    r = relay(s)
    content = message()
    rcpts = ["a@example.org", "bad@example.org", "c@example.org"]
    qid = r.send(content, rcpts=rcpts)
    r.wait_empty()
    [e] = s.messages()
    assert e["rcpts"] == ["a@example.org", "c@example.org"]
    assert {(o["to"], o["status"]) for o in r.outcomes(qid)} == {
        ("a@example.org", "sent"), ("bad@example.org", "bounced"),
        ("c@example.org", "sent")}
    fields, kept = r.dead_letter(qid)
    assert fields["Recipient"] == ["bad@example.org"]
    assert without_received(kept) == content


def test_all_recipients_refused(sesd, relay):
    s = sesd(rules=['on RCPT times 3 reply "553 <x> address unknown"'])
    r = relay(s, config=ONE)
    rcpts = ["a@example.org", "b@example.org", "c@example.org"]
    qid = r.send(rcpts=rcpts)
    r.wait_empty()
    assert r.dead_letter(qid)[0]["Recipient"] == rcpts
    r.send()
    s.wait_messages(1)
    assert s.stats()["connections"]["total"] == 1


def test_dead_letter_of_a_large_message(sesd, relay):
    s = sesd(rules=[f'on DOT reply "{UNVERIFIED}"'])
    r = relay(s)
    content = message(b"line of text\r\n" * 300_000)
    qid = r.send(content)
    r.wait_outcome(qid, "bounced")
    r.wait_empty()
    assert without_received(r.dead_letter(qid)[1]) == content
    assert not list(r.spool.rglob("*.body"))


def test_dead_letter_stays_over_a_restart(sesd, relay):
    s = sesd(rules=['on DOT times 1 reply "554 Transaction failed: x"'])
    r = relay(s)
    qid = r.send()
    r.wait_outcome(qid, "bounced")
    r.wait_empty()
    r.kill()
    r.start()
    assert r.count() == 0
    assert r.dead_letters() == [f"{qid}.eml"]
    r.send()
    assert len(s.wait_messages(1)) == 1


def test_too_old_is_given_up(sesd, relay):
    s = sesd(rules=['on DOT reply "451 Temporary service failure"'])
    r = relay(s, config={"delivery.expire": '"500ms"'})
    qid = r.send()
    [o] = r.wait_outcome(qid, "bounced")
    assert r.outcomes(qid)[0]["status"] == "deferred"
    r.wait_empty()
    fields, _ = r.dead_letter(qid)
    assert "too old (delivery.expire)" in fields["Reason"][0]
    assert "451 Temporary service failure" in fields["Reason"][0]


# --- for now ---

DEFERRALS = [
    ("MAIL", "451 Temporary service failure"),
    ("RCPT", "451 Temporary service failure"),
    ("RCPT", "452 Error: too many recipients"),
    ("DATA", "451 Temporary service failure"),
    ("DOT", "451 Temporary service failure"),
    ("DOT", "454 Temporary service failure"),
    ("DOT", "450 4.7.1 try again"),
    ("DOT", "554 MAIL FROM domain not verified: DNS setup for MAIL FROM "
     "domain is invalid."),
    ("MAIL", "502 not implemented"),
]


@pytest.mark.parametrize("phase,reply", DEFERRALS,
                         ids=[f"{p}: {r[:50]}" for p, r in DEFERRALS])
def test_refused_for_now(sesd, relay, phase, reply):
    s = sesd(rules=[f'on {phase} times 2 reply "{reply}"'])
    r = relay(s, config=ONE)
    content = message()
    qid = r.send(content)
    once(s, r, content)
    outcomes = r.outcomes(qid)
    assert [o["status"] for o in outcomes] == ["deferred", "deferred", "sent"]
    for o in outcomes[:2]:
        assert o["note"].startswith(reply)
        assert o["dsn"].startswith("4.")
        assert "next attempt in " in o["note"]
    assert r.counter('recipients_total{status="deferred"}') == 2


def test_one_of_three_recipients_later(sesd, relay):
    s = sesd(rules=['on RCPT when rcpt=b@example.org times 1 reply '
                    '"450 not now"'])
    r = relay(s)
    qid = r.send(rcpts=["a@example.org", "b@example.org", "c@example.org"])
    r.wait_empty()
    assert [e["rcpts"] for e in s.messages()] == [
        ["a@example.org", "c@example.org"], ["b@example.org"]]
    assert sorted(o["status"] for o in r.outcomes(qid)) == [
        "deferred", "sent", "sent", "sent"]


@pytest.mark.parametrize("reply", ["452 Error: too many recipients",
                                   "552 too many recipients"])
def test_too_many_recipients_go_on_at_once(sesd, relay, reply):
    """Those that SES takes no more in this transaction go in the next one,
    without a wait."""
    s = sesd(rules=[f'on RCPT when rcpts>=3 reply "{reply}"'])
    r = relay(s, config={"delivery.retry": '[ "1m" ]', **ONE})
    rcpts = [f"u{i}@example.org" for i in range(8)]
    content = message()
    qid = r.send(content, rcpts=rcpts)
    r.wait_outcome(qid, "sent", 8, timeout=10)
    r.wait_empty()
    assert [e["rcpts"] for e in s.messages()] == [
        rcpts[:3], rcpts[3:6], rcpts[6:]]
    assert r.dead_letters() == []


def test_too_many_recipients_without_progress_wait(sesd, relay):
    s = sesd(rules=['on RCPT times 1 reply "452 Error: too many recipients"'])
    r = relay(s, config={"delivery.retry": '[ "300ms" ]', **ONE})
    qid = r.send()
    r.wait_empty()
    assert [o["status"] for o in r.outcomes(qid)] == ["deferred", "sent"]
    assert "next attempt in " in r.outcomes(qid)[0]["note"]


def test_recipient_refused_with_552_fails_alone(sesd, relay):
    s = sesd(rules=['on RCPT when rcpt=full@example.org reply '
                    '"552 mailbox full"'])
    r = relay(s)
    qid = r.send(rcpts=["a@example.org", "full@example.org", "c@example.org"])
    r.wait_empty()
    assert [e["rcpts"] for e in s.messages()] == [
        ["a@example.org", "c@example.org"]]
    assert r.dead_letter(qid)[0]["Recipient"] == ["full@example.org"]


def test_retry_keeps_to_its_schedule(sesd, relay):
    s = sesd(rules=['on DOT reply "451 Temporary service failure"'])
    r = relay(s, config={"delivery.retry": '[ "400ms", "800ms", "1h" ]'})
    qid = r.send()
    # sesd has said so before the relay has taken it in.
    r.wait_outcome(qid, "deferred", 3)
    [m] = r.ctl_json("queue", "waiting")
    assert (m["id"], m["attempts"]) == (qid, 3)
    assert m["last_reply"].startswith("451 Temporary service failure")
    times = [e["time"] for e in s.events("refused")]
    # Slots at 0.4 and 1.2 s after arrival, with up to a tenth of jitter; a busy
    # machine may be late for any of them, yet is never early.
    arrival = datetime.datetime.fromisoformat(
        m["arrival"].replace("Z", "+00:00")).timestamp()
    assert 0.35 <= times[1] - arrival < 10
    assert 1.1 <= times[2] - arrival < 10
    note = r.outcomes(qid)[2]["note"]
    wait = int(re.search(r"next attempt in (\d+)s", note)[1])
    assert 3590 <= wait <= 3961


THROTTLES = [
    "454 Throttling failure: Maximum sending rate exceeded.",
    "454 Throttling failure: Maximum SigV2 SMTP sending rate exceeded.",
    "454 Throttling failure: something new",
]


@pytest.mark.parametrize("reply", THROTTLES)
def test_throttled(sesd, relay, reply):
    s = sesd(rules=[f'on DOT times 1 reply "{reply}"'])
    r = relay(s, config=ONE)
    content = message()
    r.send(content)
    r.wait_state("throttled")
    assert reply in r.status()["upstream"]["last_error"]
    once(s, r, content)
    r.wait_state("ok")
    assert r.counter('throttled_total{kind="rate"}') == 1
    # The connection was not given up for it.
    assert s.stats()["connections"]["total"] == 1


def test_real_rate_limit(sesd, relay):
    s = sesd(settings={"rate": 20})
    r = relay(s)
    sent = set()
    with r.submit() as client:
        for _ in range(40):
            content = message()
            client.mail(content)
            sent.add(content)
    r.wait_empty(60)
    assert len(s.messages()) == 40 and set(contents(s)) == sent
    assert "bounced" not in {o["status"] for o in r.outcomes()}


HOLDS = [
    ("DOT", "454 Throttling failure: Daily message quota exceeded.",
     "daily quota"),
    ("DOT", "554 Message rejected: Sending paused for this account. For more "
     "information, please check the inbox of the email address associated "
     "with your AWS account.", "account"),
    ("DOT", "554 Access denied: User `arn:aws:iam::123456789012:user/x' is "
     "not authorized to perform `ses:SendRawEmail' on resource "
     "`arn:aws:ses:us-east-1:123456789012:identity/example.com'", "account"),
    ("DOT", "554 Configuration Set does not exist: Configuration set <x> does "
     "not exist.", "account"),
    ("MAIL", "530 Authentication required", "credentials"),
    ("MAIL", "530 Must issue a STARTTLS command first", "credentials"),
    ("MAIL", "535 Authentication Credentials Invalid", "credentials"),
]


@pytest.mark.parametrize("phase,reply,state", HOLDS,
                         ids=[f"{p}: {r[:40]}" for p, r, _ in HOLDS])
def test_account_trouble_holds_the_queue(sesd, relay, phase, reply, state):
    s = sesd(rules=[f'on {phase} reply "{reply}"'])
    r = relay(s)
    content = message()
    qid = r.send(content)
    wait_until(lambda: r.state().startswith(state), f"upstream {state}")
    r.wait_log("nothing is lost or bounced")
    status = r.status()["upstream"]
    assert reply in status["last_error"]
    assert status["next_try_seconds"] > 30
    [m] = r.ctl_json("queue")
    assert (m["id"], m["attempts"]) == (qid, 0)
    assert "bounced" not in {o["status"] for o in r.outcomes()}
    assert r.dead_letters() == []
    # More mail is taken, and waits with it.
    more = message()
    r.send(more)
    assert r.count() == 2
    assert len(s.events("refused")) == 1
    # A restart tries at once.
    s.control("clear")
    assert r.stop() == 0
    r.start()
    s.wait_messages(2)
    r.wait_empty()
    assert sorted(contents(s)) == sorted([content, more])
    assert r.dead_letters() == []


ONE_SENDER = [
    "554 Access denied: User `arn:aws:iam::123456789012:user/x' is not "
    "authorized to perform `ses:SendRawEmail' on resource "
    "`arn:aws:ses:us-east-1:123456789012:identity/other.example'",
    "554 Configuration Set does not exist: Configuration set <x> does not "
    "exist."]


@pytest.mark.parametrize("reply", ONE_SENDER, ids=lambda r: r[:20])
def test_account_words_about_one_sender_stop_nobody_else(sesd, relay, reply):
    """A program with a sender or a configuration set of its own that SES does
    not take: what the others send goes out in between without a pause."""
    s = sesd(rules=[f'on DOT when from=bad@other.example reply "{reply}"'])
    r = relay(s, config={"delivery.retry": '[ "1m" ]', **ONE})
    contents_, bad = [], []
    for _ in range(4):
        contents_.append(message())
        r.send(contents_[-1])
        s.wait_messages(len(contents_), timeout=10)
        bad.append(r.send(sender="bad@other.example"))
        s.wait_event("refused", len(bad), timeout=10)
    contents_.append(message())
    r.send(contents_[-1])
    s.wait_messages(5, timeout=10)
    assert contents(s) == contents_
    assert "deliveries pause" not in r.log()
    r.wait_log(f"{bad[0]}: SES refuses this message, though others went out")
    queue = r.ctl_json("queue")
    assert {(m["id"], m["attempts"]) for m in queue} == {(q, 0) for q in bad}
    assert r.dead_letters() == []


def test_account_trouble_that_is_no_single_case(sesd, relay):
    """Mail went out, then it does not: the second refusal in a row stops the
    queue, and nothing fails."""
    s = sesd()
    r = relay(s, config=ONE)
    sent = [warm_up(s, r)]
    s.set("account", "paused")
    for n in range(2):
        sent.append(message())
        r.send(sent[-1])
        s.wait_event("refused", n + 1)
    r.wait_state("account refused")
    r.wait_log("deliveries pause")
    s.set("account", "ok")
    r.ctl("retry", "--all")
    s.wait_messages(3)
    r.wait_empty()
    assert sorted(contents(s)) == sorted(sent)
    assert r.dead_letters() == []


@pytest.mark.parametrize("account", ["paused", "denied"])
def test_time_without_the_account_ages_no_message(sesd, relay, account):
    """It waited for the account beyond delivery.expire: a passing refusal
    afterwards, or two, are not its end."""
    s = sesd(settings={"account": account})
    r = relay(s, config={"delivery.expire": '"2s"',
                         "delivery.retry": '[ "200ms" ]'})
    content = message()
    qid = r.send(content)
    sent = time.monotonic()
    r.wait_state("account refused")
    wait_until(lambda: time.monotonic() - sent > 2.5, "it to be too old")
    assert r.count() == 1 and r.dead_letters() == []
    s.rule('on DOT times 2 reply "451 Temporary service failure"')
    s.set("account", "ok")
    r.ctl("retry", "--all")
    once(s, r, content)
    assert len(s.events("refused")) == 3
    assert {o["status"] for o in r.outcomes(qid)} == {"deferred", "sent"}


def test_one_refusal_is_not_the_last_word_after_a_restart(sesd, relay):
    """Whatever kept it waiting: an old message is not given up by the first
    refusal that a new process sees, but by the second."""
    s = sesd()
    s.control("refuse on")
    r = relay(s, config={"delivery.expire": '"500ms"'})
    qid = r.send()
    sent = time.monotonic()
    r.wait_state("unreachable")
    assert r.stop() == 0
    wait_until(lambda: time.monotonic() - sent > 1, "it to be too old")
    s.rule('on DOT reply "451 Temporary service failure"')
    s.control("refuse off")
    r.start()
    r.wait_outcome(qid, "bounced")
    assert [o["status"] for o in r.outcomes(qid)] == ["deferred", "bounced"]


# --- free of charge ---

LATE = ["MAIL", "RCPT", "DATA", "DOT"]
GOODBYES = [
    "421 Service not available, closing transmission channel.",
    "421 Connection closed by server. Maximum message count per session "
    "reached.",
    "421 4.4.0 Problem attempting to execute commands.",
    "421 Timeout waiting for data from client.",
]


def final_attempt(r, qid):
    """Number of the attempt that succeeded, from a log in JSON."""
    lines = [o for o in map(json.loads, r.log().splitlines())
             if o.get("id") == qid and o.get("status") == "sent"]
    assert len(lines) == 1
    return int(lines[0]["attempt"])


EARLY = ["CONNECT", "EHLO", "AUTH"]


def loses_one_connection(s, r, content):
    """content goes out by the second connection, at no charge."""
    qid = r.send(content)
    wait_until(lambda: content in contents(s), "the message at sesd")
    r.wait_empty()
    assert final_attempt(r, qid) == 1
    assert s.stats()["connections"]["total"] == 2
    assert r.counter("messages_uncertain_total") == 0
    assert r.counter('recipients_total{status="deferred"}') == 0


@pytest.mark.parametrize("phase", LATE)
@pytest.mark.parametrize("reply", GOODBYES, ids=lambda r: r[:30])
def test_421_under_a_message(sesd, relay, phase, reply):
    s = sesd(rules=[f'on {phase} when msgs=1 times 1 reply "{reply}" close'])
    r = relay(s, config={"log.format": '"json"'})
    first, content = warm_up(s, r), message()
    loses_one_connection(s, r, content)
    once(s, r, first, content)


@pytest.mark.parametrize("phase", EARLY)
def test_421_before_any_message(sesd, relay, phase):
    s = sesd(rules=[f'on {phase} times 1 reply "{GOODBYES[0]}" close'])
    r = relay(s, config={"log.format": '"json"'})
    content = message()
    loses_one_connection(s, r, content)
    once(s, r, content)


@pytest.mark.parametrize("rule", [
    "on AUTH default close",
    'on MAIL reply "421 Service not available" close',
])
def test_whoever_lets_us_in_to_throw_us_out_is_not_pressed(sesd, relay, rule):
    s = sesd(rules=[rule])
    # As many as that may be on their way before the first is thrown out.
    r = relay(s, config={"delivery.connections": "4"})
    with r.submit() as client:
        for _ in range(30):
            client.mail(message())

    def ages():
        times = [e["time"] for e in s.events("auth")]
        return [t - times[0] for t in times]

    wait_until(lambda: max(ages(), default=0) >= 2, "a login 2 s later")
    assert len([age for age in ages() if age < 2]) <= 10
    s.control("clear")
    s.wait_messages(30)
    r.wait_empty()
    assert len(s.messages()) == 30


DESYNCS = [
    ("MAIL", 'reply "503 5.5.1 Sender already specified."'),
    ("RCPT", 'reply "503 5.5.1 Error: need MAIL command"'),
    ("DATA", 'reply "250 Ok"'),
    ("MAIL", 'reply "354 go"'),
    ("MAIL", 'raw "250 Ok\\r\\n250 Ok\\r\\n"'),
    ("RCPT", 'raw "250 Ok\\r\\n354 go\\r\\n250 Ok fake\\r\\n"'),
    ("DATA", 'raw "354 go\\r\\n250 Ok fake\\r\\n"'),
    ("MAIL", 'raw "250-a\\r\\n251 b\\r\\n"'),
    ("MAIL", 'raw "2500 Ok\\r\\n"'),
    ("MAIL", 'raw "25x Ok\\r\\n"'),
    ("MAIL", 'raw "\\0\\0\\0\\r\\n"'),
    ("MAIL", 'raw "199 what\\r\\n"'),
    ("MAIL", 'raw "999 what\\r\\n"'),
    ("MAIL", 'raw "000 what\\r\\n"'),
]


@pytest.mark.parametrize("phase,action", DESYNCS,
                         ids=[f"{p}: {a}" for p, a in DESYNCS])
def test_replies_that_do_not_fit(sesd, relay, phase, action):
    s = sesd(rules=[f"on {phase} when msgs=1 times 1 {action}"])
    r = relay(s, config={"log.format": '"json"'})
    first, content = warm_up(s, r), message()
    loses_one_connection(s, r, content)
    once(s, r, first, content)


ACTIONS = {
    "close": "close",
    "reset": "reset",
    "half a reply, then close": 'raw "25" close',
    "garbage": 'raw "no such thing\\r\\n"',
    "line without end": 'raw "250-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" '
                        'repeat 30000',
    "lines without end": 'raw "250-a\\r\\n" repeat 200000',
    "stall": "stall",
}


QUICK = {"delivery.timeout_greeting": '"300ms"',
         "delivery.timeout_command": '"300ms"',
         "delivery.timeout_data": '"300ms"',
         "log.format": '"json"'}


@pytest.mark.parametrize("phase", LATE[:-1])
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS.keys())
def test_connection_lost_under_a_message(sesd, relay, phase, action):
    s = sesd(rules=[f"on {phase} when msgs=1 times 1 {action}"])
    r = relay(s, config=QUICK)
    first, content = warm_up(s, r), message()
    loses_one_connection(s, r, content)
    once(s, r, first, content)


@pytest.mark.parametrize("phase", EARLY)
@pytest.mark.parametrize("action", ["reset", "garbage", "stall",
                                    "lines without end"])
def test_connection_lost_before_any_message(sesd, relay, phase, action):
    s = sesd(rules=[f"on {phase} times 1 {ACTIONS[action]}"])
    r = relay(s, config=QUICK)
    content = message()
    loses_one_connection(s, r, content)
    once(s, r, content)


@pytest.mark.parametrize("action", [
    "close", "reset", "stall", 'raw "no such thing\\r\\n" stall',
    'reply "421 Service not available" close',
])
@pytest.mark.parametrize("mode", ["starttls", "wrapper"])
def test_connection_lost_within_the_content(sesd, relay, mode, action):
    s = sesd(rules=[f"on BODY when msgs=1 and bytes>100000 times 1 {action}"])
    r = relay(s, mode, config=QUICK)
    first = warm_up(s, r)
    loses_one_connection(s, r, HUGE)
    once(s, r, first, HUGE)


def test_refusal_within_the_content(sesd, relay):
    """A reply before all of it is sent: the connection is not used again."""
    s = sesd(rules=['on BODY when bytes>100000 times 1 reply '
                    '"451 Temporary service failure"'])
    r = relay(s)
    qid = r.send(HUGE)
    once(s, r, HUGE)
    assert [o["status"] for o in r.outcomes(qid)] == ["deferred", "sent"]
    assert s.messages()[0]["conn"] == 2


def test_late_reply_is_not_taken_for_another(sesd, relay):
    s = sesd(rules=["on MAIL times 1 delay 700"])
    r = relay(s, config={"delivery.timeout_command": '"300ms"'})
    content = message()
    r.send(content)
    once(s, r, content)
    assert s.messages()[0]["conn"] == 2


@pytest.mark.parametrize("action", ["drip 2", "bytewise"])
def test_slow_and_fragmented_replies(sesd, relay, action):
    s = sesd(rules=[f"on {p} times 1 {action}" for p in EARLY + LATE])
    r = relay(s)
    content = message()
    r.send(content)
    once(s, r, content)
    assert s.stats()["connections"]["total"] == 1


def test_many_faults_at_once(sesd, relay):
    """Fault upon fault under a load: nothing is lost or bounced, and nothing
    comes twice but what was lost after its end."""
    s = sesd(settings={"idle": "2s"}, rules=[
        # On connections that have shown to be good: no waits to connect.
        "on MAIL when msgs>0 every 17 close",
        "on RCPT when msgs>0 every 23 reset",
        "on DATA when msgs>0 every 19 close",
        'on DATA when msgs>0 every 9 reply "451 no"',
        'on DOT when msgs>0 every 8 reply "451 Temporary service failure"',
        'on DOT when msgs>0 every 17 reply "421 Service not available" close',
        'on DOT when msgs>0 every 9 reply "454 Throttling failure: Maximum '
        'sending rate exceeded." skip 40 times 1',
        "on AUTH skip 2 times 1 reset",
        "on DOT when msgs>0 every 23 accept close"])
    r = relay(s, config={"delivery.connections": "5"})
    sent = set()
    with r.submit() as client:
        for _ in range(200):
            content = message()
            client.mail(content)
            sent.add(content)
    r.wait_empty(60)
    assert set(contents(s)) == sent
    assert r.dead_letters() == []
    twice = len(s.messages()) - len(sent)
    assert twice == sum(1 for e in s.events("rule") if e["rule"] == 9)
    assert r.counter("messages_uncertain_total") == twice > 0


# --- after the dot ---

LOSSES = {
    "close": "close",
    "reset": "reset",
    "stall": "stall",
    "half a reply": 'raw "25" close',
    "a reply without end": 'raw "250-Ok\\r\\n" close',
    "no digits": 'raw "25x Ok\\r\\n"',
    "four digits": 'raw "2500 Ok\\r\\n"',
    "two codes": 'raw "250-a\\r\\n251 b\\r\\n"',
    "neither yes nor no": 'reply "354 go on"',
    "line without end": 'raw "250-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" '
                        'repeat 30000',
    "garbage": 'raw "no such thing\\r\\n"',
}


@pytest.mark.parametrize("action", LOSSES.values(), ids=LOSSES.keys())
def test_reply_to_the_dot_is_lost(sesd, relay, action):
    """SES had not taken it: it arrives once, by the second attempt."""
    s = sesd(rules=[f"on DOT times 1 {action}"])
    r = relay(s, config={"delivery.timeout_final": '"500ms"'})
    content = message(message_id="unsure@example.com")
    qid = r.send(content)
    once(s, r, content)
    assert r.counter("messages_uncertain_total") == 1
    assert "message-id=<unsure@example.com>" in r.log()
    assert "delivery uncertain" in r.log()
    assert [o["status"] for o in r.outcomes(qid)] == ["deferred", "sent"]


@pytest.mark.parametrize("action", ["accept close", "accept reset",
                                    'accept raw "25" close', "accept stall"])
def test_taken_though_the_reply_was_lost(sesd, relay, action):
    s = sesd(rules=[f"on DOT times 1 {action}"])
    r = relay(s, config={"delivery.timeout_final": '"500ms"'})
    content = message(message_id="unsure@example.com")
    qid = r.send(content)
    r.wait_empty()
    assert contents(s) == [content, content]
    assert {e["message_id"] for e in s.messages()} == {"unsure@example.com"}
    assert r.counter("messages_uncertain_total") == 1
    assert f"{qid}: delivery uncertain, message-id=<unsure@example.com>" in \
        r.log()
    first, second = r.outcomes(qid)
    assert first["status"] == "deferred" and "next attempt" in first["note"]
    assert second["status"] == "sent"
    # By the schedule, not at once.
    assert s.messages()[1]["time"] - s.messages()[0]["time"] > 0.08


def test_uncertain_can_be_held(sesd, relay):
    s = sesd(rules=["on DOT times 1 accept close"])
    r = relay(s, config={"delivery.uncertain": '"hold"'})
    content = message()
    qid = r.send(content)
    wait_until(lambda: r.ctl_json("queue", "held"), "a held message")
    other = message()
    r.send(other)
    s.wait_messages(2)
    [m] = r.ctl_json("queue")
    assert (m["id"], m["state"]) == (qid, "held")
    r.wait_log("it is held (delivery.uncertain)")
    r.wait_log(f"then sesrelayctl delete {qid}, or sesrelayctl release {qid} "
               "to send it again")
    r.kill()
    r.start()
    last = message()
    r.send(last)
    s.wait_messages(3)
    [m] = r.ctl_json("queue")
    assert (m["id"], m["state"]) == (qid, "held")
    assert contents(s) == [content, other, last]
    r.ctl("release", qid)
    s.wait_messages(4)
    assert contents(s)[3] == content


def test_uncertain_hold_with_a_refused_recipient(sesd, relay):
    """The one refused for good gets its dead letter, the other is held: what
    is done for the first may not send the second again."""
    s = sesd(rules=['on RCPT when rcpt = bad@example.net '
                    'reply "501 Invalid RCPT TO address provided"',
                    "on DOT times 1 accept close"])
    r = relay(s, config={"delivery.uncertain": '"hold"'})
    qid = r.send(rcpts=["bad@example.net", "good@example.net"])
    wait_until(lambda: r.dead_letters(), "the dead letter")
    wait_until(lambda: r.status()["queue"]["held"] == 1, "the message held")
    [m] = r.ctl_json("queue")
    assert (m["id"], m["state"]) == (qid, "held")
    assert {x["address"]: x["state"] for x in m["recipients"]} == {
        "bad@example.net": "failed", "good@example.net": "pending"}
    # A restart still holds it.
    assert r.stop() == 0
    r.start()
    r.wait_log("spool read: 1 messages")
    assert r.status()["queue"]["held"] == 1
    assert len(s.messages()) == 1


def test_refusal_of_the_dot_frees_the_connection(sesd, relay):
    """RSET: without it sesd would say 503 to the next message, as SES."""
    s = sesd(rules=['on DOT times 1 reply "451 Temporary service failure"',
                    'on DOT times 1 reply "554 Transaction failed: x"'])
    r = relay(s, config=ONE)
    sent = [message() for _ in range(4)]
    with r.submit() as client:
        for content in sent:
            client.mail(content)
    r.wait_empty()
    assert len(s.messages()) == 3 and len(r.dead_letters()) == 1
    assert s.stats()["connections"]["total"] == 1
    assert [e["reply"][:3] for e in s.events("refused")] == ["451", "554"]


@pytest.mark.parametrize("phase", ["MAIL", "RCPT", "DATA"])
def test_refusal_before_the_content_frees_the_connection(
        sesd, relay, phase):
    s = sesd(rules=[f'on {phase} times 1 reply "450 not now"'])
    r = relay(s, config=ONE)
    with r.submit() as client:
        for _ in range(3):
            client.mail()
    r.wait_empty()
    assert len(s.messages()) == 3
    assert s.stats()["connections"]["total"] == 1
    assert [e["reply"] for e in s.events("refused")] == ["450 not now"]


# --- refused as a whole, because of one ---

def test_recipient_count_exceeds(sesd, relay):
    s = sesd(settings={"max_recipients": 10})
    r = relay(s)
    rcpts = [f"u{i}@example.org" for i in range(25)]
    content = message()
    qid = r.send(content, rcpts=rcpts)
    r.wait_empty()
    assert sorted(sum((e["rcpts"] for e in s.messages()), [])) == sorted(rcpts)
    assert set(contents(s)) == {content}
    assert r.dead_letters() == []
    assert "bounced" not in {o["status"] for o in r.outcomes(qid)}


@pytest.mark.parametrize("reply", [
    "554 Transaction failed: Address contains illegal characters in user "
    "name: '<x>'.",
    "554 Transaction failed: Invalid domain name: 'x'.",
], ids=["user", "domain"])
def test_one_bad_address_fails_alone(sesd, relay, reply):
    s = sesd(rules=[f'on DOT when rcpt=bad@example.org reply "{reply}"'])
    r = relay(s)
    content = message()
    rcpts = ["a@example.org", "bad@example.org", "c@example.org"]
    qid = r.send(content, rcpts=rcpts)
    r.wait_empty()
    assert sorted(e["rcpts"] for e in s.messages()) == [
        ["a@example.org"], ["c@example.org"]]
    assert set(contents(s)) == {content}
    fields, kept = r.dead_letter(qid)
    assert fields["Recipient"] == ["bad@example.org"]
    assert fields["Reason"][0].startswith(reply[:40])
    assert without_received(kept) == content
    [o] = [o for o in r.outcomes(qid) if o["status"] == "bounced"]
    assert o["to"] == "bad@example.org"
