"""make crash: every test of tests/crash, with its counts.

    run.py [--sample] [NAME...]

A test is a module beside this file with

    NAME = "kill"
    ABOUT = "kill -9 at every system call"       one line
    def run(work, sample): ...

`work` is an empty directory of its own.  run() returns the line of its counts
("412 points: 0 lost, ...") or raises crashlib.Failed.  What it cannot do on
this machine at all (no loop devices) is crashlib.Impossible, which is printed
and, but with --sample, a failure.
"""
import argparse
import importlib
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

import crashlib  # noqa: E402

TESTS = sorted(path.stem.removeprefix("crash_") for path in
               pathlib.Path(__file__).parent.glob("crash_*.py"))


def run_one(name, sample):
    """True when it passed."""
    module = importlib.import_module(f"crash_{name}")
    print(f"crash: {name}: {module.ABOUT}", flush=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f"crash-{name}-"))
    start = time.monotonic()
    try:
        result = module.run(work, sample)
        ok = True
    except crashlib.Impossible as e:
        result = f"NOT POSSIBLE on this machine: {e}"
        ok = sample
    except crashlib.Failed as e:
        result = f"FAILED: {e}\n    files are in {work}"
        ok = False
    except Exception:
        traceback.print_exc()
        result = f"FAILED\n    files are in {work}"
        ok = False
    print(f"    {result} ({time.monotonic() - start:.1f} s)", flush=True)
    if ok:
        shutil.rmtree(work, ignore_errors=True)
    return ok


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help=" ".join(TESTS))
    options = parser.parse_args()
    for name in options.names:
        if name not in TESTS:
            parser.error(f"no test {name}: {' '.join(TESTS)}")
    failed = [name for name in options.names or TESTS
              if not run_one(name, options.sample)]
    if failed:
        sys.exit(f"crash: failed: {' '.join(failed)}")
    print("crash: all passed")


if __name__ == "__main__":
    main()
