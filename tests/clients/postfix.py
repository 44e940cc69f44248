"""Postfix as many a host has it: local programs call its sendmail, and all
goes to a smart host, which is the relay."""

import os
import pathlib
import pwd
import signal
import subprocess

from harness import Process

PROGRAMS = pathlib.Path("/usr/lib/postfix/sbin")

MAIN = """
compatibility_level = 3.6
myhostname = smart.example
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file = {dir}/log
maillog_file_prefixes = /
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
relayhost = [127.0.0.1]:{port}
"""

MASTER = """
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
smtp unix - - n - - smtp
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
"""
# What it puts on top of a message.
RECEIVED = (rb"Received: by smart\.example \(Postfix, from userid 0\)\r\n"
            rb"\tid \w+; .*\r\n")


class Postfix:
    def __init__(self, directory, port):
        self.dir = directory
        # Its processes run as another user and have to reach all of this.
        for d in (directory.parent.parent, directory.parent):
            d.chmod(0o755)
        for name in ("queue", "data"):
            (directory / name).mkdir(parents=True)
        os.chown(directory / "data", pwd.getpwnam("postfix").pw_uid, -1)
        for name, text in (("main.cf", MAIN), ("master.cf", MASTER)):
            (directory / name).write_text(text.format(dir=directory,
                                                      port=port))
        subprocess.run(["/usr/sbin/postfix", "-c", directory, "check"],
                       check=True, stderr=subprocess.DEVNULL)
        self.process = Process(
            [str(PROGRAMS / "master"), "-d", "-c", str(directory)],
            directory / "output",
            env={"MAIL_CONFIG": str(directory), "PATH": os.environ["PATH"]},
            start_new_session=True)  # it ends all of its process group

    def close(self):
        self.process.kill(signal.SIGTERM)
        self.process.wait(20)
        self.process.close()
