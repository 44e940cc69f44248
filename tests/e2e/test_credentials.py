"""The SMTP password in the life of the daemon: replaced under load, wrong, late,
refused; and where it must never be found."""

import threading

import pytest

from harness import PASSWORD, USER, Submission, message, wait_until

NEW = "BBbphbrQmrKMx42d1N6+C7VINYEBGI5v9VsZeTxwskfh"
NEWER = "BKVmjjMDFk/qqw8EROW99bjCS65PF8WKvK5bSr4Y6EqF"
TRIED = "new credentials are being tried"


class Load:
    """Hands in mail until it is told to stop."""

    def __init__(self, relay):
        self.relay = relay
        self.n = 0
        self.failure = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stop.is_set():
                with Submission(self.relay.port) as client:
                    for _ in range(20):
                        client.mail(message())
                        self.n += 1
                # Not so much that the test takes long.
                self.stop.wait(0.02)
        except Exception as e:  # told by the thread that tests
            self.failure = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self.thread.join()
        assert self.failure is None, self.failure

    def goes_on(self, sesd, n=100):
        """That many more messages at SES."""
        sesd.wait_messages(len(sesd.messages()) + n)


def all_sent(s, r, n):
    """Nothing lost, doubled, deferred, bounced or aged."""
    r.wait_empty(60)
    ids = [m["message_id"] for m in s.messages()]
    assert len(ids) == n and len(set(ids)) == n
    outcomes = r.outcomes()
    assert {o["status"] for o in outcomes} == {"sent"}
    assert len(outcomes) == n
    assert r.dead_letters() == []


# Once they are open, no new one is needed; it would meet the new password first.
STEADY = {"delivery.connections": "6",
          "delivery.connection_lifetime": '"10m"',
          "delivery.messages_per_connection": "10000"}


def n_open(r):
    connections = r.status()["connections"]
    return connections["idle"] + connections["busy"]


def logins(s, ok):
    return [e for e in s.events("auth") if e["ok"] is ok]


def test_password_is_rotated_under_load(sesd, relay):
    """SES takes the new one only, from the moment of the reload."""
    s = sesd(settings={"dot_latency": "5ms"})
    r = relay(s, verbose=False, config=STEADY)
    with Load(r) as load:
        wait_until(lambda: n_open(r) == 6, "six connections")
        load.goes_on(s)
        before = {m["conn"] for m in s.messages()}
        s.set("password", NEW)
        r.set_password(NEW)
        assert TRIED in r.ctl("reload")
        r.wait_log("SES accepted the new credentials")
        load.goes_on(s, 300)
    all_sent(s, r, load.n)
    # The connections of before were renewed, and not by their age.
    last = [m["conn"] for m in s.messages()[-50:]]
    assert not before & set(last)
    assert logins(s, False) == []
    assert "new_credentials" not in r.status()["upstream"]


def test_connections_are_renewed_one_by_one(sesd, relay):
    """Logins take long, and mail waits; what is open works on until others are
    ready."""
    s = sesd(settings={"dot_latency": "200ms"})
    r = relay(s, verbose=False, config=STEADY)
    with Load(r) as load:
        wait_until(lambda: n_open(r) == 6, "six connections")
        before = {m["conn"] for m in s.messages()}
        s.rule("on AUTH delay 300 default")
        s.set("password", NEW)
        r.set_password(NEW)
        r.ctl("reload")
        fewest = 6

        def renewed():
            nonlocal fewest
            fewest = min(fewest, n_open(r))
            last = {m["conn"] for m in s.messages()[-30:]}
            return not last & before
        wait_until(renewed, "other connections")
        assert fewest >= 4
        s.set("dot_latency", "0")
    all_sent(s, r, load.n)


def test_user_and_password_are_rotated_with_nothing_to_send(sesd, relay):
    s = sesd()
    r = relay(s)
    s.set("user", "AKIAI44QH8DHBEXAMPLE")
    s.set("password", NEW)
    r.set_password(NEW)
    r.settings["ses.username"] = '"AKIAI44QH8DHBEXAMPLE"'
    r.write_config()
    assert TRIED in r.ctl("reload")
    r.wait_log("SES accepted the new credentials")
    [login] = s.events("auth")
    assert login["ok"] and login["user"] == "AKIAI44QH8DHBEXAMPLE"
    r.send()
    all_sent(s, r, 1)


def test_wrong_new_password_leaves_the_old_one_in_force(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.messages_per_connection": "10"})
    with Load(r) as load:
        load.goes_on(s)
        r.set_password("no-password-of-ses")
        r.ctl("reload")
        r.wait_log("the new password was refused: 535")
        refused = len(s.messages())
        # Many connections later, all of them with the old one.
        load.goes_on(s, 300)
        status = r.status()["upstream"]
        assert status["state"] == "ok"
        assert status["new_credentials"].startswith("refused: 535 ")
        assert "NOT IN FORCE, refused: 535" in r.ctl("status")
    all_sent(s, r, load.n)
    assert len(logins(s, False)) == 1
    assert r.log().count("the new password was refused") == 1
    assert len({m["conn"] for m in s.messages()[refused:]}) >= 20
    # A reload tries it once more; the right one is in force then.
    assert TRIED in r.ctl("reload")
    s.wait_event("auth", ok=False, n=2)
    s.set("password", NEW)
    r.set_password(NEW)
    assert TRIED in r.ctl("reload")
    r.wait_log("SES accepted the new credentials")
    r.send()
    all_sent(s, r, load.n + 1)


def test_old_password_again_ends_the_trial(sesd, relay):
    s = sesd()
    r = relay(s)
    r.set_password(NEW)
    r.ctl("reload")
    r.wait_log("the new password was refused: 535")
    r.set_password(PASSWORD)
    assert TRIED not in r.ctl("reload")
    assert "new_credentials" not in r.status()["upstream"]
    r.send()
    all_sent(s, r, 1)


def test_new_password_needs_no_trial_when_the_old_one_is_refused(sesd, relay):
    """SES answers 535 while mail comes in; a reload brings the new password:
    nothing is bounced, nothing has aged, all is delivered."""
    s = sesd()
    r = relay(s, config={"delivery.messages_per_connection": "10"})
    with Load(r) as load:
        load.goes_on(s)
        s.set("password", NEW)
        # Sessions of before work on until their time is over.
        wait_until(lambda: r.status()["connections"]["busy"] == 0 and
                   r.state() == "credentials refused", "a standstill")
        n = load.n
        wait_until(lambda: load.n > n + 200, "more mail")
        assert all(m["attempts"] == 0 for m in r.ctl_json("queue"))
        r.set_password(NEW)
        answer = r.ctl("reload")
        assert "new credentials are in force" in answer
        load.goes_on(s)
    all_sent(s, r, load.n)
    assert r.state() == "ok"


def test_new_password_needs_no_trial_after_a_535_to_mail(sesd, relay):
    """The old one logs in, and may do nothing."""
    s = sesd(rules=['on MAIL reply "535 Authentication Credentials Invalid"'])
    r = relay(s)
    r.send()
    r.wait_state("credentials refused")
    s.control("clear")
    s.set("password", NEW)
    r.set_password(NEW)
    assert "new credentials are in force" in r.ctl("reload")
    s.wait_messages(1)
    r.wait_empty()
    assert len(logins(s, True)) == 2 and logins(s, False) == []


def test_old_password_refused_while_the_new_one_waits(sesd, relay):
    """The new one was refused, as new ones are for a minute; then the old one
    is, too: the new one is in force."""
    s = sesd()
    r = relay(s)
    r.set_password(NEW)
    r.ctl("reload")
    r.wait_log("the new password was refused: 535")
    s.set("password", NEW)
    r.send()
    r.wait_log("SES refuses the old credentials")
    s.wait_messages(1)
    all_sent(s, r, 1)
    assert r.state() == "ok"


def test_file_replaced_without_reload_is_found_at_once(sesd, relay):
    """Both sides changed at the same time, nobody told the daemon."""
    s = sesd()
    r = relay(s)
    s.set("password", NEW)
    r.set_password(NEW)
    r.send()
    all_sent(s, r, 1)
    assert len(logins(s, False)) == 1
    assert "there are other SMTP credentials now" in r.log()


@pytest.mark.parametrize("verb", ["retry", "resume"])
def test_file_replaced_later_is_found_by_the_next_probe(sesd, relay, verb):
    s = sesd()
    r = relay(s)
    s.set("password", NEW)
    r.send()
    r.wait_state("credentials refused")
    assert r.status()["upstream"]["next_try_seconds"] > 30
    # A wrong one first: the probe takes it, and is refused.
    r.set_password(NEWER)
    r.ctl(verb)
    wait_until(lambda: len(logins(s, False)) == 2, "the probe")
    r.wait_state("credentials refused")
    r.set_password(NEW)
    r.ctl(verb)
    all_sent(s, r, 1)
    assert r.state() == "ok"
    # No probe with what was known to be refused.
    assert len(logins(s, False)) == 2


def test_unreadable_file_at_a_probe_keeps_what_was_read(sesd, relay):
    s = sesd()
    r = relay(s, verbose=False)
    s.set("password", NEW)
    r.password_file.chmod(0o640)
    r.send()
    r.wait_log("cannot be read again")
    assert "chmod 600" in r.log()
    r.ctl("retry")
    wait_until(lambda: len(logins(s, False)) == 2, "the probe")
    assert r.log().count("cannot be read again") == 1
    s.set("password", PASSWORD)
    r.ctl("retry")
    all_sent(s, r, 1)


def test_endpoint_and_password_change_at_once(sesd, relay):
    """To another region, say: the new place is tried as a whole before the old
    one is given up."""
    old, new = sesd(), sesd()
    new.set("password", NEW)
    r = relay(old, config={"delivery.messages_per_connection": "10000",
                           "delivery.connection_lifetime": '"10m"'})
    with Load(r) as load:
        load.goes_on(old)
        r.set_password(NEWER)
        r.set_ports((new.ports["starttls"], "starttls"))
        r.write_config()
        assert TRIED in r.ctl("reload")
        r.wait_log("the new password was refused: 535")
        load.goes_on(old)
        assert new.messages() == []
        r.set_password(NEW)
        r.ctl("reload")
        r.wait_log("SES accepted the new credentials")
        load.goes_on(new)
        # Nothing goes to the old place any more.
        n = len(old.messages())
        load.goes_on(new, 200)
        assert len(old.messages()) == n
    r.wait_empty(60)
    assert len(old.messages()) + len(new.messages()) == load.n
    assert {o["status"] for o in r.outcomes()} == {"sent"}
    assert old.events("auth")[-1]["ok"]


def test_trial_that_cannot_connect_is_repeated(sesd, relay):
    s = sesd()
    r = relay(s)
    s.control("refuse on")
    s.set("password", NEW)
    r.set_password(NEW)
    assert TRIED in r.ctl("reload")
    r.wait_log("the new password could not be tried")
    assert "not tried yet" in r.status()["upstream"]["new_credentials"]
    s.control("refuse off")
    r.wait_log("SES accepted the new credentials", 30)


def test_limits_change_while_new_credentials_wait(sesd, relay):
    s = sesd()
    r = relay(s)
    r.set_password(NEW)
    r.ctl("reload")
    r.wait_log("the new password was refused: 535")
    r.settings["delivery.messages_per_connection"] = "1"
    r.write_config()
    r.ctl("reload")
    for _ in range(5):
        r.send()
    all_sent(s, r, 5)
    assert len({m["conn"] for m in s.messages()}) == 5


def test_refusals_of_before_say_nothing_of_the_new_password(sesd, relay):
    """Twenty connections log in at a time with the old one; the first 535
    finds the new one, and the other nineteen come after that."""
    s = sesd(rules=["on AUTH times 20 delay 300 "
                    'reply "535 Authentication Credentials Invalid"'])
    r = relay(s)
    r.ctl("pause")
    for _ in range(40):
        r.send()
    s.set("password", NEW)
    r.set_password(NEW)
    r.ctl("resume")
    all_sent(s, r, 40)
    assert len(logins(s, False)) == 20


def test_sessions_of_before_a_refusal_go_on(sesd, relay):
    """New logins are refused; those that are logged in carry mail, and the
    queue stops, once, when the last of them has gone."""
    s = sesd()
    r = relay(s, config={**STEADY, "delivery.connections": "3"})
    with Load(r) as load:
        load.goes_on(s)
        s.set("password", NEW)
        r.ctl("rotate")  # each is to be replaced
        s.wait_event("auth", ok=False)
        load.goes_on(s)
        assert "deliveries pause" not in r.log()
        # Nothing is under way when they go.
        r.ctl("pause", "delivery")
        wait_until(lambda: n_open(r) == 0, "the end of the old sessions")
        r.ctl("resume", "delivery")
        r.wait_state("credentials refused")
        assert r.log().count("deliveries pause") == 1
        assert {m["attempts"] for m in r.ctl_json("queue")} <= {0}
        r.set_password(NEW)
        r.ctl("reload")
        load.goes_on(s)
    all_sent(s, r, load.n)
