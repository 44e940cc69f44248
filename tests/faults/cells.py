"""What the matrix is made of: the stages of a session with SES, the faults of
a peer or a network, and for each pair of them the rules that make the emulator
do it and what has to become of the mail.

The outcomes:
  works      not a fault at all, or none that mail could notice
  free       the connection's fault: everything arrives once, at no charge
  later      refused for now: by the schedule, charged
  dead       refused for good: the message fails
  rcpt-dead  refused for good: the recipient fails, the others arrive
  held       the credentials are refused: everything waits, nothing is charged
  uncertain  the answer to the dot is lost: once more, by the schedule
  sent       the answer to the dot is whole, what follows it is not
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
import harness  # noqa: E402

SLOW = 4 if harness.SANITIZED else 1
TIMEOUT_S = 1 * SLOW  # of each step
LATE_MS = 1500 * SLOW

STAGES = {  # name: what it is, for the table
    "connect": "TCP",
    "wrap": "TLS from the first byte",
    "greeting": "the 220",
    "ehlo": "EHLO in clear",
    "starttls": "STARTTLS",
    "tls": "TLS after STARTTLS",
    "ehlo2": "EHLO inside TLS",
    "auth": "AUTH",
    "mail": "MAIL",
    "rcpt1": "RCPT, the first",
    "rcptn": "RCPT, the last of three",
    "data": "DATA",
    "body": "within the content",
    "dot": "after the dot: SES has not taken it",
    "taken": "after the dot: SES has taken it",
    "idle": "idle in the pool",
    "reuse": "first command of a reused connection",
    "quit": "QUIT",
}
MODES = ("starttls", "wrapper")
EARLY = ("connect", "wrap", "greeting", "ehlo", "starttls", "tls", "ehlo2",
         "auth")

FAULTS = {  # name: what happens
    "RST": "the connection is reset",
    "FIN": "it is closed",
    "half": "it is closed in one direction",
    "hole": "nothing is answered any more",
    "421": "421, and closed",
    "4xx": "refused for now",
    "5xx": "refused for good",
    "junk": "no SMTP",
    "drip": "the right reply, byte by byte: has to succeed",
    "long": "a line of 2 MB",
    "10MB": "a reply of 10 MB",
    "1e5": "a reply of 100,000 lines",
    "part": "two digits, then nothing",
    "noeol": "three digits, then nothing",
    "open": "a line that more have to follow, then nothing",
    "000": "code 000",
    "199": "code 199",
    "999": "code 999",
    "dddd": "a code of four digits",
    "ddx": "a code with a letter",
    "mixed": "two codes in one reply",
    "LF": "lines that end in LF alone",
    "NUL": "a NUL in the line",
    "early": "a reply before the command",
    "two": "two replies to one command",
    "late": "the right reply, after our time-out",
    "j+ok": "no SMTP, and then the right reply",
}
# What ends in a time-out, and so takes one.
STALLS = ("hole", "part", "noeol", "open", "late")

PHASES = {"wrap": "TLS", "greeting": "CONNECT", "ehlo": "EHLO",
          "starttls": "STARTTLS", "tls": "TLS", "ehlo2": "EHLO",
          "auth": "AUTH", "mail": "MAIL", "rcpt1": "RCPT", "rcptn": "RCPT",
          "data": "DATA", "body": "BODY", "dot": "DOT", "taken": "DOT",
          "idle": "IDLE", "reuse": "MAIL", "quit": "QUIT"}
WHEN = {"ehlo": "tls=0", "ehlo2": "tls=1", "rcpt1": "rcpt=first@example.net",
        "rcptn": "rcpt=last@example.net", "body": "bytes>100000"}
RIGHT = {"CONNECT": "220 email-smtp.amazonaws.com ESMTP",
         "EHLO": "250-email-smtp.amazonaws.com\r\n250-8BITMIME\r\n"
                 "250-STARTTLS\r\n250-AUTH PLAIN LOGIN\r\n250 Ok",
         "STARTTLS": "220 Ready to start TLS", "TLS": "220 hello",
         "AUTH": "235 Authentication successful.", "MAIL": "250 Ok",
         "RCPT": "250 Ok", "DATA": "354 End data with <CR><LF>.<CR><LF>",
         "BODY": "250 Ok", "DOT": "250 Ok 0100018f-0000-000000",
         "IDLE": "250 Ok", "QUIT": "221 Bye"}
# What comes before the stage, to be followed by a reply too many.
BEFORE = {"ehlo": "greeting", "starttls": "ehlo", "tls": "starttls",
          "auth": "ehlo2", "mail": "auth", "rcpt1": "mail", "rcptn": "rcpt1",
          "data": "rcptn"}
NOT_NOW = {"AUTH": "454 Temporary authentication failure",
           "STARTTLS": "454 TLS not available",
           "IDLE": "451 4.4.2 Timeout waiting for data from client."}
NEVER = {"CONNECT": "554 No SMTP service here", "EHLO": "502 not known",
         "STARTTLS": "502 not known",
         "AUTH": "535 Authentication Credentials Invalid",
         "MAIL": "553 <x> Invalid email address",
         "RCPT": "553 <x> address unknown",
         "DATA": "554 Transaction failed",
         "DOT": "554 Transaction failed: Missing start boundary"}
GOODBYE = "421 Service not available, closing transmission channel."


def quoted(text, times=1):
    for a, b in (("\\", "\\\\"), ('"', '\\"'), ("\r", "\\r"), ("\n", "\\n"),
                 ("\0", "\\0")):
        text = text.replace(a, b)
    return f'raw "{text}"' + (f" repeat {times}" if times > 1 else "")


def action(stage, fault):
    """What the emulator does, in the words of its rules."""
    phase = PHASES[stage]
    right = RIGHT[phase]
    code = right[:3]
    idle = stage in ("idle", "reuse")
    # After a TLS handshake that failed there is nothing to go on with.
    end = " close" if phase == "TLS" else ""
    texts = {
        "RST": "reset", "FIN": "close", "half": "halfclose", "hole": "stall",
        "421": quoted(GOODBYE + "\r\n") + " close",
        "4xx": quoted(NOT_NOW["IDLE" if idle else phase] + "\r\n"
                      if idle or phase in NOT_NOW
                      else "451 Temporary service failure\r\n") +
        (" close" if idle else end),
        "5xx": quoted(NEVER.get(phase, "550 no") + "\r\n") + end,
        "junk": quoted("no such thing\r\n") + end,
        "drip": "drip 2",
        "long": quoted(code + "-" + "a" * 996, 2000),
        "10MB": quoted(code + "-" + "a" * 994 + "\r\n", 10000),
        "1e5": quoted(code + "-a\r\n", 100000),
        "part": quoted(code[:2]) + " stall",
        "noeol": quoted(code) + " stall",
        "open": quoted(code + "-Ok\r\n") + " stall",
        "000": quoted("000 Ok\r\n") + end,
        "199": quoted("199 Ok\r\n") + end,
        "999": quoted("999 Ok\r\n") + end,
        "dddd": quoted(code + "0 Ok\r\n") + end,
        "ddx": quoted(code[:2] + "x Ok\r\n") + end,
        "mixed": quoted(f"{code}-a\r\n{int(code) + 1} b\r\n") + end,
        "LF": quoted(right.replace("\r", "") + "\n") + end,
        "NUL": quoted(f"{code} O\0k\r\n") + end,
        "late": f"delay {LATE_MS}",
        "j+ok": quoted("no such thing\r\n" + right + "\r\n") + end,
    }
    if fault == "two":
        if phase in ("IDLE", "BODY", "TLS"):
            return quoted(2 * (right + "\r\n")) + end
        return "inject" + quoted(right + "\r\n").removeprefix("raw")
    return texts[fault]


def rules(stage, fault):
    """The fault twice: on a new connection and on one that has carried a
    message; once where there are only new ones, or only used ones."""
    if fault == "early" and stage == "body":
        stage, phase = "body", "DATA"
        act = "inject" + quoted("250 Ok\r\n").removeprefix("raw")
        when = ""
    elif fault == "early" and stage in BEFORE:
        before = BEFORE[stage]
        phase, when = PHASES[before], WHEN.get(before, "")
        act = "inject" + quoted(
            RIGHT[PHASES[stage]] + "\r\n").removeprefix("raw")
    else:
        phase, when = PHASES[stage], WHEN.get(stage, "")
        if fault == "early":
            act = quoted(RIGHT[phase] + "\r\n")
        else:
            act = action(stage, fault)
    if stage == "taken":
        act = "accept " + act
    if stage in EARLY or stage in ("idle", "quit") or phase == "AUTH":
        whens = [when]
    elif stage == "reuse":
        whens = ["msgs>0"]
    else:
        whens = [" and ".join(filter(None, (when, msgs)))
                 for msgs in ("msgs=0", "msgs>0")]
    return [f"on {phase} " + (f"when {w} " if w else "") + f"times 1 {act}"
            for w in whens]


def exists(mode, stage, fault):
    if stage == "wrap" and mode != "wrapper":
        return False
    if stage in ("ehlo", "starttls", "tls") and mode != "starttls":
        return False
    if stage == "connect":
        return fault in ("RST", "FIN", "half", "hole")
    if stage in ("idle", "body") and fault in ("drip", "late"):
        return False  # nothing is due
    if stage == "reuse" and fault in ("5xx", "drip", "early"):
        return False  # as at MAIL, or as in the pool
    if stage == "taken" and fault in ("421", "4xx", "5xx", "drip", "two"):
        return False  # it is answered, in one way or another
    if fault == "early":
        return stage in BEFORE or stage in ("idle", "body")
    return True


def outcome(stage, fault):
    if fault == "drip" or stage == "quit":
        return "works"
    if stage in ("dot", "taken"):
        return {"421": "free", "4xx": "later", "5xx": "dead",
                "two": "sent"}.get(fault, "uncertain")
    if stage == "auth" and fault == "5xx":
        return "held"
    if stage in EARLY or stage in ("idle", "reuse"):
        return "free"
    if fault == "4xx":
        return "later"
    if fault == "5xx":
        return ("later" if stage == "body" else
                "rcpt-dead" if stage.startswith("rcpt") else "dead")
    return "free"


def needs_wire(stage, fault):
    """What the emulator does not do, a relay of bytes before it does."""
    return stage == "connect" or (stage in ("wrap", "tls") and fault == "drip")
