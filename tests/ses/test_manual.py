"""sesd's manual page: it names all that the program knows and nothing else,
and what it shows as examples works."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest

from sesd_peer import DEADLINE, HERE, OWN_NETWORK, SESD

PAGE = pathlib.Path(HERE, "../../man/sesrelayd-sesd.8").read_text()
PROGRAM = os.path.abspath(SESD)


def run(*args):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True,
                          timeout=DEADLINE, check=True).stdout


def plain(text):
    """Text without the escapes of mdoc."""
    return (text.replace("\\(dq", '"').replace("\\&", "")
            .replace("\\e", "\\"))


def part(heading):
    """The lines of the section or subsection of this name."""
    lines = PAGE.splitlines()
    at = next(i for i, line in enumerate(lines)
              if line in (f".Sh {heading}", f".Ss {heading}"))
    ends = (".Sh ",) if lines[at].startswith(".Sh") else (".Sh ", ".Ss ")
    end = next(i for i in range(at + 1, len(lines))
               if lines[i].startswith(ends))
    return lines[at + 1:end]


def items(heading, pattern):
    """What the pattern finds in the list items there."""
    return [m[1] for line in part(heading) if line.startswith(".It ")
            for m in re.finditer(pattern, line)]


def known(kind):
    return [line.split(" ", 1)[1] for line in run("--dump-words").splitlines()
            if line.split(" ", 1)[0] == kind]


@pytest.mark.parametrize("kind,heading", [
    ("phase", "Phases"), ("fact", "Conditions"), ("limit", "How often"),
    ("action", "Actions")])
def test_words_of_rules(kind, heading):
    named = items(heading, r"^\.It Cm (\S+)")
    assert sorted(set(named)) == sorted(known(kind))


def test_options():
    named = items("Options", r"Fl -(\S+)")
    assert sorted(named) == sorted(w[2:] for w in known("option"))
    usage = set(re.findall(r"(?<![\w-])--[a-z-]+", run("--help")))
    assert usage == set(known("option"))


def test_settings():
    """With their defaults, in the program's words."""
    named = [line.split(" ", 4)[2:] for line in part("SETTINGS")
             if re.match(r"\.It Cm \S+ Pq default: ", line)]
    named = {key: rest.removeprefix("default: ") for key, _, rest in named}
    truth = dict(line.split("=", 1) for line in run("--settings").splitlines())
    assert named == {key: value or "none" for key, value in truth.items()}
    states = items("Account", r"^\.It Cm (\S+)$")
    assert states == known("account")


def test_commands():
    named = items("COMMANDS", r"^\.It Cm (\S+)")
    kinds = named[named.index("cert") + 2:named.index("say")]
    assert kinds == known("certificate")
    assert set(named) - set(kinds) == set(known("command"))


def test_replies():
    named = " ".join(line for line in part("REPLIES")
                     if re.match(r"[a-z0-9-]+( [a-z0-9-]+)*$", line))
    assert named.split() == [
        line.split()[0] for line in run("--replies").splitlines()]


def blocks(heading):
    """The literal displays there."""
    found, lines = [], None
    for line in part(heading):
        if line.startswith(".Bd -literal"):
            lines = []
        elif line == ".Ed":
            found.append(plain("\n".join(lines)) + "\n")
            lines = None
        elif lines is not None:
            lines.append(line)
    return found


RULES = [b for b in blocks("EXAMPLES") if not b.startswith("$ ")]
SHELL = [b for h in ("Quick start", "EXAMPLES") for b in blocks(h)
         if b.startswith("$ ")]

# The emulator in a network of its own, where its default ports are free, and
# what is to be done while it runs.
IN_A_NETWORK = """
ip link set lo up
rm -f ready
{} --ready-file ready &
emulator=$!
until [ -e ready ]; do kill -0 $emulator || exit 1; sleep 0.02; done
{}
kill $emulator
wait $emulator
"""


def in_a_network(tmp_path, server, command=":"):
    script = IN_A_NETWORK.format(server, command)
    return subprocess.run([*OWN_NETWORK, "sh", "-ec", script],
                          cwd=tmp_path, capture_output=True, text=True,
                          timeout=60, check=False)


@pytest.mark.parametrize("text", RULES)
def test_rules_of_examples(tmp_path, text):
    rules = tmp_path / "rules"
    rules.write_text(text)
    done = in_a_network(tmp_path, f"{shlex.quote(PROGRAM)} --rules rules")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def commands():
    """(server, what is done with it) as the page has them one by one."""
    pairs = []
    for text in SHELL:
        if text.startswith("$ sesrelayd-sesd "):
            pairs.append([text[2:], ":"])
        else:
            pairs[-1][1] = text[2:]
    return pairs


@pytest.mark.parametrize("server,command", commands())
def test_commands_of_examples(tmp_path, server, command):
    (tmp_path / "letter").write_text(
        "From: app@example.com\r\nSubject: x\r\n\r\nx\r\n")
    server = server.strip().replace("sesrelayd-sesd", shlex.quote(PROGRAM), 1)
    done = in_a_network(tmp_path, server, command)
    assert done.returncode == 0, (done.stdout, done.stderr)
    if command.startswith("curl "):
        assert "accepted id=" in done.stdout
        assert (" from=app@example.com rcpts=user@example.net "
                in done.stdout)
    elif command.startswith("echo "):
        assert done.stdout.endswith("OK\n")
    else:
        assert command == ":"


def test_every_example_is_tried():
    assert len(RULES) > 10 and len(SHELL) == 5


def test_configuration_of_the_relay(tmp_path):
    """The page's settings are ones that sesrelayd knows."""
    [text] = [b for b in blocks("Quick start") if b.startswith("ses:")]
    file = tmp_path / "sesrelayd.conf"
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    file.write_text(text.replace("/tmp/ses-password", str(password)))
    done = subprocess.run(
        [os.path.join(os.path.dirname(PROGRAM), "sesrelayd"), "-T", "-c",
         str(file)], capture_output=True, text=True, timeout=DEADLINE,
        check=False)
    assert done.returncode == 0, done.stderr
    assert 'ca_file = "/tmp/ca.pem"' in done.stdout
