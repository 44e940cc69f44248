#!/usr/bin/python3
"""`make fuzz`: runs each libFuzzer target for a time and tells what came of it.

Takes the committed inputs and those that earlier runs found, which stay in
build/fuzz/NAME/corpus; what breaks a property goes to build/fuzz/NAME/finding-*.
One line a target: executions, executions a second, edges, lines of the files
that it is for (by a second pass over the corpus), findings.  Exit status 1 when
there is a finding.

    BUILD=build/... run.py [--time SECONDS] [NAME ...]
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / os.environ["BUILD"]
WORK = ROOT / "build" / "fuzz"

# The files that each is for, below daemon/.
FILES = {
    "aliases": ["smtp/aliases"],
    "classify": ["smtp/classify"],
    "client": ["smtp/client", "relay/outbound"],
    "config": ["config", "config_list", "config_parse", "config_source",
               "config_syntax", "config_text", "config_tokens", "config_units",
               "config_value"],
    "control": ["control_operate", "control_queue", "control"],
    "dot": ["smtp/dot"],
    "dsn": ["smtp/dsn"],
    "header": ["smtp/rewrite_header"],
    "log": ["base/log_format"],
    "path": ["smtp/addr", "smtp/command"],
    "record": ["queue/record", "queue/record_outcome", "queue/record_text",
               "queue/segment_read", "queue/scan", "queue/spool_clock",
               "queue/spool_marks", "policy/learned"],
    "reply": ["smtp/reply", "smtp/ehlo"],
    "scan": ["smtp/header", "smtp/header_block"],
    "server": ["smtp/server", "smtp/server_mail", "relay/session",
               "relay/session_content"],
}


def names():
    found = sorted(p.stem[len("fuzz_"):] for p in HERE.glob("fuzz_*.c"))
    for name in found:
        if name not in FILES:
            sys.exit(f"fuzz: FILES of {__file__} does not know '{name}'")
    return found


def fuzz(name, seconds, log):
    """Runs it; the exit status of libFuzzer."""
    work = WORK / name
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    for old in work.glob("finding-*"):
        old.unlink()
    command = [
        str(BUILD / "fuzz" / f"fuzz-{name}"), f"-max_total_time={seconds}",
        "-timeout=10", "-rss_limit_mb=1500", "-print_final_stats=1",
        f"-artifact_prefix={work}/finding-",
    ]
    dictionary = HERE / "dict" / f"{name}.dict"
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    command.append(str(work / "corpus"))
    command += [str(d) for d in (HERE / "corpus" / name,
                                 HERE / "regressions" / name) if d.is_dir()]
    env = dict(os.environ, LLVM_PROFILE_FILE="/dev/null")
    return subprocess.run(command, cwd=work, env=env, stdout=log,
                          stderr=subprocess.STDOUT, check=False).returncode


def line_coverage(name):
    """"93 %" of the lines of its files; "" when the tools are not there."""
    work = WORK / name
    program = str(BUILD / "fuzz" / f"fuzz-{name}")
    raw, data = work / "lines.profraw", work / "lines.profdata"
    inputs = [str(d) for d in (work / "corpus", HERE / "corpus" / name,
                               HERE / "regressions" / name) if d.is_dir()]
    sources = [f"daemon/{f}.c" for f in FILES[name]]
    try:
        subprocess.run([program, "-runs=0", *inputs], cwd=work, check=True,
                       env=dict(os.environ, LLVM_PROFILE_FILE=str(raw)),
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(["llvm-profdata", "merge", "-o", data, raw], check=True)
        report = subprocess.run(
            ["llvm-cov", "report", program, f"-instr-profile={data}", *sources],
            cwd=ROOT, check=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    total = [line for line in report.splitlines() if line.startswith("TOTAL")]
    percents = re.findall(r"([\d.]+)%", total[0]) if total else []
    # Regions, functions, lines, and so on.
    return f"{float(percents[2]):.0f} %" if len(percents) > 2 else ""


def run(name, seconds):
    """One line about it; True when there was no finding."""
    (WORK / name).mkdir(parents=True, exist_ok=True)
    log_path = WORK / name / "log"
    with open(log_path, "w", encoding="utf-8") as log:
        status = fuzz(name, seconds, log)
    text = log_path.read_text(encoding="utf-8", errors="replace")
    numbers = re.findall(r"^#(\d+)\s.*?cov: (\d+).*?exec/s: (\d+)", text, re.M)
    executions, edges, rate = numbers[-1] if numbers else ("0", "0", "0")
    findings = list((WORK / name).glob("finding-*"))
    print(f"{name:10} {executions:>12} {rate:>10} {edges:>6} "
          f"{line_coverage(name):>6}  {len(findings)}", flush=True)
    if status == 0 and not findings:
        return True
    for line in re.findall(r"^.*(?:does not hold|SUMMARY|ERROR: ).*$", text,
                           re.M)[:3]:
        print(f"    {line}")
    for finding in findings:
        print(f"    {finding.relative_to(ROOT)}; when it is mended, it "
              f"belongs into tests/fuzz/regressions/{name}/")
    if status != 0 and not findings:
        print(f"    exit status {status}: see {log_path.relative_to(ROOT)}")
    return False


def main():
    parser = argparse.ArgumentParser(description="runs the fuzz targets")
    parser.add_argument("--time", type=int, default=60)
    parser.add_argument("only", nargs="*")
    args = parser.parse_args()
    unknown = set(args.only) - set(names())
    if unknown:
        sys.exit(f"fuzz: no such target: {', '.join(sorted(unknown))}")
    print(f"{'target':10} {'executions':>12} {'each s':>10} {'edges':>6} "
          f"{'lines':>6}  findings", flush=True)
    good = [run(name, args.time) for name in args.only or names()]
    print(f"fuzz: {len(good)} targets, {good.count(False)} with findings")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
