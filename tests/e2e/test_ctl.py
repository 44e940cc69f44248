"""sesrelayctl as programs and people meet it: help, near misses, JSON of every
verb, exit codes; and the line for a monitoring system."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading

import pytest

from harness import BUILD, RCPT, message, wait_until

CTL = str(BUILD / "sesrelayctl")
NO_ID = "0000000000000001"


def ctl(*args, **kwargs):
    return subprocess.run([CTL, *args], capture_output=True, text=True,
                          timeout=60, **kwargs)


def tables():
    """({verb: (words, how many)}, {verb or "*": {option: words}})"""
    verbs, options = {}, {}
    for line in ctl("--dump-tables").stdout.splitlines():
        kind, verb, *rest = line.split("\t")
        if kind == "verb":
            verbs[verb] = tuple(rest)
            options.setdefault(verb, {})
        else:
            options.setdefault(verb, {})[rest[0]] = rest[1]
    return verbs, options


VERBS, OPTIONS = tables()
CONTRACT = {"status", "queue", "count", "show", "retry", "hold", "release",
            "delete", "failed", "requeue", "trace", "pause", "resume",
            "drain", "connections", "rotate", "reload", "check", "send-test",
            "password", "top", "log-level"}


def test_the_verbs_of_the_contract_are_there():
    assert CONTRACT <= set(VERBS)


# --- help ---

def test_help_names_every_verb_and_fits():
    text = ctl("-h").stdout
    for verb in VERBS:
        assert re.search(rf"^  {verb}( |$)", text, re.M), verb
    assert max(map(len, text.splitlines())) < 80
    assert ctl("help").stdout == text


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb):
    done = ctl(verb, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: sesrelayctl {verb}")
    # All of its options, in the usage and explained; and none of others'.
    usage, rest = done.stdout.split("\n\n", 1)
    told = set(re.findall(r"^  (-\S+?),? ", rest, re.M)) | set(
        re.findall(r"^  -\w, (--\S+)", rest, re.M))
    assert told == set(OPTIONS[verb])
    # In the usage, each by one of its names.
    named = set(re.findall(r"(?<![\w-])--?[\w-]+", usage))
    assert named <= told
    entries = [line for line in rest.splitlines()
               if re.match(r"  -", line)]
    assert len(named) == len(entries)
    # An example that is a line of this verb.
    assert re.search(rf"^example:\n  sesrelayctl {verb}\b", rest, re.M)
    for same in (("-h", verb), ("help", verb), ("--help", verb)):
        assert ctl(*same).stdout == done.stdout


@pytest.mark.parametrize("typed,meant", [
    ("stauts", "status"), ("qeue", "queue"), ("conections", "connections"),
    ("requeu", None), ("log_level", "log-level"), ("flush", None),
    ("realod", "reload"), ("xyzzy", None)])
def test_did_you_mean(typed, meant):
    done = ctl("-s", "/nonexistent", typed)
    if typed == "requeu":  # a prefix is no mistake
        assert "which messages?" in done.stderr
        return
    assert done.returncode == 64 and done.stdout == ""
    first = done.stderr.splitlines()[0]
    if meant:
        assert first == (f"sesrelayctl: what is '{typed}'? did you mean "
                         f"'{meant}'?")
    else:
        assert first == (f"sesrelayctl: what is '{typed}'? \"sesrelayctl "
                         "-h\" lists the verbs")


def test_a_prefix_of_several_verbs_names_them_all():
    done = ctl("-s", "/nonexistent", "re")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == (
        "sesrelayctl: 're' may be release, reload, requeue, resume, retry or "
        "rewrite-test\n")
    assert "'p' may be password or pause\n" in ctl("p").stderr


def test_did_you_mean_an_option():
    done = ctl("drain", "--timout=5s")
    assert done.returncode == 64
    assert ("there is no option --timout; did you mean --timeout?"
            in done.stderr)
    assert "-x" in ctl("queue", "-x").stderr
    assert "--timeout needs its D" in ctl("drain", "--timeout").stderr


# --- JSON ---

def objects(text):
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(o, dict) for o in found), text
    return found


def everything(r, ids, letter):
    """(arguments, exit code) of every verb, with a message of each kind."""
    return [
        (["status"], 0), (["status", "--check"], 2), (["connections"], 0),
        (["connections", "-l"], 0), (["count"], 0), (["queue"], 0),
        (["queue", "-l", "held"], 0), (["mailq"], 0), (["mailq", "-j"], 0),
        (["metrics"], 0), (["show", ids[0]], 0),
        (["show", ids[0], "--headers", "--body"], 0),
        (["show", ids[0], "--log"], 0), (["show", NO_ID], 65),
        (["failed"], 0), (["failed", letter], 0),
        (["failed", letter, "--body"], 0), (["failed", NO_ID], 65),
        (["trace", ids[0]], 0), (["trace", "nobody@nowhere"], 65),
        (["top", "--once"], 0), (["top", "-n", "2", "-d", "100ms"], 0),
        (["log-level"], 0), (["log-level", "debug"], 0),
        (["log-level", "loud"], 64),
        (["hold", *ids[:2]], 0), (["hold", NO_ID], 65),
        (["hold", ids[0], NO_ID], 65), (["release", "--all"], 0),
        (["retry"], 0), (["retry", ids[0]], 0), (["retry", NO_ID], 65),
        (["pause"], 0), (["resume"], 0), (["pause", "intake"], 0),
        (["resume", "intake"], 0), (["pause", "lunch"], 64),
        (["rotate"], 0), (["rotate", "--wait", "--timeout", "5s"], 0),
        (["drain", "--timeout", "100ms"], 1),
        (["send-test", RCPT, "--timeout", "300ms"], 1),
        (["reload"], 0), (["requeue", NO_ID], 65), (["requeue", letter], 0),
        (["delete", ids[1]], 0), (["delete", "--all"], 64),
        (["delete", "--all", "--yes"], 0),
        (["check", "-c", str(r.config_file)], 1),
        (["password", "--region", "eu-west-1"], 0),
        (["password", "--region", "EU"], 64),
        (["rewrite-test", "-", "-c", str(r.config_file), "--from",
          "a@example.com", "--to", RCPT], 0),
        (["rewrite-test", "/nonexistent", "-c", str(r.config_file)], 66),
        (["-h"], 0), (["queue", "-h"], 0), (["-V"], 0),
        (["stauts"], 64), ([], 64), (["queue", "--lnog"], 64),
        (["queue", "a", "b"], 64), (["count", "--all"], 64),
        (["check", "-c", "/nonexistent"], 78),
    ]


def test_json_of_every_verb(sesd, relay):
    """Whatever is asked and whatever comes of it: objects, one a line, on both
    outputs; and the exit codes of the interface."""
    s = sesd()
    r = relay(s)
    s.rule('on DOT times 1 reply "554 Message rejected: Email address is not '
           'verified."')
    letter = r.send()
    wait_until(r.dead_letters, "the dead letter")
    s.control("refuse on")
    r.ctl("rotate", "--wait")
    ids = [r.send(message(subject=f"m{i}")) for i in range(3)]
    r.wait_state("unreachable")
    seen = set()
    for args, code in everything(r, ids, letter):
        done = subprocess.run(
            [CTL, "--json", "-s", str(r.control), *args],
            input="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"
            if args[:1] == ["password"] else "Subject: x\n\nx\n",
            capture_output=True, text=True, timeout=60, check=False)
        if args == ["status", "--check"]:
            assert done.returncode == 1, done.stdout  # a warning
        else:
            assert done.returncode == code, (args, done.stdout, done.stderr)
        out, err = objects(done.stdout), objects(done.stderr)
        seen.add(args[0] if args else "")
        if code == 64:
            assert out == [] and len(err) == 1, (args, out, err)
            assert err[0]["code"] == 64 and err[0]["error"]
        elif code != 0 and "--check" not in args:
            # Why, in one of the two places.
            assert any("error" in o for o in out + err) or args[0] in (
                "check", "drain", "send-test"), (args, out, err)
        else:
            assert not any("error" in o for o in out + err), (args, out, err)
            # Not one is silent: they all have something to tell.
            assert out or args[0] in ("queue", "mailq", "connections",
                                      "failed"), args
    assert set(VERBS) <= seen


def test_json_when_the_daemon_is_down(sesd, relay):
    r = relay(sesd())
    r.ctl("pause")
    r.send()
    assert r.stop() == 0
    for verb, (words, _) in VERBS.items():
        args = {"id": [NO_ID], "failed-id": [NO_ID], "text": ["x@y"],
                "file": ["/nonexistent"], "address": [RCPT]}.get(words, [])
        if verb in ("check", "password"):
            continue  # they need none
        if verb == "top":
            args = ["--once"]
        done = subprocess.run(
            [CTL, "--json", "-c", str(r.config_file), verb, *args],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60, check=False)
        objects(done.stdout)
        assert len(objects(done.stderr)) <= 1, (verb, done.stderr)
        assert done.returncode in {
            "count": (0,), "queue": (0,), "mailq": (0,), "failed": (65,),
            "show": (65,), "trace": (65,), "rewrite-test": (66,)}.get(
                verb, (69,)), (verb, done)


# --- for monitoring ---

PERFDATA = re.compile(
    r"([a-z_]+)=(-?\d+(?:\.\d+)?)(s|c|B|)(?:;(\d*))?(?:;(\d*))?(?:;(\d*))?")


def check(r, code, *args):
    """One line as the plugins' guidelines have it: (text, figures)."""
    done = r.run_ctl("status", "--check", *args)
    names = ["OK", "WARNING", "CRITICAL", "UNKNOWN"]
    assert done.returncode == code, done.stdout
    assert done.stderr == "" and done.stdout.count("\n") == 1
    text, _, data = done.stdout.strip().partition(" | ")
    assert text.startswith(f"SESRELAYD {names[code]} - "), text
    figures = {}
    for word in data.split():
        m = PERFDATA.fullmatch(word)
        assert m, word
        figures[m[1]] = m
    return text, figures


def test_check_of_a_relay_that_is_well(sesd, relay):
    r = relay(sesd())
    for _ in range(3):
        r.send()
    r.wait_empty()
    text, figures = check(r, 0)
    assert text == ("SESRELAYD OK - mail goes out, 0 in the queue, the oldest "
                    "for 0 s")
    assert figures["age"].groups()[1:] == ("0", "s", "900", "3600", "0")
    assert figures["queue"].groups()[1:] == ("0", "", "1000", "10000", "0")
    assert figures["sent"].groups()[1:3] == ("3", "c")
    assert figures["accepted"].groups()[1:3] == ("3", "c")
    assert int(figures["spool_free"][2]) > 1000000


def test_check_of_mail_that_waits(sesd, relay):
    s = sesd()
    r = relay(s)
    s.control("refuse on")
    ids = [r.send() for _ in range(3)]
    r.wait_state("unreachable")
    text, figures = check(r, 1)
    assert "mail does not go out, unreachable: " in text
    assert figures["queue"][2] == "3"
    text, _ = check(r, 1, "--warn-queue", "2")
    assert "3 messages wait" in text
    assert "wait" not in check(r, 1, "--warn-queue", "3")[0]
    text, _ = check(r, 2, "--warn-queue", "1", "--crit-queue", "2")
    assert text.startswith("SESRELAYD CRITICAL - 3 messages wait; "), text
    wait_until(lambda: r.status()["queue"]["oldest_age_seconds"] >= 2,
               "messages of two seconds")
    text, _ = check(r, 1, "--warn-age", "1s")
    assert "a message waits for " in text
    text, figures = check(r, 2, "--warn-age", "0", "--crit-age", "1s")
    assert text.startswith("SESRELAYD CRITICAL - a message waits for ")
    assert figures["age"].groups()[3:5] == ("0", "1")
    # What an operator holds is not late.
    r.ctl("hold", *ids)
    text, figures = check(r, 1, "--crit-age", "1s", "--crit-queue", "0")
    assert "waits" not in text
    assert (figures["age"][2], figures["queue"][2], figures["held"][2]) == (
        "0", "0", "3")


@pytest.mark.parametrize("rule,code,words", [
    ('on AUTH reply "535 Authentication Credentials Invalid | x"', 2,
     "credentials refused: 535 Authentication Credentials Invalid / x"),
    ('on DOT reply "454 Throttling failure: Daily message quota exceeded."', 2,
     "daily quota: 454 Throttling"),
])
def test_check_of_an_account_in_trouble(sesd, relay, rule, code, words):
    r = relay(sesd(rules=[rule]))
    r.send()
    wait_until(lambda: r.state() not in ("ok", "unreachable"), "trouble")
    assert f"mail does not go out, {words}" in check(r, code)[0]


def test_check_of_what_the_operator_did(sesd, relay):
    r = relay(sesd())
    r.ctl("pause")
    assert "mail does not go out, paused" in check(r, 1)[0]
    r.ctl("pause", "intake")
    assert "no new mail is taken: paused" in check(r, 1)[0]
    r.ctl("resume")
    r.ctl("resume", "intake")
    r.config_file.write_text(r.config_file.read_text() + "nonsense = 1;\n")
    assert r.run_ctl("reload").returncode == 1
    assert "the last reload was refused" in check(r, 1)[0]


def test_check_of_a_full_spool(relay):
    r = relay(config={"spool.min_free": '"900T"'})
    text, _ = check(r, 2)
    assert "no new mail is taken: " in text
    first, second = r.ctl("status").splitlines()[:2]
    assert "NO NEW MAIL IS TAKEN: " in first
    assert second.startswith("What to do:   if it is full, make room for")
    spool = r.status()["spool"]
    assert (spool["healthy"], spool["reason"]) == (
        False, "Insufficient system storage")
    assert "\nsesrelayd_spool_healthy 0\n" in r.ctl("metrics")


def test_check_without_a_daemon(relay):
    r = relay()
    assert r.stop() == 0
    assert "cannot reach the daemon" in check(r, 2)[0]
    assert "'x' is no number" in check(r, 3, "--warn-queue", "x")[0]
    assert "there is no option --wran-age" in check(r, 3, "--wran-age=1")[0]



def test_check_without_a_right_to_it(relay):
    r = relay()
    for path in (r.dir, r.dir.parent):
        path.chmod(0o755)
    # The tree may be where nobody else can go.
    tool = shutil.copy(CTL, r.dir / "sesrelayctl")
    done = subprocess.run(
        [tool, "-s", str(r.control), "status", "--check"],
        capture_output=True, text=True, timeout=60, check=False, user=65534,
        group=65534, extra_groups=[])
    assert done.returncode == 3, done
    assert done.stdout.startswith("SESRELAYD UNKNOWN - cannot reach")
    assert "Permission denied" in done.stdout


# --- status ---

def test_status_of_a_daemon_that_is_down(sesd, relay):
    r = relay(sesd())
    r.ctl("pause")
    r.send()
    assert r.stop() == 0
    done = r.run_ctl("-c", str(r.config_file), "status")
    assert done.returncode == 69
    first, second, third = done.stdout.splitlines()
    assert first == ("SES: MAIL DOES NOT GO OUT, THE DAEMON IS DOWN; what it "
                     "accepted is safe in the spool")
    assert "systemctl start sesrelayd" in second
    assert third == f"Queue:        1 message in {r.spool}"
    assert "No such file or directory" in done.stderr


def test_status_while_no_mail_is_taken(sesd, relay):
    r = relay(sesd())
    r.ctl("pause", "intake")
    first = r.ctl("status").splitlines()[0]
    assert first.endswith("; NO NEW MAIL IS TAKEN: intake is paused "
                          '("sesrelayctl resume intake" ends that)')


# --- log-level ---

def test_log_level(sesd, relay):
    r = relay(sesd(), verbose=False)
    assert r.ctl("log-level") == "info\n"
    assert r.ctl("log-level", "error") == "error\n"
    r.send()
    wait_until(lambda: r.count() == 0, "an empty queue")
    assert r.ctl("log-level", "info") == "info\n"
    qid = r.send()
    r.wait_outcome(qid, "sent")
    assert len(r.outcomes()) == 1
    r.ctl("log-level", "error")
    r.ctl("reload")
    assert r.ctl("log-level") == "info\n"


# --- a daemon of another version ---

def raw_answer(relay, request):
    with socket.socket(socket.AF_UNIX) as c:
        c.connect(str(relay.control))
        c.sendall(request.encode() + b"\n")
        return [json.loads(line) for line in c.makefile("rb")
                if line.startswith(b"{") or c.shutdown(socket.SHUT_RDWR)]


def with_leaves(value, leaf):
    """The same, with another value at all ends."""
    if isinstance(value, dict) and value:
        return {k: with_leaves(v, leaf) for k, v in value.items()}
    if isinstance(value, list) and value:
        return [with_leaves(v, leaf) for v in value]
    return leaf


def with_branches(value, branch, depth):
    """The same, with another value at this depth."""
    if depth == 0:
        return branch
    if isinstance(value, dict):
        return {k: with_branches(v, branch, depth - 1)
                for k, v in value.items()}
    if isinstance(value, list):
        return [with_branches(v, branch, depth - 1) for v in value]
    return value


VALUES = [None, -1, 2 ** 53, 1e300, "x", [], [{}], [None] * 3]


def test_values_of_any_type_crash_nothing(sesd, relay, directory):
    """Members of a wrong type are as if they weren't there; the socket takes
    one connection after the other."""
    s = sesd(rules=['on DOT times 1 reply "554 Message rejected: no"'])
    r = relay(s)
    failed = r.send()
    wait_until(r.dead_letters, "a dead letter")
    answers = {"connections": raw_answer(r, "connections")}
    r.ctl("pause")
    qid = r.send()
    for line in ("status", "top", "queue", "count", f"show {qid}", "failed",
                 f"failed {failed}", f"trace {failed}"):
        answers[line] = raw_answer(r, line)
    assert all(answers.values())
    objects = []
    path = str(directory / "other")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)

    def serve():
        while True:
            try:
                c = listener.accept()[0]
            except OSError:
                return
            # Whoever has seen enough may go.
            with c, contextlib.suppress(ConnectionError):
                for _ in c.makefile("rb"):
                    c.sendall("".join(f"{json.dumps(o)}\n" for o in objects)
                              .encode() + b"OK\n")
    thread = threading.Thread(target=serve)
    thread.start()
    config = directory / "other.conf"
    config.write_text(r.config_file.read_text().replace(
        f'"{r.control}"', f'"{path}"'))
    try:
        for line, real in answers.items():
            args = (line.replace("top", "top -n 1").split() +
                    ["--headers"] * line.startswith(("show", "failed 0")))
            for v in VALUES:
                for objects in ([with_leaves(real, v)] +
                                [with_branches(real, v, n) for n in (2, 3)]):
                    done = ctl("-c", str(config), *args)
                    assert done.returncode in (0, 1, 65, 69, 76), (
                        args, objects, done)
                    assert "runtime error" not in done.stderr, (args, objects)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
