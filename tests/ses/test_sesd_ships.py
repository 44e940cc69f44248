"""sesd as it is installed: its name, and nothing to prepare."""

import os
import ssl
import subprocess

import pytest

from sesd_peer import Client, DEADLINE, ID, OWN_NETWORK, SESD, wait_until

RULES = """
# faults, settings and commands in one file
on NOOP reply rate
set rate 7

refuse on plain
	cert expired wrapper
"""


def start(tmp_path, *args, name=SESD):
    """Without a journal; output goes to a file."""
    ready, out = tmp_path / "ready", tmp_path / "out"
    with open(out, "wb") as f:
        process = subprocess.Popen(
            [name, "--listen", "127.0.0.1:0:starttls", "--listen",
             "127.0.0.1:0:wrapper", "--ready-file", str(ready), *args],
            stdout=f, stderr=subprocess.STDOUT)
    wait_until(lambda: ready.exists() or process.poll() is not None)
    return process, ready, out


class Peer:
    """Just enough of a Sesd for Client."""

    def __init__(self, ready, certs):
        self.certs, self.ports = certs, {}
        for line in ready.read_text().splitlines():
            word = line.split()
            self.ports[word[1]] = int(word[3])


def test_name(tmp_path):
    name = tmp_path / "sesrelayd-sesd"
    name.symlink_to(os.path.abspath(SESD))

    def run(*args):
        return subprocess.run([name, *args], capture_output=True, text=True,
                              timeout=DEADLINE, check=False)
    usage = run("--help").stdout
    assert usage.startswith("Usage: sesrelayd-sesd ")
    assert len(usage.splitlines()) <= 25
    assert max(map(len, usage.splitlines())) <= 80
    assert run("-h").stdout == usage
    assert run("--version").stdout.startswith("sesrelayd-sesd 0.")
    assert run("--frob").stderr.endswith(
        "Try `sesrelayd-sesd --help'.\n")
    for wrong in (["--listen", "x"], ["--journal", "/nowhere/x"],
                  ["--rule", "x"], ["--cert", "/nowhere"], ["x"],
                  ["--listen", "nowhere:0:plain"], ["--key", "x"]):
        assert run(*wrong).stderr.startswith("sesrelayd-sesd: ")


@pytest.mark.parametrize("args,shown,hidden", [
    ([], ["accepted ", "refused "], ["connect ", "auth ", "close "]),
    (["-v"], ["accepted ", "refused ", "connect ", "auth ", "tls "], []),
    (["-q"], [], ["accepted", "listen", "BEGIN"])])
def test_nothing_to_prepare(tmp_path, args, shown, hidden):
    process, ready, out = start(tmp_path, *args)
    try:
        if "-q" in args:
            return
        text = out.read_text()
        at = text.index("-----BEGIN CERTIFICATE-----")
        (tmp_path / "ca.pem").write_text(text[at:])
        assert "\nuser AKIAIOSFODNN7EXAMPLE\npassword secret\n" in text
        for mode in ("starttls", "wrapper"):
            c = Client(Peer(ready, tmp_path), mode).start()
            reply = c.mail(rcpts=["b@y.test", '"o d"@y.test'])
            assert ID.fullmatch(reply)
        c.do("MAIL FROM:<>")
    finally:
        process.terminate()
        assert process.wait(DEADLINE) == 0
        text = out.read_text()
        for word in shown:
            assert " " + word in text, text
        for word in hidden:
            assert " " + word not in text, text
    assert ('rcpts=b@y.test rcpts="\\"o d\\"@y.test" ' in text) == bool(shown)
    assert f"id={reply.split()[2].decode()} " in text
    assert "sha256" not in text


def test_journal_is_enough(sesd, capfd):
    s = sesd()
    assert ID.fullmatch(Client(s, "wrapper").start().mail())
    s.stop()
    assert capfd.readouterr().out == ""


def test_output_nobody_reads(tmp_path):
    process = subprocess.Popen(
        [SESD, "--listen", "127.0.0.1:0:plain", "-v", "--ready-file",
         str(tmp_path / "ready")], stdout=subprocess.PIPE)
    process.stdout.close()
    wait_until(lambda: (tmp_path / "ready").exists())
    for _ in range(3):
        c = Client(Peer(tmp_path / "ready", tmp_path), "plain")
        assert c.do("NOOP") == b"250 Ok\r\n"
    process.terminate()
    assert process.wait(DEADLINE) == 0


def test_rules_file_with_commands(sesd, tmp_path):
    rules = tmp_path / "rules"
    rules.write_text(RULES)
    s = sesd("--rules", str(rules), "--do", "set daily 9")
    assert [line.split()[-1] for line in s.ask("listeners")] == [
        "open", "open", "refusing", "open"]
    settings = dict(line.split("=", 1) for line in s.ask("get"))
    assert (settings["rate"], settings["daily"]) == ("7", "9")
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(s, "wrapper")
    assert Client(s).do("NOOP").startswith(b"454 Throttling")


@pytest.mark.parametrize("line", ["frob", "on NOOP frob", "set rate x",
                                  "refuse on 1"])
def test_mistakes_in_a_rules_file(tmp_path, line):
    rules = tmp_path / "rules"
    rules.write_text(f"# one\n{line}\n")
    run = subprocess.run([SESD, "--listen", "127.0.0.1:0:plain", "--rules",
                          str(rules)], capture_output=True, text=True,
                         timeout=DEADLINE, check=False)
    assert run.returncode == 2
    assert f"{rules}:2: " in run.stderr


def test_default_ports(tmp_path):
    """In a network of its own, where they are free."""
    script = (f"ip link set lo up && exec '{os.path.abspath(SESD)}' "
              f"--ready-file '{tmp_path}/ready'")
    process = subprocess.Popen([*OWN_NETWORK, "sh", "-ec", script],
                               stdout=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "ready").exists() or
               process.poll() is not None)
    assert (tmp_path / "ready").read_text() == (
        "listen starttls 127.0.0.1 2587\nlisten wrapper 127.0.0.1 2465\n")
    process.terminate()
    assert process.wait(DEADLINE) == 0
