"""Reload: whole or not at all, under load, and what it says."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from harness import BUILD, ROOT, wait_until

sys.path.insert(0, str(ROOT / "tests/bench"))

import run_reload  # noqa: E402


def test_torture(directory, certs):
    """`make reload` in short: see tests/bench/run_reload.py."""
    counts = run_reload.torture(directory, certs, 15)
    assert counts["ok"], counts
    assert counts["good"] >= 5 and counts["refused"] >= 5


# --- what is told ---

def test_restart_is_told_until_there_is_one(sesd, relay, directory):
    r = relay(sesd())
    before = dict(r.settings)
    r.settings["spool.directory"] = f'"{directory}/elsewhere"'
    r.settings["smtp.max_recipients"] = "7"
    r.write_config()
    line = (f'spool.directory: "{r.spool}" -> "{directory}/elsewhere" '
            "(needs a restart)")
    for _ in range(2):
        told = r.ctl("reload")
        assert line in told
        assert r.status()["needs_restart"] == "spool.directory"
        r.wait_log("spool.directory: ")
    # The other key was in force after the first of them.
    assert "max_recipients" not in told
    assert "needed for what the file says of spool.directory" in r.ctl(
        "status")
    r.settings = before
    r.write_config()
    assert "smtp.max_recipients: 7 -> 1000" in r.ctl("reload")
    assert r.status()["needs_restart"] == ""
    assert "needed for" not in r.ctl("status")


def test_secrets_are_masked(sesd, relay):
    s = sesd()
    r = relay(s)
    one, two = "Zx7QuaggaZx7Numbat", "Kp4TapirKp4SaigaK"
    for password in (one, two):
        r.settings["ses.password_file"] = None
        r.settings["ses.password"] = f'"{password}"'
        r.write_config()
        told = r.ctl("reload")
        assert 'ses.password: ' in told and '-> "********"' in told
        # What is doubtful about the file is told again, too.
        assert "'ses.password' stands in the configuration" in told
    r.wait_log("ses.password: ")
    for text in (r.log(), told):
        assert one not in text and two not in text


def test_mistakes_are_told_one_a_line(sesd, relay):
    r = relay(sesd())
    r.settings["smtp.timeout"] = '"never"'
    r.settings["delivery.retries"] = "5"
    r.settings["smtp.max_recipients"] = "9"
    r.write_config()
    done = r.run_ctl("reload")
    assert done.returncode == 1
    text = r.config_file.read_text()
    for key, leaf in (("smtp.timeout", "timeout"),
                      ("delivery.retries", "retries")):
        line = text[:text.index(f"\t{leaf} =")].count("\n") + 1
        place = f"{r.config_file}:{line}: "
        assert re.search(rf"{re.escape(place)}.*{key}", done.stderr)
        r.wait_log(f"the old configuration stays in force: {place}")
    # Nor was what is right in it taken.
    with r.submit() as client:
        client.begin(rcpts=[f"u{i}@example.net" for i in range(20)])


def test_trust_anchors_are_told_with_their_place(sesd, relay):
    r = relay(sesd())
    r.settings["ses.ca_file"] = '"/dev/null"'
    r.settings["smtp.max_recipients"] = "9"
    r.write_config()
    done = r.run_ctl("reload")
    assert done.returncode == 1
    assert re.search(re.escape(str(r.config_file)) +
                     r":\d+: 'ses\.ca_file': CA file /dev/null: ",
                     done.stderr)
    with r.submit() as client:
        client.begin(rcpts=[f"u{i}@example.net" for i in range(20)])


# --- the log ---

def test_log_changes_on_reload(sesd, relay):
    r = relay(sesd(), verbose=False)
    r.send()
    r.wait_empty()
    r.settings.update({"log.name": '"postfix"', "log.level": '"debug"'})
    r.write_config()
    told = r.ctl("reload")
    assert 'log.name: "sesrelayd" -> "postfix"' in told
    r.wait_log("postfix/master")
    qid = r.send()
    r.wait_log(f"postfix/smtp[{r.process.pid}]: {qid}: to=<")
    r.wait_empty()
    assert r.status()["log_level"] == "debug"
    r.settings["log.format"] = '"json"'
    r.write_config()
    r.ctl("reload")
    qid = r.send()
    wait_until(lambda: f'"event":"sent","id":"{qid}"' in r.log(), "JSON")
    assert json.loads(r.log().splitlines()[-1])["time"]


def test_log_target_changes_on_reload(sesd, relay):
    """To a target that is not there: told, and the log goes on here."""
    r = relay(sesd())
    if pathlib.Path("/run/systemd/journal/socket").exists():
        pytest.fail("this machine has a journal: give the test a namespace")
    r.settings["log.target"] = '"journal"'
    r.write_config()
    assert 'log.target: "auto" -> "journal"' in r.ctl("reload")
    r.wait_log("the journal is not there: logging to stderr")
    qid = r.send()
    r.wait_log(f"{qid}: removed")


def test_log_level_at_run_time(sesd, relay):
    r = relay(sesd(), verbose=False)
    assert r.ctl("log-level") == "info\n"
    r.send()
    r.wait_empty()
    r.ctl("log-level", "error")
    assert r.status()["log_level"] == "error"
    before = r.log()
    assert "log level error, set by uid" in before
    qid = r.send()
    wait_until(lambda: r.count() == 0, "an empty queue")
    r.ctl("log-level", "debug")
    r.wait_log("log level debug, set by uid")
    assert qid not in r.log()
    qid = r.send()
    r.wait_log(f"{qid}: removed")
    # The next reload goes by the file.
    assert "nothing changed" in r.ctl("reload")
    assert r.ctl_json("log-level")[0] == {"log_level": "info"}
    done = r.run_ctl("log-level", "loud")
    assert done.returncode == 64 and "error, warning, info" in done.stderr


# --- -t and -T by themselves ---

def sesrelayd(*args, stdin=""):
    return subprocess.run([str(BUILD / "sesrelayd"), *args], input=stdin,
                          capture_output=True, text=True, timeout=60)


def test_dump_is_a_configuration(relay, directory):
    r = relay(start=False, config={
        "ses.region": '"eu-west-1"', "ses.tags": '[ "a=b" ]',
        "rewrite.senders":
            '( { match = "*"; address = "noreply@example.com"; } )'})
    first = sesrelayd("-T", "-c", str(r.config_file))
    assert first.returncode == 0 and 'tags = [ "a=b" ]' in first.stdout
    second = sesrelayd("-T", "-c", "-", stdin=first.stdout)
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    assert sesrelayd("-t", "-c", "-", stdin=first.stdout).returncode == 0
    broken = sesrelayd("-t", "-c", "-", stdin="\nlog: { level = 5; };\n")
    assert broken.returncode == 78
    assert ("\n(standard input):2: 'log.level' must be a string in quotes\n"
            in broken.stderr)
    # A daemon could not read it again.
    assert sesrelayd("-c", "-", stdin=first.stdout).returncode == 64


def test_host_without_ipv6(relay):
    """The default of smtp.listen has to be good for it."""
    r = relay(start=False)
    r.settings["smtp.listen"] = f'[ "127.0.0.1:{r.port}", "[::1]:{r.port}" ]'
    r.write_config()
    alone = ["unshare", "--net",
             *([] if os.geteuid() == 0 else ["--map-root-user"]),
             "sh", "-c", "ip link set lo up; "
             "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; "
             'exec "$@"', "sh"]
    told = subprocess.run(
        [*alone, str(BUILD / "sesrelayd"), "-t", "-c", str(r.config_file)],
        capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert f"this host has no IPv6: [::1]:{r.port} is left out" in told.stdout
    r.start(wrap=alone)
    r.wait_log(f"this host has no IPv6: not listening on [::1]:{r.port}")
    assert f"listening on 127.0.0.1:{r.port}" in r.log()
    assert r.stop() == 0
    # By itself, it is a mistake.
    r.settings["smtp.listen"] = f'"[::1]:{r.port}"'
    r.write_config()
    r.start(wait=False, wrap=alone)
    assert r.process.wait() == 71
    assert f"cannot listen on [::1]:{r.port}" in r.log()
