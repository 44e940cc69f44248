"""make systemd: the package under a real systemd, step by step.

    run.py [--package FILE.deb] [--quick] [--sample] [STEP...]

Boots this machine's root in a container (container.py), with the package
installed, or else the tree; then steps.py does the rest in there.  --quick
leaves out the end-to-end suite in the sandbox.  As root, with control groups;
--sample, which is for `make check`, makes do without on a machine that has none.
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import container  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def lack():
    """Why no container can be booted here; None: one can."""
    if os.geteuid() != 0:
        return "this takes root"
    for base in (container.GROUPS, container.GROUPS / "systemd"):
        if (base / "cgroup.procs").exists() and not os.statvfs(
                base).f_flag & os.ST_RDONLY:
            return None
    return f"there are no control groups to be made in {container.GROUPS}"


def install_tree(root):
    subprocess.run(["make", "-s", "-C", str(ROOT), "install", "PREFIX=/usr",
                    f"DESTDIR={root}"], check=True, stdout=subprocess.DEVNULL)


def install_package(box):
    box.run("dpkg", "--install", "/opt/sesrelayd.deb", check=True,
            stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("steps", nargs="*")
    args = parser.parse_args()
    if lack():
        print(f"systemd: NOT POSSIBLE on this machine: {lack()}")
        return 0 if args.sample else 1
    container.in_private_mounts()
    # So that the container is closed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    work = pathlib.Path(tempfile.mkdtemp(prefix="sesrelayd-systemd-",
                                         dir="/var/tmp"))
    shared = work / "shared"
    shared.mkdir(mode=0o755)
    work.chmod(0o755)
    # Not below /tmp, /var/tmp or /home, which the sandbox hides.
    binds = [(ROOT, "/opt/sesrelayd", "read-only"),
             (shared, "/opt/work", "")]
    if args.package:
        binds.append((args.package.resolve(), "/opt/sesrelayd.deb",
                      "read-only"))
    try:
        box = container.Container(
            work, binds, None if args.package else install_tree)
        if args.package:
            install_package(box)
        print(f"systemd: booted in {time.monotonic() - began:.1f} s, with "
              f"{args.package or 'what make install installs'}", flush=True)
        code = box.run(
            "/usr/bin/env", "WORK=/opt/work", "TREE=/opt/sesrelayd",
            f"BUILD={os.environ.get('BUILD', 'build/release')}",
            "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3",
            "/opt/sesrelayd/tests/systemd/steps.py",
            *(["--quick"] if args.quick else []), *args.steps).returncode
        box.close()
    finally:
        if os.environ.get("KEEP"):
            print(f"systemd: kept {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    print(f"systemd: {'passed' if code == 0 else 'FAILED'} in "
          f"{time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
