"""Real programs hand in mail, each in its own way of speaking SMTP; what they
sent is what sesd has."""

import email.message
import os
import re
import smtplib
import subprocess

import pytest

from harness import DATE, RCPT, SENDER, message, without_received
from intake_helpers import canonical, wait_accepted

TEXT = ("Gr\u00fc\u00dfe aus Z\u00fcrich\n.\n.dot at the start\n\n"
        "From_here on: \u65e5\u672c\u8a9e\n" + "long " * 150 + "\nlast line\n")
HEAD = (f"From: {SENDER}\nTo: {RCPT}\nSubject: client\n"
        f"{DATE}\nMessage-ID: <client@example.com>\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: 8bit\n\n")
# As a file on a Unix disk has it: bare LF, and with it no line of two dots,
# which a client that stuffs no dots behind bare LF would mean as such.
MESSAGE = (HEAD + TEXT).encode()
# As RFC 5322 has it, with the dots of all lengths.
CRLF_MESSAGE = canonical((HEAD + TEXT + ".\n..\n...\n.\n\n.\nend\n").encode())


def run(argv, directory, **kwargs):
    env = {"PATH": os.environ["PATH"], "HOME": str(directory),
           "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    done = subprocess.run([str(x) for x in argv], capture_output=True,
                          timeout=60, env=env, cwd=directory, **kwargs)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done


@pytest.fixture
def mail_file(directory):
    path = directory / "m.eml"
    path.write_bytes(MESSAGE)
    return path


def by_curl(port, directory, path):
    run(["curl", "-sS", f"smtp://127.0.0.1:{port}", "--mail-from", SENDER,
         "--mail-rcpt", RCPT, "-T", path], directory)


def by_swaks(port, directory, path, *options):
    run(["swaks", "--server", f"127.0.0.1:{port}", "--from", SENDER,
         "--to", RCPT, "--data", f"@{path}", *options], directory)


def by_swaks_pipelined(port, directory, path):
    by_swaks(port, directory, path, "--pipeline")


def by_msmtp(port, directory, path):
    with path.open("rb") as f:
        run(["msmtp", "-C", "/dev/null", "--host=127.0.0.1", f"--port={port}",
             f"--from={SENDER}", "--set-from-header=off",
             "--set-date-header=off", "--", RCPT], directory, stdin=f)


def by_msmtp_recipients_of_header(port, directory, path):
    with path.open("rb") as f:
        run(["msmtp", "-C", "/dev/null", "--host=127.0.0.1", f"--port={port}",
             f"--from={SENDER}", "--set-from-header=off",
             "--set-date-header=off", "-t"], directory, stdin=f)


def by_smtplib_bytes(port, directory, path):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as s:
        assert s.sendmail(SENDER, [RCPT], path.read_bytes()) == {}


def by_smtplib_with_8bitmime(port, directory, path):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as s:
        s.sendmail(SENDER, [RCPT], path.read_bytes(),
                   mail_options=["BODY=8BITMIME"])


def by_smtplib_helo(port, directory, path):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as s:
        s.helo("old.example")
        s.sendmail(SENDER, [RCPT], path.read_bytes())


VERBATIM = [by_curl, by_swaks, by_swaks_pipelined, by_msmtp,
            by_msmtp_recipients_of_header, by_smtplib_bytes,
            by_smtplib_with_8bitmime, by_smtplib_helo]
# The data of these ends with CRLF.CRLF, whatever the last line ended with.
ENDS_WITH_EMPTY_LINE = [
    (by_curl, MESSAGE), (by_swaks, MESSAGE), (by_swaks, CRLF_MESSAGE),
    (by_swaks_pipelined, MESSAGE), (by_swaks_pipelined, CRLF_MESSAGE),
    (by_smtplib_bytes, MESSAGE), (by_smtplib_with_8bitmime, MESSAGE),
    (by_smtplib_helo, MESSAGE)]


@pytest.mark.parametrize("mode", ["starttls", "wrapper"])
def test_clients_that_send_a_file(relay, sesd, directory, mail_file, mode):
    """What is in the file arrives, byte for byte but for its line ends."""
    s = sesd()
    r = relay(s, mode=mode)
    n = 0
    for content in (MESSAGE, CRLF_MESSAGE):
        mail_file.write_bytes(content)
        for client in VERBATIM:
            client(r.port, directory, mail_file)
            n += 1
            entry = wait_accepted(s, n)[-1]
            assert entry["from"] == SENDER
            assert entry["rcpts"] == [RCPT]
            got = without_received(s.stored(entry))
            want = canonical(content)
            if (client, content) in ENDS_WITH_EMPTY_LINE:
                want += b"\r\n"
            assert got == want, client.__name__
    r.wait_empty()
    assert len(s.messages()) == n


def test_smtplib_str_and_message_objects(relay, sesd):
    s = sesd()
    r = relay(s)
    text = HEAD.replace("8bit", "7bit") + "plain\n.\nlines\n"
    m = email.message.EmailMessage()
    m["From"], m["To"], m["Subject"] = SENDER, RCPT, "Gr\u00fc\u00dfe"
    m.set_content(TEXT)
    m.add_attachment(bytes(range(256)) * 5000, maintype="application",
                     subtype="octet-stream", filename="blob")
    with smtplib.SMTP("127.0.0.1", r.port, timeout=30) as c:
        code, reply = c.ehlo()
        assert code == 250
        assert set(c.esmtp_features) == {
            "pipelining", "size", "8bitmime", "enhancedstatuscodes", "help"}
        c.sendmail(SENDER, [RCPT], text)
        c.send_message(m)
        assert c.noop()[0] == 250
        assert c.verify("someone")[0] == 252
    one, two = wait_accepted(s, 2)
    if one["bytes"] > two["bytes"]:
        one, two = two, one
    assert without_received(s.stored(one)) == canonical(text.encode())
    got = email.message_from_bytes(without_received(s.stored(two)),
                                   policy=m.policy)
    assert got["Subject"] == "Gr\u00fc\u00dfe"
    assert got.get_body().get_content().replace("\r\n", "\n") == TEXT
    assert [a.get_content() for a in got.iter_attachments()] == [
        bytes(range(256)) * 5000]


def test_smtplib_sees_refusals(relay):
    r = relay(config={"smtp.max_message_size": '"10K"'})
    with smtplib.SMTP("127.0.0.1", r.port, timeout=30) as c:
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            c.sendmail(SENDER, [RCPT], message(b"x" * 20000))
        assert refused.value.smtp_code == 552
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            c.sendmail(SENDER, ["postmaster"], message())
        # Some of them are taken.
        assert list(c.sendmail(SENDER, [RCPT, "nobody"], message())) == [
            "nobody"]
        c.helo("old")
        c.esmtp_features = {}
        with pytest.raises(smtplib.SMTPDataError) as refused:
            c.sendmail(SENDER, [RCPT], message(b"x" * 20000))
        assert refused.value.smtp_code == 552
        assert c.noop()[0] == 250
    assert r.count() == 1


def body_of(content):
    parsed = email.message_from_bytes(content, policy=email.policy.SMTP)
    return parsed, parsed.get_content().replace("\r\n", "\n")


def test_s_nail(relay, sesd, directory):
    """It says HELO."""
    s = sesd()
    r = relay(s)
    run(["s-nail", "-:", "/", "-Sv15-compat",
         f"-Smta=smtp://127.0.0.1:{r.port}", "-Ssmtp-auth=none", "-Snosave",
         "-Smime-encoding=8b", f"-Sfrom={SENDER}",
         "-Ssendcharsets=utf-8", "-s", "by s-nail", RCPT],
        directory, input=TEXT.encode())
    entry = wait_accepted(s, 1)[0]
    content = s.stored(entry)
    assert re.search(rb"with SMTP id ", content)
    parsed, body = body_of(without_received(content))
    assert (entry["from"], entry["rcpts"]) == (SENDER, [RCPT])
    assert parsed["Subject"] == "by s-nail"
    assert body == TEXT


def test_mutt(relay, sesd, directory):
    """It would say STARTTLS without being offered it, so that is off."""
    s = sesd()
    r = relay(s)
    rc = directory / "muttrc"
    rc.write_text(f"set smtp_url=smtp://127.0.0.1:{r.port}/\n"
                  f"set from={SENDER}\nset use_envelope_from=yes\n"
                  "set ssl_force_tls=no\nset ssl_starttls=no\n"
                  "set copy=no\nset charset=utf-8\nset allow_8bit=yes\n"
                  "set send_charset=utf-8\nset hostname=client.example\n")
    run(["mutt", "-n", "-F", rc, "-s", "by mutt", "--", RCPT],
        directory, input=TEXT.encode())
    entry = wait_accepted(s, 1)[0]
    parsed, body = body_of(without_received(s.stored(entry)))
    assert (entry["from"], entry["rcpts"]) == (SENDER, [RCPT])
    assert parsed["Subject"] == "by mutt"
    assert body == TEXT


def test_curl_sends_to_many(relay, sesd, directory, mail_file):
    s = sesd()
    r = relay(s)
    rcpts = [f"u{i}@example.net" for i in range(20)]
    run(["curl", "-sS", f"smtp://127.0.0.1:{r.port}/client.example",
         "--mail-from", SENDER, *[x for u in rcpts for x in
                                  ("--mail-rcpt", u)], "-T", mail_file],
        directory)
    entry = wait_accepted(s, 1)[0]
    assert entry["rcpts"] == rcpts
    assert s.stored(entry).startswith(b"Received: from client.example ")


def test_swaks_sees_a_refusal(relay, directory):
    r = relay()
    done = subprocess.run(
        ["swaks", "--server", f"127.0.0.1:{r.port}", "--from", SENDER,
         "--to", "nobody"], capture_output=True, timeout=60)
    assert done.returncode == 24  # RCPT
    assert b"550 5.1.3 " in done.stdout


def test_swaks_with_a_null_sender(relay, sesd, directory, mail_file):
    """Bounces of local programs come so."""
    s = sesd()
    r = relay(s)
    run(["swaks", "--server", f"127.0.0.1:{r.port}", "--from", "<>",
         "--to", RCPT, "--data", f"@{mail_file}"], directory)
    r.wait_log(f"to=<{RCPT}>")
    assert re.search(r"/qmgr\[\d+\]: [0-9A-F]{16}: from=<>, ", r.log())


def test_nagios_like_probe(relay):
    """Connects, reads the greeting, says QUIT: no word in the log above
    debug, no error."""
    r = relay(config={"log.level": '"info"'})
    with smtplib.SMTP("127.0.0.1", r.port) as c:
        assert c.quit()[0] == 221
    assert "error" not in r.log() and "reject" not in r.log()
