#!/usr/bin/python3
"""`make fuzz`: runs each libFuzzer target for a time and tells what came of it.

Takes the committed inputs and those that earlier runs found, which stay in
build/fuzz/NAME/corpus; what breaks a property goes to build/fuzz/NAME/finding-*,
what libFuzzer said to build/fuzz/NAME/log.  One line a target: executions,
executions a second, edges, lines of the files that it is for (by a second pass
over the corpus), findings; at the end the sum.  Exit status 1 when there is a
finding.

    BUILD=build/... run.py [--time SECONDS] [--jobs N] [NAME ...]
    BUILD=build/... run.py --merge [NAME ...]

--merge adds to the committed corpus what it takes of the found inputs to reach
all that they reach, small ones first, at most so many files a target.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / os.environ["BUILD"]
WORK = ROOT / "build" / "fuzz"

# The files that each is for, below daemon/; in the order in which they run:
# what strangers reach first.
FILES = {
    "server": ["smtp/server", "smtp/server_mail", "relay/session",
               "relay/session_content", "relay/session_header"],
    "dot": ["smtp/dot"],
    "path": ["smtp/addr", "smtp/command"],
    "reply": ["smtp/reply", "smtp/ehlo"],
    "client": ["smtp/client", "relay/outbound", "relay/outbound_content"],
    "record": ["queue/record", "queue/record_outcome", "queue/record_text",
               "queue/segment_read", "queue/scan"],
    "header": ["smtp/rewrite_block", "smtp/rewrite_missing",
               "smtp/rewrite_field",
               "smtp/rewrite_fold", "smtp/rewrite_header",
               "smtp/rewrite_mailbox", "smtp/rewrite_missing",
               "smtp/rewrite_single", "smtp/rewrite_tail"],
    "aliases": ["smtp/aliases", "smtp/aliases_read"],
    "control": ["control", "control_operate", "control_queue",
                "control_failed", "control_requeue", "control_trace",
                "control_report"],
    "config": ["config", "config_check", "config_derive", "config_keys",
               "config_hint", "config_list", "config_merge", "config_parse",
               "config_rewrite",
               "config_source", "config_syntax", "config_text",
               "config_tokens", "config_units", "config_value"],
    "sendmail": ["cli/sendmail_address", "cli/sendmail_args",
                 "cli/sendmail_header", "cli/sendmail_lines"],
    "scan": ["smtp/header", "smtp/header_block"],
    "state": ["queue/record", "queue/record_outcome", "queue/record_text",
              "queue/spool_clock", "queue/spool_marks", "policy/learned"],
    "classify": ["smtp/classify"],
    "dsn": ["smtp/dsn"],
    "log": ["base/log_format"],
}

# Committed inputs a target, and the size of one that --merge adds.
MERGED_FILES = 200
MERGED_BYTES = 4096


def names():
    found = {p.stem[len("fuzz_"):] for p in HERE.glob("fuzz_*.c")}
    unknown = found - set(FILES)
    if unknown:
        sys.exit(f"fuzz: FILES of {__file__} does not know "
                 f"{', '.join(sorted(unknown))}")
    return [name for name in FILES if name in found]


def program(name):
    return str(BUILD / "fuzz" / f"fuzz-{name}")


def committed(name):
    return [d for d in (HERE / "corpus" / name, HERE / "regressions" / name)
            if d.is_dir()]


def libfuzzer(name, log, *args):
    """Runs the target; its exit status."""
    return subprocess.run(
        [program(name), "-timeout=10", "-rss_limit_mb=1500", *args],
        cwd=WORK / name, env=dict(os.environ, LLVM_PROFILE_FILE="/dev/null"),
        stdout=log, stderr=subprocess.STDOUT, check=False).returncode


def fuzz(name, seconds, log):
    work = WORK / name
    (work / "corpus").mkdir(parents=True, exist_ok=True)
    for old in work.glob("finding-*"):
        old.unlink()
    args = [f"-max_total_time={seconds}", "-print_final_stats=1",
            f"-artifact_prefix={work}/finding-"]
    dictionary = HERE / "dict" / f"{name}.dict"
    if dictionary.exists():
        args.append(f"-dict={dictionary}")
    return libfuzzer(name, log, *args, str(work / "corpus"),
                     *map(str, committed(name)))


def line_coverage(name):
    """"93 %" of the lines of its files; "?" when it cannot be told."""
    work = WORK / name
    raw, data = work / "lines.profraw", work / "lines.profdata"
    inputs = [str(d) for d in (work / "corpus", *committed(name))]
    sources = [f"daemon/{f}.c" for f in FILES[name]]
    try:
        subprocess.run([program(name), "-runs=0", *inputs], cwd=work,
                       env=dict(os.environ, LLVM_PROFILE_FILE=str(raw)),
                       check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        subprocess.run(["llvm-profdata", "merge", "-o", data, raw], check=True,
                       stderr=subprocess.DEVNULL)
        report = subprocess.run(
            ["llvm-cov", "report", program(name), f"-instr-profile={data}",
             *sources], cwd=ROOT, check=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "?"
    total = [line for line in report.splitlines() if line.startswith("TOTAL")]
    percents = re.findall(r"([\d.]+)%", total[0]) if total else []
    # Regions, functions, lines, and so on.
    return f"{float(percents[2]):.0f} %" if len(percents) > 2 else "?"


def last_number(pattern, text):
    found = re.findall(pattern, text, re.M)
    return int(found[-1]) if found else 0


def complaints(name, status, text, findings):
    """The lines that tell of findings."""
    lines = re.findall(r"^.*(?:does not hold|runtime error|SUMMARY|ERROR: ).*$",
                       text, re.M)[:3]
    lines += [f"{f.relative_to(ROOT)}; when it is mended, it belongs into "
              f"tests/fuzz/regressions/{name}/" for f in findings]
    if not findings:
        log = (WORK / name / "log").relative_to(ROOT)
        lines.append(f"exit status {status}: see {log}")
    return "".join(f"\n    {line}" for line in lines)


def run(name, seconds):
    """(its lines, executions, was there no finding)"""
    (WORK / name).mkdir(parents=True, exist_ok=True)
    log_path = WORK / name / "log"
    with open(log_path, "w", encoding="utf-8") as log:
        status = fuzz(name, seconds, log)
    text = log_path.read_text(encoding="utf-8", errors="replace")
    findings = sorted((WORK / name).glob("finding-*"))
    good = status == 0 and not findings
    executions = last_number(r"^stat::number_of_executed_units: (\d+)", text)
    rate = last_number(r"^stat::average_exec_per_sec: +(\d+)", text)
    edges = last_number(r"^#\d+\s.*?cov: (\d+)", text)
    line = (f"{name:10} {executions:>12,} {rate:>10,} {edges:>6} "
            f"{line_coverage(name):>6} {len(findings) or int(not good):>9}")
    if not good:
        line += complaints(name, status, text, findings)
    return line, executions, good


def run_all(which, seconds, jobs):
    """The exit status."""
    began = time.monotonic()
    rounds = -(-len(which) // jobs)
    print(f"fuzz: {len(which)} targets, {seconds} s each, {jobs} at a time: "
          f"{rounds * seconds // 60} min\n{'target':10} {'executions':>12} "
          f"{'each s':>10} {'edges':>6} {'lines':>6} {'findings':>9}",
          flush=True)
    results = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, name, seconds) for name in which]
        for future in concurrent.futures.as_completed(futures):
            results.append(future.result())
            print(results[-1][0], flush=True)
    bad = sum(not good for _, _, good in results)
    print(f"{'sum':10} {sum(n for _, n, _ in results):>12,}\n"
          f"fuzz: {len(results)} targets, {bad} with findings, "
          f"{time.monotonic() - began:.0f} s")
    return 1 if bad else 0


def merge(name):
    """Into the committed corpus, what reaches further than it does."""
    new = WORK / name / "merged"
    corpus = HERE / "corpus" / name
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    corpus.mkdir(exist_ok=True)
    before = {p.name for p in corpus.iterdir()}
    for old in committed(name):
        for path in old.iterdir():
            shutil.copy(path, new / path.name)
    kept = {p.name for p in new.iterdir()}
    with open(WORK / name / "merge.log", "w", encoding="utf-8") as log:
        # By edges alone: counts of them want thousands of inputs.
        status = libfuzzer(name, log, "-set_cover_merge=1", "-use_counters=0",
                           f"-max_len={MERGED_BYTES}", str(new),
                           str(WORK / name / "corpus"))
    if status != 0:
        sys.exit(f"fuzz: {name}: the merge failed: see build/fuzz/{name}/")
    found = sorted((p for p in new.iterdir() if p.name not in kept),
                   key=lambda p: p.stat().st_size)
    room = max(0, MERGED_FILES - len(before))
    for path in found[:room]:
        shutil.copy(path, corpus / path.name[:12])
    print(f"{name:10} {len(before):>4} inputs, {len(found[:room])} more, "
          f"{len(found[room:])} left out", flush=True)


def main():
    parser = argparse.ArgumentParser(description="runs the fuzz targets")
    parser.add_argument("--time", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--merge", action="store_true")
    parser.add_argument("only", nargs="*")
    args = parser.parse_args()
    unknown = set(args.only) - set(names())
    if unknown:
        sys.exit(f"fuzz: no such target: {', '.join(sorted(unknown))}")
    which = args.only or names()
    if args.merge:
        for name in which:
            merge(name)
        return 0
    return run_all(which, args.time, max(1, args.jobs))


if __name__ == "__main__":
    sys.exit(main())
