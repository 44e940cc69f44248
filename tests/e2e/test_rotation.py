"""Renewing connections to SES: before it ends them, one by one, the new one
before the old one goes; and what is learned of where it ends them."""

import json
import re
import subprocess

import pytest

from harness import (BUILD, SANITIZED, USER, message, wait_until,
                     without_received)

CAP = 37


def load(r, n, sessions=10, prefix="load", rate=0):
    """n messages of 1 KiB, as fast as the relay takes them or at a rate."""
    acked = r.dir / f"{prefix}.acked"
    done = subprocess.run(
        [str(BUILD / "load"), "--connect", f"127.0.0.1:{r.port}",
         "--messages", str(n), "--sessions", str(sessions), "--size", "1024",
         "--acked", str(acked), "--prefix", prefix, "--rate", str(rate),
         "--json"],
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["acked"] == n


def sessions(s):
    """{number: {"login": time, "close": event, "messages": n}}"""
    out = {}
    for e in s.entries():
        c = out.setdefault(e["conn"], {"messages": 0, "close": None})
        if "event" not in e:
            c["messages"] += 1
        elif e["event"] == "auth":
            c["login"] = e["time"]
        elif e["event"] == "close":
            c["close"] = e
    return out


def caps(s):
    return [e for e in s.events("close") if e["reason"] == "session-cap"]


def check_undisturbed(s, r, n):
    """All of n there, once, and no message paid for a connection's end."""
    r.wait_empty(120)
    arrived = s.messages()
    assert len(arrived) == n
    assert len({m["sha256"] for m in arrived}) == n
    lines = [o for o in map(json.loads, r.log().splitlines())
             if "status" in o]
    assert [o for o in lines if o["status"] != "sent"] == []
    assert {int(o["attempt"]) for o in lines} == {1}
    assert len(lines) == n


def learned(r):
    """spool/learned as a dict; empty while there is none."""
    path = r.spool / "learned"
    if not path.exists():
        return {}
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


JSON = {"log.format": '"json"'}


# --- where SES ends sessions ---

def test_session_cap_and_idle_cut(sesd, relay):
    # The idle cut comes before the relay's own, so that the second burst may
    # meet connections that SES is about to close.
    s = sesd(settings={"session_cap": CAP, "idle": "3s"}, store=False)
    r = relay(s, config=JSON)
    load(r, 1000, prefix="one")
    r.wait_empty(60)
    wait_until(lambda: [e for e in s.events("close")
                        if e["reason"] == "idle"], "an idle cut")
    load(r, 1000, prefix="two")
    check_undisturbed(s, r, 2000)
    # The first wave met the cap, nobody after it.
    assert 1 <= len(caps(s)) <= 20
    assert max(c["messages"] for c in sessions(s).values()) == CAP
    wait_until(lambda: learned(r).get("session-messages") == "35",
               "the cap to be known", 15)
    assert "session-age" not in learned(r)
    assert "was ended after 37 messages" in r.log()

    assert r.stop() == 0
    before = len(caps(s))
    last = max(sessions(s))
    r.start()
    load(r, 1000, prefix="three")
    check_undisturbed(s, r, 3000)
    assert len(caps(s)) == before
    assert all(c["messages"] <= 35 for number, c in sessions(s).items()
               if number > last)


def test_silent_cut_is_learned(sesd, relay):
    """SES closes after so many messages and says nothing."""
    s = sesd(rules=["on MAIL when msgs=12 reset"], store=False,
             settings={"latency": 5})
    r = relay(s, config={**JSON, "delivery.connections": "4"})
    n = 0
    while "session-messages" not in learned(r):
        assert n < 6000, "nothing is learned"
        load(r, 300, prefix=f"n{n}")
        n += 300
        r.wait_empty(60)
    assert learned(r)["session-messages"] == "11"
    before = len(s.events("rule"))
    load(r, 300, prefix="last")
    check_undisturbed(s, r, n + 300)
    assert len(s.events("rule")) == before


def test_cut_by_age_is_learned(sesd, relay):
    """SES resets connections that are 5 s old, whatever they do."""
    s = sesd(rules=["on MAIL when age>=5000 reset"], store=False)
    r = relay(s, config={**JSON, "delivery.connections": "5",
                         "delivery.messages_per_connection": "10000"})
    n = 0
    while "session-age" not in learned(r):
        assert n < 1800, "nothing is learned"
        load(r, 150, sessions=5, prefix=f"n{n}", rate=30)
        n += 150
    assert 3 <= float(learned(r)["session-age"]) < 5.2
    before = len(s.events("rule"))
    load(r, 200, sessions=5, prefix="last", rate=30)
    check_undisturbed(s, r, n + 200)
    assert len(s.events("rule")) <= before + 5  # those of the last wave
    assert "session-messages" not in learned(r)


@pytest.mark.parametrize("phase", ["mail", "data", "dot"])
def test_not_adaptive(sesd, relay, phase):
    """Twenty connections meet the cap again and again, all at about the same
    time: no message runs out of connections to be sent on."""
    s = sesd(settings={"session_cap": 10, "session_cap_phase": phase,
                       "latency": 3}, store=False)
    r = relay(s, config={**JSON, "delivery.adaptive_rotation": "false"})
    load(r, 1500, sessions=20)
    check_undisturbed(s, r, 1500)
    assert len(caps(s)) >= 8
    assert "not acted on" in r.log()
    # Seen all the same, for the day that it is switched on.
    assert r.stop() == 0
    assert learned(r)["session-messages"] == "9"


def fill(s, r, connections, messages):
    """So many idle connections that have carried so many messages each."""
    for i in range(1, messages + 1):
        clients = [r.submit() for _ in range(connections)]
        for client in clients:
            client.begin()
        for client in clients:
            client.content(message())
            client.close()
        s.wait_messages(i * connections)
        wait_until(lambda: r.status()["connections"]["idle"] == connections,
                   "idle connections")
    assert {c["messages"] for c in sessions(s).values()} == {messages}


FEW = {**JSON, "delivery.connections": "8",
       "delivery.adaptive_rotation": "false", "delivery.idle_timeout": '"30s"'}


def test_all_idle_ones_have_reached_the_cap(sesd, relay):
    s = sesd(settings={"dot_latency": 300, "session_cap": 3, "idle": "60s"},
             store=False)
    r = relay(s, config=FEW)
    fill(s, r, 8, 3)
    r.send()
    check_undisturbed(s, r, 25)
    # The others were given up at the news, unharmed.
    assert len(caps(s)) == 1


def test_no_connection_can_be_used_again(sesd, relay):
    s = sesd(settings={"dot_latency": 300, "idle": "60s"}, store=False,
             rules=["on MAIL when msgs>0 reset"])
    r = relay(s, config=FEW)
    fill(s, r, 8, 1)
    r.send()
    check_undisturbed(s, r, 9)
    assert len(s.events("rule")) == 2  # then it was given a fresh one


def test_learned_holds_for_whom_it_was_learned_of(sesd, relay):
    s = sesd(store=False)
    r = relay(s, config={**JSON, "delivery.connections": "1"}, start=False)
    r.spool.mkdir(mode=0o700)
    text = (f"sesrelayd-learned 1\nendpoint localhost\nusername {USER}\n"
            "session-messages 5\n")
    (r.spool / "learned").write_text(text)
    r.start()
    load(r, 30, sessions=1, prefix="mine")
    r.wait_empty()
    assert max(c["messages"] for c in sessions(s).values()) == 5
    last = max(sessions(s))
    assert r.stop() == 0
    assert (r.spool / "learned").read_text() == text

    (r.spool / "learned").write_text(text.replace(USER, "AKIA0THER"))
    r.start()
    load(r, 30, sessions=1, prefix="other")
    check_undisturbed(s, r, 60)
    assert max(c["messages"] for number, c in sessions(s).items()
               if number > last) > 5


# --- one by one, the new one first ---

def working(s):
    """(time, number of sessions logged in) at each change; and the logins."""
    changes = []
    for c in sessions(s).values():
        if "login" in c:
            changes.append((c["login"], 1))
            changes.append((c["close"]["time"] if c["close"] else 1e18, -1))
    now, counts = 0, []
    for time, change in sorted(changes):
        now += change
        counts.append((time, now))
    return counts, sorted(t for t, change in changes if change > 0)


def most_within(times, seconds):
    return max(sum(1 for u in times if t <= u < t + seconds) for t in times)


@pytest.mark.parametrize("limit", [
    {"delivery.messages_per_connection": "30"},
    {"delivery.connection_lifetime": '"2s"',
     "delivery.messages_per_connection": "10000"},
])
def test_a_pool_is_renewed_one_by_one(sesd, relay, limit):
    s = sesd(settings={"latency": 4, "dot_latency": 10}, store=False)
    r = relay(s, config={**JSON, "delivery.connections": "10", **limit})
    n = 3000
    load(r, n)
    check_undisturbed(s, r, n)
    counts, logins = working(s)
    last = s.messages()[-1]["time"]
    full = next(time for time, count in counts if count == 10)
    assert max(count for _, count in counts) == 10
    assert s.stats()["connections"]["peak"] <= 10
    renewals = [t for t in logins if full < t < last]
    assert len(renewals) >= 20, "the pool was renewed twice at least"
    # From when it was full to the end, which has no backlog any more.
    end = last - 0.5
    assert min(count for time, count in counts if full <= time < end) >= 8
    if not SANITIZED:
        assert most_within(renewals, 0.1) <= 5


def test_the_new_one_comes_first(sesd, relay):
    """One program sends one message after the other: there is always one
    connection, and at its end the next one is logged in already."""
    s = sesd(store=False)
    r = relay(s, config={**JSON, "delivery.connections": "3",
                         "delivery.messages_per_connection": "20"})
    with r.submit() as client:
        for i in range(100):
            client.mail(message())
            s.wait_messages(i + 1)
    check_undisturbed(s, r, 100)
    old = [c for c in sessions(s).values() if c["close"]]
    assert len(old) >= 4
    counts, _ = working(s)
    last = s.messages()[-1]["time"]
    assert min(count for time, count in counts if time < last) >= 1
    for c in old:
        assert 16 <= c["messages"] <= 20
        assert c["close"]["reason"] == "quit"


# --- the end of an idle one ---

@pytest.mark.parametrize("mode", ["starttls", "wrapper"])
def test_idle_connection_is_closed_in_order(sesd, relay, mode):
    """QUIT, and TLS's own farewell: sesd keeps reading after its 221."""
    s = sesd(rules=['on QUIT reply "221 Bye" halfclose'])
    r = relay(s, mode, config={"delivery.idle_timeout": '"300ms"'})
    content = message()
    r.send(content)
    [e] = s.wait_messages(1)
    assert without_received(s.stored(e)) == content
    [close] = s.wait_event("close")
    assert close["reason"] == "eof"  # "truncated" without it
    assert 0.25 < close["time"] - e["time"] < 4
    assert s.events("rule")[0]["phase"] == "QUIT"
    wait_until(lambda: r.status()["connections"]["draining"] == 0,
               "the connection to be gone")
    assert not re.search("lost after", r.log())
