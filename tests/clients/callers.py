"""The programs that call sendmail(1): each runs with ours in its place, on a
machine named ip-10-0-0-1.internal, as root, whose mail SES would refuse but
for three lines of `rewrite`."""

import dataclasses
import email
import email.policy
import os
import pathlib
import re
import signal
import subprocess
import typing

from content import (BCC, BLOB_NAME, CC, SENDER, SUBJECT, TO, Unequal,
                     judge_made, same)
from harness import BUILD, private_mounts, wait_until, without_received
from smtp_clients import PROGRAMS, Failed

HOST = "ip-10-0-0-1.internal"
VERIFIED = "noreply@example.com"  # what root's mail has to be from
OPS = "ops@example.net"  # who reads root's mail
REWRITE = {
    "rewrite.default_domain": f'"{HOST}"',
    "rewrite.senders":
        f'( {{ match = "*@*.internal"; address = "{VERIFIED}"; }} )',
    "rewrite.aliases_file": '"{directory}/aliases"',
}
# Verified at SES is this domain and no other.
VERIFIED_DOMAIN = "example.com"
# What the jobs of cron and at have to say.
JOB = "echo 'Gr\u00fc\u00dfe'; echo .; echo '.dot at the start'; echo end"
JOB_SAYS = "Gr\u00fc\u00dfe\n.\n.dot at the start\nend\n"


class World:
    """The files of a run, and how a program is run in it."""

    def __init__(self, directory, port, kit):
        self.dir = directory
        self.files = directory / "files"
        self.kit = kit
        self.calls_file = directory / "calls"
        program = pathlib.Path(os.environ.get(
            "SENDMAIL", BUILD / "sesrelay-sendmail")).resolve()
        for name in ("etc/sesrelayd", "files", "bin"):
            (directory / name).mkdir(parents=True)
        (directory / "bin/sendmail").symlink_to(program)
        wrapper = directory / "wrapper"
        wrapper.write_text(
            "#!/bin/sh\n"
            f"echo \"${{0##*/}} $*\" >>'{self.calls_file}'\n"
            f"exec '{directory}/bin/sendmail' \"$@\"\n")
        wrapper.chmod(0o755)
        self.calls_file.touch()
        self.calls_file.chmod(0o666)
        (directory / "etc/sesrelayd/sesrelayd.conf").write_text(
            f'smtp: {{ listen = [ "127.0.0.1:{port}" ]; }};\n')

    def argv(self, *command):
        return [str(a) for a in (
            *private_mounts(), "unshare", "--uts", PROGRAMS / "world.sh",
            self.dir, *command)]

    def environment(self, **more):
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                "HOME": str(self.files), "TERM": "dumb", "USER": "root",
                "LOGNAME": "root", "SUBJECT": SUBJECT, **more}

    def run(self, *command, stdin=None, **env):
        with open(stdin or os.devnull, "rb") as f:
            done = subprocess.run(
                self.argv(*command), stdin=f, cwd=self.files, timeout=60,
                env=self.environment(**env), capture_output=True)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise Failed(f"{command[0]}: exit {done.returncode}: "
                         f"{said[-2000:]}")

    def run_daemon(self, *command):
        """In the foreground, until it has called sendmail and that has come
        to its end; then it is stopped."""
        def called():
            if daemon.poll() is not None:
                raise Failed(f"{command}: ended, {daemon.returncode}: "
                             + log.read_text(errors="replace")[-2000:])
            return self.calls_file.stat().st_size > 0

        log = self.dir / "daemon.log"
        with log.open("wb") as f:
            daemon = subprocess.Popen(
                self.argv(*command), stdin=subprocess.DEVNULL, stdout=f,
                stderr=f, cwd=self.files, env=self.environment())
        try:
            wait_until(called, f"a call of sendmail by {command}", 20)
            yield
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)

    def calls(self):
        """How sendmail was called since this was asked last."""
        text = self.calls_file.read_text()
        self.calls_file.write_text("")
        return "; ".join(text.splitlines())


@dataclasses.dataclass
class Caller:
    """`call(world, mail)` sends `mail`, or what the program itself (`own`)
    has to say; it may be a generator, and goes on when the mail has
    arrived.  `sender` and `rcpts`: of the envelope at SES; `says`: what is in
    the text then; `without`: mails it cannot send, and why."""

    name: str
    variant: str
    call: typing.Callable
    sender: str = SENDER
    header_from: str = SENDER
    says: str = ""
    rcpts: tuple = (OPS,)
    own: bool = False
    without: dict = dataclasses.field(default_factory=dict)


def with_copies(mail):
    return ["-c", CC, "-b", BCC] if CC in mail.rcpts else []


def cron(crontab):
    def call(world, mail):
        (world.dir / "etc/crontab").write_text(crontab)
        yield from world.run_daemon("cron", "-f")
    return call


def at(world, mail):
    (world.files / "job").write_text(JOB + "\n")
    yield from world.run_daemon(
        "sh", "-c", "at now <job && exec atd -f")


def php_mail(**env):
    def call(world, mail):
        world.run("php", PROGRAMS / "mail.php", world.files, SENDER,
                  *mail.rcpts, **env)
    return call


def mime_lite(world, mail):
    world.run("perl", PROGRAMS / "mime_lite.pl", world.files, SENDER,
              *mail.rcpts)


def bsd_mailx(*options):
    def call(world, mail):
        world.run("bsd-mailx", *options, "-s", SUBJECT, *with_copies(mail),
                  TO, stdin=world.files / "text")
    return call


def s_nail(world, mail):
    attach = ["-a", BLOB_NAME] if mail.blob else []
    world.run("s-nail", "-:", "/", "-Sv15-compat", "-Snosave",
              "-Smime-encoding=8b", "-Ssendcharsets=utf-8", "-r", SENDER,
              "-s", SUBJECT, *with_copies(mail), *attach, TO,
              stdin=world.files / "text")


def mutt(world, mail):
    rc = world.files / "muttrc"
    rc.write_text(f"set from={SENDER}\nset use_envelope_from=yes\n"
                  "set copy=no\nset charset=utf-8\nset allow_8bit=yes\n"
                  "set send_charset=utf-8\n")
    attach = ["-a", BLOB_NAME] if mail.blob else []
    world.run("mutt", "-n", "-F", rc, "-s", SUBJECT, *with_copies(mail),
              *attach, "--", TO, stdin=world.files / "text")


def git_send_email(world, mail):
    (world.files / "patch").write_text(
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: {SENDER}\n"
        "Date: Sun, 1 Mar 2026 10:00:00 +0000\n"
        f"Subject: {SUBJECT}\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\n"
        "Content-Transfer-Encoding: 8bit\n\n" + mail.text)
    copies = ["--cc", CC, "--bcc", BCC] if CC in mail.rcpts else []
    world.run("git", "send-email", "--quiet", "--confirm=never",
              "--suppress-cc=all", "--no-validate", "--envelope-sender=auto",
              "--from", SENDER, "--to", TO, *copies, "patch")


def mdadm(world, mail):
    world.run(world.kit.mdadm, "--monitor", "--test", "--oneshot",
              "--mail", "root", "/dev/md0")


NO_FILE = {"200K": "attaches nothing"}

CALLERS = [
    Caller("cron", "root's job to root",
           cron(f"SHELL=/bin/sh\n@reboot root {JOB}\n"), own=True,
           sender=VERIFIED, header_from=VERIFIED, says=JOB_SAYS),
    Caller("cron", "MAILTO=", cron(
        f"SHELL=/bin/sh\nMAILTO={TO}\n@reboot root {JOB}\n"), own=True,
        sender=VERIFIED, header_from=VERIFIED, rcpts=(TO,), says=JOB_SAYS),
    Caller("at", "root's job", at, own=True, sender=VERIFIED,
           header_from=VERIFIED, says=JOB_SAYS),
    Caller("mdadm", "--monitor --test", mdadm, own=True, sender=VERIFIED,
           header_from=VERIFIED, says="TestMessage event had been detected on md device /dev/md0"),
    Caller("php", "mail()", php_mail(), sender=VERIFIED,
           without=NO_FILE),
    Caller("php", "mail(), -f", php_mail(SENDER=SENDER),
           without=NO_FILE),
    Caller("bsd-mailx", "", bsd_mailx(), sender=VERIFIED,
           header_from=VERIFIED,
           without=NO_FILE),
    Caller("bsd-mailx", "-r", bsd_mailx("-r", SENDER),
           without=NO_FILE),
    Caller("s-nail", "-r", s_nail),
    Caller("mutt", "use_envelope_from", mutt),
    Caller("git send-email", "", git_send_email,
           without={**NO_FILE, "empty": "a patch is not empty"}),
    Caller("MIME::Lite", "send", mime_lite,
           without={"long": "breaks lines at 990 by itself"}),
]


def judge_own(caller, entry, stored):
    """What a program says by itself, from root or to root."""
    if (entry["from"], tuple(entry["rcpts"])) != (caller.sender,
                                                  caller.rcpts):
        raise Unequal(f"envelope {entry['from']} {entry['rcpts']}")
    parsed = email.message_from_bytes(without_received(stored),
                                      policy=email.policy.default)
    for name in ("Date", "Message-ID", "From", "To", "Subject"):
        if len(parsed.get_all(name, [])) != 1:
            raise Unequal(f"{name}: {parsed.get_all(name)}")
    if caller.header_from not in str(parsed["From"]):
        raise Unequal(f"From: {parsed['From']}")
    for field in str(parsed["From"]), str(parsed["To"]):
        if not re.search(r"[\w.]+@[\w.]+", field):
            raise Unequal(f"no whole address: {field}")
    # Some say nothing of its character set.
    text = parsed.get_payload(decode=True).decode().replace("\r\n", "\n")
    if caller.says not in text:
        raise Unequal(f"text {text!r}")


def judge(caller, mail, entry, stored):
    if caller.own:
        judge_own(caller, entry, stored)
        return
    same("envelope", [entry["from"], sorted(entry["rcpts"])],
         [caller.sender, sorted(mail.rcpts)])
    judge_made(mail, stored, caller.header_from)
