"""Exim and OpenSMTPD with the relay as their smart host.

Their packages conflict with Postfix's, so they are not installed: the files of
the packages are unpacked, and each runs where it sees users and directories of
its own, that are nobody else's.
"""

import os
import pathlib
import signal
import smtplib
import subprocess

from harness import Process, free_port, private_mounts, wait_until

EXIM_CONF = """
primary_hostname = smart.example
spool_directory = {dir}/spool
log_file_path = {dir}/log/%slog
exim_path = {program}
keep_environment =
disable_ipv6
local_from_check = false
begin routers
smart:
  driver = manualroute
  route_list = * 127.0.0.1::{port}
  self = send
  transport = smtp
begin transports
smtp:
  driver = smtp
  allow_localhost
  hosts_try_dane = :
begin retry
* * F,1h,1m
"""
EXIM_RECEIVED = (rb"Received: from root by smart\.example with local \(Exim "
                 rb"[^;]*;\r\n\t[^\r]*\r\n")

# It would keep its connection for ten seconds; between two it waits as it is.
OPENSMTPD_CONF = """
listen on 127.0.0.1 port {own}
mta limit session-keepalive 1
action "relay" relay host smtp://127.0.0.1:{port} helo smart.example
match from any for any action "relay"
"""
OPENSMTPD_RECEIVED = (rb"Received: from client\.example \(localhost "
                      rb"\[127\.0\.0\.1\]\)\r\n\tby [^;]* \(OpenSMTPD\)[^;]*"
                      rb";\r\n\t[^\r]*\r\n")


def with_users(directory, names, script=""):
    """Words to put before a command: it sees these users beside those of this
    machine, and what the script mounts."""
    for name, form in (("passwd", "{0}:x:{1}:{1}::/nonexistent:/bin/false\n"),
                       ("group", "{0}:x:{1}:\n")):
        lines = pathlib.Path("/etc", name).read_text().splitlines(True)
        lines = [x for x in lines if x.split(":")[0] not in names]
        lines += [form.format(user, uid) for user, uid in names.items()]
        (directory / name).write_text("".join(lines))
    mounts = "".join(f"mount --bind {directory}/{name} /etc/{name}; "
                     for name in ("passwd", "group"))
    return [*private_mounts(), "sh", "-ec", f'{mounts}{script}exec "$@"',
            "sh"]


def open_to_all(directory):
    """They drop their privileges, and have to reach it then."""
    directory.mkdir()
    for d in (directory.parent.parent, directory.parent, directory):
        d.chmod(0o755)


class Exim:
    """Has no process of its own: each call of sendmail delivers."""

    UID = 64001

    def __init__(self, directory, program, port):
        open_to_all(directory)
        for name in ("spool", "log"):
            (directory / name).mkdir()
            os.chown(directory / name, self.UID, self.UID)
        (directory / "conf").write_text(EXIM_CONF.format(
            dir=directory, program=program, port=port))
        self.sendmail = [*with_users(directory, {"Debian-exim": self.UID}),
                         program, "-C", directory / "conf", "-odf"]

    def send(self, where, sender):
        where.run(*self.sendmail, "-i", "-f", sender, "--", *where.to,
                  stdin=where.message)


class OpenSmtpd:
    """Is given mail by SMTP: its sendmail needs a group of its own."""

    USERS = {"opensmtpd": 64002, "opensmtpq": 64003}
    OWN = ("for d in /var/lib /var/spool /run; do "
           "mount -t tmpfs -o mode=755 own $d; done; "
           "mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd; "
           "chmod 711 /var/spool/smtpd; ")

    def __init__(self, directory, program, port):
        open_to_all(directory)
        self.port = free_port()
        conf = directory / "conf"
        conf.write_text(OPENSMTPD_CONF.format(own=self.port, port=port))
        words = with_users(directory, self.USERS, self.OWN)
        self.process = Process([*words, program, "-d", "-f", conf],
                               directory / "output")
        wait_until(self.answers, "OpenSMTPD's greeting", 20)

    def answers(self):
        try:
            smtplib.SMTP("127.0.0.1", self.port, timeout=20).close()
        except OSError:
            assert self.process.alive(), self.process.log()
            return False
        return True

    def send(self, where, sender):
        with smtplib.SMTP("127.0.0.1", self.port, "client.example",
                          timeout=20) as s:
            s.sendmail(sender, where.to, where.message.read_bytes())

    def close(self):
        self.process.kill(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        self.process.close()
