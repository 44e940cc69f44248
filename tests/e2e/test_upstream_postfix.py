"""A real server, not written by us, in the place of SES: Postfix, with TLS by
STARTTLS and by wrapper, and AUTH.

(OpenSMTPD, the other candidate, cannot be a TLS server on Debian 12: its
version 6.8.0 and OpenSSL 3 do not get along, OpenSMTPD issue 1171.)
"""

import base64
import os
import pathlib
import pwd
import re
import signal
import socket
import subprocess

import pytest

from harness import (PASSWORD, USER, Process, Workdir, free_port, message,
                     wait_until, without_received)

PROGRAMS = pathlib.Path("/usr/lib/postfix/sbin")
REALM = "postfix.test"
KINDS = ["plain", "dots", "eightbit", "nothing", "large", "long", "many",
         "postmaster", "group0", "group1", "group2"]
BOXES = [f"{kind}.{mode}" for kind in KINDS
         for mode in ("starttls", "wrapper")] + ["good1", "good2", "later",
                                                 "never"]

MAIN = """
compatibility_level = 3.6
myhostname = {realm}
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file = {dir}/log
maillog_file_prefixes = /
alias_maps =
local_header_rewrite_clients =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
message_size_limit = 40000000
virtual_mailbox_limit = 0
virtual_mailbox_domains = example.net
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = texthash:{dir}/boxes
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
virtual_minimum_uid = 1
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = {realm}
cyrus_sasl_config_path = {dir}/sasl
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtpd_tls_cert_file = {certs}/good.pem
smtpd_tls_key_file = {certs}/good.key
"""

MASTER = """
127.0.0.1:{starttls} inet n - n - - smtpd
127.0.0.1:{wrapper} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

SASL = """
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {dir}/sasldb
mech_list: PLAIN LOGIN
"""


class Postfix:
    def __init__(self, directory, certs):
        self.dir = directory
        self.ports = {"starttls": free_port(), "wrapper": free_port()}
        user = pwd.getpwnam("postfix").pw_uid
        # Its processes run as another user and have to reach all of this.
        directory.mkdir()
        for d in (certs, directory.parent, directory):
            d.chmod(0o755)
        for name in ("queue", "data", "mail", "sasl"):
            (directory / name).mkdir()
        for name in ("data", "mail"):
            os.chown(directory / name, user, -1)
        values = {"dir": directory, "certs": certs, "uid": user,
                  "realm": REALM, **self.ports}
        for name, text in (("main.cf", MAIN), ("master.cf", MASTER),
                           ("sasl/smtpd.conf", SASL)):
            (directory / name).write_text(text.format(**values))
        (directory / "boxes").write_text("".join(
            f"{box}@example.net {box}/\n" for box in BOXES))
        subprocess.run(
            ["/usr/sbin/saslpasswd2", "-p", "-c", "-f", directory / "sasldb",
             "-u", REALM, USER], input=PASSWORD, text=True, check=True)
        os.chown(directory / "sasldb", user, -1)
        subprocess.run(["/usr/sbin/postfix", "-c", directory, "check"],
                       check=True)
        self.process = Process(
            [str(PROGRAMS / "master"), "-d", "-c", str(directory)],
            directory / "output",
            env={"MAIL_CONFIG": str(directory), "PATH": os.environ["PATH"]},
            start_new_session=True)  # it ends all of its process group
        wait_until(lambda: all(map(self.answers, self.ports.values())) or
                   not self.process.alive(), "Postfix to listen")
        assert self.process.alive(), self.log()

    @staticmethod
    def answers(port):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    def log(self):
        log = self.dir / "log"
        return self.process.log() + (log.read_text() if log.exists() else "")

    def mails(self, user, n=1):
        """What was delivered to the user, lines ending in CRLF again; None
        while there is less of it."""
        found = list((self.dir / "mail" / user / "new").glob("*"))
        if len(found) < n:
            return None
        return [p.read_bytes().replace(b"\n", b"\r\n") for p in found]

    def close(self):
        self.process.kill(signal.SIGTERM)
        self.process.wait(20)
        self.process.close()


@pytest.fixture(scope="module")
def postfix(certs):
    assert os.geteuid() == 0, "Postfix has to be started by root"
    assert (PROGRAMS / "master").exists(), \
        "Postfix is missing: scripts/setup.sh check installs it"
    with Workdir("postfix") as directory:
        server = Postfix(directory / "postfix", certs)
        yield server
        server.close()


@pytest.fixture
def to_postfix(relay, postfix, certs):
    def make(*modes, password=PASSWORD, ca="ca"):
        r = relay(start=False,
                  config={"ses.ca_file": f'"{certs / ca}.pem"',
                          "delivery.connections": "3"})
        r.set_ports(*((postfix.ports[mode], mode) for mode in modes))
        r.set_password(password)
        r.write_config()
        r.start()
        return r
    return make


def unwrapped(stored):
    """Without what Postfix puts on top: Return-Path, Received, and so on."""
    at = stored.index(b"Received: from client.test ")
    head = stored[:at]
    assert re.fullmatch(rb"(?:[\w-]+: .*\r\n(?:[ \t].*\r\n)*)+", head), head
    assert b"with ESMTPSA" in head and b"\r\nReceived: " in head, head
    return without_received(stored[at:])


@pytest.mark.parametrize("mode", ["starttls", "wrapper"])
def test_delivery(to_postfix, postfix, mode):
    r = to_postfix(mode)
    noise = base64.encodebytes(os.urandom(3_000_000)).replace(b"\n", b"\r\n")
    sent = {
        "plain": message(b"hello\r\n"),
        "dots": message(b".\r\n..\r\n.hidden\r\n\r\n...\r\nend\r\n.\r\n"),
        "eightbit": message("Grüße — 日本語\r\n".encode() * 50),
        "nothing": message(b""),
        "large": message(noise),
        "long": message(b"x" * 990 + b"\r\n"),
    }
    many = [message(subject=f"number {i}") for i in range(30)]
    group = message(subject="for three")
    null = message(subject="a bounce")

    def box(kind):
        return f"{kind}.{mode}@example.net"

    ids = [r.send(content, rcpts=[box(kind)])
           for kind, content in sent.items()]
    with r.submit() as client:
        ids += [client.mail(content, rcpts=[box("many")]) for content in many]
    ids.append(r.send(group, rcpts=[box(f"group{i}") for i in range(3)]))
    ids.append(r.send(null, sender="", rcpts=[box("postmaster")]))
    r.wait_empty()
    for qid in ids:
        assert {o["status"] for o in r.outcomes(qid)} == {"sent"}
        assert {o["dsn"] for o in r.outcomes(qid)} == {"2.0.0"}
    want = {**{kind: [content] for kind, content in sent.items()},
            "many": many, "postmaster": [null],
            **{f"group{i}": [group] for i in range(3)}}
    for kind, contents in want.items():
        stored = wait_until(
            lambda: postfix.mails(f"{kind}.{mode}", len(contents)),
            f"mail for {kind} in its box")
        assert sorted(map(unwrapped, stored)) == sorted(contents)
    assert re.search(r"TLS connection established from .*: TLSv1\.[23]",
                     postfix.log())
    assert f"sasl_method=PLAIN, sasl_username={USER}" in postfix.log()
    # Connections were reused.
    assert postfix.log().count(": connect from ") < len(ids)


def test_refused_recipient(to_postfix, postfix):
    r = to_postfix("starttls")
    content = message()
    qid = r.send(content, rcpts=["good1@example.net", "bad@example.net",
                                 "good2@example.net"])
    r.wait_empty()
    assert {(o["to"].split("@")[0], o["status"]) for o in r.outcomes(qid)} \
        == {("good1", "sent"), ("bad", "bounced"), ("good2", "sent")}
    fields, kept = r.dead_letter(qid)
    assert fields["Recipient"] == ["bad@example.net"]
    assert fields["Reason"][0].startswith("550 5.1.1 <bad@example.net>: ")
    assert without_received(kept) == content
    for user in ("good1", "good2"):
        wait_until(lambda: postfix.mails(user), f"mail for {user}")


def test_wrong_password(to_postfix, postfix):
    r = to_postfix("starttls", password=PASSWORD[::-1])
    content = message()
    r.send(content, rcpts=["later@example.net"])
    wait_until(lambda: r.state().startswith("credentials"),
               "the refused login in the status")
    assert "535 5.7.8 Error: authentication failed" in r.ctl("status")
    assert r.count() == 1 and r.dead_letters() == []
    r.set_password(PASSWORD)
    r.reload()
    r.wait_empty()
    wait_until(lambda: postfix.mails("later"), "the mail in its box")
    assert [unwrapped(m) for m in postfix.mails("later")] == [content]


def test_certificate_is_verified(to_postfix, postfix):
    r = to_postfix("wrapper", "starttls", ca="other-ca")
    r.send(rcpts=["never@example.net"])
    r.wait_log("certificate refused: unable to get local issuer")
    r.wait_state("unreachable")
    assert r.count() == 1 and r.outcomes() == []
    assert postfix.mails("never") is None
