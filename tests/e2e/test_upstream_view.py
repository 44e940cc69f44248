"""What the operator is shown of SES: `status`, `connections`, `metrics`.  It
has to be true, as the emulator and the kernel know the truth, and to say what to
do where something can be done."""

import collections
import datetime
import os
import re
import time

import pytest

import exposition
from harness import (PASSWORD, RCPT, free_port, hosts_namespace, message,
                     wait_until)


def hang(s, n=1):
    """The next n replies to the final dot do not come."""
    s.rule(f"on DOT times {n} stall")


def stalled(s, r, n=1):
    """Queue ids of n messages whose dot has no reply; nothing else is under
    way."""
    hang(s, n)
    ids = {r.send() for _ in range(n)}
    wait_until(lambda: sum(c["step"] == "dot"
                           for c in r.ctl_json("connections")) == n,
               f"{n} messages at their dot")
    return ids


def screen(r):
    """Lines of `status`: by label; a line that goes on is one with its."""
    lines, label = collections.OrderedDict(), None
    for line in r.ctl("status").splitlines():
        m = re.match(r"([A-Z][\w ]+):\s+(.*)", line)
        if m:
            label, text = m[1], m[2]
        else:
            text = line.strip()
        lines[label] = f"{lines[label]} {text}" if not m else text
    return lines


def scrape(r):
    return exposition.parse(r.ctl("metrics"))


# --- connections ---

def test_no_connection(sesd, relay):
    r = relay(sesd())
    assert r.ctl_json("connections") == []
    assert r.ctl("connections").startswith("no connection to SES")


def test_connections_are_those_that_ses_has(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.idle_timeout": '"60s"'})
    ids = stalled(s, r, 2)
    with r.submit() as client:
        for _ in range(7):
            client.mail()
    s.wait_messages(7)
    wait_until(lambda: r.count() == 2, "only the stalled ones to be left")
    wait_until(lambda: r.status()["connections"]["connecting"] == 0,
               "all to be logged in")
    views = r.ctl_json("connections")
    busy = [v for v in views if v["state"] == "busy"]
    idle = [v for v in views if v["state"] == "idle"]
    assert len(busy) + len(idle) == len(views)
    assert len(views) == s.stats()["connections"]["now"]
    assert {v["conn"] for v in views} == set(
        range(1, s.stats()["connections"]["total"] + 1))
    # By state, then the oldest first.
    assert views == busy + idle
    for group in (busy, idle):
        ages = [v["age_seconds"] for v in group]
        assert ages == sorted(ages, reverse=True)
    assert sum(v["messages_delivered"] for v in views) == 7
    assert sum(v["messages_begun"] for v in views) == 9
    for v in views:
        assert (v["address"], v["port"], v["mode"]) == (
            "127.0.0.1", s.ports["starttls"], "starttls")
        assert re.fullmatch(r"TLSv1\.3 with TLS_[A-Z0-9_]+", v["tls"])
        assert 0 < v["age_seconds"] < 60
        assert 45 <= v["renewed_at_messages"] <= 50
        assert 0 < v["renewed_in_seconds"] <= 60
        assert "replaced" not in v and "mss" not in v
    # What hangs, on which message, and since when.
    assert {v["message"] for v in busy} == ids
    for v in busy:
        assert v["doing"] == "waiting for the reply to the final dot"
        assert v["idle_seconds"] is None
        assert v["messages_begun"] == v["messages_delivered"] + 1
    for v in idle:
        assert v["message"] is None and v["step"] == "idle"
        assert 0 <= v["idle_seconds"] <= v["age_seconds"]
    # conn= of the log is the same number.
    sent = collections.Counter(int(o["conn"]) for o in r.outcomes()
                               if o["status"] == "sent")
    assert sent == {v["conn"]: v["messages_delivered"] for v in views
                    if v["messages_delivered"]}
    later = {v["conn"]: v for v in r.ctl_json("connections")}
    for v in busy:
        assert later[v["conn"]]["step_seconds"] > v["step_seconds"]


def test_wrapper_and_mss_are_told(sesd, relay):
    s = sesd()
    r = relay(s, mode="wrapper", config={"ses.mss": "1000"})
    stalled(s, r)
    [v] = r.ctl_json("connections")
    assert (v["mode"], v["port"], v["mss"]) == (
        "wrapper", s.ports["wrapper"], 1000)
    assert "SMALL SEGMENTS: at most 1000 bytes" in r.ctl("connections")


STAGES = [
    ("on CONNECT stall", "greeting", "waiting for the greeting", "connecting"),
    ("on EHLO stall", "ehlo", "waiting for the reply to EHLO", "connecting"),
    ("on TLS stall", "tls", "TLS handshake", "connecting"),
    ("on AUTH stall", "auth", "logging in", "connecting"),
    ("on MAIL stall", "mail", "waiting for the reply to MAIL", "busy"),
    ("on RCPT stall", "rcpt", "waiting for the reply to RCPT", "busy"),
    ("on DATA stall", "data", "waiting for the reply to DATA", "busy"),
]


@pytest.mark.parametrize("rule,step,doing,state", STAGES,
                         ids=[s[1] for s in STAGES])
def test_every_stage_is_told(sesd, relay, rule, step, doing, state):
    s = sesd(rules=[rule])
    r = relay(s)
    qid = r.send()

    def there():
        views = r.ctl_json("connections")
        return views if views and views[0]["step"].startswith(step) else None
    [v] = wait_until(there, step)
    assert (v["doing"], v["state"]) == (doing, state)
    assert v["message"] == (qid if state == "busy" else None)
    assert ("renewed_at_messages" in v) == (state == "busy")
    row, below = r.ctl("connections").splitlines()[1:3]
    assert row.split()[:2] == ["1", state]
    assert below.strip().startswith(doing)
    if state == "busy":
        assert qid in below


def test_a_step_has_its_own_age(sesd, relay):
    """Not that of the connection, nor that of the step before."""
    s = sesd(rules=["on MAIL times 1 delay 600 default",
                    "on BODY times 1 delay 600 default"])
    r = relay(s, config={"delivery.idle_timeout": '"60s"'})
    seen = {}
    hang(s)
    # More than the sockets between take while nobody reads.
    r.send(message(b"x" * 70 + b"\r\n" * 6_000_000))

    def look():
        for v in r.ctl_json("connections"):
            # Of each step, the last that was seen of it.
            seen[v["step"]] = v
        return "dot" in seen
    wait_until(look, "the final dot")
    assert seen["body"]["doing"] == "sending the content"
    assert 0.4 < seen["mail"]["step_seconds"] < seen["mail"]["age_seconds"]
    assert 0.2 < seen["body"]["step_seconds"]
    assert seen["body"]["step_seconds"] < seen["body"]["age_seconds"] - 0.4
    assert seen["dot"]["step_seconds"] < 0.3


def test_a_connection_that_is_replaced(sesd, relay):
    s = sesd()
    r = relay(s)
    stalled(s, r)
    r.settings["smtp.hostname"] = '"other.test"'
    r.write_config()
    r.ctl("reload")
    [v] = r.ctl_json("connections")
    assert v["replaced"] == "the configuration changed"
    assert "BEING REPLACED: the configuration changed" in r.ctl("connections")


def test_a_connection_that_no_mail_waits_for(sesd, relay):
    """One that tries new credentials, while mail goes on with the old."""
    s = sesd()
    r = relay(s, config={"delivery.idle_timeout": '"60s"'})
    r.send()
    r.wait_empty()
    s.rule("on AUTH stall")
    r.set_password(PASSWORD[:-1] + "M")
    r.ctl("reload")
    wait_until(lambda: len(r.ctl_json("connections")) == 2, "a trial")
    old, trial = r.ctl_json("connections")
    assert "purpose" not in old and trial["state"] == "connecting"
    assert trial["purpose"] == "tries the new credentials"
    assert "tries the new credentials" in r.ctl("connections")
    assert "NOT IN FORCE, being tried" in screen(r)["New password"]


def test_table_fits_a_terminal(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.idle_timeout": '"60s"'})
    [qid] = stalled(s, r)
    with r.submit() as client:
        for _ in range(5):
            client.mail()
    s.wait_messages(5)
    wait_until(lambda: r.status()["connections"]["busy"] == 1 and
               r.status()["connections"]["connecting"] == 0, "one busy")
    for args in ((), ("-l",)):
        lines = r.ctl("connections", *args).splitlines()
        assert max(len(line) for line in lines) <= 80, lines
        assert lines[0].split() == ["CONN", "STATE", "ADDRESS", "MODE",
                                    "MSGS", "AGE", "IDLE"]
        assert lines[1].split()[1] == "busy"
        assert f"the final dot of {qid} for " in lines[2]
        rows = [x for x in lines[1:] if not x.startswith("     ")]
        assert len(rows) == s.stats()["connections"]["now"]
        # A column is a column.
        for row in rows:
            assert row[6:16].strip() in ("busy", "idle")
            assert row[18:].startswith("127.0.0.1:")
    assert "TLSv1.3 with TLS_" in r.ctl("connections", "-l")
    assert "TLSv1.3" not in r.ctl("connections")


# --- rotate ---

def test_rotate_without_connections(sesd, relay):
    r = relay(sesd())
    assert r.ctl_json("rotate") == [{"connections": 0}]
    assert r.ctl_json("rotate", "--wait") == [{"connections": 0, "left": 0}]
    assert "nothing to renew" in r.ctl("rotate")


def test_rotate_renews_idle_ones(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.idle_timeout": '"60s"'})
    r.send()
    r.wait_empty()
    before = {v["conn"] for v in r.ctl_json("connections")}
    assert before
    assert r.ctl_json("rotate", "--wait") == [
        {"connections": len(before), "left": 0}]
    assert not before & {v["conn"] for v in r.ctl_json("connections")}
    r.send()
    r.wait_empty()
    assert len(s.messages()) == 2


def test_rotate_under_load(sesd, relay):
    s = sesd(settings={"dot_latency": 30})
    r = relay(s, config={"delivery.connections": "4"})
    with r.submit() as client:
        for _ in range(300):
            client.mail()
    wait_until(lambda: r.status()["connections"]["busy"] == 4, "four busy")
    [answer] = r.ctl_json("rotate", "--wait")
    assert answer == {"connections": 4, "left": 0}
    views = r.ctl_json("connections")
    assert min(v["conn"] for v in views) > 4
    # Before the end of mail and of lifetime: not by itself.
    assert r.count() > 0
    r.wait_empty()
    assert len(s.messages()) == 300
    assert {o["status"] for o in r.outcomes()} == {"sent"}


def test_rotate_waits_for_a_message_under_way(sesd, relay):
    s = sesd()
    r = relay(s)
    [qid] = stalled(s, r)
    began = time.monotonic()
    done = r.run_ctl("rotate", "--timeout", "400ms")
    assert done.returncode == 1
    assert 0.3 < time.monotonic() - began < 10
    assert done.stdout == "0 of 1 connections renewed\n"
    assert "still to be renewed" in done.stderr
    [v] = [v for v in r.ctl_json("connections") if v["message"] == qid]
    assert v["replaced"] == "rotation was asked for"
    assert re.fullmatch(r"\d connections? (is|are) being renewed; mail goes on "
                        r"meanwhile\n", r.ctl("rotate"))
    # Nothing was given up for it.
    assert r.count() == 1 and r.outcomes() == []


# --- status ---

def test_rates_are_those_of_the_mail(sesd, relay):
    r = relay(sesd())
    began = time.monotonic()
    rcpts = [f"u{i}@example.net" for i in range(5)]
    with r.submit() as client:
        for _ in range(8):
            client.mail(rcpts=rcpts)
    r.wait_empty()
    rate = r.status()["rate"]
    # 40 in less than that time, and a rate is never of less than a second.
    least = 40 / (time.monotonic() - began + 2)
    for window in ("10s", "60s"):
        for what in ("accepted", "sent"):
            assert least <= rate[f"{what}_{window}"] <= 40, rate
    assert r.counter("recipients_accepted_total") == 40
    shown = screen(r)["Rate"]
    assert re.fullmatch(r"[\d.]+ recipients/s sent, [\d.]+ accepted in the "
                        r"last 10 s [\d.]+ sent, [\d.]+ accepted in the last "
                        r"minute", shown), shown


def test_accepted_and_sent_are_told_apart(relay, sesd):
    s = sesd()
    r = relay(s)
    stalled(s, r)
    rate = r.status()["rate"]
    assert rate["accepted_10s"] > 0 and rate["sent_10s"] == 0
    assert screen(r)["Rate"].startswith("0.0 recipients/s sent, ")


def test_where_it_listens(relay, directory):
    r = relay(start=False)
    other = free_port()
    r.settings["smtp.listen"] = (
        f'[ "127.0.0.1:{r.port}", "127.0.0.2:{other}", "127.0.0.1:0" ]')
    r.write_config()
    r.start()
    listen = r.status()["listening"]
    assert listen[:2] == [f"127.0.0.1:{r.port}", f"127.0.0.2:{other}"]
    # Not what was asked for, but what there is.
    assert int(listen[2].rpartition(":")[2]) > 0 and len(listen) == 3


def test_the_port_in_use_and_why_not_the_first(sesd, relay):
    s = sesd()
    r = relay(s, start=False)
    dead = free_port()
    r.set_ports((dead, "starttls"), (s.ports["wrapper"], "wrapper"),
                (s.ports["starttls"], "starttls"))
    r.write_config()
    r.start()
    r.send()
    r.wait_empty()
    upstream = r.status()["upstream"]
    assert upstream["port"] == s.ports["wrapper"]
    first, second, third = upstream["ports"]
    assert (first["port"], first["mode"], first["in_use"]) == (
        dead, "starttls", False)
    assert first["state"] == "passed over"
    assert first["reason"] == "Connection refused" and first["advice"]
    assert 0 < first["next_try_seconds"] <= 31
    assert (second["port"], second["mode"], second["in_use"]) == (
        s.ports["wrapper"], "wrapper", True)
    assert second["state"] == "good" and "next_try_seconds" not in second
    assert second["reason"] == "" and second["advice"] == ""
    assert not third["in_use"] and third["state"] == "good"
    shown = screen(r)
    assert shown["SES"] == (
        f"ok, mail goes out via localhost:{s.ports['wrapper']}")
    assert f"{s.ports['wrapper']} IS USED, not {dead}" in shown["Ports"]
    assert re.search(rf"{dead} IS PASSED OVER for \d s: Connection refused; "
                     r".+; tried again in \d+ s", shown["Ports"]), shown


def test_where_ses_ends_sessions(sesd, relay):
    s = sesd(settings={"session_cap": 9})
    # On more connections sixty messages may end before one meets the cap.
    r = relay(s, config={"delivery.connections": "2"})
    assert r.status()["upstream"]["learned"] == {}
    with r.submit() as client:
        for _ in range(60):
            client.mail()
    r.wait_empty()
    learned = r.status()["upstream"]["learned"]
    assert 1 <= learned["session_messages"] <= 9
    assert (f"SES ends sessions early: ours are renewed after "
            f"{learned['session_messages']} messages") in r.ctl("status")
    r.settings["delivery.adaptive_rotation"] = "false"
    r.write_config()
    r.ctl("reload")
    assert r.status()["upstream"]["adaptive_rotation"] is False
    assert "OURS ARE NOT RENEWED" in r.ctl("status")


def test_ports_are_no_news_while_the_first_works(sesd, relay):
    r = relay(sesd())
    r.send()
    r.wait_empty()
    assert "Ports" not in screen(r)


def test_a_pool_that_ses_keeps_small(sesd, relay):
    s = sesd(settings={"max_connections": 2, "dot_latency": 100})
    r = relay(s)
    with r.submit() as client:
        for _ in range(30):
            client.mail()
    pool = wait_until(lambda: (lambda p: p if "limit" in p else None)(
        r.status()["upstream"]["pool"]), "a limit to be learned")
    assert pool["max"] == 20 and 1 <= pool["limit"] <= 2
    assert f"SES TAKES NO MORE THAN {pool['limit']} AT A TIME" in r.ctl(
        "status")
    r.wait_empty()


# --- does mail go out, and what to do? ---

QUOTA = "454 Throttling failure: Daily message quota exceeded."
PAUSED = "554 Message rejected: Sending paused for this account. For more " \
    "information, please check the inbox of the email address associated " \
    "with your AWS account."
BAD_LOGIN = "535 Authentication Credentials Invalid"
TROUBLE = [
    (f'on DOT reply "{QUOTA}"', "daily quota", "DAILY QUOTA USED UP", QUOTA,
     ("10 to 20 minutes", "higher sending quota")),
    (f'on AUTH reply "{BAD_LOGIN}"', "credentials refused",
     "CREDENTIALS REFUSED", BAD_LOGIN,
     ("ses.password", "sesrelayctl reload", "systemctl restart sesrelayd",
      "sesrelayctl check")),
    (f'on DOT reply "{PAUSED}"', "account refused", "ACCOUNT MAY NOT SEND",
     PAUSED, ("SES console", "sesrelayctl retry")),
    ("on CONNECT close", "unreachable", "UNREACHABLE", "greeting",
     ("sesrelayctl check",)),
]


@pytest.mark.parametrize("rule,state,words,reply,todo", TROUBLE,
                         ids=[t[1] for t in TROUBLE])
def test_trouble_is_explained(sesd, relay, rule, state, words, reply, todo):
    s = sesd(rules=[rule])
    r = relay(s)
    began = time.time()
    r.send()
    r.wait_state(state)
    first, second = r.ctl("status").splitlines()[:2]
    assert first.startswith("SES: MAIL WAITS, ")
    assert words in first and "nothing is lost" in first
    assert reply in first
    assert second.startswith("What to do:   ")
    for word in todo:
        assert word in second, second
    if state != "unreachable":
        upstream = r.status()["upstream"]
        assert upstream["next_try_seconds"] > 30
        assert "next try in " in first and "since " in first
        since = datetime.datetime.fromisoformat(
            upstream["since"].replace("Z", "+00:00")).timestamp()
        assert began - 1 < since <= time.time()
    families = scrape(r)
    assert exposition.value(families, "sesrelayd_upstream_up") == 0
    told = {dict(labels)["state"]: v for (_, labels), v in
            families["sesrelayd_upstream_state"].samples.items()}
    assert told.pop(state) == 1 and set(told.values()) == {0}
    # And it is over when it is over.
    s.control("clear")
    r.ctl("retry")
    r.wait_empty()
    assert r.state() == "ok"
    assert screen(r)["SES"].startswith("ok, mail goes out via ")
    assert "What to do" not in screen(r)
    assert exposition.value(scrape(r), "sesrelayd_upstream_up") == 1


def test_throttled_mail_goes_out(sesd, relay):
    s = sesd(settings={"rate": 20})
    r = relay(s)
    assert screen(r)["Pace"].startswith("no limit known: ")
    assert r.status()["upstream"]["rate_limit"] == {
        "recipients_per_second": 0.0, "source": "none"}
    with r.submit() as client:
        for _ in range(100):
            client.mail()
    r.wait_state("throttled")
    shown = screen(r)
    assert re.fullmatch(r"mail goes out via localhost:\d+, THROTTLED to what "
                        r"SES takes", shown["SES"]), shown
    assert re.fullmatch(r"at most [\d.]+ recipients/s, learned from SES's "
                        r"throttling", shown["Pace"]), shown
    assert "What to do" not in shown
    limit = r.status()["upstream"]["rate_limit"]
    assert limit["source"] == "learned"
    assert 1 <= limit["recipients_per_second"] <= 60
    f = scrape(r)
    assert exposition.value(
        f, "sesrelayd_rate_limit_recipients_per_second") > 1
    assert exposition.value(f, "sesrelayd_upstream_up") == 1
    assert exposition.value(f, "sesrelayd_upstream_state",
                            state="throttled") == 1
    assert exposition.value(f, "sesrelayd_throttled_total", kind="rate") > 0
    r.wait_empty(60)
    assert exposition.value(scrape(r), "sesrelayd_throttled_total",
                            kind="rate") == s.stats()["throttled"]


def test_a_pace_of_our_own(sesd, relay):
    r = relay(sesd(), config={"delivery.rate": "12.5"})
    assert r.status()["upstream"]["rate_limit"] == {
        "recipients_per_second": 12.5, "source": "configured"}
    assert screen(r)["Pace"] == (
        "at most 12.5 recipients/s, as delivery.rate says")


def test_a_pause_is_no_trouble_of_ses(sesd, relay):
    s = sesd()
    r = relay(s)
    r.ctl("pause")
    r.send()
    assert r.state() == "paused"
    first = r.ctl("status").splitlines()[0]
    assert first.startswith("SES: PAUSED") and "sesrelayctl resume" in first
    families = scrape(r)
    assert exposition.value(families, "sesrelayd_upstream_up") == 0
    assert exposition.value(families, "sesrelayd_paused",
                            part="delivery") == 1
    assert exposition.value(families, "sesrelayd_paused", part="intake") == 0
    r.ctl("resume")
    r.wait_empty()


def test_nothing_had_to_be_sent_yet(sesd, relay):
    r = relay(sesd())
    assert screen(r)["SES"].startswith("not connected yet, nothing had to be")
    assert r.state() == "ok"


@pytest.mark.parametrize("rule", [
    r'on DOT reply "454 Throttling failure: Daily message quota exceeded. '
    r'\x1b[2J\x07\x9b31m"',
    r'on AUTH reply "535 Authentication \x1b[2J\x07\x9b31m"',
    r'on CONNECT raw "554 \x1b[2J\x07\x9b31m\r\n" close',
], ids=["reply", "login", "greeting"])
def test_a_terminal_is_safe_from_replies(sesd, relay, rule):
    s = sesd(rules=[rule])
    r = relay(s)
    r.send()
    # ESC of 7 bits does not come as far; CSI of 8 bits does.
    wait_until(lambda: r.state() != "ok" and
               re.search(r"\\x9b31m", r.ctl("status")),
               "the reply on the screen")
    for args in (("status",), ("connections", "-l"), ("metrics",)):
        text = r.ctl(*args)
        assert re.fullmatch(r"[\n -~]*", text), text
    upstream = r.status()["upstream"]
    assert "\x9b31m" in upstream["last_error"] + upstream["connect_error"]


# --- metrics ---

FAMILIES = {  # of the interface; and the standard ones of a process
    "messages_accepted_total", "messages_rejected_total", "recipients_total",
    "messages_uncertain_total", "queue_messages", "queue_oldest_age_seconds",
    "queue_bytes", "spool_free_bytes", "spool_errors_total", "connections",
    "connects_total", "throttled_total", "auth_failures_total",
    "rate_limit_recipients_per_second", "upstream_up",
    "config_last_reload_successful", "build_info", "delivery_delay_seconds",
    "connection_age_seconds", "connection_messages"}
PROCESS = {
    "process_cpu_seconds_total", "process_open_fds", "process_max_fds",
    "process_virtual_memory_bytes", "process_resident_memory_bytes",
    "process_start_time_seconds"}


def test_metrics_are_well_formed_and_complete(sesd, relay):
    r = relay(sesd())
    families = scrape(r)
    assert PROCESS <= set(families)
    ours = {name.removeprefix("sesrelayd_") for name in families
            if name.startswith("sesrelayd_")}
    assert FAMILIES <= ours
    assert len(ours) + len(PROCESS) == len(families)
    # Every counter of `status` is there, with its value.
    for key, n in r.status()["counters"].items():
        name, _, labels = key.partition("{")
        if name == "connects_total":
            continue  # by port
        assert exposition.value(
            families, "sesrelayd_" + name,
            **dict(exposition.parse_labels(labels.rstrip("}")))) == n, key


def test_metrics_tell_the_truth(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.idle_timeout": '"60s"'})
    r.send()
    r.wait_empty()
    stalled(s, r)
    r.ctl("pause")  # what comes now is ready, and stays so
    held = [r.send(message(b"x" * 70 + b"\r\n" * 2500)) for _ in range(3)]
    r.ctl("hold", held[0])
    f = scrape(r)

    def value(name, **labels):
        return exposition.value(f, "sesrelayd_" + name, **labels)
    assert value("messages_accepted_total") == 5
    assert value("recipients_total", status="sent") == s.stats()["recipients"]
    assert {k: value("queue_messages", state=k) for k in (
        "ready", "active", "waiting", "held", "failed")} == {
            "ready": 2, "active": 1, "waiting": 0, "held": 1, "failed": 0}
    assert value("queue_bytes") == r.status()["queue"]["bytes"] > 15000
    assert 0 < value("queue_oldest_age_seconds") < 60
    assert value("connections", state="busy") == 1
    free = os.statvfs(r.spool)
    assert value("spool_free_bytes") == pytest.approx(
        free.f_bavail * free.f_frsize, rel=0.2)
    assert value("config_last_reload_successful") == 1
    [labels] = [dict(k[1]) for k in f["sesrelayd_build_info"].samples]
    assert labels["version"] == r.status()["version"]
    assert labels["openssl"].startswith("OpenSSL 3.")
    r.settings["smtp.max_recipients"] = "0"
    r.write_config()
    assert r.run_ctl("reload").returncode == 1
    assert exposition.value(
        scrape(r), "sesrelayd_config_last_reload_successful") == 0


def test_refusals_are_counted_by_their_codes(relay):
    r = relay(config={"smtp.max_recipients": "1"})

    def rejected():
        return {dict(key[1])["code"]: n for key, n in scrape(r)[
            "sesrelayd_messages_rejected_total"].samples.items() if n}
    with r.submit() as session:
        session.do("MAIL FROM:<a@example.com> SIZE=99999999999", 552)
        session.do("RCPT TO:<b@example.com>", 503)
        session.do("MAIL FROM:<a@example.com>", 250)
        session.do("RCPT TO:<b@example.com>", 250)
        for _ in range(2):
            session.do("RCPT TO:<c@example.com>", 452)
    assert rejected() == {"452": 2, "503": 1, "552": 1}


def test_delays_and_ends_are_counted(sesd, relay):
    s = sesd(rules=["on MAIL times 1 delay 300 default"])
    r = relay(s)
    for _ in range(3):
        r.send()
        r.wait_empty()
    r.ctl("pause")
    wait_until(lambda: sum(r.status()["connections"].values()) == 0,
               "connections to be closed")
    f = scrape(r)

    def value(name, **labels):
        family = name.removesuffix("_sum").removesuffix("_count") \
            .removesuffix("_bucket")
        return f["sesrelayd_" + family].samples[
            ("sesrelayd_" + name, tuple(sorted(labels.items())))]
    for stage in ("queue", "connect", "transmission", "total"):
        assert value("delivery_delay_seconds_count", stage=stage) == 3
    sums = {stage: value("delivery_delay_seconds_sum", stage=stage)
            for stage in ("queue", "connect", "transmission", "total")}
    assert sums["total"] == pytest.approx(
        sums["queue"] + sums["connect"] + sums["transmission"], abs=1e-4)
    assert 0.3 <= sums["transmission"] < 3
    assert value("delivery_delay_seconds_bucket", stage="transmission",
                 le="0.25") == 2
    # As the log has them.
    logged = sum(float(o["delay"]) for o in r.outcomes())
    assert sums["total"] == pytest.approx(logged, rel=0.1, abs=0.01)
    # Every connection that there was has ended.
    ended = sum(v for (name, _), v in
                f["sesrelayd_connection_messages"].samples.items()
                if name.endswith("_count"))
    assert ended == s.stats()["connections"]["total"]
    carried = sum(v for (name, _), v in
                  f["sesrelayd_connection_messages"].samples.items()
                  if name.endswith("_sum"))
    assert carried == 3


def test_connecting_is_counted_by_port(sesd, relay, directory):
    s = sesd(rules=['on CONNECT times 1 reply "421 Too many concurrent SMTP '
                    'connections" close'])
    r = relay(s, start=False)
    dead, unused = free_port(), free_port()
    r.set_ports((dead, "starttls"), (s.ports["starttls"], "starttls"),
                (unused, "wrapper"))
    r.write_config()
    r.start(wrap=hosts_namespace(directory, "127.0.0.1 localhost\n"))
    r.send()
    r.wait_empty()
    f = scrape(r)

    def tried(port):
        return [exposition.value(f, "sesrelayd_connects_total",
                                 port=str(port), result=result)
                for result in ("ok", "failed")]
    assert tried(dead) == [0, 1]  # and passed over then
    assert tried(s.ports["starttls"]) == [1, 1]
    assert tried(unused) == [0, 0]
    assert sum(tried(s.ports["starttls"])) == s.stats()["connections"]["total"]
    # Over a reload without the port.
    r.set_ports((s.ports["starttls"], "starttls"))
    r.write_config()
    r.ctl("reload")
    f = scrape(r)
    assert tried(dead) == [0, 1]


def test_dead_letters_are_counted(sesd, relay):
    s = sesd(rules=[f'on RCPT when rcpt ~ "{RCPT}" '
                    'reply "550 5.1.1 no such user"'])
    r = relay(s)
    r.send()
    r.wait_empty()
    assert exposition.value(scrape(r), "sesrelayd_queue_messages",
                            state="failed") == 1
    assert exposition.value(scrape(r), "sesrelayd_recipients_total",
                            status="failed") == 1


def test_metrics_of_the_process(relay):
    before = time.time()
    r = relay()
    f = scrape(r)
    pid = r.process.pid
    page = os.sysconf("SC_PAGESIZE")
    with open(f"/proc/{pid}/statm") as statm:
        size, resident = (int(x) * page for x in statm.read().split()[:2])
    assert exposition.value(f, "process_virtual_memory_bytes") == \
        pytest.approx(size, rel=0.1)
    assert exposition.value(f, "process_resident_memory_bytes") == \
        pytest.approx(resident, rel=0.3)
    # Without the socket of that question.
    fds = len(os.listdir(f"/proc/{pid}/fd"))
    assert fds <= exposition.value(f, "process_open_fds") <= fds + 2
    assert before - 1 < exposition.value(
        f, "process_start_time_seconds") < time.time()
    assert 0 < exposition.value(f, "process_cpu_seconds_total") < 60
    with open(f"/proc/{pid}/limits") as limits:
        soft = re.search(r"Max open files +(\d+)", limits.read())[1]
    assert exposition.value(f, "process_max_fds") == int(soft)
