#!/usr/bin/python3
"""Writes the seeds of the fuzz targets that are made, not found:
tests/fuzz/corpus/TARGET/seed-NAME.  What a seed's first bytes mean is told at
the top of fuzz_TARGET.c.  Run it after a target's format has changed."""

import pathlib

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def seed(target, name, data):
    if isinstance(data, str):
        data = data.encode("latin-1")
    directory = CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"seed-{name}").write_bytes(data)


# --- dot: content whose end is doubtful, in sessions of CRLF and of LF ---

ENDS = {
    "true": "a\r\n.\r\n", "empty": ".\r\n", "lf-dot-lf": "a\n.\nMAIL",
    "lf-dot-crlf": "a\n.\r\nb\r\n.\r\n", "crlf-dot-lf": "a\r\n.\nb\r\n.\r\n",
    "crlf-dot-cr": "a\r\n.\rb\r\n.\r\n", "cr-dot-cr": "a\r.\rb\r\n.\r\n",
    "cr-dot-crlf": "a\r.\r\nb\r\n.\r\n", "crcrlf": "a\r\r\n.\r\r\nb\r\n.\r\n",
    "nul": "a\0\r\n.\0\r\n\0.\r\n\r\n.\r\n", "dots": "..\r\n...\r\n....\r\n.\r\n",
    "lf-dots": "a\n..\n...\n.b\n.\n", "blank": "\r\n\r\n . \r\n.\r\n",
    "long": "x" * 997 + "\r\n" + "y" * 999 + "\r\n.\r\n",
    "window": "z" * 255 + "\r\n.\r" + "z" * 256 + "\n.\r\n",
}
for name, text in ENDS.items():
    seed("dot", name, b"\x06" + text.encode("latin-1"))
    seed("dot", name + "-lf", b"\x03" + text.encode("latin-1"))

# --- path ---

PATHS = [
    "MAIL FROM:<a@example.com>", "MAIL FROM:<> SIZE=12 BODY=8BITMIME",
    "MAIL FROM: a@example.com AUTH=<>", "RCPT TO:<@one,@two:a@example.com>",
    'RCPT TO:<"a>b\\" c"@example.com>', "RCPT TO:<root>",
    "MAIL FROM:<a@[192.0.2.1]> SIZE=99999999999999999999",
    "RCPT TO:<a@[IPv6:2001:db8::1]> NOTIFY=NEVER", "mail from : <a@b> X",
    "RCPT TO:<a@b>\rRCPT TO:<c@d>", "RCPT TO:<" + "a" * 65 + "@b>",
    "MAIL FROM:<a@" + "b" * 63 + ".c> BODY=7BIT BODY", "RCPT TO:<\xe4@b>",
]
for i, text in enumerate(PATHS):
    for flags in 0, 3:
        seed("path", f"{i}-{flags}", bytes([flags]) + text.encode("latin-1"))

# --- reply, classify ---

REPLIES = [
    "250 Ok\r\n", "250-a\r\n250-SIZE 1000\r\n250-AUTH PLAIN LOGIN\r\n"
    "250-8BITMIME\r\n250-STARTTLS\r\n250 Ok\r\n", "250\r\n220-\r\n220\r\n",
    "250-a\r\n251 b\r\n", "2500 no\r\n", "250+no\r\n", "199 a\r\n", "260 a\r\n",
    "600 a\r\n", "250 a\0b\r\n", "250 x\n554 5.7.1 y\r\n", "HTTP/1.1 400\r\n",
    "354 go\r\n354\t\r\n", "454 4.7.0 Throttling failure: Maximum sending "
    "rate exceeded.\r\n", "454 Throttling failure: Daily message quota "
    "exceeded.\r\n", "421 4.4.2 Timeout\r\n", "535 Authentication "
    "Credentials Invalid\r\n", "554 Message rejected: Email address is not "
    "verified.\r\n", "530 Authentication required\r\n", "552 5.3.4 Message "
    "too long\r\n", "554 Access denied: User `arn:aws:iam::1:user/x' is not "
    "authorized\r\n", "454 Temporary authentication failure\r\n", "550 5.1.1 "
    "no\r\n", "501 Invalid RCPT TO address provided\r\n", "451 4.4.2 later\r\n",
    "554 Sending paused for this account.\r\n", "451 Timeout\r\n",
    "250 " + "y" * 600 + "\r\n", "250-z\r\n" * 130,
]
for i, text in enumerate(REPLIES):
    seed("reply", str(i), b"\x03" + text.encode("latin-1"))
    for phase in 5, 7, 8, 9, 11:
        seed("classify", f"{i}-{phase}",
             bytes([phase, 0, 2]) + text.replace("\r", "").encode("latin-1"))

# --- scan, log, dsn ---

HEADERS = (
    "Received: from a by b;\r\n\tx\r\nFrom: a@b\r\nDate : now\r\n"
    "Message-ID:\r\n <a@b>\r\nTo: c\r\nAuto-Submitted: (x) auto-replied\r\n"
    "DKIM-Signature: v=1\r\n\r\nbody\r\n"
)
seed("scan", "mail", "\x03app\nlocalhost[127.0.0.1]\n" + HEADERS)
seed("scan", "no-body", "\x02" + "h" * 300 + "\n\n" + HEADERS[:-8])
seed("scan", "no-field", "\x00\xff\x01\n\t\nSubject: x\r\nhello world\r\n")
seed("scan", "folded-first", "\x01a\nb\n x: y\r\n\r\n")
VALUES = "a@example.com\n5.1.1\n550 5.1.1 no\ntimeout\nb@example.com\n" \
    "relay.example.com\npostmaster@example.com\ns@example.com\nid@x\n" \
    "ses[192.0.2.1]:587\nwhat to do\n"
for flags in 0, 1, 14, 15:
    seed("dsn", f"{flags}", chr(flags) + VALUES + HEADERS)
seed("dsn", "binary", "\x0f" + VALUES.replace("o", "\xff\x01") + "X: \xe4" * 99)
for flags in range(10):
    seed("log", str(flags), bytes([flags, 132 + flags]) +
         b"a\\\x01\xc3\xa4\n<b>\n12\n(c)\n\xed\xa0\x80\n-1.5\n")

# --- client: operations, see operate() ---

HELLO, EHLO, EHLO_TLS, OK, READY, LOGGED_IN, GO, TAKEN = 0, 1, 2, 3, 4, 5, 7, 8
FLUSH, SECURED, END, MAIL, RECORD, DISK, QUIT = 3, 5, 6, 7, 8, 10, 11


def says(*replies):
    return b"".join(bytes([0, r]) for r in replies)


def raw(text):
    return bytes([2, len(text)]) + text.encode("latin-1")


LOGIN = b"\0" + says(HELLO, EHLO, READY) + bytes([SECURED]) + \
    says(EHLO_TLS, LOGGED_IN)
WRAPPED = b"\1" + bytes([SECURED]) + says(HELLO, EHLO_TLS, LOGGED_IN)
ONE = bytes([MAIL, 2, 12]) + b"a: b\r\n\r\n.x\r\n"
TWO = bytes([MAIL, 38, 12]) + b"a: b\r\n\r\n.x\r\n"
seed("client", "delivered", LOGIN + ONE + says(OK, OK, GO, TAKEN, 3) +
     bytes([RECORD, QUIT]) + says(4))
seed("client", "two", WRAPPED + ONE + says(OK, OK, GO, TAKEN) + TWO +
     says(OK, OK, OK, GO) + bytes([RECORD]) + says(TAKEN))
seed("client", "large", WRAPPED + TWO + says(OK, OK, OK, GO, TAKEN))
seed("client", "lost", LOGIN + ONE + says(OK, OK, GO) +
     bytes([FLUSH, END, 1]))
seed("client", "half-sent", LOGIN + ONE + says(OK, OK, GO) +
     bytes([4, 14, END, 0]))
seed("client", "early", LOGIN + ONE + says(OK, OK, GO) + raw("250 ok\r\n"))
seed("client", "injected", b"\0" + says(HELLO, EHLO) +
     raw("220 go\r\n250 injected\r\n"))
for i, reply in enumerate((9, 10, 11, 12, 13, 14, 16, 17)):
    for n, before in enumerate(((), (OK,), (OK, OK), (OK, OK, GO))):
        seed("client", f"refused-{n}-{i}",
             LOGIN + ONE + says(*before, reply, 3, 3))
seed("client", "login", b"\0" + says(HELLO, EHLO, READY) + bytes([SECURED]) +
     says(15, 6, 6, LOGGED_IN))
seed("client", "no-disk", WRAPPED + TWO + says(OK, OK, OK) +
     bytes([DISK | 16]) + says(GO))

# --- record: what there is, then what is done to it ---

for i, records in enumerate(((0,), (8 * 9,), (1, 8 * 9), (2, 0, 0),
                             (4, 8, 4, 8), (1, 3, 5, 9, 16))):
    made = bytes([len(records) - 1]) + b"".join(
        bytes([r]) + b"text of it"[:r >> 3] for r in records)
    seed("record", f"whole-{i}", made)
    for n, harm in enumerate((
            b"\0\0\5\0x", b"\0\0\x60\0y", b"\0\1\0\3zzzz", b"\1\0\x80\x40",
            b"\2\1\x20", b"\3\0\x48\x30\1\x80", b"\4\0\0\x20" + b"a" * 32,
            b"\2\0\x40\4\0\0\x40" + b"b" * 64, b"\x08\0\x50\0x",
            b"\x0a\0\x60", b"\0\0\x13\0" + b"2")):
        seed("record", f"hurt-{i}-{n}", made + harm)

# --- state ---

HEAD = "time 2026-11-21T10:00:01.123456Z\nclock 00001795257601123456\n" \
    "peer localhost[127.0.0.1]\nhelo app\nfrom user@example.com\n8bit\n" \
    "message-id a@b\nheld\nlarge 00000000000001048577 00000000deadbeef\n" \
    "unknown key\nrcpt p you@example.com\nrcpt f a\\x20b@example.com\n"
seed("state", "head", "\0" + HEAD)
seed("state", "outcome", "\1" "2026-11-21T10:00:01.123456Z 0123456789ABCDEF "
     "sent 0-3,7 end 2.0.0 <a@b> 250 Ok")
seed("state", "outcome-all", "\1" "2026-11-21T10:00:01.123456Z "
     "0123456789ABCDEF hold * - - <> why\\x0a")
seed("state", "outcome-made", "\2\0\1\5\0\0\1\0\2" "5.1.1\na b>\n550 \xff\1")
seed("state", "clock", "\3" "sesrelayd-clock 1 00001795257601123456 "
     "00000000000012345678 0f0e0d0c-0b0a-0908-0706-050403020100 "
     "00001795257601123456 0000000000000000\n")
seed("state", "marks", "\4" "0123456789ABCDEF read\n0123456789ABCDEF send\n"
     "0000000000000001 copy\nbad\n0123456789ABCDEF bury\n")
seed("state", "learned", "\5" "sesrelayd-learned 1\nendpoint host\n"
     "username user\nrate 13.250000\nsession-messages 35\n"
     "session-age 18.5\nmss 1220\nlater 1\n")
seed("state", "escape", "\6" "a\\x0ab\\x5c \x7f\x01<>")
seed("state", "line", "\7" "message 1 1122334455667788 0000000001 0000000072 "
     "0000000000001000 0000000180 0000000009 0123456789abcdef "
     "0123456789abcdef 0123456789abcdef\n")
seed("state", "header", "\7" "sesrelayd-arrivals 2 1122334455667788 "
     "0000000000000001 0123456789abcdef\n")
seed("state", "time", "\7" "2026-11-21T10:00:01.123456Z")

# --- server: options, how to cut, what the disk does, then the client ---

OPEN = "EHLO app\r\nMAIL FROM:<a@example.com> SIZE=10\r\n" \
    "RCPT TO:<b@example.com>\r\nDATA\r\n"
MORE = "MAIL FROM:<>\r\nRCPT TO:<c@example.com>\r\nRCPT TO:<d>\r\nDATA\r\n" \
    "Subject: 2\r\n\r\nx\r\n.\r\nQUIT\r\n"
for name, text in ENDS.items():
    for options in 0, 1, 4:
        seed("server", f"{name}-{options}", (chr(options) + "\x03\x02" + OPEN +
             "Subject: x\r\n\r\n" + text + MORE))
        seed("server", f"lf-{name}-{options}",
             (chr(options) + "\x01\x00" + OPEN.replace("\r", "") + text +
              MORE.replace("\r", "")))
for name, text in {
        "http": "POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n",
        "verbs": "HELO a\r\nNOOP\r\nVRFY x\r\nHELP\r\nRSET\r\nEXPN\r\n"
                 "RCPT TO:<a@b>\r\nDATA\r\nMAIL FROM:<a@b> FOO=1\r\nQUIT x\r\n",
        "auth": "EHLO a\r\nAUTH PLAIN\r\nAGEAYg==\r\nAUTH LOGIN\r\nYQ==\r\n"
                "Yg==\r\nAUTH LOGIN YQ==\r\n*\r\nAUTH X\r\n",
        "errors": "X\r\n" * 25, "long": "EHLO " + "a" * 2100 + "\r\nNOOP\r\n",
        "rcpts": OPEN.replace("DATA\r\n", "RCPT TO:<x@y>\r\n" * 4) + "QUIT\r\n",
        "hops": OPEN + "Received: x\r\n" * 55 + "\r\n.\r\n" + MORE,
        "big": OPEN + "0123456789\r\n" * 200 + ".\r\n" + MORE,
        "control": "EHLO \x01\x7f\xff\r\nMAIL FROM:<a\x00b@c>\r\n",
        "full": "EHLO a\r\nMAIL FROM:<a@b> SIZE=1234\r\nMAIL FROM:<a@b> "
                "SIZE=99999\r\n"}.items():
    for options in 0, 2, 5:
        seed("server", f"{name}-{options}", chr(options) + "\x0b\x00" + text)

# --- config ---

SES = 'ses: { region = "eu-west-1"; username = "AKIAIOSFODNN7EXAMPLE"; ' \
    'password = "fuzzsecretfuzzsecret"; };\n'
seed("config", "least", SES)
seed("config", "include", SES + '@include "inc.conf"\n@include "*.conf"\n')
seed("config", "smtp", SES + 'smtp: { listen = [ "127.0.0.1:25", "[::1]:2525" '
     ']; allow = "127.0.0.0/8"; hostname = "a.example"; max_sessions = 10; '
     'max_message_size = "64Ki"; timeout = "1m30s"; bare_newline = "reject"; '
     'accept_any_auth = true; };\n')
seed("config", "delivery", SES + "delivery: { rate = 13.25; retry = [ \"5s\", "
     "10, \"1h\" ]; connections = 0x10; expire = \"4d\"; uncertain = "
     "\"hold\"; idle_timeout = \"1500ms\"; timeout_final = 600; };\n")
seed("config", "rules", SES + 'rewrite: { senders = ( { match = "*@\\"\\\\x"; '
     'address = "a@b.example"; }, { address = "c@d.example"; match = "x"; } );'
     ' default_domain = "example.net"; };\n')
seed("config", "ses", 'ses = { endpoint = "ses.example.com"; ports = [ 587, '
     '"10465:wrapper" ]; username = "x"; password = "\\x41\\t\\"y"; tags = [ '
     '"a=b" ]; configuration_set = "set"; mss = 1220; source_address = '
     '"192.0.2.1"; source_arn = "arn:aws:ses:eu-west-1:1:identity/a"; };\n')
seed("config", "places", SES + '/* c */ spool: { directory = "/a b"; '
     'durability = "none"; min_free = "1Gi"; max_size = 0; }; # x\n// y\n'
     'log: { target = "stderr"; format = "json"; level = "debug"; name = "x"; }'
     ';\nbounce: { from = "a@b.example"; to = "postmaster@b.example"; };\n'
     'control: { socket = "/run/x"; group = ""; };\n')
seed("config", "mistakes", SES + 'smtp: { max_sessions = 99999999999; lis = 1; '
     'timeout = "5x"; listen = 25; };\nfoo = "a" "b";\nses: { };\n')
seed("config", "syntax", SES + 'smtp: { hostname = "a\n')
seed("config", "number", "4d12h")
seed("config", "bytes", "1536Ki")
WORDS = """smtp ses delivery spool rewrite bounce log http control listen allow
hostname max_sessions max_message_size max_recipients timeout bare_newline
accept_any_auth region endpoint ports username password_file secret_key_file
password ca_file configuration_set tags source_arn from_arn return_path_arn
tenant client_headers mss source_address connections messages_per_connection
connection_lifetime idle_timeout adaptive_rotation rate retry expire
recipients_per_message uncertain timeout_connect directory durability min_free
max_messages max_size keep_failed default_domain senders aliases_file
recipients add_headers duplicate_headers from to target format level name
socket group match address true false @include normalize reject hold 127.0.0.1:25
::1/128 10ms 5m 4d 64Ki 40M 0x10 1.5e3 100L""".split()
(CORPUS.parent / "dict" / "config.dict").write_text(
    "".join(f'"{word}"\n' for word in WORDS))

# --- control: how to cut, then requests ---

ID = "0123456789ABCDEF"
for i, text in enumerate((
        "status\nqueue\nconnections\ncount\nmetrics\nfailed\n",
        f"show {ID}\nretry {ID}\nhold {ID}\nrelease {ID}\ndelete {ID}\n",
        "retry --all\nhold --all\nrelease --all\ndelete --all\n",
        f"queue --state ready --limit 3\nqueue --to a@b\nqueue {ID}\n",
        f"failed {ID}\nfailed --delete {ID}\nrequeue {ID}\nrequeue --all\n",
        f"trace {ID}\ntrace a@example.com\ntrace \n", "pause delivery\npause "
        "intake\npause\nresume intake\n", "x\n\n \n\x01\xff\n" * 2,
        "show " + "A" * 4200 + "\ncount\n", "retry " + f"{ID} " * 200 + "\n")):
    seed("control", str(i), "\x05" + text)
(CORPUS.parent / "dict" / "control.dict").write_text("".join(
    f'"{word}"\n' for word in """status queue connections count show retry hold
release delete metrics pause resume failed requeue trace --all --delete --limit
--state --to --from --older ready waiting inflight held delivery intake
0123456789ABCDEF""".split()))

# --- header, aliases ---

LEGACY = "From: root (Cron Daemon)\nTo: root, \"A, B\" <b>, g: c, d@e;\n" \
    "Bcc: x@y\nSender: root@localhost\nReturn-Path: <a@b>\nSubject: 1\n" \
    "Subject: 2\nX-SES-CONFIGURATION-SET: s\nX-Own: kept\n folded\n" \
    "Date: x\nDKIM-Signature: v=1; b=\n y\nMessage-ID: <a@b>\n\nbody\n.\n"
for options in 0, 1, 7, 8, 21, 39:
    seed("header", f"legacy-{options}", chr(options) + "\x0b" + LEGACY)
for i, text in enumerate(("\nbody", "body", "X: y", "A : b\n\n", " x: y\n\nz",
                          "X-Long: " + "a " * 600 + "\n\n", "To:\n\n",
                          "To: " + "a@b, " * 300 + "\n\n")):
    seed("header", f"odd-{i}", chr(7) + "\x0b" + text)
for i, text in enumerate((
        "root: admin\nadmin: a@example.com, b\n# x\npostmaster:root\n",
        "a: b\nb: a\n", "l: a@b.c,\n\td@e.f\nl: twice\n", "p: \"|cmd\"\n",
        "i: :include:/x\n", "f: /var/mail/x\n", "\"a b\": c@d.e\nx: \\x\n",
        "A: a, A@example.net, \"q\"@b\n", "nocolon\n", ": x\n")):
    seed("aliases", str(i), "\x01" + text)
    seed("aliases", f"{i}-bare", "\x00" + text)

# --- sendmail: options, how to cut, arguments, the caller's name, its input ---

for i, (arguments, name, text) in enumerate((
        ("-t -i", "Full Name", LEGACY),
        ("-oi -f a@b.example -- c@d.example", "A. \"B\" C", "Subject: x\n\ny\n"),
        ("-FName -fuser root,b@c (x) <d@e>", "\xc3\xa4\xff" * 30,
         "From root Mon Jan  1\nTo: g: a@b, \"c d\"@e (f);, <@r:h@i>\n\nx\r.\n"),
        ("-bs", "", "\r\n\r\r.\r\n"), ("-bp", "a\\b", "no header\n.\nmore\n"),
        ("-q15m -bd -O IgnoreDots=true -v", "x", "To: a\r b@c\n d\0\n\na\rb\n"),
        ("a@b c@d \\root", "x", "Resent-To: a\nResent-Bcc: b\nTo: c\n\n"),
        ("-x --", "", "Cc: a@b; c@d e@f\nBcc: <>\n\n"),
        ("-t", "x", "To: \"a\nb@c" + " (" * 40 + "\n\n"),
        ("-i", "x", "From : a@b\nTo : c@d . e\n\n"),
        ("a@b,a@b", 'A.", e@f.example, "B',
         "To: a@b, a@b\nX: y\n\r.\nZ: .\n\n"))):
    for options in 0, 3, 5:
        seed("sendmail", f"{i}-{options}",
             f"{chr(options)}\x0b{arguments}\n{name}\n{text}")
(CORPUS.parent / "dict" / "sendmail.dict").write_text("".join(
    f'"{word}"\n' for word in """To: Cc: Bcc: From: Date: Message-ID: Resent-To:
Resent-Cc: Resent-Bcc: -oi -f -F -t -bp -bs -bi -bv -O IgnoreDots= -q -N -R -V
@b.example \\x0d\\x0a \\x0a.\\x0a <a@b> \\x22a\\x22@b <@c:a@b> (x) g:a@b;""".split()))
