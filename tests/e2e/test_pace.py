"""The account's limits: the pace that is set, the pace that is learned and kept
over a restart, and how many connections that takes."""

import collections

from harness import Submission, message, wait_until


def send_all(r, n, rcpts=1):
    """n messages with so many recipients each, handed in at once."""
    with Submission(r.port) as s:
        for i in range(n):
            s.mail(message(), rcpts=[f"u{i}.{k}@example.net"
                                     for k in range(rcpts)])


def arrived(s, r, n):
    """All of them, once; none refused for good."""
    s.wait_messages(n, timeout=120)
    r.wait_empty(60)
    ids = collections.Counter(m["message_id"] for m in s.messages())
    assert len(ids) == n and set(ids.values()) == {1}
    assert r.counter('recipients_total{status="failed"}') == 0


def seconds(s):
    times = [m["time"] for m in s.messages()]
    return max(times) - min(times)


def test_a_rate_that_is_set_is_kept_to(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.rate": "50.0"})
    send_all(r, 150)
    arrived(s, r, 150)
    # Half a second's worth may go at once.
    assert seconds(s) >= (150 - 25 - 1) / 50
    assert r.counter('throttled_total{kind="rate"}') == 0


def test_recipients_count_not_messages(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.rate": "50.0"})
    send_all(r, 15, rcpts=10)
    arrived(s, r, 15)
    # What the last one needs is owed, not waited for.
    assert seconds(s) >= (150 - 25 - 10) / 50


def test_a_rate_is_set_by_reload(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.rate": "0.5"})
    send_all(r, 30)
    s.wait_messages(1)
    assert len(s.messages()) < 5
    r.settings["delivery.rate"] = "0.0"
    r.write_config()
    r.ctl("reload")
    arrived(s, r, 30)


def test_a_throttled_message_costs_nothing_but_seconds(sesd, relay):
    """With a schedule that would keep it for an hour."""
    s = sesd(settings={"rate": 20})
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    send_all(r, 100)
    wait_until(lambda: s.stats()["throttled"] > 0, "a throttle")
    assert {m["attempts"] for m in r.ctl_json("queue")} <= {0}
    arrived(s, r, 100)


def test_the_pace_is_kept_over_a_restart(sesd, relay):
    s = sesd(settings={"rate": 20})
    r = relay(s)
    send_all(r, 150)
    arrived(s, r, 150)
    assert r.stop() == 0
    before = s.stats()["throttled"]
    assert before > 0
    r.start()
    send_all(r, 100)
    arrived(s, r, 250)
    # A relay that knows nothing has 20 connections refused at once.
    assert s.stats()["throttled"] - before <= 3


def test_the_pool_is_as_large_as_the_pace_needs(sesd, relay):
    """20/s and a fifth of a second each: four at a time."""
    s = sesd(settings={"dot_latency": 200})
    r = relay(s, config={"delivery.rate": "20.0"})
    # So that it knows how long one takes.
    send_all(r, 1)
    arrived(s, r, 1)
    send_all(r, 120)
    arrived(s, r, 121)
    assert 4 <= s.stats()["connections"]["peak"] <= 8
    # 4.5 s at the least; the pool is no brake.
    assert seconds(s) < 10


def test_too_many_connections(sesd, relay):
    s = sesd(settings={"max_connections": 4, "dot_latency": 50})
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    send_all(r, 300)
    arrived(s, r, 300)
    assert {o["status"] for o in r.outcomes()} == {"sent"}
    # Found out by a few refusals, not again and again.
    assert len([e for e in s.events("refused")
                if "concurrent" in e["reply"]]) < 40
