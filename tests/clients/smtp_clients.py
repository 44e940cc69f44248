"""The programs that speak SMTP themselves: how each is told to send a mail,
and in what its content differs from what it was told, by its own making."""

import dataclasses
import email.message
import os
import pathlib
import smtplib
import subprocess
import typing

from content import BCC, BLOB_NAME, CC, SENDER, SUBJECT, TO
from postfix import RECEIVED
from smart_hosts import EXIM_RECEIVED, OPENSMTPD_RECEIVED

PROGRAMS = pathlib.Path(__file__).with_name("programs")
LOGIN = "legacy:what ever"


class Failed(Exception):
    """The client says that it could not."""


@dataclasses.dataclass
class Client:
    """`send(where)` hands in the mail; `makes`: it makes the message from a
    text and addresses, and does not send a file as it is; `end`: of a line in
    that file; `adds`: what it puts after a file, and `top`, a pattern, before
    it; `header`: what the file has in its header for it and it takes out;
    `without`: mails it cannot send, and why."""

    name: str
    variant: str
    send: typing.Callable
    makes: bool = False
    end: str = "\n"
    adds: bytes = b""
    top: bytes = b""
    header: str = ""
    without: dict = dataclasses.field(default_factory=dict)
    login: bool = False


class Where:
    """What a client is given: the port, the directory with the files, the mail
    and the programs that were built for this run."""

    def __init__(self, port, directory, mail, tools):
        self.port, self.dir, self.mail, self.tools = (
            port, directory, mail, tools)
        self.to = mail.rcpts

    def run(self, *argv, stdin=None, **env):
        """A program to its end, which is 0."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.dir),
               "LC_ALL": "C.UTF-8", "TERM": "dumb", "SUBJECT": SUBJECT, **env}
        with open(stdin or os.devnull, "rb") as f:
            done = subprocess.run([str(a) for a in argv], stdin=f, env=env,
                                  cwd=self.dir, capture_output=True,
                                  timeout=60)
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace")
            raise Failed(f"{argv[0]}: exit {done.returncode}: {said[-2000:]}")

    @property
    def message(self):
        return self.dir / "message"

    @property
    def blob(self):
        return self.dir / BLOB_NAME if self.mail.blob is not None else None

    def program(self, name, interpreter, *how, **env):
        """One of ours in programs/, in the way that all are called."""
        self.run(*interpreter, PROGRAMS / name, *how, self.port, self.dir,
                 SENDER, *self.to, **env)


def smtplib_session(where, helo=None):
    session = smtplib.SMTP("127.0.0.1", where.port, timeout=30)
    if helo:
        session.helo(helo)
    return session


def smtplib_bytes(where):
    with smtplib_session(where) as s:
        s.sendmail(SENDER, where.to, where.message.read_bytes())


def smtplib_8bitmime(where):
    with smtplib_session(where) as s:
        s.sendmail(SENDER, where.to, where.message.read_bytes(),
                   mail_options=["BODY=8BITMIME"])


def smtplib_helo(where):
    with smtplib_session(where, "old.example") as s:
        s.sendmail(SENDER, where.to, where.message.read_bytes())


def smtplib_str(where):
    with smtplib_session(where) as s:
        s.sendmail(SENDER, where.to, where.message.read_text())


def made_in_python(where):
    m = email.message.EmailMessage()
    m["From"], m["Subject"] = SENDER, SUBJECT
    for name, address in zip(("To", "Cc", "Bcc"), where.to):
        m[name] = address
    m.set_content(where.mail.text)
    if where.blob:
        m.add_attachment(where.mail.blob, maintype="application",
                         subtype="octet-stream", filename=BLOB_NAME)
    return m


def smtplib_message(where):
    with smtplib_session(where) as s:
        s.send_message(made_in_python(where))


def smtplib_login(where):
    with smtplib_session(where) as s:
        s.login(*LOGIN.split(":"))
        s.send_message(made_in_python(where))


def smtplib_no_quit(where):
    s = smtplib_session(where)
    s.sendmail(SENDER, where.to, where.message.read_bytes())
    s.close()


def curl(where, *options):
    where.run("curl", "-sS", f"smtp://127.0.0.1:{where.port}",
              "--mail-from", SENDER,
              *[w for a in where.to for w in ("--mail-rcpt", a)],
              "-T", where.message, *options)


def swaks(where, *options):
    where.run("swaks", "--server", f"127.0.0.1:{where.port}",
              "--from", SENDER, "--to", ",".join(where.to),
              "--data", f"@{where.message}", *options)


def swaks_made(where):
    copies = ["--add-header", f"Cc: {CC}"] if CC in where.to else []
    attach = ["--attach-type", "application/octet-stream",
              "--attach", f"@{where.blob}"] if where.blob else []
    kind = "text/plain; charset=utf-8"
    how = (["--attach-type", kind, "--attach-body", f"@{where.dir / 'text'}"]
           if attach else
           ["--body", f"@{where.dir / 'text'}",
            "--add-header", f"Content-Type: {kind}"])
    where.run("swaks", "--server", f"127.0.0.1:{where.port}",
              "--from", SENDER, "--to", ",".join(where.to),
              "--header", f"To: {TO}", *copies,
              "--header", f"Subject: {SUBJECT}", *how, *attach)


def msmtp(where, *options, to=None):
    where.run("msmtp", "-C", "/dev/null", "--host=127.0.0.1",
              f"--port={where.port}", f"--from={SENDER}",
              "--set-from-header=off", "--set-date-header=off", *options,
              *(["--", *where.to] if to is None else to),
              stdin=where.message)


def s_nail(where, *options):
    where.run("s-nail", "-:", "/", "-Sv15-compat",
              f"-Smta=smtp://127.0.0.1:{where.port}", "-Ssmtp-auth=none",
              "-Snosave", "-Smime-encoding=8b", f"-Sfrom={SENDER}",
              "-Ssendcharsets=utf-8", "-s", SUBJECT,
              *(["-c", CC, "-b", BCC] if CC in where.to else []),
              *(["-a", where.blob] if where.blob else []), TO,
              stdin=where.dir / "text")


def mutt(where):
    rc = where.dir / "muttrc"
    rc.write_text(f"set smtp_url=smtp://127.0.0.1:{where.port}/\n"
                  f"set from={SENDER}\nset use_envelope_from=yes\n"
                  "set ssl_force_tls=no\nset ssl_starttls=no\n"
                  "set copy=no\nset charset=utf-8\nset allow_8bit=yes\n"
                  "set send_charset=utf-8\nset hostname=client.example\n")
    where.run("mutt", "-n", "-F", rc, "-s", SUBJECT,
              *(["-c", CC, "-b", BCC] if CC in where.to else []),
              *(["-a", where.blob] if where.blob else []), "--", TO,
              stdin=where.dir / "text")


def busybox(where):
    where.run(where.tools.busybox, "sendmail", "-S",
              f"127.0.0.1:{where.port}", "-f", SENDER, *where.to,
              stdin=where.message)


def smart_host(where):
    server = where.tools.postfix_to(where.port)
    where.run("/usr/sbin/sendmail", "-C", server.dir, "-i", "-f", SENDER,
              "--", *where.to, stdin=where.message)


def exim(where):
    where.tools.exim_to(where.port).send(where, SENDER)


def opensmtpd(where):
    where.tools.opensmtpd_to(where.port).send(where, SENDER)


def go(where, **env):
    where.run(where.tools.go, where.port, where.dir, SENDER, *where.to, **env)


def java(where, how, **env):
    where.run("java", "-cp", where.tools.java_path, "Mail", how, where.port,
              where.dir, SENDER, *where.to, **env)


def nodemailer(which):
    """The one of npm or the one of Debian."""
    def send(where, how, **env):
        where.program("nodemailer.js", ["node"], how,
                      NODEMAILER=str(getattr(where.tools, which)), **env)
    return send


def program(name, interpreter, *how, **env):
    return lambda where: where.program(name, interpreter, *how, **env)


def lf_only(how):
    return program("lf_only.sh", ["bash"], how)


def with_login(send, mechanism):
    return lambda where: send(where, LOGIN=LOGIN, MECHANISM=mechanism)


PERL, RUBY, PHP = ["perl"], ["ruby"], ["php"]
EMPTY_LINE = b"\r\n"  # it ends data with CRLF.CRLF, come what may
DOTS_BEHIND_LF = {"two-dots": "stuffs no dot behind a bare LF"}
ASCII = {"8-bit": "takes no more than ASCII"}

CLIENTS = [
    Client("curl", "LF file", curl, adds=EMPTY_LINE, without=DOTS_BEHIND_LF),
    Client("curl", "CRLF file", curl, end="\r\n"),
    Client("swaks", "--data", swaks, adds=EMPTY_LINE),
    Client("swaks", "--data --pipeline", lambda w: swaks(w, "--pipeline"),
           adds=EMPTY_LINE),
    Client("swaks", "--protocol SMTP (HELO)",
           lambda w: swaks(w, "--protocol", "SMTP"), adds=EMPTY_LINE),
    Client("swaks", "--body --attach", swaks_made, makes=True),
    Client("msmtp", "to arguments", msmtp),
    Client("msmtp", "-t", lambda w: msmtp(w, "-t", to=[]),
           header="Bcc: {}\n"),
    Client("smtplib", "bytes", smtplib_bytes, adds=EMPTY_LINE),
    Client("smtplib", "bytes, CRLF", smtplib_bytes, end="\r\n"),
    Client("smtplib", "str", smtplib_str, without=ASCII),
    Client("smtplib", "BODY=8BITMIME", smtplib_8bitmime, adds=EMPTY_LINE),
    Client("smtplib", "HELO", smtplib_helo, adds=EMPTY_LINE),
    Client("smtplib", "no QUIT", smtplib_no_quit, adds=EMPTY_LINE),
    Client("smtplib", "EmailMessage", smtplib_message, makes=True),
    Client("Net::SMTP", "data()", program("net_smtp.pl", PERL)),
    Client("net/smtp.rb", "send_message", program("net_smtp.rb", RUBY)),
    Client("PHPMailer", "SMTP::data", program("phpmailer.php", PHP, "raw"),
           adds=EMPTY_LINE),
    Client("PHPMailer", "send", program("phpmailer.php", PHP, "made"),
           makes=True),
    Client("nodemailer", "npm, raw",
           lambda w: nodemailer("npm")(w, "raw")),
    Client("nodemailer", "npm, made",
           lambda w: nodemailer("npm")(w, "made"), makes=True),
    Client("nodemailer", "Debian, made",
           lambda w: nodemailer("debian")(w, "made"), makes=True),
    Client("Go net/smtp", "SendMail", go),
    Client("JavaMail", "of a file", lambda w: java(w, "raw")),
    Client("JavaMail", "made", lambda w: java(w, "made"), makes=True),
    Client("s-nail", "mta=smtp:", s_nail, makes=True),
    Client("mutt", "smtp_url", mutt, makes=True),
    Client("busybox", "sendmail", busybox),
    Client("nc.openbsd", "printf | nc", lf_only("nc.openbsd")),
    Client("nc.traditional", "printf | nc", lf_only("nc.traditional")),
    Client("bash", "/dev/tcp, no QUIT", lf_only("tcp")),
    Client("Postfix", "relayhost =", smart_host, top=RECEIVED),
    Client("Exim", "manualroute", exim, top=EXIM_RECEIVED),
    Client("OpenSMTPD", "relay host", opensmtpd, end="\r\n",
           top=OPENSMTPD_RECEIVED),
    # Those that insist on logging in.
    Client("curl", "--user", lambda w: curl(w, "--user", LOGIN), login=True,
           end="\r\n"),
    Client("swaks", "--auth LOGIN", lambda w: swaks(
        w, "--auth", "LOGIN", "--auth-user", "legacy", "--auth-password",
        "what ever"), adds=EMPTY_LINE, login=True),
    Client("smtplib", "login()", smtplib_login, makes=True, login=True),
    Client("Net::SMTP", "auth()",
           lambda w: w.program("net_smtp.pl", PERL, LOGIN=LOGIN), login=True),
    Client("net/smtp.rb", "login", lambda w: w.program(
        "net_smtp.rb", RUBY, LOGIN=LOGIN, MECHANISM="LOGIN"), login=True),
    Client("PHPMailer", "SMTPAuth LOGIN", lambda w: w.program(
        "phpmailer.php", PHP, "made", LOGIN=LOGIN, MECHANISM="LOGIN"),
        makes=True, login=True),
    Client("nodemailer", "npm, auth PLAIN", lambda w: nodemailer("npm")(
        w, "made", LOGIN=LOGIN, MECHANISM="PLAIN"), makes=True, login=True),
    Client("nodemailer", "npm, auth LOGIN", lambda w: nodemailer("npm")(
        w, "made", LOGIN=LOGIN, MECHANISM="LOGIN"), makes=True, login=True),
    Client("Go net/smtp", "PlainAuth", with_login(go, "PLAIN"), login=True),
    Client("JavaMail", "auth PLAIN", lambda w: java(
        w, "made", LOGIN=LOGIN, MECHANISM="PLAIN"), makes=True, login=True),
    Client("JavaMail", "auth LOGIN", lambda w: java(
        w, "made", LOGIN=LOGIN, MECHANISM="LOGIN"), makes=True, login=True),
]
