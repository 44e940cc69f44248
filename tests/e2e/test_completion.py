"""bash completion of sesrelayctl and sesrelayd: what Tab offers, asked of a
real bash with bash-completion, for every verb of the program's own table."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest

from harness import BUILD
from test_ctl import OPTIONS, VERBS

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "completions/sesrelayctl.bash"
LOADER = pathlib.Path("/usr/share/bash-completion/bash_completion")

# What readline does: the words of the line, the function of its first word.
SCRIPT = r'''
line=$1
read -ra COMP_WORDS <<<"$line"
case $line in *' ') COMP_WORDS+=('') ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$line COMP_POINT=${#line}
command=$(basename "${COMP_WORDS[0]}")
complete -p "$command" >/dev/null 2>&1 || _completion_loader "$command"
rc=$?; [ $rc = 0 ] || [ $rc = 124 ] || exit 3
fn=$(complete -p "$command") || exit 4
fn=${fn#*-F }
"${fn%% *}" "$command" "${COMP_WORDS[COMP_CWORD]}"
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
'''


def offers(line, **kwargs):
    """Words that Tab offers behind `line`; its first word is in BUILD."""
    done = subprocess.run(
        ["bash", "--norc", "-c", f"source {shlex.quote(str(FILE))}\n" + SCRIPT,
         "bash", line],
        env={**os.environ, "PATH": f"{BUILD.resolve()}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=60, check=False, **kwargs)
    assert (done.returncode, done.stderr) == (0, ""), done
    return sorted(done.stdout.split("\n")[:-1])


def test_verbs():
    assert offers("sesrelayctl ") == sorted(VERBS)
    assert offers("sesrelayctl --json re") == [
        "release", "reload", "requeue", "resume", "retry", "rewrite-test"]
    # It is the one that is called which is asked.
    assert offers(f"{BUILD.resolve()}/sesrelayctl st") == ["status"]
    assert offers("sesrelayctl nonsense ") == []


@pytest.mark.parametrize("verb", VERBS)
def test_options_of_every_verb(verb):
    common = set(OPTIONS["*"])
    assert set(offers(f"sesrelayctl {verb} -")) == common | set(OPTIONS[verb])


@pytest.mark.parametrize("verb", VERBS)
def test_arguments_of_every_verb(verb, directory):
    """None of them is without a word of its kind, or offers another's."""
    (directory / "letter.eml").write_text("x")
    kind = VERBS[verb][0]
    found = offers(f"sesrelayctl -s /nonexistent {verb} ", cwd=directory)
    assert found == {
        "state": ["active", "held", "ready", "waiting"],
        "part": ["delivery", "intake"],
        "level": ["debug", "error", "info", "warning"],
        "file": ["letter.eml"],
    }.get(kind, []), (verb, kind)


@pytest.mark.parametrize("line,some", [
    ("sesrelayctl drain --timeout ", "5m"),
    # readline makes words of their own of "=" and what is behind it.
    ("sesrelayctl drain --timeout =", "5m"),
    ("sesrelayctl drain --timeout = 5", "5m"),
    ("sesrelayctl status --check --warn-age ", "15m"),
    ("sesrelayctl password --region eu-", "eu-west-1"),
])
def test_values_of_options(line, some):
    assert some in offers(line)


def test_one_is_enough():
    assert offers("sesrelayctl queue held ") == []
    assert offers("sesrelayctl pause intake ") == []


def test_ids(sesd, relay):
    s = sesd()
    r = relay(s)
    s.rule('on DOT times 1 reply "554 Message rejected: Email address is not '
           'verified."')
    letter = r.send()
    r.wait_outcome(letter, "bounced")
    r.ctl("pause")
    ids = sorted(r.send() for _ in range(3))
    where = f"sesrelayctl -s {r.control}"
    for verb, (words, how_many) in VERBS.items():
        if words == "id":
            assert offers(f"{where} {verb} ") == ids, verb
            assert offers(f"{where} {verb} {ids[1]}") == [ids[1]]
            more = offers(f"{where} {verb} {ids[1]} ")
            assert more == (ids if how_many == "many" else [])
        if words == "failed-id":
            assert offers(f"{where} {verb} ") == [letter], verb
    # Also from the spool of one that is down.
    assert r.stop() == 0
    assert offers(f"sesrelayctl -c {r.config_file} show ") == ids


def test_sesrelayd(directory):
    (directory / "my.conf").write_text("")
    usage = subprocess.run([str(BUILD / "sesrelayd"), "-h"],
                           capture_output=True, text=True, check=True).stdout
    letters = set(re.findall(r"^  (-\w)", usage, re.M)) | {"-h"}
    found = set(offers("sesrelayd -"))
    assert {o for o in found if len(o) == 2} == letters
    for option in found - letters - {"--config"}:
        done = subprocess.run(
            [str(BUILD / "sesrelayd"), option, "-c", "/nonexistent"],
            capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode != 64, (option, done)
    assert offers("sesrelayd -c ", cwd=directory) == ["my.conf"]


def test_as_installed(directory):
    """bash-completion finds it by itself, for both commands."""
    subprocess.run(
        ["make", "-s", "install", f"B={BUILD}", f"DESTDIR={directory}",
         "PREFIX=/usr"], cwd=ROOT, capture_output=True, timeout=300,
        check=True)
    share = directory / "usr/share"
    for line, some in (("sesrelayctl que", "queue"), ("sesrelayd -", "-t")):
        done = subprocess.run(
            ["bash", "--norc", "-c", f"source {LOADER}\n" + SCRIPT, "bash",
             line], capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "XDG_DATA_DIRS": str(share),
                 "PATH": f"{directory}/usr/sbin:{os.environ['PATH']}"})
        assert done.returncode == 0, done
        assert some in done.stdout.split(), done
    subprocess.run(
        ["make", "-s", "uninstall", f"B={BUILD}", f"DESTDIR={directory}",
         "PREFIX=/usr"], cwd=ROOT, capture_output=True, timeout=300,
        check=True)
    assert not list((share / "bash-completion/completions").iterdir())
