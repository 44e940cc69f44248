#!/usr/bin/python3
"""The matrix of faults: every stage of a session with SES times every fault of
a peer or a network, in both modes of TLS, each with a real relay and the
emulator; printed as one table.

    run.py [--sample] [--stage NAME]... [--fault NAME]... [--mode MODE]

Exit code 1 when a cell is not as it has to be, with the reason of each.
"""

import argparse
import concurrent.futures
import os
import pathlib
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cells  # noqa: E402
from lane import Lane, Wrong, harness  # noqa: E402

LANES = int(os.environ.get("FAULTS_LANES", "10"))  # at a time; most wait
PER_LANE = 7  # cells on one relay
SAMPLE = 5  # one cell in so many


def plan(args):
    """Lanes: mode, stage and the faults that are run on it."""
    out = []
    n = 0
    for stage in cells.STAGES:
        for mode in cells.MODES:
            groups = {}
            for fault in cells.FAULTS:
                n += 1
                if not cells.exists(mode, stage, fault):
                    continue
                if args.stage and stage not in args.stage:
                    continue
                if args.fault and fault not in args.fault:
                    continue
                if args.mode and mode != args.mode:
                    continue
                if args.sample and n % SAMPLE != 0:
                    continue
                key = (fault if cells.needs_wire(stage, fault) else
                       cells.outcome(stage, fault) in ("later", "uncertain"))
                groups.setdefault(key, []).append(fault)
            for faults in groups.values():
                out += [(mode, stage, faults[i:i + PER_LANE])
                        for i in range(0, len(faults), PER_LANE)]
    # Those that wait longest first.
    out.sort(key=lambda x: -sum(1 + 2 * (f in cells.STALLS) for f in x[2]))
    return out


class Board:
    """What came out, and a word on the way there."""

    def __init__(self, lanes):
        self.cells = {}
        self.wrong = []
        self.memory = 0
        self.lock = threading.Lock()
        self.total = sum(len(faults) for _, _, faults in lanes)

    def note(self, mode, stage, fault, word, why=None):
        with self.lock:
            self.cells[mode, stage, fault] = word
            if why:
                self.wrong.append((mode, stage, fault, why))
                print(f"FAIL {stage} x {fault} ({mode}): {why}", flush=True)

    def text(self, stage, fault):
        """Both modes in one cell."""
        words = [self.cells.get((m, stage, fault)) for m in cells.MODES]
        said = [w for w in words if w]
        if not said:
            return "."
        return said[0] if len(set(said)) == 1 else "/".join(
            w or "." for w in words)

    def print(self):
        width = max(len(s) for s in cells.STAGES) + 1
        table = {(s, f): self.text(s, f)
                 for s in cells.STAGES for f in cells.FAULTS}
        columns = {f: max(len(f), *(len(table[s, f]) for s in cells.STAGES))
                   for f in cells.FAULTS}
        print("\n" + " " * width +
              " ".join(f.ljust(columns[f]) for f in cells.FAULTS))
        for stage in cells.STAGES:
            print(stage.ljust(width) + " ".join(
                table[stage, f].ljust(columns[f])
                for f in cells.FAULTS).rstrip())
        print("\nok: nothing lost, nothing bounced or charged that was not "
              "its own fault; ok+N: N messages twice,\nwhose last answer was "
              "lost; a/b: STARTTLS/wrapper; a dot: there is no such cell, or "
              "it was not run")
        print("stages: " + "; ".join(
            f"{k}: {v}" for k, v in cells.STAGES.items()))
        print("faults: " + "; ".join(
            f"{k}: {v}" for k, v in cells.FAULTS.items()))


def run_lane(board, certs, mode, stage, faults):
    left = list(faults)
    while left:
        with harness.Workdir("faults") as directory:
            lane = None
            try:
                lane = Lane(directory, certs, mode, stage, left)
                while left:
                    fault = left.pop(0)
                    try:
                        board.note(mode, stage, fault, lane.run(fault))
                    except Wrong as e:
                        board.note(mode, stage, fault, "FAIL", str(e))
                        if os.environ.get("KEEP"):
                            print(f"see {directory}", flush=True)
                        break  # what is left of it would spoil the next one
                board.memory = max(board.memory,
                                   lane.relay.peak_memory_kib())
            except Exception:
                board.note(mode, stage, fault if lane else left.pop(0),
                           "FAIL", traceback.format_exc())
            finally:
                if lane is not None:
                    lane.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sample", action="store_true")
    p.add_argument("--stage", action="append", choices=cells.STAGES)
    p.add_argument("--fault", action="append", choices=cells.FAULTS)
    p.add_argument("--mode", choices=cells.MODES)
    args = p.parse_args()
    lanes = plan(args)
    board = Board(lanes)
    started = time.monotonic()
    with harness.Workdir("faults-certs") as directory:
        certs = harness.make_certificates(pathlib.Path(directory))
        with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
            for job in [pool.submit(run_lane, board, certs, *lane)
                        for lane in lanes]:
                job.result()
    board.print()
    n = len(board.cells)
    print(f"\n{n} cells, {len(board.wrong)} wrong, "
          f"{time.monotonic() - started:.0f} s; "
          f"the largest relay had {board.memory} KiB in memory")
    return 1 if board.wrong or n != board.total else 0


if __name__ == "__main__":
    sys.exit(main())
