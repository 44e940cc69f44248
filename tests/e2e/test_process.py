"""The daemon as a process: signals, restarts, reload, the log, and the
operator's tool."""

import json
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import (BUILD, OUTCOME, RCPT, SENDER, Submission, message,
                     wait_until, without_received)

ID = "[0-9A-F]{16}"


def contents(s):
    return [without_received(s.stored(e)) for e in s.messages()]


# --- stop ---

def test_sigterm_when_idle(sesd, relay):
    s = sesd()
    r = relay(s, config={"delivery.idle_timeout": '"30s"'})
    r.send()
    s.wait_messages(1)
    r.wait_empty()
    began = time.monotonic()
    assert r.stop() == 0
    assert time.monotonic() - began < 2
    assert [e["reason"] for e in s.events("close")] == ["quit"]
    assert r.log().rstrip().endswith(": stopped")


def test_sigterm_waits_for_the_reply_to_the_dot(sesd, relay):
    s = sesd(settings={"dot_latency": 800})
    r = relay(s)
    content = message()
    qid = r.send(content)
    s.wait_messages(1)  # it has it, and has not said so yet
    assert r.outcomes(qid) == []
    assert r.stop() == 0
    [o] = r.outcomes(qid)
    assert o["status"] == "sent"
    s.set("dot_latency", 0)
    r.start()
    assert r.count() == 0
    last = message()
    r.send(last)
    s.wait_messages(2)
    assert contents(s) == [content, last]


def test_sigint_waits_for_nothing(sesd, relay):
    s = sesd(settings={"dot_latency": "20s"})
    r = relay(s)
    content = message()
    r.send(content)
    s.wait_messages(1)
    began = time.monotonic()
    r.process.kill(signal.SIGINT)
    assert r.process.wait(20) == 0
    assert time.monotonic() - began < 2
    assert "delivery uncertain" in r.log()
    s.set("dot_latency", 0)
    r.start()
    s.wait_messages(2)
    r.wait_empty()
    assert contents(s) == [content, content]


def test_sigterm_with_a_backlog(sesd, relay):
    s = sesd(settings={"dot_latency": 100})
    r = relay(s, config={"delivery.connections": "3"})
    sent = []
    with r.submit() as client:
        for _ in range(30):
            sent.append(message())
            client.mail(sent[-1])
    s.wait_messages(4)
    began = time.monotonic()
    assert r.stop() == 0
    assert time.monotonic() - began < 5
    done = len(s.messages())
    assert 4 <= done < 30
    s.set("dot_latency", 0)
    r.start()
    s.wait_messages(30)
    r.wait_empty()
    assert sorted(contents(s)) == sorted(sent)
    assert r.counter("recipients_total{status=\"sent\"}") == 30 - done


def test_sigterm_while_ses_is_away(sesd, relay):
    s = sesd()
    s.control("refuse on")
    r = relay(s)
    content = message()
    r.send(content)
    r.wait_state("unreachable")
    began = time.monotonic()
    assert r.stop() == 0
    assert time.monotonic() - began < 2
    s.control("refuse off")
    r.start()
    s.wait_messages(1)
    assert contents(s) == [content]


def test_new_mail_is_refused_while_stopping(sesd, relay):
    s = sesd(settings={"dot_latency": 500})
    r = relay(s)
    idle, busy = r.submit(), r.submit()
    busy.begin()
    busy.sock.sendall(b"Subject: half\r\n")
    r.send()
    s.wait_messages(1)
    r.process.kill(signal.SIGTERM)
    assert idle.reply().startswith("421 4.3.2 ")
    assert busy.reply().startswith("421 4.3.2 ")
    with pytest.raises(OSError):
        Submission(r.port)
    assert r.process.wait(20) == 0
    for client in (idle, busy):
        client.close()


# --- kill -9 ---

def test_kill_9_loses_nothing(sesd, relay):
    s = sesd(settings={"dot_latency": 5})
    r = relay(s, config={"delivery.connections": "5"})
    acked, stop = set(), threading.Event()

    def submit():
        while not stop.is_set():
            content = message(b"some text\r\n" * 400)
            try:
                with r.submit() as client:
                    client.mail(content)
                acked.add(content)
            except (ConnectionError, OSError):
                stop.wait(0.01)

    clients = [threading.Thread(target=submit) for _ in range(4)]
    for t in clients:
        t.start()
    try:
        for n in (30, 90):
            wait_until(lambda: len(s.messages()) >= n, f"{n} messages")
            r.kill()
            r.start()
        wait_until(lambda: len(s.messages()) >= 150, "150 messages")
    finally:
        stop.set()
        for t in clients:
            t.join()
    r.wait_empty()
    arrived = contents(s)
    assert acked <= set(arrived)
    # Twice: at the most what was with each connection at each kill. Of what
    # was not acknowledged, each client has at most one message at a kill.
    assert len(arrived) - len(set(arrived)) <= 2 * 5
    assert len(set(arrived) - acked) <= 2 * 4
    assert r.dead_letters() == []


def test_kill_9_keeps_what_each_recipient_got(sesd, relay):
    s = sesd(rules=['on RCPT when rcpt=later@example.org reply '
                    '"450 not now"'])
    r = relay(s, config={"delivery.retry": '[ "1h" ]'})
    qid = r.send(rcpts=["now@example.org", "later@example.org"])
    r.wait_outcome(qid, "deferred")
    s.wait_messages(1)
    wait_until(lambda: r.ctl_json("queue", "waiting"), "the message to wait")
    r.stop()  # what SES took is on disk before, but that it waits need not be
    s.control("clear")
    r.start()
    s.wait_messages(2)
    r.wait_empty()
    assert [e["rcpts"] for e in s.messages()] == [
        ["now@example.org"], ["later@example.org"]]


# --- start ---

def test_second_daemon_on_the_same_spool(sesd, relay):
    s = sesd()
    r = relay(s)
    other = relay(s, start=False,
                  config={"spool.directory": f'"{r.spool}"'})
    other.start(wait=False)
    assert other.process.wait(20) not in (0, None)
    assert re.search(r"cannot start: .*spool.*", other.log())
    assert "another" in other.log() or "in use" in other.log()
    assert str(r.spool) in other.log()
    r.send()
    s.wait_messages(1)


def test_second_daemon_on_the_same_port(sesd, relay):
    s = sesd()
    r = relay(s)
    other = relay(s, start=False,
                  config={"smtp.listen": f'[ "127.0.0.1:{r.port}" ]'})
    other.start(wait=False)
    assert other.process.wait(20) == 71
    assert f"127.0.0.1:{r.port}" in other.log()
    r.send()
    s.wait_messages(1)


def test_second_daemon_on_the_same_control_socket(sesd, relay):
    s = sesd()
    r = relay(s)
    other = relay(s, start=False, config={"control.socket": f'"{r.control}"'})
    other.start(wait=False)
    assert other.process.wait(20) == 71
    assert "another sesrelayd answers" in other.log()
    assert r.count() == 0


def test_broken_configuration_at_start(sesd, relay):
    r = relay(sesd(), start=False, config={"smtp.timeout": '"5 parsecs"'})
    r.start(wait=False)
    assert r.process.wait(20) == 78
    line = r.config_file.read_text().split("timeout")[0].count("\n") + 1
    assert r.log().startswith(f"{r.config_file}:{line}: ")
    assert "smtp.timeout" in r.log()


# --- reload ---

def test_reload_of_a_good_file(sesd, relay):
    one, two = sesd(), sesd()
    r = relay(one)
    r.send()
    one.wait_messages(1)
    r.set_ports((two.ports["wrapper"], "wrapper"))
    r.write_config()
    r.reload()
    r.wait_log("configuration reloaded, 1 keys changed")
    assert re.search(r"ses\.ports: .* -> .*:wrapper", r.log())
    r.send()
    assert two.wait_messages(1)[0]["mode"] == "wrapper"
    # The old connection was closed in good order.
    assert one.wait_event("close")[0]["reason"] == "quit"
    assert r.status()["last_reload_ok"] is True


@pytest.mark.parametrize("key,value,words", [
    ("smtp.max_sessions", '"many"', "smtp.max_sessions"),
    ("delivery.retries", '[ "5s" ]', "did you mean"),
    ("ses.ca_file", '"/nonexistent/ca.pem"', "/nonexistent/ca.pem"),
    ("ses.password_file", '"/nonexistent/password"', "/nonexistent/password"),
])
def test_reload_of_a_broken_file(sesd, relay, key, value, words):
    s = sesd()
    r = relay(s)
    good = dict(r.settings)
    r.settings[key] = value
    r.write_config()
    r.reload()
    r.wait_log("reload refused, the old configuration stays in force")
    assert words in r.log()
    assert r.status()["last_reload_ok"] is False
    done = r.run_ctl("reload")
    assert done.returncode == 1 and words in done.stderr
    r.send()
    s.wait_messages(1)
    r.settings = good
    r.write_config()
    assert "nothing changed" in r.ctl("reload")
    assert r.status()["last_reload_ok"] is True


def test_reload_names_keys_that_need_a_restart(sesd, relay):
    r = relay(sesd())
    r.settings["spool.durability"] = '"none"'
    r.write_config()
    assert "needs a restart" in r.ctl("reload")
    r.wait_log("spool.durability")


def test_reload_under_load(sesd, relay):
    s = sesd()
    r = relay(s)
    sent, last = [], {}
    good, broken = dict(r.settings), dict(r.settings)
    broken["smtp.timeout"] = '"never"'
    fds = f"/proc/{r.process.pid}/fd"
    with r.submit() as client:
        for i in range(200):
            sent.append(message())
            client.mail(sent[-1])
            if i % 10 == 5:
                r.settings = dict(good if i % 20 == 5 else broken)
                if i % 40 == 5:
                    r.settings["delivery.messages_per_connection"] = "20"
                r.write_config()
                r.reload()
            if i in (50, 199):
                last[i] = len(subprocess.check_output(
                    ["ls", fds], text=True).split())
    s.wait_messages(200)
    r.wait_empty()
    assert sorted(contents(s)) == sorted(sent)
    assert {o["status"] for o in r.outcomes()} == {"sent"}
    assert last[199] <= last[50] + 25  # connections, not a leak a reload


# --- the log ---

STAMP = r"\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ "


def test_log_of_a_delivered_message(sesd, relay):
    s = sesd(settings={"dot_latency": 30})
    r = relay(s)
    content = message(message_id="a1@host")
    qid = r.send(content, rcpts=["u@example.net", "v@example.net"])
    r.wait_empty()
    [e] = s.messages()
    r.wait_log(f"{qid}: removed")
    size = e["bytes"]
    pid = r.process.pid
    lines = [line for line in r.log().splitlines() if qid in line]
    shapes = [
        rf"sesrelayd/smtpd\[{pid}\]: {qid}: client=localhost\[127\.0\.0\.1\]",
        rf"sesrelayd/cleanup\[{pid}\]: {qid}: message-id=<a1@host>",
        rf"sesrelayd/qmgr\[{pid}\]: {qid}: from=<app@example\.com>, "
        rf"size={size}, nrcpt=2 \(queue active\)",
        *(rf"sesrelayd/smtp\[{pid}\]: {qid}: to=<{u}@example\.net>, "
          rf"relay=localhost\[127\.0\.0\.1\]:{e['port']}, "
          rf"delay=\d[\d.]*, delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, dsn=2\.0\.0, "
          rf"status=sent \(250 Ok {e['id']}\), conn=1" for u in "uv"),
        rf"sesrelayd/qmgr\[{pid}\]: {qid}: removed",
    ]
    assert len(lines) == len(shapes)
    for line, shape in zip(lines, shapes):
        assert re.fullmatch(STAMP + shape, line), (line, shape)
    o = r.outcomes(qid)[0]
    parts = [float(x) for x in o["delays"].split("/")]
    assert 0.03 <= parts[3] < 5
    assert abs(sum(parts) - float(o["delay"])) < 0.02


def test_log_of_connecting_is_told_in_delays(sesd, relay):
    s = sesd(settings={"latency": 50})
    r = relay(s)
    qid = r.send()
    [o] = r.wait_outcome(qid, "sent")
    _, queued, setup, sending = map(float, o["delays"].split("/"))
    # Greeting, EHLO, STARTTLS, EHLO, AUTH; then MAIL, RCPT, DATA, dot.
    assert setup >= 0.2
    assert sending >= 0.15
    assert queued < 0.15


def test_log_escapes_what_peers_send(sesd, relay):
    s = sesd(rules=['on DOT reply "554 Transaction failed: \\x1b[31m \\xff (x)'
                    ' status=sent"'])
    r = relay(s)
    qid = r.send()
    [o] = r.wait_outcome(qid, "bounced")
    raw = r.log_path.read_bytes()
    assert b"\x1b" not in raw and b"\xff" not in raw
    assert re.match(r"554 Transaction failed: \S+\[31m \S+ \(x\)", o["note"])
    assert len(list(OUTCOME.finditer(r.log()))) == 1


def test_log_in_json(sesd, relay):
    s = sesd(rules=['on DOT times 1 reply "451 Temporary service failure"'])
    r = relay(s, config={"log.format": '"json"'})
    qid = r.send(message(message_id="a1@host"))
    s.wait_messages(1)
    r.wait_empty()
    assert r.stop() == 0
    events = [json.loads(line) for line in r.log().splitlines()]
    for e in events:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
                            e["time"])
        assert e["level"] in ("debug", "info", "warning", "error")
        assert e["event"]
    mine = [e for e in events if e.get("id") == qid]
    assert [e["event"] for e in mine] == [
        "client", "message-id", "accepted", "deferred", "sent", "removed"]
    assert mine[2]["from"] == SENDER
    deferred, sent = mine[3:5]
    [entry] = s.messages()
    for e, status in ((deferred, "deferred"), (sent, "sent")):
        assert e["to"] == RCPT and e["status"] == status
        assert e["relay"] == f"localhost[127.0.0.1]:{entry['port']}"
        assert isinstance(e["conn"], int)
        assert isinstance(e["delay"], (int, float))
        assert re.fullmatch(r"[\d./]+", e["delays"])
    assert deferred["dsn"] == "4.3.0" and sent["dsn"] == "2.0.0"
    assert deferred["reply"].startswith("451 Temporary service failure")
    assert sent["reply"] == f"250 Ok {entry['id']}"
    assert sent["ses_id"] == entry["id"] and "ses_id" not in deferred
    assert (int(deferred["attempt"]), int(sent["attempt"])) == (1, 2)


def test_log_name_feeds_existing_dashboards(sesd, relay):
    s = sesd()
    r = relay(s, config={"log.name": '"postfix"'})
    qid = r.send()
    r.wait_log(" postfix/smtp[")
    r.wait_log(f"postfix/qmgr[{r.process.pid}]: {qid}: removed")
    assert "sesrelayd/smtp" not in r.log()


# --- sesrelayctl ---

def ctl(r, *args):
    done = r.run_ctl(*args)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def waiting(sesd, relay):
    """A relay that cannot reach SES, with two messages in its queue."""
    s = sesd()
    s.control("refuse on")
    r = relay(s)
    r.ids = [r.send(message("Grüße\r\n".encode(), subject="one"),
                    rcpts=["a@example.org", "b@example.org"]),
             r.send(message(b"x" * 70 + b"\r\n", subject="two"), sender="")]
    r.wait_state("unreachable")
    r.upstream = s
    return r


def test_ctl_count_and_queue(waiting):
    r = waiting
    assert ctl(r, "count") == (0, "2\n", "")
    assert ctl(r, "--json", "count") == (0, '{"messages":2}\n', "")
    first, second = r.ctl_json("queue")
    assert [first["id"], second["id"]] == r.ids
    assert (first["sender"], second["sender"]) == (SENDER, "")
    assert first["state"] == "ready" and first["attempts"] == 0
    assert first["recipients"] == [
        {"address": "a@example.org", "state": "pending"},
        {"address": "b@example.org", "state": "pending"}]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", first["arrival"])
    assert first["size"] > 200
    table = r.ctl("queue")
    assert r.ids[0] in table and r.ids[1] in table
    assert "a@example.org (+1)" in table and "2 messages" in table
    assert "b@example.org" in r.ctl("queue", "-l")
    assert len(r.ctl_json("queue", "ready")) == 2
    assert r.ctl_json("queue", "held") == []
    assert "no messages held" in r.ctl("queue", "held")


def test_ctl_show(waiting):
    r = waiting
    [shown] = r.ctl_json("show", r.ids[0])
    assert shown["id"] == r.ids[0] and shown["helo"] == "client.test"
    assert "a@example.org" in r.ctl("show", r.ids[0])
    headers = r.ctl("show", r.ids[0], "--headers")
    assert "Subject: one" in headers and "Grüße" not in headers
    done = subprocess.run(
        [str(BUILD / "sesrelayctl"), "-s", str(r.control), "show", r.ids[0],
         "--body"], capture_output=True, timeout=30)
    assert done.stdout == "Grüße\r\n".encode()


def test_ctl_show_large(sesd, relay):
    s = sesd()
    s.control("refuse on")
    r = relay(s)
    body = b"".join(b"%076d\r\n" % i for i in range(40_000))
    qid = r.send(message(body))
    done = subprocess.run(
        [str(BUILD / "sesrelayctl"), "-s", str(r.control), "show", qid,
         "--body"], capture_output=True, timeout=30)
    assert done.stdout == body


def test_ctl_status(waiting):
    r = waiting
    screen = r.ctl("status")
    assert "UNREACHABLE" in screen and "2 messages" in screen
    status = r.status()
    assert status["queue"]["ready"] + status["queue"]["active"] == 2
    assert status["queue"]["bytes"] > 400
    assert status["upstream"]["endpoint"] == "localhost"
    assert "Connection refused" in status["upstream"]["connect_error"]
    r.upstream.control("refuse off")
    r.wait_empty()
    assert r.state() == "ok"
    assert f"mail goes out via localhost:{r.upstream.ports['starttls']}" in \
        r.ctl("status")


@pytest.mark.parametrize("prefix", ["stat", "s", "c", "cou", "q", "relo", "sh"])
def test_ctl_prefixes(waiting, prefix):
    code, out, err = ctl(waiting, prefix)
    want = {"s": 64, "c": 64, "sh": 64}.get(prefix, 0)
    assert code == want, (out, err)
    if prefix == "s":
        assert "'s' may be " in err


@pytest.mark.parametrize("args,code", [
    ((), 64), (("frob",), 64), (("count", "now"), 64), (("show",), 64),
    (("show", "xyz"), 64), (("queue", "nosuch"), 64), (("--frob",), 64),
    (("show", "0123456789ABCDEF"), 65), (("count", "-l"), 64),
    (("--json", "show", "0123456789ABCDEF"), 65),
])
def test_ctl_exit_codes(sesd, relay, args, code):
    r = relay(sesd())
    done = r.run_ctl(*args)
    assert done.returncode == code
    assert done.stdout == "" and done.stderr.strip()


def test_ctl_without_daemon(relay, directory):
    r = relay(start=False)
    for args in (("rotate",), ("retry",), ("reload",), ("--json", "status")):
        done = r.run_ctl(*args)
        assert done.returncode == 69 and done.stdout == ""
        assert "cannot reach the daemon" in done.stderr
        assert str(r.control) in done.stderr


def test_ctl_after_a_kill(sesd, relay):
    """The socket file stays and answers nobody; a restart replaces it."""
    r = relay(sesd())
    r.kill()
    assert r.run_ctl("count").returncode == 69
    r.start()
    assert r.count() == 0


def test_ctl_finds_the_socket_by_the_configuration(sesd, relay):
    r = relay(sesd())
    done = subprocess.run(
        [str(BUILD / "sesrelayctl"), "-c", str(r.config_file), "count"],
        capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "0\n")


def test_ctl_reload(sesd, relay):
    r = relay(sesd())
    r.settings["delivery.connections"] = "7"
    r.write_config()
    [answer] = r.ctl_json("reload")
    assert "delivery.connections: 20 -> 7" in answer["message"]
    r.wait_log("reload asked for by uid")
