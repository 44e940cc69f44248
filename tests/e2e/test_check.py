"""The doctor, `sesrelayctl check`: what it finds on a port that works, and for
each fault on the way that it is named, with what it means and what to do; that
it is done in time, sends no mail, and never shows the password."""

import base64
import json
import os
import re
import subprocess
import threading
import time

import pytest

from conftest import Stage
from harness import (BUILD, PASSWORD, USER, free_port, hosts_namespace,
                     private_mounts)
from network import Dns, filter_input, in_network

MODES = ["starttls", "wrapper"]
SES_PORTS = [587, 465, 2587, 2465, 25]
SECONDS = 20  # the check may take, whatever the network does


class Result:
    def __init__(self, code, objects, text):
        self.code = code
        self.ports = {o["port"]: o for o in objects[:-1]}
        self.end = objects[-1]
        self.text = text

    def outcomes(self, port):
        """Steps that were taken: name to outcome."""
        return {name: s["outcome"]
                for name, s in self.ports[port]["steps"].items()
                if s["outcome"] != "untested"}

    def detail(self, port, step):
        return self.ports[port]["steps"][step]["detail"]

    def trouble(self, port, n=0):
        t = self.ports[port]["trouble"][n]
        return f"{t['verdict']}: {t['meaning']} / {t['remedy']}"


def ctl(relay, *options, wrap=()):
    """Without the environment that a service manager makes."""
    env = {k: v for k, v in os.environ.items()
           if k != "CREDENTIALS_DIRECTORY"}
    return subprocess.run(
        [*wrap, str(BUILD / "sesrelayctl"), "-c", str(relay.config_file),
         *options], capture_output=True, text=True, timeout=60, env=env)


def untimed(text):
    """Without what may differ between two runs at the same time."""
    # How a reset is met depends on who was first.
    text = text.replace("Broken pipe", "Connection reset by peer")
    return re.sub(r"\d\d:\d\d UTC|\d+\.\d s|\d+ segments|\d+ times", "T",
                  text)


def no_secrets(text, relay):
    password = relay.password_file.read_text().strip()
    plain = base64.b64encode(f"\0{USER}\0{password}".encode()).decode()
    for secret in (password, plain,
                   base64.b64encode(password.encode()).decode()):
        assert secret not in text


def check(relay, wrap=()):
    """Both forms of it at once, and what holds for each."""
    relay.write_config()
    begun = time.monotonic()
    done = {}

    def one(*options):
        done[options] = ctl(relay, *options, "check", wrap=wrap)
    threads = [threading.Thread(target=one, args=a) for a in ((), ("--json",))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert time.monotonic() - begun < SECONDS
    human, machine = done[()], done[("--json",)]
    assert human.returncode == machine.returncode, (human, machine)
    for d in (human, machine):
        no_secrets(d.stdout + d.stderr, relay)
        assert d.stdout.isascii() and d.stdout.isprintable() is False
        assert not set(d.stdout) & {chr(c) for c in range(32) if c != 10}
    objects = [json.loads(line) for line in machine.stdout.splitlines()]
    r = Result(machine.returncode, objects, human.stdout)
    assert (r.code == 0) == r.end["works"] == any(
        p["works"] and p["configured"] for p in r.ports.values())
    assert set(SES_PORTS) <= set(r.ports)
    assert r.end["summary"] in r.text
    for port, p in r.ports.items():
        assert f"\n{port} " in r.text
        if p["works"]:
            assert p["verdict"] == "ok" and p["failed_step"] is None
            continue
        assert p["steps"][p["failed_step"]]["outcome"] not in ("ok",
                                                               "untested")
        for t in p["trouble"]:
            assert untimed(t["meaning"]) in untimed(r.text)
            assert t["remedy"] in r.text
    return r


@pytest.fixture
def doctor(sesd, relay):
    """A factory: an emulator, a configuration that leads to it, its port."""
    def make(mode="starttls", config=None, **kwargs):
        kwargs.setdefault("modes", (mode,))
        s = sesd(**kwargs)
        r = relay(s, kwargs["modes"][0].rpartition("=")[2], start=False,
                  config=config)
        port = s.ports[mode]
        r.set_ports((port, mode))
        return s, r, port
    return make


def no_mail(s):
    assert s.messages() == [] and s.events("protocol") == []


ALL_STEPS = {"resolve", "connect", "greeting", "starttls", "tls",
             "certificate", "ehlo", "auth", "large", "quit"}


# --- what works ---

@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("mode", MODES)
def test_works(doctor, mode, tls):
    s, r, port = doctor(mode, options=["--tls-max", tls])
    result = check(r)
    assert result.code == 0
    expected = {step: "ok" for step in ALL_STEPS}
    if mode == "wrapper":
        del expected["starttls"]
    assert result.outcomes(port) == expected
    assert result.ports[port]["trouble"] == []
    assert f"TLSv{tls}" in result.detail(port, "tls")
    assert "SimpleEmailService" in result.detail(port, "greeting")
    # Large enough for jumbo frames.
    assert float(result.detail(port, "large").split()[0]) > 9.0
    cert = result.ports[port]["certificate"]
    assert "localhost" in cert["names"] and "sesd test CA" in cert["issuer"]
    assert cert["not_after"] > time.time() > cert["not_before"]
    assert result.end["summary"] == (
        f"Mail can go: by port {port}, the first of ses.ports.")
    assert [e["ok"] for e in s.wait_event("auth", 2)] == [True, True]
    closed = s.wait_event("close", 2)
    assert {e["reason"] for e in closed} == {"quit"}
    no_mail(s)


def test_one_byte_replies(doctor):
    _, r, port = doctor(settings={"bytewise": "1"})
    assert check(r).code == 0


def test_second_port_is_used(doctor):
    s, r, port = doctor(modes=("starttls", "wrapper"))
    closed = free_port()
    r.set_ports((closed, "starttls"), (s.ports["wrapper"], "wrapper"))
    result = check(r)
    assert result.code == 0
    assert result.outcomes(closed) == {"resolve": "ok", "connect": "refused"}
    assert "refused: " in result.trouble(closed)
    assert (f"by port {s.ports['wrapper']}; those before it in ses.ports do "
            "not work") in result.end["summary"]


def test_nothing_works(doctor):
    _, r, _ = doctor()
    closed = free_port()
    r.set_ports((closed, "starttls"))
    result = check(r)
    assert result.code == 1
    assert result.end["summary"] == "Mail cannot go: no port works."
    # The same trouble is told once, for all that have it.
    assert result.text.count("Meaning:") == 1
    assert "\nAll ports: refused\n" in result.text


# --- the command line ---

def test_wrong_configuration(doctor):
    _, r, _ = doctor(config={"ses.regoin": '"x"'})
    done = ctl(r, "check")
    assert done.returncode == 78 and done.stdout == ""
    assert done.stderr.startswith(f"{r.config_file}:")
    assert "did you mean" in done.stderr


def test_no_anchors(doctor, directory):
    (directory / "empty.pem").write_text("")
    _, r, _ = doctor(config={"ses.ca_file": f'"{directory / "empty.pem"}"'})
    done = ctl(r, "--json", "check")
    assert done.returncode == 78 and done.stdout == ""
    assert "ses.ca_file" in done.stderr


def test_usage(doctor):
    _, r, _ = doctor()
    assert ctl(r, "check", "587").returncode == 64
    assert ctl(r, "c").returncode == 64  # or count
    assert ctl(r, "che").returncode == 0


def test_warnings_of_the_configuration_are_told(doctor):
    _, r, _ = doctor(config={"ses.password_file": None,
                             "ses.password": f'"{PASSWORD}"'})
    done = ctl(r, "check")
    assert done.returncode == 0
    assert "'ses.password' stands in the configuration" in done.stderr


@pytest.mark.parametrize("top,where", [
    ("/run", "/run/credentials/sesrelayd.service"),
    ("/etc/credstore", "/etc/credstore")])
def test_credential_of_the_service_is_found(doctor, top, where):
    """systemd gives it to the daemon only, and root can read it: where it is
    while that runs, and where it is before the first start."""
    _, r, port = doctor(config={"ses.password_file": None})
    assert "there is no SMTP password" in ctl(r, "check").stderr
    etc = r.dir / "etc"
    etc.mkdir()
    # Both forms of check run at once: each has an upper layer of its own.
    wrap = [*private_mounts(), "sh", "-ec",
            f"mount -t tmpfs none {etc}; mkdir {etc}/up {etc}/work; "
            f"mount -t overlay none -o "
            f"lowerdir=/etc,upperdir={etc}/up,workdir={etc}/work /etc; "
            f"mkdir -p {top}; mount -t tmpfs none {top}; mkdir -p {where}; "
            f"cp '{r.password_file}' {where}/ses-password && exec \"$@\"",
            "sh"]
    assert check(r, wrap=wrap).code == 0
    r.set_password(PASSWORDS[0][0])
    assert (f"systemd credential ses-password ({where}/ses-password)"
            in check(r, wrap=wrap).trouble(port))


# --- connecting ---

def test_source_address_of_others(doctor):
    _, r, port = doctor(config={"ses.source_address": '"192.0.2.77"'})
    result = check(r)
    assert result.code == 1
    assert result.outcomes(port) == {"resolve": "ok", "connect": "no-source"}
    assert "from 192.0.2.77" in result.trouble(port)


# --- before TLS: rule, mode, outcomes, words of the explanation ---

OPENING = [
    ('on CONNECT reply "421 Too many concurrent SMTP connections" close',
     "starttls", {"greeting": "busy"}, "lower delivery.connections"),
    ('on CONNECT reply "554 no service for you" close', "starttls",
     {"greeting": "refused"}, "554 no service for you"),
    ('on CONNECT raw "SSH-2.0-OpenSSH_9.2\\r\\n"', "starttls",
     {"greeting": "not-smtp"}, "SSH-2.0-OpenSSH_9.2"),
    ('on CONNECT raw "\\x15\\x03\\x01" close', "starttls",
     {"greeting": "not-smtp"}, "no SMTP server; it says: \\x15\\x03\\x01"),
    ('on CONNECT raw "554 \\x1b[31mred\\r\\n" close', "starttls",
     {"greeting": "refused"}, "[31mred"),
    ("on CONNECT close", "starttls", {"greeting": "closed"},
     "closed without a greeting"),
    ("on EHLO no-starttls", "starttls",
     {"greeting": "ok", "starttls": "not-offered"}, "SMTP inspection"),
    ('on STARTTLS reply "454 TLS not available"', "starttls",
     {"greeting": "ok", "starttls": "busy"}, "454 TLS not available"),
    ('on STARTTLS reply "502 not implemented"', "starttls",
     {"greeting": "ok", "starttls": "refused"}, "502 not implemented"),
    ('on STARTTLS inject "250 AUTH LOGIN\\r\\n"', "starttls",
     {"greeting": "ok", "starttls": "injected"}, "somebody tampers"),
    ("on STARTTLS delay 300 reset", "starttls",
     {"greeting": "ok", "starttls": "reset"}, "wrapper port"),
    ("on TLS abort-tls", "starttls",
     {"greeting": "ok", "starttls": "ok", "tls": "failed"},
     "TLS handshake fails"),
    ("on TLS close", "starttls",
     {"greeting": "ok", "starttls": "ok", "tls": "failed"},
     "closed the connection in the handshake"),
    ("on TLS delay 300 reset", "wrapper", {"tls": "reset"}, "inspects TLS"),
]


@pytest.mark.parametrize("rule,mode,outcomes,words", OPENING,
                         ids=[f"{o[1]}-{o[0][3:30]}" for o in OPENING])
def test_opening_fault(doctor, rule, mode, outcomes, words):
    s, r, port = doctor(mode, rules=[rule])
    result = check(r)
    assert result.code == 1
    assert result.outcomes(port) == {"resolve": "ok", "connect": "ok",
                                     **outcomes}
    assert words in result.trouble(port)
    assert s.events("auth") == []
    no_mail(s)


@pytest.mark.parametrize("rule,outcomes,words", [
    ("on CONNECT stall", {"greeting": "timeout"}, "does not pass it on"),
    ("on STARTTLS stall", {"greeting": "ok", "starttls": "timeout"},
     "no answer in 4 s"),
    ("on TLS stall", {"greeting": "ok", "starttls": "ok", "tls": "timeout"},
     "with small segments as well"),
])
def test_opening_silence(doctor, rule, outcomes, words):
    s, r, port = doctor(rules=[rule])
    result = check(r)
    assert result.code == 1
    assert result.outcomes(port) == {"resolve": "ok", "connect": "ok",
                                     **outcomes}
    assert words in result.trouble(port)
    assert s.events("auth") == []


@pytest.mark.parametrize("mode", MODES)
def test_wrong_kind_of_port(stage, doctor, mode):
    s, r, port = doctor(mode)
    other = MODES[mode == "starttls"]
    r.set_ports((port, other))
    result = check(r)
    assert result.code == 1
    step = "tls" if other == "wrapper" else "greeting"
    assert result.outcomes(port) == {"resolve": "ok", "connect": "ok",
                                     step: "other-mode"}
    assert f'write "{port}:{mode}" in ses.ports' in result.trouble(port)
    assert s.events("auth") == []
    # The handshake in the wrong place is no SMTP.
    stage.sesds.remove(s)
    s.close()


# --- certificates ---

CERTIFICATES = [
    ("expired", "expired", "ran out on 2021-01-01", "issued by sesd test CA"),
    ("notyet", "not-yet-valid", "valid from 2090-01-01", "timedatectl"),
    ("othername", "other-name", "for other.test, not for localhost",
     "intercepts TLS"),
    ("selfsigned", "self-signed", "signed by itself (email-smtp.test)",
     "ses.ca_file"),
    ("unknownca", "unknown-ca", "issued by sesd other CA",
     "excepted from TLS inspection"),
    ("cn-only", "other-name", "for no host name at all", ""),
    ("wrongwild", "other-name", "for *.email-smtp.test", ""),
    ("nochain", "unknown-ca", "issued by sesd intermediate CA", ""),
]


@pytest.mark.parametrize("cert,outcome,meaning,remedy,mode", [
    *((*c, "starttls") for c in CERTIFICATES),
    *((*c, "wrapper") for c in CERTIFICATES[:3])])
def test_bad_certificate(doctor, cert, outcome, meaning, remedy, mode):
    s, r, port = doctor(mode, cert=cert)
    result = check(r)
    assert result.code == 1
    taken = result.outcomes(port)
    assert taken.pop("certificate") == outcome
    assert set(taken.values()) == {"ok"} and "ehlo" not in taken
    text = result.trouble(port)
    assert meaning in text.split(" / ")[0] and remedy in text.split(" / ")[1]
    assert result.ports[port]["certificate"]["result"] != "ok"
    assert s.events("auth") == []


def test_system_does_not_trust_the_issuer(doctor):
    _, r, port = doctor(config={"ses.ca_file": None})
    result = check(r)
    assert result.outcomes(port)["certificate"] == "unknown-ca"
    assert "install ca-certificates" in result.trouble(port)


def test_chain_is_good(doctor):
    _, r, _ = doctor("wrapper", cert="chain")
    assert check(r).code == 0


# --- login ---

PASSWORDS = [
    ("BBbphbrQmrKMx42d1N6+C7VINYEBGI5v9VsZeTxwskfh", "good for one region"),
    ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "most likely a secret "
     "access key: name its file in ses.secret_key_file"),
    ("AnkqhOiWEcszZZzTMCQbOY1sPGoLFgMH9zhp4eNgSjo4", "from before 2019"),
    ("correct-horse-battery", "was it copied whole?"),
]


@pytest.mark.parametrize("password,words", PASSWORDS)
def test_wrong_password(doctor, password, words):
    s, r, port = doctor()
    r.set_password(password)
    result = check(r)
    assert result.code == 1
    # The network is judged all the same.
    assert result.outcomes(port) == {
        **{step: "ok" for step in ALL_STEPS}, "auth": "credentials"}
    text = result.trouble(port)
    assert words in text and "535 Authentication Credentials Invalid" in text
    assert "SMTP credentials are not AWS access keys" in text
    assert USER in text and str(r.password_file) in text
    assert len(result.ports[port]["trouble"]) == 1
    no_mail(s)


def test_user_of_mail_manager(doctor):
    _, r, port = doctor(config={"ses.username": '"inp-0123456789abcdef"'})
    assert "Mail Manager" in check(r).trouble(port)


@pytest.mark.parametrize("kwargs,outcome,words", [
    ({"settings": {"account": "unsubscribed"}}, "subscription",
     "does not use SES"),
    ({"rules": ['on AUTH reply "454 Temporary authentication failure"']},
     "busy", "try again in some minutes"),
    ({"settings": {"auth": ""}}, "not-offered", "neither AUTH PLAIN nor"),
    ({"rules": ['on AUTH reply "535 Authentication Credentials Invalid" '
                'close']}, "credentials", "one region"),
    ({"rules": ["on AUTH close"]}, "closed", "closed by peer"),
    ({"rules": ["on AUTH stall"]}, "timeout", "no answer in 5 s"),
])
def test_login_fault(doctor, kwargs, outcome, words):
    s, r, port = doctor(**kwargs)
    result = check(r)
    assert result.code == 1
    assert result.ports[port]["failed_step"] == "auth"
    assert result.outcomes(port)["auth"] == outcome
    assert words in result.trouble(port)
    assert len(result.ports[port]["trouble"]) == 1
    no_mail(s)


def test_login_plain(doctor):
    s, r, _ = doctor(settings={"auth": "LOGIN"})
    assert check(r).code == 0
    assert {e["mechanism"] for e in s.events("auth")} == {"LOGIN"}


# --- more data ---

@pytest.mark.parametrize("rule,outcome", [("on NOOP reset", "reset"),
                                          ("on NOOP close", "closed"),
                                          ("on NOOP stall", "timeout")])
def test_cut_off_by_more_data(doctor, rule, outcome):
    _, r, port = doctor(rules=[rule])
    result = check(r)
    assert result.code == 1
    assert result.ports[port]["failed_step"] == "large"
    assert result.outcomes(port)["large"] == outcome


def test_silent_goodbye_is_no_fault(doctor):
    _, r, port = doctor(rules=["on QUIT stall"])
    result = check(r)
    assert result.code == 0
    assert result.outcomes(port)["quit"] == "timeout"


# --- a network of its own ---

@pytest.fixture
def network(directory, certs):
    """Runs a function with a Stage of its own there, as a test."""
    def run(fn, *args):
        def body():
            stage = Stage(directory, certs)
            try:
                fn(stage, *args)
            finally:
                stage.end()
        in_network(body)
    return run


def ses(stage, ports=(587, 465, 2587, 2465), address="127.0.0.1", options=()):
    """The emulator on SES's ports and a relay with the default ones."""
    s = stage.sesd(options=options, modes=[
        f"{address}:{p}={'wrapper' if p % 1000 == 465 else 'starttls'}"
        for p in ports])
    r = stage.relay(s, start=False, mode=s.listeners[0][0])
    del r.settings["ses.ports"]
    return s, r


def drops(stage):
    s, r = ses(stage, ports=SES_PORTS)
    filter_input("tcp dport { 587, 465, 25 } drop")
    result = check(r)
    assert result.code == 0
    assert "by port 2587; those before it" in result.end["summary"]
    for port in (587, 465, 25):
        assert result.outcomes(port) == {"resolve": "ok",
                                         "connect": "timeout"}
        assert result.trouble(port).startswith("blocked: nothing comes back")
    for port in (587, 465):
        assert "security group" in result.trouble(port)
    assert "EC2, Lambda" in result.trouble(25)
    assert "Request to remove email sending limitations" in result.trouble(25)
    assert not result.ports[25]["configured"]
    assert {e["port"] for e in s.events("connect")} == {2587, 2465}
    r.settings["ses.ports"] = '[ "587", "25" ]'
    result = check(r)
    assert result.code == 1
    assert ("no port of ses.ports works; 2587 and 2465 would: put it into "
            "ses.ports") in result.end["summary"]


def test_dropped_ports(network):
    network(drops)


def rejects(stage):
    _, r = ses(stage)
    filter_input("tcp dport 587 reject with tcp reset",
                  "tcp dport 465 reject with icmp host-unreachable")
    result = check(r)
    assert result.code == 0
    assert result.outcomes(587)["connect"] == "refused"
    assert result.outcomes(465)["connect"] == "unreachable"
    assert "NAT gateway" in result.trouble(465)


def test_rejected_ports(network):
    network(rejects)


def hole_towards_ses(stage, tls):
    s, r = ses(stage, options=["--tls-max", tls])
    filter_input("ip length > 700 tcp dport 587 drop",
                  "ip length > 700 tcp dport 465 drop")
    result = check(r)
    # What does not suffer from it goes first into the summary.
    assert result.code == 0 and "by port 2587" in result.end["summary"]
    for port in (587, 465):
        assert result.ports[port]["failed_step"] == "large"
        taken = result.outcomes(port)
        assert taken.pop("large") == "mtu" and set(taken.values()) == {"ok"}
        text = result.trouble(port)
        assert text.startswith("MTU: large packets to SES vanish")
        assert "not acknowledged, sent again" in text
        assert "tcp_mtu_probing=1" in text and "mtu 1500" in text
        assert "ses.mss = 536" in text
    for port in (2587, 2465):
        assert result.outcomes(port)["large"] == "ok"
        # Nearly all of full size, or a hole might not be seen.
        kb, n = re.match(r"([\d.]+) kB in (\d+) segments of up to 1448 bytes",
                         result.detail(port, "large")).groups()
        assert int(n) <= 1.2 * float(kb) * 1000 / 1448 + 1.1
    assert not [m for m in s.messages()]
    # What is recommended helps.
    r.settings["ses.mss"] = "536"
    result = check(r)
    assert "by port 587, the first" in result.end["summary"]
    assert "segments of up to 5" in result.detail(587, "large")


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_mtu_hole_towards_ses(network, tls):
    network(hole_towards_ses, tls)


def hole_from_ses(stage):
    _, r = ses(stage, ports=(587, 465))
    filter_input("ip length > 700 tcp sport { 587, 465 } drop")
    result = check(r)
    assert result.code == 1
    for port in (587, 465):
        assert result.ports[port]["failed_step"] == "tls"
        taken = result.outcomes(port)
        assert taken.pop("tls") == "mtu" and set(taken.values()) == {"ok"}
        assert "passes with segments of 536 bytes" in result.trouble(port)


def test_mtu_hole_from_ses(network):
    network(hole_from_ses)


def hole_and_wrong_password(stage):
    _, r = ses(stage, ports=(587,))
    r.set_password(PASSWORDS[0][0])
    filter_input("ip length > 700 tcp dport 587 drop")
    result = check(r)
    assert [t["verdict"] for t in result.ports[587]["trouble"]] == [
        "credentials", "MTU"]


def test_two_troubles_are_both_told(network):
    network(hole_and_wrong_password)


def quota(stage):
    """Everything vanishes after some kilobytes: no matter of size."""
    _, r = ses(stage, ports=(587,))
    filter_input("tcp dport 587 ct bytes > 6000 drop")
    result = check(r)
    assert result.code == 1
    assert result.outcomes(587)["large"] == "unacked"
    assert "with small segments as well" in result.trouble(587)


def test_no_size_passes(network):
    network(quota)


def two_addresses(stage):
    _, r = ses(stage, ports=(587,))
    r.settings["ses.endpoint"] = '"email-smtp.test"'
    filter_input("ip daddr 127.0.0.9 drop",
                  "ip daddr 127.0.0.8 tcp dport 587 reject with tcp reset")
    hosts = "".join(f"127.0.0.{n} email-smtp.test\n" for n in (9, 1, 8))
    result = check(r, wrap=hosts_namespace(stage.directory, hosts))
    assert result.code == 0
    assert {a["address"]: a["outcome"]
            for a in result.ports[587]["addresses"]} == {
        "127.0.0.9": "timeout", "127.0.0.1": "ok", "127.0.0.8": "refused"}
    assert " ok 1/3 " in result.text
    assert re.search(r"\nNo connection to 127\.0\.0\.\d \(\w+\), "
                     r"127\.0\.0\.\d \(\w+\) by port 587\n", result.text)


def test_addresses_that_do_not_answer(network):
    network(two_addresses)


# --- DNS ---

def dns(stage, answer, region="eu-wset-1", timeout=30):
    """A check with the region's own name, answered by that."""
    server = Dns(answer)
    r = stage.relay(start=False, config={
        "ses.endpoint": None, "ses.region": f'"{region}"'})
    wrap = hosts_namespace(stage.directory, "", Dns.RESOLV.format(timeout),
                           "dns")
    result = check(r, wrap=wrap)
    assert f"email-smtp.{region}.amazonaws.com" in server.names
    return result


def same_everywhere(result, outcome, *words):
    assert result.code == 1
    for port in SES_PORTS:
        assert result.outcomes(port) == {"resolve": outcome}
        for word in words:
            assert word in result.trouble(port)
    assert "\nAll ports: " in result.text


def wrong_region(stage):
    result = dns(stage, lambda name, qtype: 3)
    same_everywhere(result, "no-name", 'did you mean "eu-west-1"?',
                    "email-smtp.eu-wset-1.amazonaws.com does not exist")


def no_address(stage):
    same_everywhere(dns(stage, lambda name, qtype: []), "no-address")


def silent_dns(stage):
    result = dns(stage, lambda name, qtype: None)
    same_everywhere(result, "timeout", "no answer in 7 s", "resolv.conf")


def failing_dns(stage):
    same_everywhere(dns(stage, lambda name, qtype: 2), "timeout",
                    "getent ahosts")


def slow_dns(stage):
    """It works, but for the name in the certificate."""
    def answer(name, qtype):
        time.sleep(1.2)
        return ["127.0.0.1"]
    _, r = ses(stage, ports=(587,))
    Dns(answer)
    r.settings["ses.endpoint"] = '"email-smtp.test"'
    result = check(r, wrap=hosts_namespace(
        stage.directory, "", Dns.RESOLV.format(5), "dns"))
    assert result.code == 0
    assert result.outcomes(587)["resolve"] == "slow"
    assert result.ports[587]["verdict"] == "ok"
    assert "slow DNS: looking up" in result.trouble(587)


@pytest.mark.parametrize("scene", [wrong_region, no_address, silent_dns,
                                   failing_dns, slow_dns])
def test_dns(network, scene):
    network(scene)


# --- all at its worst ---

def worst(stage):
    """The look-up takes long, then greetings are slow, then TLS hangs."""
    def answer(name, qtype):
        time.sleep(5)
        return ["127.0.0.1"]
    s, r = ses(stage, ports=SES_PORTS)
    s.rule("on CONNECT delay 2000")
    s.rule("on TLS stall")
    Dns(answer)
    filter_input("tcp dport 465 drop")
    r.settings["ses.endpoint"] = '"email-smtp.test"'
    result = check(r, wrap=hosts_namespace(
        stage.directory, "", Dns.RESOLV.format(30), "dns"))
    assert result.code == 1
    for port in SES_PORTS:
        assert result.ports[port]["seconds"] < SECONDS
        assert result.ports[port]["failed_step"] in ("connect", "tls")


def test_in_time_at_the_worst(network):
    network(worst)


def test_hangs_nowhere_when_the_peer_drips(doctor):
    """A byte now and then satisfies no deadline."""
    _, r, port = doctor(rules=['on CONNECT reply "220 slow" drip 900'])
    result = check(r)
    assert result.code == 1
    assert result.outcomes(port)["greeting"] in ("timeout", "not-smtp")
