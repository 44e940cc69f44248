"""Command line and configuration: what is good, what is refused and how it is
said.  Mistakes are "file:line: message", exit code 78."""

import os
import re
import subprocess

import pytest

from harness import BUILD, PASSWORD, USER
from intake_helpers import run_relay, unstarted

GOOD = '''smtp: { listen = [ "127.0.0.1:2525" ]; hostname = "relay.test"; };
ses: {
\tregion = "eu-west-1";
\tusername = "%s";
\tpassword_file = "%s";
};
spool: { directory = "%s"; };
control: { socket = "%s"; };
%s'''


@pytest.fixture
def config(directory):
    """A factory: writes a good configuration plus some text behind it, and
    returns its path."""
    (directory / "password").write_text(PASSWORD + "\n")
    (directory / "password").chmod(0o600)

    def make(more="", name="test.conf", replace=()):
        text = GOOD % (USER, directory / "password", directory / "spool",
                       directory / "control", more)
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        (directory / name).write_text(text)
        return directory / name
    return make


def check(path, code):
    done = run_relay(path, "-t")
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def refused(path, line, *words):
    """Refused with that line, by -t and by a start; the message."""
    done = check(path, 78)
    mine = [x for x in done.stderr.splitlines()
            if x.startswith(f"{path}:{line}: ")]
    assert mine, done.stderr
    for word in words:
        assert word in mine[0], (word, mine[0])
    started = run_relay(path)
    assert started.returncode == 78
    assert mine[0] in started.stderr
    return mine[0]


# --- good ---

def test_good_configuration(config, directory):
    path = config()
    done = check(path, 0)
    assert done.stdout.endswith(
        f"{path}: configuration is good; mail goes to "
        "email-smtp.eu-west-1.amazonaws.com\n")
    assert "note:" not in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    # Nothing is made by a check.
    assert not (directory / "spool").exists()


def test_least_configuration(directory):
    """As interface and manual have it."""
    (directory / "password").write_text(PASSWORD)
    (directory / "password").chmod(0o600)
    path = directory / "least.conf"
    path.write_text(f'ses: {{ region = "eu-west-1"; username = "{USER}"; '
                    f'password_file = "{directory / "password"}"; }};\n')
    done = run_relay(path, "-T")
    assert done.returncode == 0, done.stderr
    assert 'listen = [ "127.0.0.1:25", "[::1]:25" ];' in done.stdout
    assert 'directory = "/var/spool/sesrelayd";' in done.stdout


def test_dump_is_a_configuration_and_stays_the_same(config, directory):
    path = config('''
delivery: { retry = [ "100ms", "5s", "2h", "90s" ]; expire = "36h";
            rate = 12.5; connections = 7; uncertain = "hold"; };
rewrite: { senders = ( { match = "*@*.internal";
                         address = "noreply@example.com"; } ); };
log: { format = "json"; level = "debug"; };
''')
    first = run_relay(path, "-T")
    assert first.returncode == 0, first.stderr
    again = directory / "again.conf"
    again.write_text(first.stdout)
    second = run_relay(again, "-T")
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    check(again, 0)
    # Every key of the schema is in it, but for a secret that is not set.
    schema = subprocess.run([str(BUILD / "sesrelayd"), "--dump-schema"],
                            capture_output=True, text=True, check=True)
    keys = [line.split("\t")[0] for line in schema.stdout.splitlines()]
    assert len(keys) > 60
    for key in keys:
        leaf = key.split(".")[1]
        assert re.search(rf"^\t{leaf} = .*;$", first.stdout, re.M) or \
            key == "ses.password", key
    assert 'retry = [ "100ms", "5s", "2h", "90s" ];' in first.stdout
    assert "rate = 12.5;" in first.stdout


def test_password_is_masked(config):
    path = config(replace=[('password_file = "', 'password = "SeCrEtWoRd"; '
                            'configuration_set = "x"; ca_file = "')])
    done = run_relay(path, "-T")
    assert done.returncode == 0, done.stderr
    assert "SeCrEtWoRd" not in done.stdout + done.stderr
    assert 'password = "********";' in done.stdout


def test_inline_password_is_warned_of(config):
    path = config(replace=[
        (f'password_file = "{config().parent / "password"}"',
         f'password = "{PASSWORD}"')])
    done = check(path, 0)
    assert "'ses.password' stands in the configuration" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr


def test_include(config, directory):
    (directory / "conf.d").mkdir()
    (directory / "conf.d" / "one.conf").write_text(
        "\n\ndelivery: { conections = 5; };\n")
    path = config('@include "conf.d/*.conf"\n')
    done = check(path, 78)
    assert f"{directory}/conf.d/one.conf:3: unknown key" in done.stderr


# --- bad ---

MISTAKES = {
    # Text behind the good part (which begins at line 9), line, words.
    "unknown key": (
        'delivery: { conections = 5; };', 9,
        "unknown key 'delivery.conections'",
        "did you mean 'delivery.connections'?"),
    "key of another group": (
        'delivery: { max_sessions = 5; };', 9,
        "unknown key 'delivery.max_sessions'",
        "did you mean 'smtp.max_sessions'?"),
    "unknown key without a neighbour": (
        'delivery: { frobnication_quotient = 5; };', 9, "unknown key"),
    "unknown group": (
        'delivry: { connections = 5; };', 9, "unknown group 'delivry'",
        "did you mean 'delivery'?"),
    "key at the top": ('connections = 5;', 9, "unknown"),
    "group that is none": ('delivery = 5;', 9, "'delivery' must be a group"),
    "string for integer": (
        'delivery: { connections = "5"; };', 9,
        "'delivery.connections' must be an integer"),
    "integer for bool": (
        'rewrite: { add_headers = 1; };', 9,
        "'rewrite.add_headers' must be true or false"),
    "float for integer": (
        'delivery: { connections = 5.5; };', 9, "must be an integer"),
    "string for list": (
        'http: { listen = 25; };', 9, "must be a list of strings"),
    "number in a list": (
        'http: { listen = [ 25 ]; };', 9, "'http.listen'"),
    "duration without unit": (
        'delivery: { expire = "4"; };', 9, "must be a duration"),
    "duration of unknown unit": (
        'delivery: { expire = "4 weeks"; };', 9, "must be a duration"),
    "negative duration": (
        'delivery: { expire = -5; };', 9, "must be from"),
    "size of unknown unit": (
        'spool: { min_free = "4MB"; };', 9, "must be a size"),
    "range, low": (
        'delivery: { connections = 0; };', 9, "must be from 1 to 1000"),
    "range, high": (
        'delivery: { connections = 1001; };', 9, "must be from 1 to 1000"),
    "range of a duration": (
        'delivery: { expire = "61d"; };', 9, "must be from"),
    "integer that libconfig would truncate": (
        'spool: { min_free = 5000000000; };', 9,
        "'spool.min_free': 5000000000 does not fit into 32 bits"),
    "64 bits are not enough": (
        'spool: { min_free = 99999999999999999999L; };', 9,
        "does not fit into 64 bits"),
    "choice": (
        'log: { level = "loud"; };', 9, "'log.level' must be one of",
        '"error", "warning", "info", "debug"', 'not "loud"'),
    "duplicate key": (
        'log: { level = "info"; level = "debug"; };', 9, "'log.level'",
        "is set already at"),
    "syntax": ('log: { level "info"; };', 9, "syntax error"),
    "missing brace": ('log: { level = "info";', 10, "syntax error"),
    "string without end": ('log: { level = "info; };', 9, "has no end"),
    "comment without end": ('/* log: ', 9, "has no end"),
    "address": (
        'http: { listen = [ "localhost:25" ]; };', 9, "must hold addresses"),
    "network": (
        'http: { allow = [ "127.0.0.0/33" ]; };', 9, "must hold networks"),
    "relative path": (
        'rewrite: { aliases_file = "aliases"; };', 9,
        'must be a whole path that begins with "/"'),
    "line end in a name": (
        'log: { name = "a\\nb"; };', 9, "must not hold control characters"),
    "include of a file that is not there": (
        '@include "missing.conf"', 9, "missing.conf"),
}
# Which groups of the good part stand in the way.
OWN = {"spool": 'spool: { directory = "%s"; };\n'}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(config, directory, name):
    text, line, *words = MISTAKES[name]
    replace = []
    if text.startswith("spool:"):
        replace = [(OWN["spool"] % (directory / "spool"), "\n")]
    path = config(text + "\n", replace=replace)
    refused(path, line, *words)


def test_every_mistake_is_told_at_once(config):
    path = config('delivery: {\n\tconections = 5;\n\texpire = "x";\n};\n'
                  'log: { level = "loud"; };\n')
    lines = check(path, 78).stderr.splitlines()
    assert [re.match(rf"{re.escape(str(path))}:(\d+): ", x)[1]
            for x in lines] == ["10", "11", "13"]


IN_SES = {
    "no region": ('region = "eu-west-1";', "", "'ses.region' is missing"),
    "region that is a host": (
        '"eu-west-1"', '"email-smtp.eu-west-1.amazonaws.com"',
        "'ses.region' must be the name of a region"),
    "no user name": (f'username = "{USER}";', "", "'ses.username'"),
    "temporary credentials": (USER, "ASIAIOSFODNN7EXAMPLE", "ASIA"),
    "endpoint with a port": (
        'region = "eu-west-1"', 'endpoint = "localhost:587"', "'ses.ports'"),
    "port without its mode": (
        'region = "eu-west-1"', 'region = "eu-west-1"; ports = [ "1587" ]',
        "1587:starttls"),
    "CA file that is not there": (
        'region = "eu-west-1"',
        'region = "eu-west-1"; ca_file = "/nonexistent/ca.pem"',
        "'ses.ca_file'"),
}


@pytest.mark.parametrize("name", IN_SES)
def test_mistake_about_ses(config, name):
    old, new, words = IN_SES[name]
    path = config(replace=[(old, new)])
    done = check(path, 78)
    assert words in done.stderr, done.stderr
    assert re.match(rf"{re.escape(str(path))}:[2-6]: ", done.stderr)


def test_missing_credentials(config, directory):
    path = config(replace=[
        (f'\tpassword_file = "{directory / "password"}";\n', "")])
    # Where the user name stands, for which it is missing.
    refused(path, 4, "there is no SMTP password", "'ses.password_file'")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_password_file_that_others_can_read(config, directory, mode):
    path = config()
    (directory / "password").chmod(mode)
    message = refused(path, 5, str(directory / "password"))
    assert f"{mode:o}" in message or "others" in message


@pytest.mark.parametrize("content,words", [
    ("", "is empty"), ("\n", "is empty"), ("one\ntwo\n", "more than one line"),
    ("two words\n", "visible ASCII"), ("p\u00e4ss\n", "visible ASCII"),
    ("nul\0nul\n", "NUL")])
def test_password_file_with_something_else(config, directory, content, words):
    path = config()
    (directory / "password").write_text(content)
    assert words in refused(path, 5)


def test_password_file_that_is_not_there(config, directory):
    path = config()
    (directory / "password").unlink()
    refused(path, 5, str(directory / "password"), "No such file")
    (directory / "password").mkdir()
    refused(path, 5, str(directory / "password"))


def test_password_never_shows(config, directory):
    """Whatever is wrong with it or around it."""
    for content in (PASSWORD + "\nmore\n", PASSWORD + " \n"):
        path = config('log: { level = "loud"; };\n')
        (directory / "password").write_text(content)
        done = check(path, 78)
        assert PASSWORD not in done.stdout + done.stderr
    # In place of its file: the name of a path may be the password itself.
    path = config(replace=[(str(directory / "password"), PASSWORD)])
    done = check(path, 78)
    assert PASSWORD not in done.stdout + done.stderr


def test_systemd_credential_goes_before_the_file(config, directory):
    credentials = directory / "credentials"
    credentials.mkdir()
    (credentials / "ses-password").write_text("x" * 44)
    path = config(replace=[
        (f'\tpassword_file = "{directory / "password"}";\n', "")])
    env = {**os.environ, "CREDENTIALS_DIRECTORY": str(credentials)}
    done = run_relay(path, "-t", env=env)
    assert done.returncode == 0, done.stderr


def test_spool_directory_is_checked(config, directory):
    path = config()
    spool = directory / "spool"
    spool.write_text("a file")
    assert "'spool.directory'" in check(path, 78).stderr
    spool.unlink()
    spool.symlink_to(directory)
    assert "symbolic link" in check(path, 78).stderr
    spool.unlink()
    spool.mkdir()
    spool.chmod(0o777)
    assert "chmod 700" in check(path, 78).stderr
    spool.chmod(0o700)
    check(path, 0)


def test_no_configuration_file(directory):
    done = run_relay(directory / "missing.conf")
    assert done.returncode == 78
    assert re.search(rf"{directory}/missing\.conf.*No such file", done.stderr)
    assert run_relay(directory / "missing.conf", "-t").returncode == 78
    done = run_relay(directory)
    assert done.returncode == 78


def test_port_in_use(relay):
    r = relay()
    other = unstarted(relay, **{"smtp.listen": f'[ "127.0.0.1:{r.port}" ]'})
    done = run_relay(other.config_file)
    assert done.returncode == 71
    assert f"cannot listen on 127.0.0.1:{r.port}" in done.stderr
    assert "Address already in use" in done.stderr


# --- the command line ---

def run(*options):
    return subprocess.run([str(BUILD / "sesrelayd"), *options],
                          capture_output=True, text=True, timeout=30)


def test_version():
    done = run("-V")
    assert done.returncode == 0
    assert re.match(r"sesrelayd \d+\.\d+\.\d+\n", done.stdout)
    for library in ("libevent 2.", "OpenSSL 3.", "libconfig 1."):
        assert library in done.stdout


@pytest.mark.parametrize("options", [
    ("-x",), ("--frobnicate",), ("-c",), ("word",), ("-t", "word")])
def test_wrong_usage(options):
    done = run(*options)
    assert done.returncode == 64
    assert "usage: sesrelayd" in done.stderr
    assert done.stdout == ""


def test_help():
    done = run("--help")
    assert done.returncode == 0
    for option in ("-c FILE", "-t", "-T", "-v", "-V"):
        assert option in done.stdout


def ctl(*options):
    return subprocess.run([str(BUILD / "sesrelayctl"), *options],
                          capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("options,code", [
    ((), 64), (("frobnicate",), 64), (("-x",), 64), (("show",), 64),
    (("-s", "/nonexistent/control", "status"), 69),
    (("-s", "/nonexistent/control", "reload"), 69)])
def test_ctl_without_a_daemon(options, code):
    done = ctl(*options)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stderr


def test_ctl_with_a_daemon(relay):
    r = relay()
    ids = [r.send() for _ in range(3)]
    assert r.run_ctl("count").stdout.strip() == "3"
    assert r.run_ctl("cou").stdout.strip() == "3"  # a prefix will do
    queue = r.ctl_json("queue")
    assert {e["id"] for e in queue} == set(ids)
    for entry in queue:
        assert entry["sender"] == "app@example.com"
        assert [x["address"] for x in entry["recipients"]] == [
            "user@example.net"]
    shown = r.ctl_json("show", ids[0])
    assert shown[0]["id"] == ids[0]
    text = r.ctl("show", ids[0])
    assert ids[0] in text and "user@example.net" in text
    for qid in ids:
        assert qid in r.ctl("queue")
    assert r.run_ctl("show", "0000000000000001").returncode == 65
    assert r.run_ctl("show", "nonsense").returncode in (64, 65)
    assert r.run_ctl("s", "x").returncode == 64  # status or show?


def test_reload_with_a_mistake_keeps_what_is(relay):
    r = relay()
    r.settings["smtp.max_recipients"] = "0"
    r.write_config()
    done = r.run_ctl("reload")
    assert done.returncode == 1
    assert "'smtp.max_recipients'" in done.stdout + done.stderr
    assert r.status()["last_reload_ok"] is False
    r.send()
    r.settings["smtp.max_recipients"] = "1"
    r.write_config()
    assert r.run_ctl("reload").returncode == 0
    assert r.status()["last_reload_ok"] is True
    with r.submit() as s:
        s.do("MAIL FROM:<a@example.com>", 250)
        s.do("RCPT TO:<a@example.net>", 250)
        s.do("RCPT TO:<b@example.net>", 452)


def test_reload_says_what_needs_a_restart(relay, directory):
    r = relay()
    r.settings["spool.directory"] = f'"{directory / "elsewhere"}"'
    r.write_config()
    done = r.run_ctl("reload")
    assert "spool.directory" in done.stdout + done.stderr + r.log()
    assert "restart" in done.stdout + done.stderr + r.log()
    r.send()
    assert not (directory / "elsewhere").exists()
