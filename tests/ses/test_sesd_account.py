"""sesd: users, states of the account, identities, sets, replies by name."""

import base64
import subprocess

import pytest

from sesd_peer import Client, DEADLINE, ID, MAIL, PASSWORD, SESD, USER


def plain(user, password):
    return "AUTH PLAIN " + base64.b64encode(
        f"\0{user}\0{password}".encode()).decode()


def test_change_of_password(sesd):
    s = sesd()
    c = Client(s, "wrapper")
    c.do("EHLO x")

    def good(user, password):
        fresh = Client(s, "wrapper")
        fresh.do("EHLO x")
        return fresh.do(plain(user, password)).startswith(b"235")
    s.set(users=f"{USER}:new:one OTHER:x")
    assert good(USER, PASSWORD) and good(USER, "new:one") and good("OTHER", "x")
    assert not good(USER, "new") and not good("OTHER", PASSWORD)
    assert not good("OTHER", "y")
    assert not good("OTHER", "") and not good("", "x")
    s.set(password="new:one", users="")
    assert good(USER, "new:one")
    assert not good(USER, PASSWORD) and not good("OTHER", "x")
    for wrong in ("x", ":x", "a:b c"):
        with pytest.raises(ValueError):
            s.set(users=wrong)


@pytest.mark.parametrize("state,reply", [
    ("invalid", "535 Authentication Credentials Invalid"),
    ("unsubscribed", "535 Account not subscribed to SES"),
    ("auth-temporary", "454 Temporary authentication failure")])
def test_account_at_auth(sesd, state, reply):
    s = sesd("--set", f"account={state}")
    c = Client(s, "wrapper")
    c.do("EHLO x")
    assert c.do(plain(USER, PASSWORD)) == reply.encode() + b"\r\n"
    assert c.do("MAIL FROM:<a@x.test>").startswith(b"530 ")
    assert s.events("auth")[0]["ok"] is False
    s.set(account="ok")
    assert c.do(plain(USER, PASSWORD)).startswith(b"235 ")


SET = MAIL.replace(b"Subject", b"X-SES-CONFIGURATION-SET: mine \r\nSubject")


@pytest.mark.parametrize("state,content,reply", [
    ("paused", MAIL, "554 Message rejected: Sending paused for this account. "),
    ("denied", MAIL, "554 Access denied: User `arn:aws:iam::123456789012:user/"
     "ses-smtp-user' is not authorized to perform `ses:SendRawEmail' on "
     "resource `arn:aws:ses:eu-west-1:123456789012:identity/example.com'"),
    ("unverified", MAIL, "554 Message rejected: Email address is not verified."
     " The following identities failed the check in region EU-WEST-1: a@x.test"
     "\r\n"),
    ("mailfrom-unverified", MAIL, "554 MAIL FROM domain not verified: DNS "),
    ("configset-missing", SET, "554 Configuration Set does not exist: "
     "Configuration set <mine> does not exist.\r\n"),
    ("configset-missing", MAIL, "554 Configuration Set does not exist: "
     "Configuration set <default> does not exist.\r\n"),
    ("configset-paused", SET, "554 Message rejected: Email sending for the "
     "configuration set <mine> is paused.\r\n"),
    ("configset-denied", SET, "554 Access denied: User `arn:aws:iam::1234567890"
     "12:user/ses-smtp-user' is not authorized to perform `ses:SendRawEmail' "
     "on resource `arn:aws:ses:eu-west-1:123456789012:configuration-set/mine'"
     "\r\n"),
    ("tenant-paused", MAIL.replace(b"Subject", b"X-SES-TENANT: t1\r\nSubject"),
     "554 Message rejected: Sending paused for tenant <t1>.\r\n"),
])
def test_account_at_dot(sesd, state, content, reply):
    s = sesd("--set", "region=eu-west-1", "--set", "rate=1")
    c = Client(s, "wrapper").start()
    s.set(account=state)
    for _ in range(3):  # what is refused costs no quota
        assert c.mail(content).decode().startswith(reply)
        c.do("RSET")
    s.set(account="ok")
    assert ID.fullmatch(c.mail(content))
    assert s.stats()["rejected"] == 3


def test_configuration_sets(sesd):
    s = sesd("--set", "configuration_sets=mine, other")
    c = Client(s, "wrapper").start()
    assert ID.fullmatch(c.mail(SET))
    assert ID.fullmatch(c.mail())
    assert c.mail(SET.replace(b"mine", b"yours")) == (
        b"554 Configuration Set does not exist: Configuration set <yours> "
        b"does not exist.\r\n")


def test_sandbox(sesd):
    s = sesd("--set", "sandbox=1", "--set", "verified=x.test me@y.test")
    c = Client(s, "wrapper").start()
    failed = (b"554 Message rejected: Email address is not verified. The "
              b"following identities failed the check in region US-EAST-1: ")
    assert c.mail(rcpts=["me@y.test", "you@y.test", "z@z.test"]) == (
        failed + b"you@y.test, z@z.test\r\n")
    c.do("RSET")
    assert ID.fullmatch(c.mail(rcpts=[
        "me@y.test", "bounce+1@simulator.amazonses.com"]))
    s.set(sandbox=0)
    assert ID.fullmatch(c.mail(rcpts=["z@z.test"]))


def replies():
    out = subprocess.run([SESD, "--replies"], capture_output=True, text=True,
                         timeout=DEADLINE, check=True).stdout
    return [line.split(" ", 1) for line in out.splitlines()]


def test_replies_by_name(sesd):
    s = sesd()
    for name, text in replies():
        c = Client(s, "plain")
        s.ask("clear")
        s.ask(f"rule on NOOP reply {name}")
        assert c.do("NOOP").decode() == text + "\r\n"
        if text.startswith("421") or "Timeout waiting" in text:
            assert c.end() == "eof"
        else:
            assert c.do("RSET") == b"250 Ok\r\n"
    s.ask("clear")
    s.ask("rule on NOOP reply idle halfclose")  # an end of the rule's own
    c = Client(s, "plain")
    assert c.do("NOOP").startswith(b"451 4.4.2")
    assert c.end() == "eof" and s.stats()["connections"]["now"] == 1
    with pytest.raises(ValueError, match="reply's name"):
        s.ask("rule on NOOP reply nonsense")


def test_replies_are_those_of_the_emulator(sesd):
    """What the emulator says by itself is in the list under its name."""
    text = dict(replies())
    s = sesd("--set", "rate=1", "--set", "session_cap=1")
    c = Client(s, "wrapper")
    assert c.do("MAIL FROM:<a@x>").decode() == text["need-auth"] + "\r\n"
    c.start()
    assert c.do("MAIL FROM:<>").decode() == text["bad-sender"] + "\r\n"
    assert ID.fullmatch(c.mail())
    assert c.do("MAIL FROM:<a@x.test>").decode() == (
        text["session-cap"] + "\r\n")
    c = Client(s, "wrapper").start()
    assert c.mail().decode() == text["rate"] + "\r\n"
