"""The reply to the final dot is lost: SES may have the message or not. Nothing
is said behind the dot before its reply; what is uncertain is told, counted and
sent again by the schedule, or held where no crash can send it again."""

import select
import subprocess
import threading
import time

import pytest

import harness
from conftest import Stage
from harness import message, wait_until, without_received
from intake_helpers import STRACE, daemon_pid
from network import filter_input, in_network, run
from peer import Peer, starttls_first, tls_server

# "At once" would be milliseconds.
RETRY_S = 1.0


def answers_get_lost(directory, certs):
    """What the server sends is dropped, what it acknowledges is not: from
    after the dot on, as a firewall does that has forgotten the connection."""
    stage = Stage(directory, certs)
    try:
        s = stage.sesd(rules=["on DOT times 1 delay 400"])
        r = stage.relay(s, config={"delivery.timeout_final": '"3s"',
                                   "delivery.retry": '[ "1s" ]'})
        content = message(message_id="lost-answer@example.com")
        qid = r.send(content)
        [first] = s.wait_messages(1)
        filter_input(f"tcp sport {s.ports['starttls']} meta length > 60 drop")
        sent = time.time()
        r.wait_log("delivery uncertain")
        # All that time it was waited for, and nothing else was tried.
        assert time.time() - sent > 2
        assert s.stats()["connections"]["total"] == 1
        assert r.count() == 1
        assert (f"{qid}: delivery uncertain, message-id=<lost-answer@"
                "example.com>") in r.log()
        assert r.counter("messages_uncertain_total") == 1
        run("nft", "flush", "ruleset")
        r.wait_outcome(qid, "sent")
        r.wait_empty()
        one, two = s.messages()
        assert one["message_id"] == two["message_id"] == \
            "lost-answer@example.com"
        assert [without_received(s.stored(e)) for e in (one, two)] == [
            content, content]
        deferred, ok = r.outcomes(qid)
        assert deferred["status"] == "deferred" and ok["status"] == "sent"
        assert "timed out at end of DATA command" in deferred["note"]
        assert two["time"] - first["time"] > 3 + RETRY_S * 0.9
        assert r.dead_letters() == []
    finally:
        stage.end()


def test_answer_lost_in_the_network(directory, certs):
    in_network(lambda: answers_get_lost(directory, certs))


def test_the_wait_for_the_answer_is_ten_minutes(relay):
    r = relay(start=False)
    text = subprocess.run(
        [str(harness.BUILD / "sesrelayd"), "-T", "-c", str(r.config_file)],
        capture_output=True, text=True, check=True).stdout
    assert 'timeout_final = "10m"' in text


@pytest.mark.parametrize("age", [0.0, 0.95])
def test_not_at_once_though_the_next_slot_is_near(sesd, relay, age):
    """A slot of delivery.retry may come right after the loss."""
    s = sesd(rules=[
        f"on DOT when msgs=1 times 1 delay {int(age * 1000)} close"])
    r = relay(s, config={"delivery.retry": '[ "1s" ]'})
    r.send()
    r.wait_empty()
    qid = r.send()
    r.wait_log("delivery uncertain")
    lost = time.time()
    r.wait_outcome(qid, "sent")
    assert s.messages()[1]["time"] - lost > RETRY_S * 0.9


def test_answer_that_began_within_the_content(sesd, relay):
    """A reply of which the first line came before the dot, and the last behind
    it, is no answer to the dot."""
    s = sesd(rules=['on BODY when bytes>100000 times 1 raw "250-x\\r\\n"'])
    r = relay(s)
    content = message(b"a line of text\r\n" * 1_500_000)
    qid = r.send(content)
    r.wait_outcome(qid, "sent")
    r.wait_empty()
    assert [o["status"] for o in r.outcomes(qid)] == ["deferred", "sent"]
    assert "a reply began within the content" in r.outcomes(qid)[0]["note"]
    assert [e["conn"] for e in s.messages()] == [1, 2]
    assert r.counter("messages_uncertain_total") == 1


# --- nothing behind the dot ---

def after_the_dot(t, seconds):
    """What comes between the dot and its answer."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if t.pending() or select.select([t], [], [], left)[0]:
            return t.recv(1000)
    return b""


@pytest.mark.parametrize("mode", ["starttls", "wrapper"])
def test_nothing_is_sent_behind_the_dot(relay, certs, mode):
    """Byte by byte: with a backlog, and a deadline for the connection."""
    context = tls_server(certs, "DEFAULT")
    early, commands = [], []

    def session(p, t):
        if mode == "wrapper":
            t.sendall(b"220 hello\r\n")
        buf = b""
        while True:
            while b"\r\n" not in buf:
                if not (data := t.recv(65536)):
                    return
                buf += data
            line, buf = buf.split(b"\r\n", 1)
            if buf:
                early.append(buf)
            verb = line.split(b" ")[0]
            commands.append(verb)
            if verb == b"DATA":
                t.sendall(b"354 go\r\n")
                while not buf.endswith(b"\r\n.\r\n"):
                    if not (data := t.recv(65536)):
                        return
                    buf += data
                if b"\r\n.\r\n" in buf[:-5]:
                    early.append(buf)
                early.append(after_the_dot(t, 0.15))
                buf = b""
                t.sendall(b"250 Ok 0100018f-0\r\n")
            else:
                t.sendall({
                    b"EHLO": b"250-x\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n",
                    b"AUTH": b"235 in\r\n", b"QUIT": b"221 bye\r\n",
                }.get(verb, b"250 Ok\r\n"))

    def talk(p, s):
        if mode == "starttls":
            starttls_first(s)
        with context.wrap_socket(s, server_side=True) as t:
            session(p, t)
    p = Peer(talk)
    try:
        r = relay(start=False, config={
            "ses.ca_file": f'"{certs / "ca.pem"}"',
            "delivery.connections": "1",
            "delivery.idle_timeout": '"100ms"',
            "delivery.messages_per_connection": "4"})
        r.set_ports((p.port, mode))
        r.write_config()
        r.start()
        with r.submit() as client:
            for _ in range(10):
                client.mail()
        r.wait_empty()
        wait_until(lambda: commands.count(b"QUIT") >= 3, "the last QUIT")
    finally:
        p.close()
    assert commands.count(b"DATA") == 10
    assert early == 10 * [b""]


# --- held ---

def test_held_means_recorded(sesd, relay):
    """The journal is busy with another message when the answer is lost: nobody
    is told of a hold that kill -9 could undo."""
    s = sesd(rules=["on DOT times 1 accept delay 700 close"])
    r = relay(s, start=False, config={"delivery.uncertain": '"hold"'})
    slow = [*STRACE, "-qq", "-o", "/dev/null", "-e",
            "inject=fdatasync:delay_enter=1500000"]
    r.start(wrap=slow)
    content = message()
    qid = r.send(content)
    s.wait_event("rule")
    # Its commit is under way when the answer is lost.
    other = threading.Thread(target=lambda: r.send(message(subject="other")))
    other.start()
    r.wait_log("it will be held (delivery.uncertain)")
    wait_until(lambda: "it is held (delivery.uncertain)" in r.log() or
               r.status()["queue"]["held"] == 1, "the hold")
    subprocess.run(["kill", "-9", str(daemon_pid(r))], check=True)
    r.process.wait()
    r.process.close()
    try:
        other.join()
    except ConnectionError:
        pass
    r.start()
    r.wait_log("spool read: ")
    wait_until(lambda: r.status()["queue"]["held"] == 1, "the message held")
    held = [m["id"] for m in r.ctl_json("queue", "held")]
    assert held == [qid]
    mine = [e for e in s.messages()
            if without_received(s.stored(e)) == content]
    assert len(mine) == 1


def test_hold_is_not_lost_at_the_end(sesd, relay):
    """SIGTERM right behind the loss: the hold is written before the end."""
    s = sesd(rules=["on DOT times 1 accept close"])
    r = relay(s, config={"delivery.uncertain": '"hold"'})
    qid = r.send()
    r.wait_log("it will be held (delivery.uncertain)")
    assert r.stop() == 0
    r.start()
    r.wait_log("spool read: 1 messages")
    assert [m["id"] for m in r.ctl_json("queue", "held")] == [qid]
    assert len(s.messages()) == 1
