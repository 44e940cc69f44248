"""The network between the relay and SES, in one of its own: ports that are
blocked and come back, addresses, DNS that fails, packets that vanish by size
or by chance, connections that die without a word."""

import json
import statistics
import threading
import time

import pytest

from conftest import Stage
from harness import hosts_namespace, message, wait_until
from network import (Bridge, Dns, filter_input, filter_nothing, in_network,
                     real_segments)

SES_PORTS = (587, 465, 2587, 2465)
HOLE = "MTU black hole"
LARGE = b"0123456789abcde" * 5 + b"\r\n"


@pytest.fixture
def network(directory, certs):
    """Runs a function with a Stage of its own there, as a test."""
    def run(fn, *args):
        def body():
            stage = Stage(directory, certs)
            try:
                fn(stage, *args)
            except BaseException:
                for r in stage.relays:
                    if r.log_path.exists():
                        print(r.log()[-20000:], flush=True)
                raise
            finally:
                filters_off()
                stage.end()
        in_network(body)
    return run


def filters_off():
    try:
        filter_nothing()
    except AssertionError:
        pass  # there never were any


def ses(stage, ports=SES_PORTS, addresses=("127.0.0.1",), config=None,
        start=True, **kwargs):
    """The emulator on SES's ports and a relay with the default ones."""
    s = stage.sesd(modes=[
        f"{a}:{p}={'wrapper' if p % 1000 == 465 else 'starttls'}"
        for a in addresses for p in ports], **kwargs)
    r = stage.relay(s, start=False, mode=s.listeners[0][0], config={
        "delivery.timeout_connect": '"2s"', **(config or {})})
    if "ses.ports" not in (config or {}):
        del r.settings["ses.ports"]
    r.write_config()
    if start:
        r.start()
    return s, r


def port_of(outcome):
    return int(outcome["relay"].rpartition(":")[2])


def ports(relay):
    return {p["port"]: p for p in relay.status()["upstream"]["ports"]}


def large(n_bytes):
    return message(LARGE * (n_bytes // len(LARGE)))


def timed(relay, content, timeout=60):
    """Seconds from the relay's 250 to SES's."""
    begun = time.monotonic()
    qid = relay.send(content)
    relay.wait_outcome(qid, "sent", timeout=timeout)
    return time.monotonic() - begun


# --- ports ---

def trickle(relay, until, timeout=60):
    """A message now and then, one at least; queue ids, when `until` is true."""
    ids = []
    end = time.monotonic() + timeout
    while not ids or not until():
        assert time.monotonic() < end, "timed out"
        ids.append(relay.send())
        relay.wait_outcome(ids[-1], "sent")
    return ids


def blocked_ports(stage):
    s, r = ses(stage)
    filter_input("tcp dport { 587, 465 } drop")
    qid = r.send()
    assert port_of(r.wait_outcome(qid, "sent")[0]) == 2587
    told = [line for line in r.log().splitlines()
            if "mail goes by port" in line]
    assert len(told) == 1
    assert ("mail goes by port 2587 now; 587: connection timed out; 465: "
            "connection timed out (nothing comes back: a firewall drops"
            in told[0])
    assert "security group" in told[0] and "sesrelayctl check" in told[0]
    status = r.status()["upstream"]
    assert status["port"] == 2587 and status["state"] == "ok"
    shown = ports(r)
    assert list(shown) == list(SES_PORTS)
    for port in (587, 465):
        assert shown[port]["state"] == "passed over"
        assert shown[port]["reason"] == "connection timed out"
        assert "security group" in shown[port]["advice"]
        assert 0 < shown[port]["next_try_seconds"] <= 30
    assert shown[2587]["in_use"] and shown[2587]["state"] == "good"

    # Their time comes while they are still blocked: no mail waits for it.
    tried = r.log().count("does port 587 work again?")
    r.ctl("resume")
    ids = trickle(r, lambda: r.log().count("it does not, or could not") >= 2)
    assert r.log().count("does port 587 work again?") > tried
    assert max(float(o["delay"]) for q in ids for o in r.outcomes(q)) < 1
    assert not [e for e in s.events("connect") if e["port"] in (587, 465)]

    # And they come back, the first first.
    filter_nothing()
    r.ctl("resume")
    ids = trickle(r, lambda: ports(r)[587]["in_use"])
    assert max(float(o["delay"]) for q in ids for o in r.outcomes(q)) < 1
    assert "mail goes by port 587 again" in r.log()
    assert port_of(r.wait_outcome(r.send(), "sent")[0]) in (587, 2587)
    r.ctl("resume")
    # One connection has what the others lack: it joined the pool.
    ids = trickle(r, lambda: port_of(r.outcomes()[-1]) == 587, timeout=20)
    assert not [o for o in r.outcomes() if o["status"] != "sent"]


def test_blocked_ports_are_passed_over_and_come_back(network):
    network(blocked_ports)


def scout_has_its_place(stage):
    """delivery.connections is never exceeded, and 1 is enough for both."""
    s, r = ses(stage, config={"delivery.connections": "1"})
    filter_input("tcp dport 587 reject with tcp reset")
    assert port_of(r.wait_outcome(r.send(), "sent")[0]) == 465
    filter_nothing()
    wait_until(lambda: sum(r.status()["connections"].values()) == 0,
               "the end of the idle connection")
    r.ctl("resume")
    wait_until(lambda: ports(r)[587]["in_use"], "a scout")
    assert s.stats()["connections"]["peak"] == 1


def test_scout_with_one_connection(network):
    network(scout_has_its_place)


def no_port_answers(stage):
    s, r = ses(stage, ports=(587, 465), config={
        "ses.ports": '[ "587", "465" ]', "delivery.timeout_connect": '"1s"'})
    filter_input("tcp dport { 587, 465 } drop")
    qid = r.send()
    r.wait_state("unreachable")
    shown = ports(r)
    assert {p["state"] for p in shown.values()} == {"passed over"}
    assert "mail goes by" not in r.log()
    filter_nothing()
    r.wait_outcome(qid, "sent")
    assert r.outcomes(qid)[-1]["status"] == "sent"
    assert s.wait_messages(1)


def test_no_port_answers(network):
    network(no_port_answers)


def what_is_behind_a_port(stage):
    """A certificate of somebody else is the port's trouble, a 421 is not."""
    wrong = stage.sesd(modes=["127.0.0.1:587=starttls"], cert="othername")
    s, r = ses(stage, ports=(465,))
    r.wait_outcome(r.send(), "sent")
    assert not wrong.events("auth")
    assert ports(r)[587]["state"] == "passed over"
    assert "certificate" in ports(r)[587]["reason"]
    assert "mail goes by port 465 now; 587: TLS failed" in r.log()
    s.rule("on CONNECT times 1 reply \"421 Service not available, closing "
           "transmission channel.\" close")
    wait_until(lambda: sum(r.status()["connections"].values()) == 0,
               "the end of the idle connection")
    r.wait_outcome(r.send(), "sent")
    assert ports(r)[465]["state"] == "good"


def test_what_is_behind_a_port(network):
    network(what_is_behind_a_port)


# --- addresses ---

def named(stage, names, **kwargs):
    """A relay whose endpoint has these addresses."""
    s, r = ses(stage, start=False, **kwargs)
    r.settings["ses.endpoint"] = '"email-smtp.test"'
    r.write_config()
    r.start(wrap=hosts_namespace(
        stage.directory, "".join(f"{n} email-smtp.test\n" for n in names)))
    return s, r


def dead_addresses(stage):
    filter_input("ip daddr 127.0.0.9 drop",
                 "ip daddr 127.0.0.8 tcp dport 1-3000 reject with tcp reset")
    s, r = named(stage, ("127.0.0.1", "127.0.0.8", "127.0.0.9"),
                 ports=(587, 465), config={
                     "delivery.messages_per_connection": "1"})
    for _ in range(12):
        r.wait_outcome(r.send(), "sent")
    assert {(e["addr"], e["port"]) for e in s.events("connect")} == {
        ("127.0.0.1", 587)}
    assert ports(r)[587]["state"] == "good"
    assert not [o for o in r.outcomes() if o["status"] != "sent"]
    # Refused: the next one at once. Silent: once, then it is avoided.
    delays = sorted(float(o["delay"]) for o in r.outcomes())
    assert delays[-4] < 1 and delays[-1] < 5, delays


def test_dead_addresses_are_passed_over(network):
    network(dead_addresses)


def source_address(stage, source, other):
    """The name has addresses of both families, we may use one."""
    s, r = named(stage, (other, source), ports=(587,),
                 addresses=("127.0.0.1", "[::1]"),
                 config={"ses.source_address": f'"{source}"',
                         "delivery.messages_per_connection": "1"})
    for _ in range(4):
        r.wait_outcome(r.send(), "sent")
    assert {e["peer"] for e in s.events("connect")} == {source}
    assert ports(r)[587]["state"] == "good"
    # It was not even tried with the other one.
    assert "bind to the source address" not in r.log()


@pytest.mark.parametrize("source,other", [("127.0.0.1", "::1"),
                                          ("::1", "127.0.0.1")])
def test_source_address(network, source, other):
    network(source_address, source, other)


def no_address_of_its_family(stage):
    s, r = named(stage, ("127.0.0.1",), ports=(587,),
                 config={"ses.source_address": '"::1"'})
    qid = r.send()
    r.wait_log("email-smtp.test has no IPv6 address, and ses.source_address "
               "is one")
    assert ports(r)[587]["state"] == "good"
    assert not s.events("connect")
    del r.settings["ses.source_address"]
    r.write_config()
    r.reload()
    r.wait_outcome(qid, "sent")


def test_no_address_of_the_family_of_the_source(network):
    network(no_address_of_its_family)


def foreign_source_address(stage):
    s, r = ses(stage, ports=(587,),
               config={"ses.source_address": '"192.0.2.77"'})
    qid = r.send()
    r.wait_log("bind to the source address")
    assert ports(r)[587]["state"] == "good"
    del r.settings["ses.source_address"]
    r.write_config()
    r.reload()
    r.wait_outcome(qid, "sent")


def test_source_address_that_is_not_ours(network):
    network(foreign_source_address)


# --- DNS ---

class Sender(threading.Thread):
    """A session that hands in messages one by one, and how long each took."""

    def __init__(self, relay, n):
        super().__init__()
        self.session = relay.submit()
        self.n = n
        self.seconds = []
        self.noops = []

    def run(self):
        with self.session as session:
            for _ in range(self.n):
                begun = time.monotonic()
                session.do("NOOP", 250)
                self.noops.append(time.monotonic() - begun)
                begun = time.monotonic()
                session.mail()
                self.seconds.append(time.monotonic() - begun)


def hundred_sessions(relay, n=5):
    senders = [Sender(relay, n) for _ in range(100)]
    for s in senders:
        s.start()
    for s in senders:
        s.join()
    taken = sorted(t for s in senders for t in s.seconds)
    assert len(taken) == 100 * n
    return {"p99": taken[len(taken) * 99 // 100],
            "median": statistics.median(taken),
            "noop": statistics.median(
                t for s in senders for t in s.noops)}


def dns_fails(stage, failure):
    """`failure`: an rcode, or None for silence."""
    now = {"answer": ["127.0.0.1"]}
    Dns(lambda name, qtype: now["answer"])
    s, r = ses(stage, ports=(587,), start=False)
    r.settings["ses.endpoint"] = '"email-smtp.test"'
    r.verbose = False
    r.write_config()
    wrap = hosts_namespace(stage.directory, "", Dns.RESOLV.format(3), "dns")
    now["answer"] = failure
    r.start(wrap=wrap)
    # Not one address is known, and the worker waits for one.
    first = r.send()
    hundred_sessions(r, n=1)  # now all is warm
    broken = hundred_sessions(r)
    now["answer"] = ["127.0.0.1"]
    r.wait_outcome(first, "sent", timeout=60)
    r.wait_empty(timeout=60)
    whole = hundred_sessions(r)
    r.wait_empty(timeout=60)
    print(json.dumps({"failure": failure, "broken": broken, "whole": whole}))
    # While it works there is also delivery to be done. A loop that waited for
    # a lookup would stand still for three seconds and more.
    assert broken["p99"] < 2 * whole["p99"] + 0.5
    assert broken["median"] < 2 * whole["median"] + 0.05
    assert broken["noop"] < 2 * whole["noop"] + 0.05
    assert len(s.messages()) == 1101
    assert "status=bounced" not in r.log()


@pytest.mark.parametrize("failure", [None, 2], ids=["silence", "servfail"])
def test_dns_fails(network, failure):
    network(dns_fails, failure)


def stop_while_dns_is_silent(stage):
    server = Dns(lambda name, qtype: None)
    _, r = ses(stage, ports=(587,), start=False)
    r.settings["ses.endpoint"] = '"email-smtp.test"'
    r.write_config()
    r.start(wrap=hosts_namespace(
        stage.directory, "", Dns.RESOLV.format(30), "dns"))
    r.send()
    wait_until(lambda: server.names, "a lookup")
    begun = time.monotonic()
    assert r.stop() == 0
    assert time.monotonic() - begun < 10  # the lookup: 30 s or 60 s


def test_stop_while_dns_is_silent(network):
    network(stop_while_dns_is_silent)


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["::1"]],
                         ids=["A", "AAAA"])
def test_one_family_only(network, answer):
    def body(stage):
        Dns(lambda name, qtype: answer)
        s, r = ses(stage, ports=(587,), start=False,
                   addresses=("127.0.0.1", "[::1]"))
        r.settings["ses.endpoint"] = '"email-smtp.test"'
        r.write_config()
        r.start(wrap=hosts_namespace(
            stage.directory, "", Dns.RESOLV.format(3), "dns"))
        r.wait_outcome(r.send(), "sent")
        assert {e["addr"] for e in s.events("connect")} == set(answer)
    network(body)


# --- packets that vanish by size ---

def found(relay):
    return [line for line in relay.log().splitlines() if HOLE in line]


def told_once_and_well(relay, mss):
    lines = found(relay)
    assert len(lines) == 1
    for words in (f"in segments of at most {mss} bytes", "mtu 1500",
                  "tcp_mtu_probing=1", "fragmentation needed",
                  f"ses.mss = {mss}"):
        assert words in lines[0]
    assert relay.status()["upstream"]["mss"] == mss
    assert "LARGE PACKETS VANISH" in relay.ctl("status")


def nothing_lost_or_charged(relay, s):
    assert not [o for o in relay.outcomes() if o["status"] != "sent"]
    assert relay.counter("messages_uncertain_total") == 0
    seen = [e["message_id"] for e in s.messages()]
    assert len(seen) == len(set(seen))


def hole_towards_ses(stage, port, limit, mss):
    real_segments()
    s, r = ses(stage, ports=(port,), config={
        "ses.ports": f'[ "{port}" ]'})
    filter_input(f"ip length > {limit} tcp dport {port} drop")
    took = timed(r, large(1000000))
    assert took < 60, took
    told_once_and_well(r, mss)
    nothing_lost_or_charged(r, s)
    again = timed(r, large(1000000))
    # Another connection has to find nothing out any more.
    assert again < 5 and again < took / 2, (took, again)
    # Nor has another process.
    assert r.stop() == 0
    r.start()
    again = timed(r, large(1000000))
    assert again < 5 and again < took / 2, (took, again)
    assert len(found(r)) == 1
    nothing_lost_or_charged(r, s)
    print(json.dumps({"first": took, "after a restart": again}))


@pytest.mark.parametrize("port,limit,mss", [(587, 700, 536),
                                            (465, 1300, 1200)])
def test_hole_towards_ses(network, port, limit, mss):
    network(hole_towards_ses, port, limit, mss)


def hole_for_small_mail(stage):
    """It fits into the kernel whole, but what vanished was not sent."""
    real_segments()
    s, r = ses(stage, ports=(587,), config={"ses.ports": '[ "587" ]'})
    filter_input("ip length > 1300 tcp dport 587 drop")
    ids = [r.send(message(LARGE * n)) for n in (1, 20, 40, 100, 200)]
    for qid in ids:
        r.wait_outcome(qid, "sent", timeout=60)
    told_once_and_well(r, 1200)
    nothing_lost_or_charged(r, s)


def test_hole_for_small_mail(network):
    network(hole_for_small_mail)


def hole_from_ses(stage, port):
    real_segments()
    s, r = ses(stage, ports=(port,), config={
        "ses.ports": f'[ "{port}" ]'})
    filter_input(f"ip length > 700 tcp sport {port} drop")
    took = timed(r, large(1000000))
    assert took < 60, took
    told_once_and_well(r, 536)
    assert f"large packets from localhost[127.0.0.1]:{port}" in found(r)[0]
    nothing_lost_or_charged(r, s)
    # Nobody blamed the port for it.
    assert ports(r)[port]["state"] == "good"
    again = timed(r, large(1000000))
    assert again < 5 and again < took / 2, (took, again)


@pytest.mark.parametrize("port", [587, 465])
def test_hole_from_ses(network, port):
    network(hole_from_ses, port)


def small_bridge(stage):
    """As it is met: both ways, and ICMP tells nobody."""
    bridge = Bridge(600)
    s, r = ses(stage, ports=(587, 465), addresses=(bridge.PEER,),
               wrap=bridge.there, control=f"{bridge.PEER}:0", start=False)
    r.settings["ses.endpoint"] = '"email-smtp.test"'
    wrap = hosts_namespace(stage.directory,
                           f"{bridge.PEER} email-smtp.test\n")
    r.write_config()
    r.start(wrap=wrap)
    took = timed(r, large(1000000))
    assert took < 60, took
    told_once_and_well(r, 536)
    nothing_lost_or_charged(r, s)
    again = timed(r, large(1000000))
    assert again < 5 and again < took / 2, (took, again)
    print(json.dumps({"bridge": took}))
    # The doctor names it in the same network.
    import test_check
    result = test_check.check(r, wrap=wrap)
    for port in (587, 465):
        verdicts = [t["verdict"] for t in result.ports[port]["trouble"]]
        assert "MTU" in verdicts, (port, verdicts)


def test_small_bridge(network):
    network(small_bridge)


def forced_size(stage):
    real_segments()
    s, r = ses(stage, ports=(587,), config={
        "ses.ports": '[ "587" ]', "ses.mss": "700"})
    # Payload and headers, and not one byte more in either direction.
    filter_input("ip length > 740 tcp dport 587 drop",
                 "ip length > 740 tcp sport 587 drop")
    assert timed(r, large(1000000)) < 5
    assert found(r) == []
    assert r.ctl_json("connections")[0]["mss"] == 700
    nothing_lost_or_charged(r, s)


def test_forced_size(network):
    network(forced_size)


# --- packets that vanish by chance, and for good ---

def loss(stage, percent):
    real_segments()
    s, r = ses(stage, ports=(587,), config={
        "ses.ports": '[ "587" ]', "delivery.timeout_connect": '"10s"'})
    filter_input(*(f"tcp {way} 587 numgen random mod 100 < {percent} drop"
                   for way in ("sport", "dport")))
    ids = [r.send(large(n * 20000)) for n in range(1, 16)]
    for qid in ids:
        r.wait_outcome(qid, "sent", timeout=120)
    assert found(r) == []
    assert r.status()["upstream"]["mss"] == 0
    assert "status=bounced" not in r.log()
    assert len(s.messages()) == 15


@pytest.mark.parametrize("percent", [5, 10])
def test_loss(network, percent):
    network(loss, percent)


def half_open(stage):
    """Everything vanishes, in both directions, after so much has passed: no
    matter of size, and the deadline for progress ends it."""
    real_segments()
    s, r = ses(stage, ports=(587,), config={
        "ses.ports": '[ "587" ]', "delivery.timeout_data": '"6s"'})
    filter_input("tcp dport 587 ct bytes > 60000 drop")
    begun = time.monotonic()
    qid = r.send(large(400000))
    wait_until(lambda: "again at once on another connection" in r.log(),
               "the half-open connection to be given up", timeout=30)
    assert time.monotonic() - begun < 25
    filter_nothing()
    r.wait_outcome(qid, "sent", timeout=60)
    assert found(r) == []
    assert len(s.messages()) == 1
    nothing_lost_or_charged(r, s)


def test_half_open(network):
    network(half_open)


def silent_after_connect(stage):
    """The port takes connections, and that is all."""
    s, r = ses(stage, ports=(587, 465), config={
        "delivery.timeout_command": '"2s"'})
    filter_input("tcp dport 587 ct original packets > 2 drop")
    r.wait_outcome(r.send(), "sent", timeout=60)
    assert "mail goes by port 465 now; 587: timed out" in r.log()


def test_silent_after_connect(network):
    network(silent_after_connect)


def slow_reader(stage):
    """A window of 0 is no hole, and no dead peer."""
    s, r = ses(stage, ports=(587,), config={"ses.ports": '[ "587" ]'},
               rules=["on BODY times 1 delay 9000"])
    assert timed(r, large(3000000)) >= 8
    assert s.stats()["connections"]["total"] == 1
    assert found(r) == []


def test_slow_reader(network):
    network(slow_reader)


