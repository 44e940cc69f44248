"""sesd: listeners of their own state and certificate, figures by client."""

import json
import socket
import ssl

import pytest

from sesd_peer import Client, DEADLINE, ID, wait_until

TWO = ("127.0.0.1:0:starttls", "127.0.0.2:0:wrapper")


def outcome(address):
    """What a client meets that connects, and waits a second for it."""
    with socket.socket() as sock:
        sock.settimeout(1)
        try:
            sock.connect(address)
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "nothing"
        return "connected"


def addresses(s):
    return [(word[2], int(word[3])) for word in s.listening
            if word[0] == "listen"]


@pytest.mark.parametrize("by", ["port", "address", "both", "mode"])
def test_one_listener_refuses(sesd, by):
    s = sesd(listen=TWO)
    first, second = addresses(s)
    where = {"port": f"{second[1]}", "address": second[0],
             "both": f"{second[0]}:{second[1]}", "mode": "wrapper"}[by]
    s.ask(f"refuse on {where}")
    assert outcome(second) == "refused"
    assert outcome(first) == "connected"
    assert s.ask("listeners") == [
        f"listen starttls 127.0.0.1 {first[1]} open",
        f"listen wrapper 127.0.0.2 {second[1]} refusing"]
    s.ask(f"refuse off {where}")
    assert outcome(second) == "connected"


def test_blocked(sesd):
    s = sesd(listen=TWO)
    first, second = addresses(s)
    live = Client(s, "starttls")
    s.ask(f"block on {first[1]}")
    assert outcome(first) == outcome(first) == "nothing"
    assert outcome(second) == "connected"
    assert live.do("NOOP") == b"250 Ok\r\n"  # it is no cut of what lives
    s.ask(f"refuse on {first[1]}")
    assert outcome(first) == "refused"
    s.ask("block on")
    assert outcome(first) == outcome(second) == "nothing"
    before = len(s.events("connect"))
    s.ask("block off")
    assert Client(s).greeting.startswith(b"220 ")
    # The connection that filled the queue is nobody's.
    assert len(s.events("connect")) == before + 1


def test_blocked_ipv6(sesd):
    s = sesd(listen=("[::1]:0:starttls",))
    s.ask(f"block on [::1]:{s.ports['ipv6']}")
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.connect(("::1", s.ports["ipv6"]))
    s.ask("block off ::1")
    assert Client(s, "ipv6").greeting.startswith(b"220 ")


def test_drop_connections_of_one_listener(sesd):
    s = sesd()
    kept, cut = Client(s, "starttls"), Client(s, "plain")
    s.ask("drop-connections rst plain")
    assert cut.end() == "reset"
    assert kept.do("NOOP") == b"250 Ok\r\n"


def test_wrong_places(sesd):
    s = sesd()
    for line in ("refuse on 1", "block on nowhere", "block", "refuse on a b",
                 "drop-connections rst 1", "clients all",
                 f"cert {s.certs}/good.pem {s.certs}/good.key 1"):
        with pytest.raises(ValueError, match="ERR "):
            s.ask(line)
    assert Client(s).greeting.startswith(b"220 ")


def test_certificate_of_one_listener(sesd):
    s = sesd()
    s.ask(f"cert {s.certs}/expired.pem {s.certs}/expired.key wrapper")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        Client(s, "wrapper")
    assert ID.fullmatch(Client(s).start().mail())
    s.ask(f"cert {s.certs}/good.pem {s.certs}/good.key")  # all of them
    assert ID.fullmatch(Client(s, "wrapper").start().mail())


def test_facts_of_address_and_age(sesd):
    s = sesd("--rule", "on CONNECT when addr=127.0.0.2 reply \"421 two\" close",
             "--rule", 'on NOOP when age>=200 and peer=127.0.0.1 reply "421 old"',
             listen=("127.0.0.1:0:starttls", "127.0.0.2:0:starttls"))
    first, second = addresses(s)
    with socket.create_connection(second, DEADLINE) as sock:
        assert sock.recv(100) == b"421 two\r\n"
    s.ports["starttls"] = first[1]
    c = Client(s)
    assert c.do("NOOP") == b"250 Ok\r\n"
    wait_until(lambda: c.do("NOOP") == b"421 old\r\n")


def test_figures_by_client(sesd):
    s = sesd("--set", "rate=3")
    a = Client(s, "wrapper")
    b = Client(s, "wrapper")
    for c in (a, b):
        c.start()
    a.do("EHLO a.test")
    b.do("EHLO b.test")
    assert ID.fullmatch(a.mail(rcpts=["1@y.test", "2@y.test", "3@y.test"]))
    assert b.mail(rcpts=["1@y.test", "2@y.test"]).startswith(b"454 ")
    a.do("MAIL FROM:<>")
    figures = {e["helo"]: e for e in map(json.loads, s.ask("clients"))}
    assert figures == {
        "a.test": {"peer": "127.0.0.1", "helo": "a.test", "accepted": 1,
                   "recipients": 3, "rejected": 1, "throttled": 0,
                   "throttled_recipients": 0},
        "b.test": {"peer": "127.0.0.1", "helo": "b.test", "accepted": 0,
                   "recipients": 0, "rejected": 0, "throttled": 1,
                   "throttled_recipients": 2}}
    assert s.stats()["throttled_recipients"] == 2
    assert s.accepted()[0]["helo"] == "a.test"
    assert len(s.ask("clients reset")) == 2
    assert s.ask("clients") == []
