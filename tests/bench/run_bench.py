#!/usr/bin/env python3
"""make bench: sesrelayd, Postfix and OpenSMTPD side by side, each configured
for throughput to one SES-like upstream (tests/bench/peers), taking turns.

Every figure is the median of --times turns; what is called a limit is
measured in the same run.  Figures go to build/bench/results.json after every
turn, the table and charts are made of that (--report makes them again).
tests/bench/RESULTS.md is written by full runs only: QUICK=1 proves that the
harness works.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
from harness import ROOT, Sesd, Workdir, make_certificates  # noqa
import growth  # noqa
import measure  # noqa
import results  # noqa
import rows  # noqa
from turns import Context  # noqa

OUTPUT = ROOT / "build/bench"


def medians(turns):
    """Of each figure by itself."""
    names = turns[0]["figures"]
    return {name: statistics.median(t["figures"][name] for t in turns)
            for name in names}


def one_turn(ctx, job):
    """A relay's (class and function) or that of a limit (a function)."""
    if not isinstance(job, tuple):
        return job(ctx)
    cls, turn = job
    relay = cls(ctx)
    try:
        return turn(ctx, relay)
    finally:
        relay.stop()


class Run:
    def __init__(self, ctx, args, record):
        self.ctx, self.args, self.record = ctx, args, record

    def save(self):
        path = OUTPUT / "results.json"
        path.with_suffix(".new").write_text(json.dumps(self.record, indent=1))
        path.with_suffix(".new").rename(path)

    def take(self, key, name, job):
        """One turn, with the noise of its time; kept in the record."""
        noise = measure.Noise(self.ctx.groups)
        try:
            figures, error = one_turn(self.ctx, job), None
        except Exception as e:
            if self.args.strict:
                raise
            figures, error = None, f"{type(e).__name__}: {e}"
        turn = {"figures": figures, "error": error, "noise": noise.end()}
        turn["noisy"] = measure.Noise.is_noisy(turn["noise"])
        self.record["turns"].setdefault(key, {}).setdefault(name, []).append(
            turn)
        self.save()
        shown = error or " ".join(f"{k}={v:,.5g}" for k, v in figures.items())
        print(f"{key:<11} {name:<10} {'noisy ' if turn['noisy'] else ''}"
              f"{shown}", flush=True)

    def rows(self):
        for key, group, jobs in rows.make_turns(self.args.quick):
            if self.args.rows and not {key, group} & set(self.args.rows):
                continue
            for _ in range(self.args.times):
                for name, job in jobs.items():
                    self.take(key, name, job)

    def growth(self):
        if self.args.rows and "growth" not in self.args.rows:
            return
        for _ in range(self.args.times):
            for key, name, job in growth.jobs(self.args.quick):
                self.take(key, name, job)


def arguments():
    parser = argparse.ArgumentParser(
        description="sesrelayd, Postfix and OpenSMTPD side by side")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--times", type=int, help="turns of each (3; quick 1)")
    parser.add_argument("--strict", action="store_true",
                        help="end at the first turn that fails")
    parser.add_argument("--report", action="store_true",
                        help="only write down again what was measured")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="groups or "
                        "keys of rows, and `growth'; all if none is named")
    args = parser.parse_args()
    if not args.times:
        args.times = 1 if args.quick else 3
    names = {"growth"}
    for key, group, _ in rows.make_turns(True):
        names |= {key, group}
    unknown = set(args.rows) - names
    if unknown:
        parser.error(f"no such row: {' '.join(sorted(unknown))}; there are "
                     + " ".join(sorted(names)))
    return args


def measure_all(args):
    if os.geteuid() != 0:
        raise SystemExit("bench: run it as root: Postfix and OpenSMTPD and "
                         "control groups need that")
    words = ["make bench"] + (["QUICK=1"] if args.quick else [])
    if args.rows:
        words.append(f'ROWS="{" ".join(args.rows)}"')
    record = {"machine": measure.machine(), "command": " ".join(words),
              "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
              "times": args.times, "quick": args.quick, "turns": {}}
    OUTPUT.mkdir(parents=True, exist_ok=True)
    groups = measure.Groups()
    try:
        with Workdir("bench") as root:
            root.chmod(0o755)  # the peers run as users of their own
            # What SES shows: a handshake costs both sides that much.
            certs = make_certificates(root / "certs", "rsa")
            upstream = Sesd(root / "sesd", certs, modes=("wrapper",))
            try:
                ctx = Context(groups, upstream, certs, root)
                run = Run(ctx, args, record)
                run.rows()
                run.growth()
            finally:
                upstream.close()
    finally:
        groups.close()
    record["spin"] = measure.Noise.fastest
    (OUTPUT / "results.json").write_text(json.dumps(record, indent=1))
    return record


def main():
    args = arguments()
    if args.report:
        record = json.loads((OUTPUT / "results.json").read_text())
    else:
        record = measure_all(args)
    for turns in record["turns"].values():
        for name in turns:
            good = [t for t in turns[name] if t["figures"]]
            turns[name] = {"turns": turns[name],
                           "medians": medians(good) if good else None}
    text = results.write(record, OUTPUT)
    print("\n" + text)
    if not record["quick"] and not args.rows:
        for path in (OUTPUT / "RESULTS.md", *OUTPUT.glob("*.svg")):
            target = HERE / "charts" if path.suffix == ".svg" else HERE
            target.mkdir(exist_ok=True)
            shutil.copy(path, target)
        print(f"written: {HERE / 'RESULTS.md'} and charts")
    failed = [t["error"] for turns in record["turns"].values()
              for n in turns.values() for t in n["turns"] if t["error"]]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
