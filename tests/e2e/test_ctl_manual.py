"""sesrelayctl's manual page: it names every verb and option that the program
has, and nothing else; and what it shows as examples works."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest

from harness import BUILD, RCPT, Sesd, message, wait_until
from test_ctl import OPTIONS, VERBS, ctl

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "man/sesrelayctl.8").read_text()
LINES = PAGE.splitlines()
ID = "0006543A1B2C3D4E"


def plain(text):
    return (text.replace("\\(dq", '"').replace("\\&", "").replace("\\e", "\\"))


def section(heading):
    at = LINES.index(f".Sh {heading}")
    end = next(i for i in range(at + 1, len(LINES) + 1)
               if i == len(LINES) or LINES[i].startswith(".Sh "))
    return LINES[at + 1:end]


def verb_parts():
    """{verb: the lines of its item}; an item of the outer list."""
    parts, verb, depth = {}, None, 0
    for line in section("DESCRIPTION"):
        depth += line.startswith(".Bl ")
        depth -= line == ".El"
        m = re.match(r"\.It Cm (\S+)", line)
        if m and depth == 1:
            verb = m[1]
            parts[verb] = [line]
        elif verb and depth >= 1:
            parts[verb].append(line)
    return parts


PARTS = verb_parts()


def test_verbs():
    assert list(PARTS) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_options_of_a_verb(verb):
    """In its heading or below it; in the heading, no others."""
    text = "\n".join(PARTS[verb])
    named = {f"-{m}" for line in text.splitlines()
             for m in re.findall(r"\bFl (-?[\w-]+)", line)}
    assert set(OPTIONS[verb]) <= named, verb
    head = {f"-{m}" for m in re.findall(r"\bFl (-?[\w-]+)", PARTS[verb][0])}
    assert head <= set(OPTIONS[verb]), verb


def test_common_options():
    text = "\n".join(section("DESCRIPTION"))
    for option in OPTIONS["*"]:
        assert re.search(rf"^\.It .*Fl {option[1:]}\b", text, re.M), option


def test_exit_codes_are_told():
    text = "\n".join(section("EXIT STATUS"))
    assert re.findall(r"^\.It (\d+)$", text, re.M) == [
        "0", "1", "64", "65", "66", "69", "78"]


# --- examples ---

def shown():
    """Lines that somebody may type: those of .Dl, and of blocks behind "# "."""
    lines = [plain(line[4:]) for line in LINES if line.startswith(".Dl ")]
    block, more = False, None
    for line in section("EXAMPLES"):
        if line.startswith(".Bd -literal"):
            block = True
        elif line == ".Ed":
            block, more = False, None
        elif block and line.startswith("# "):
            lines.append(plain(line[2:]))
            more = lines[-1].count("'") % 2
        elif block and more:
            lines[-1] += "\n" + plain(line)
            more = lines[-1].count("'") % 2
    return lines


def helps():
    return [ctl(verb, "-h").stdout.split("example:\n")[1].strip()
            for verb in VERBS]


EXAMPLES = sorted(set(shown()) | set(helps()))
# What is typed, where that is not the program's output; and what else may come.
MAY_FAIL = {"send-test": {0}, "rewrite-test": {0, 1}}


def test_each_verb_has_an_example():
    for verb in VERBS:
        assert any(re.search(rf"\bsesrelayctl ((-\S+ )*){verb}\b", e)
                   for e in EXAMPLES), verb
    assert len(EXAMPLES) >= len(VERBS)


@pytest.fixture(scope="module")
def shared(certs, tmp_path_factory):
    """One relay for all examples, with a message of each kind in it."""
    import harness
    with harness.Workdir("manual") as directory:
        s = Sesd(directory / "sesd", certs)
        r = harness.Relay(directory / "relay", s,
                          config={"ses.region": '"us-east-1"'})
        try:
            yield s, r
        finally:
            r.close()
            s.close()


def prepare(s, r):
    """A dead letter, and one that waits."""
    s.control("clear")
    r.ctl("resume")
    r.ctl("resume", "intake")
    # What an example before left would meet the rule.
    r.ctl("delete", "--all", "--yes")
    r.wait_empty()
    s.rule('on DOT times 1 reply "554 Message rejected: Email address is not '
           'verified."')
    failed = r.send()
    wait_until(lambda: any(failed in name for name in r.dead_letters()),
               "a dead letter")
    r.ctl("pause")
    return r.send(message(message_id="a1@app.example.com")), failed


@pytest.mark.parametrize("line", EXAMPLES)
def test_example(shared, line, tmp_path):
    s, r = shared
    queued, failed = prepare(s, r)
    verb = re.search(r"sesrelayctl (?:--json )?(\S+)", line)
    verb = verb[1] if verb else ""
    (tmp_path / "secret-key").write_text(
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n")
    (tmp_path / "cron.eml").write_text("Subject: x\n\nx\n")
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin/sesrelayctl"
    wrapper.write_text(
        f'#!/bin/sh\nexec {shlex.quote(str(BUILD.resolve()))}/sesrelayctl '
        f'-c {shlex.quote(str(r.config_file))} "$@"\n')
    # What is not of this package only has to be called rightly.
    for name in ("systemctl", "less"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\ncat >/dev/null\n")
    for path in (tmp_path / "bin").iterdir():
        path.chmod(0o755)
    text = line.replace(ID, failed if verb in ("failed", "requeue")
                        else queued)
    text = re.sub(r"<\d+\.1234@app\.example\.com>", "<a1@app.example.com>",
                  text).replace("/etc/sesrelayd/", f"{tmp_path}/")
    text = text.replace("/var/lib/prometheus/node-exporter", str(tmp_path))
    if text.startswith("sesrelayctl top"):
        text += " -n 1"
    if verb in ("drain", "send-test", "rotate", "retry"):
        r.ctl("resume")
    if "you@example.com" in text or "me@example.com" in text:
        text = text.replace("success@simulator.amazonses.com", RCPT)
    env = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", text], cwd=tmp_path, env=env,
        input="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"
        if text.startswith("sesrelayctl password") else "",
        capture_output=True, text=True, timeout=120, check=False)
    expected = MAY_FAIL.get(verb, {0})
    if text.startswith("chmod "):
        expected = {1}  # of a file that the example before made
    if "spammer@" in text:
        expected = {1}  # no such mail is here
    if "status --check" in text:
        expected = {1}  # the pause
    assert done.returncode in expected, (text, done.stdout, done.stderr)
    assert "usage:" not in done.stderr and "what is" not in done.stderr, done
