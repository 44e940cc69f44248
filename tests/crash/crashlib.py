"""What the tests of tests/crash share: the oracle."""
import os
import signal
import subprocess


class Failed(Exception):
    """The relay broke a promise."""


class Impossible(Exception):
    """This machine cannot do what the test needs."""


def need(condition, text):
    if not condition:
        raise Failed(text)
