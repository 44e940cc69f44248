"""Fixtures: certificates made once, and any number of sesd a test."""

import os
import subprocess

import pytest

from sesd_peer import HERE, Sesd


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    where = tmp_path_factory.mktemp("certs")
    subprocess.run([os.path.join(HERE, "certs.sh"), str(where)], check=True)
    return where


@pytest.fixture
def sesd(certs, tmp_path):
    made = []

    def make(*args, **kwargs):
        made.append(Sesd(certs, tmp_path, *args, **kwargs))
        return made[-1]

    yield make
    for s in made:
        if s.process.poll() is None:
            s.stop()
        assert s.process.returncode == 0
