"""What is shipped for Prometheus, judged by Prometheus itself:

- a real server scrapes a relay that is at work, and loads the alerts;
- `promtool check metrics` of what it scrapes;
- each alert against series that raise it and series that must not, by
  `promtool test rules`;
- the expressions of the dashboard, parsed as rules.

A case of an alert is a line: its name, the series with a value a minute, when
to look, and what it is told of (labels, and words of the summary).  For every
alert there is one that is raised and one that is quiet; that there is none
missing is checked too.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from harness import (ROOT, Process, Relay, Sesd, Workdir,  # noqa: E402
                     free_port, make_certificates, wait_until)

RULES = ROOT / "conf/prometheus/sesrelayd.rules.yml"
DASHBOARD = ROOT / "conf/prometheus/sesrelayd-dashboard.json"

JOB = 'instance="mx1:9125",job="sesrelayd"'


def state(name, values):
    return (f'sesrelayd_upstream_state{{{JOB},state="{name}"}}', values)


def one(name, values, labels=""):
    return (f"{name}{{{JOB}{',' if labels else ''}{labels}}}", values)


def queue(values, **states):
    return [one("sesrelayd_queue_oldest_age_seconds", values)] + [
        one("sesrelayd_queue_messages", n, f'state="{s}"')
        for s, n in states.items()]


# alert, series, minute, raised: None or {label: value}, words of the summary
CASES = [
    ("SesrelaydDown", [one("up", "1 0x9")], 7, {}, "does not answer"),
    # A restart takes a moment.
    ("SesrelaydDown", [one("up", "1 0x9")], 4, None),
    ("SesrelaydDown", [('up{instance="a",job="node"}', "0x9")], 7, None),
    ("SesrelaydRestarting",
     [one("process_start_time_seconds", "100x2 400 500 600 700x30")], 10, {},
     "started 4 times"),
    # Three are an evening of maintenance.
    ("SesrelaydRestarting",
     [one("process_start_time_seconds", "100x2 400 500 600x30")], 10, None),
    ("SesrelaydIntakeRefused", [one("sesrelayd_spool_healthy", "1 0x9")], 4,
     {}, "accepts no mail"),
    ("SesrelaydIntakeRefused", [one("sesrelayd_spool_healthy", "1 0x9")],
     2, None),
    ("SesrelaydSpoolErrors", [one("sesrelayd_spool_errors_total", "2 2 3x9")],
     5, {}, "fail"),
    ("SesrelaydSpoolErrors", [one("sesrelayd_spool_errors_total", "5x30")],
     20, None),
    ("SesrelaydSpoolDamaged",
     [one("sesrelayd_spool_damaged_total", "0 0 1x9")], 5, {}, "set aside"),
    ("SesrelaydSpoolDamaged", [one("sesrelayd_spool_damaged_total", "1x9")],
     5, None),
    ("SesrelaydSpoolFillsUp",
     [one("sesrelayd_spool_free_bytes", "900000000-6000000x80")], 75, {},
     "less than four hours"),
    # Full in a week; and a large disk that is written to.
    ("SesrelaydSpoolFillsUp",
     [one("sesrelayd_spool_free_bytes", "900000000-60000x80")], 75, None),
    ("SesrelaydSpoolFillsUp",
     [one("sesrelayd_spool_free_bytes", "90000000000-600000000x80")], 75,
     None),
    ("SesrelaydCredentialsRefused", [state("credentials refused", "0 1x9")],
     3, {"state": "credentials refused"},
     "mx1:9125: credentials refused"),
    ("SesrelaydCredentialsRefused", [state("account refused", "0 1x9")], 3,
     {"state": "account refused"}, "mx1:9125: account refused"),
    ("SesrelaydCredentialsRefused", [state("unreachable", "1x9")], 3, None),
    ("SesrelaydDailyQuota", [state("daily quota", "0 1x9")], 7,
     {"state": "daily quota"}, "is used up"),
    ("SesrelaydDailyQuota", [state("throttled", "1x9")], 7, None),
    ("SesrelaydUpstreamNotOk", [state("unreachable", "0 1x15")], 12,
     {"state": "unreachable"}, "SES is unreachable"),
    # A state that a later version may have.
    ("SesrelaydUpstreamNotOk", [state("confused", "1x15")], 12,
     {"state": "confused"}, "confused"),
    ("SesrelaydUpstreamNotOk", [state("unreachable", "0 1x15")], 8, None),
    *(("SesrelaydUpstreamNotOk", [state(s, "1x15")], 12, None)
      for s in ("ok", "throttled", "paused", "daily quota",
                "credentials refused", "account refused")),
    ("SesrelaydPaused", [one("sesrelayd_paused", "1x70", 'part="intake"')],
     62, {"part": "intake"}, "The intake of sesrelayd"),
    ("SesrelaydPaused", [one("sesrelayd_paused", "1x70",
                             'part="delivery"')], 50, None),
    ("SesrelaydQueueOld", queue("1700+60x20", waiting="3x20", held="0x20"),
     15, {}, "waits on mx1:9125 for"),
    ("SesrelaydQueueOld", queue("100+60x20", waiting="3x20", held="0x20"), 15,
     None),
    # What an operator holds may grow old.
    ("SesrelaydQueueOld", queue("90000+60x20", waiting="0x20", held="3x20",
                                failed="7x20"), 15, None),
    ("SesrelaydDeadLetters",
     [one("sesrelayd_recipients_total", "4 4 6x9", 'status="failed"')], 5,
     {"status": "failed"}, "failed for"),
    ("SesrelaydDeadLetters",
     [one("sesrelayd_recipients_total", "4+9x9", 'status="sent"'),
      one("sesrelayd_recipients_total", "4x9", 'status="failed"'),
      one("sesrelayd_recipients_total", "4+2x9", 'status="deferred"')], 5,
     None),
    ("SesrelaydQuarantine",
     [one("sesrelayd_messages_quarantined_total", "0 1x9")], 5, {}, "is held"),
    ("SesrelaydQuarantine",
     [one("sesrelayd_messages_quarantined_total", "1x9")], 5, None),
    ("SesrelaydUncertainDeliveries",
     [one("sesrelayd_messages_uncertain_total", "3 3 4x9")], 5, {},
     "may arrive twice"),
    ("SesrelaydUncertainDeliveries",
     [one("sesrelayd_messages_uncertain_total", "3x9")], 5, None),
    ("SesrelaydThrottled", [state("throttled", "1 1 0 " * 20)], 45,
     {"state": "throttled"}, "slows mx1:9125 down"),
    # A peak now and then is what the pace is for.
    ("SesrelaydThrottled", [state("throttled", "0x35 1x12")], 47, None),
    ("SesrelaydReloadFailed",
     [one("sesrelayd_config_last_reload_successful", "1 0x9")], 7, {},
     "refused its new configuration"),
    ("SesrelaydReloadFailed",
     [one("sesrelayd_config_last_reload_successful", "1 0x9")], 4, None),
    ("SesrelaydDescriptors", [one("process_open_fds", "950x9"),
                              one("process_max_fds", "1024x9")], 7, {},
     "of its file descriptors"),
    ("SesrelaydDescriptors", [one("process_open_fds", "500x9"),
                              one("process_max_fds", "1024x9")], 7, None),
]


def alerts(text):
    """{name: severity} of a rules file."""
    return dict(re.findall(
        r"- alert: (\w+)\n(?: +.*\n)+? +severity: (\w+)\n", text))


def promtool(*args):
    return subprocess.run(["promtool", *args], capture_output=True,
                          text=True, timeout=300)


def tell(rules, series, minute, name):
    """The annotations with which `name` is raised, by what promtool says that
    it got instead of nothing; None if it is not."""
    case = {
        "rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [{
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in series],
            "alert_rule_test": [{"eval_time": f"{minute}m",
                                 "alertname": name, "exp_alerts": []}]}]}
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as f:
        json.dump(case, f)  # JSON is YAML
        f.flush()
        done = promtool("test", "rules", f.name)
    output = done.stdout + done.stderr
    if done.returncode == 0:
        return None
    m = re.search(r"got:\s*\[(.*)\]", output, re.S)
    assert m, output
    return m[1]


def test_alerts():
    """(number of cases, those that failed)."""
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    severities = alerts(RULES.read_text())
    n_rules = int(re.search(r"SUCCESS: (\d+) rules", done.stdout)[1])
    assert len(severities) == n_rules, severities
    raised, quiet, failed = set(), set(), []
    for name, series, minute, labels, *words in CASES:
        got = tell(RULES, series, minute, name)
        if labels is None:
            quiet.add(name)
            good = got is None
        else:
            raised.add(name)
            want = {"alertname": name, "severity": severities[name],
                    "instance": "mx1:9125", "job": "sesrelayd", **labels}
            good = got is not None and "action=" in got and all(
                f'{k}="{v}"' in got for k, v in want.items()) and all(
                w in got for w in words) and "<no value>" not in got
        if not good:
            failed.append(f"{name}, {series}: raised {got}")
    failed += [f"{name} is not tested" for name in severities
               if name not in raised & quiet]
    print(f"alerts: {n_rules} rules, {len(CASES)} cases")
    return failed


def test_dashboard():
    """Its expressions are those of Prometheus's language."""
    board = json.loads(DASHBOARD.read_text())
    expressions = [t["expr"] for p in board["panels"]
                   for t in p.get("targets", [])]
    expressions += [a["expr"] for a in board["annotations"]["list"]]
    rules = [{"record": f"a:b{i}", "expr": e.replace(
        "$__rate_interval", "5m").replace("$instance", ".*")}
        for i, e in enumerate(expressions)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as f:
        json.dump({"groups": [{"name": "x", "rules": rules}]}, f)
        f.flush()
        done = promtool("check", "rules", f.name)
    print(f"dashboard: {len(rules)} expressions")
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


class Prometheus:
    """The server, with the rules that are shipped."""

    def __init__(self, directory, target):
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s",
                       "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "sesrelayd", "static_configs": [
                {"targets": [target]}]}]}
        file = directory / "prometheus.yml"
        file.write_text(json.dumps(config))
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process = Process(
            ["prometheus", f"--config.file={file}",
             f"--storage.tsdb.path={directory / 'data'}",
             f"--web.listen-address={self.url[7:]}"], directory / "log")

    def ask(self, path, **query):
        with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}",
                timeout=30) as reply:
            return json.load(reply)["data"]

    def value(self, expression):
        """Of the one series that it has; None: not yet."""
        try:
            result = self.ask("query", query=expression)["result"]
        except OSError:
            return None  # it starts
        return float(result[0]["value"][1]) if result else None


def test_scraping():
    """A relay at work, as Prometheus sees it."""
    failed = []
    with Workdir("monitoring") as directory:
        (directory / "certs").mkdir()
        sesd = Sesd(directory / "sesd",
                    make_certificates(directory / "certs"))
        address = f"127.0.0.1:{free_port()}"
        relay = Relay(directory / "relay", sesd,
                      config={"http.listen": f'"{address}"'})
        (directory / "prometheus").mkdir()
        server = Prometheus(directory / "prometheus", address)
        try:
            for _ in range(7):
                relay.send()
            relay.wait_empty()
            wait_until(lambda: server.value(
                "sesrelayd_messages_accepted_total") == 7,
                "Prometheus to have the figures", 120)
            sent = server.value('sesrelayd_recipients_total{status="sent"}')
            in_time = server.value(
                'sesrelayd_delivery_delay_seconds_bucket{stage="total",'
                'le="+Inf"}')
            if (sent, in_time) != (7, 7):
                failed.append(f"sent {sent}, in the histogram {in_time}")
            if server.value("up") != 1:
                failed.append("up is not 1")

            def groups():
                found = server.ask("rules")["groups"]
                return all(r["health"] == "ok" for g in found
                           for r in g["rules"]) and found
            [group] = wait_until(groups, "the rules to be evaluated", 60)
            firing = [r["name"] for r in group["rules"]
                      if r["state"] == "firing"]
            if firing:
                failed.append(f"{firing} raised for a relay that is well")
            with urllib.request.urlopen(f"http://{address}/metrics",
                                        timeout=30) as page:
                text = page.read().decode()
            done = subprocess.run(["promtool", "check", "metrics"],
                                  input=text, capture_output=True, text=True,
                                  timeout=60)
            if done.returncode != 0 or done.stdout + done.stderr:
                failed.append(done.stdout + done.stderr)
            # What goes away is noticed.
            relay.stop()
            wait_until(lambda: server.value("up") == 0, "up to be 0", 60)
        finally:
            server.process.close()
            relay.close()
            sesd.close()
    print("scraping: a real Prometheus, and promtool check metrics")
    return failed


def main():
    tests = (test_scraping, test_alerts, test_dashboard)
    failed = [text for test in tests for text in test()]
    for text in failed:
        print(text, file=sys.stderr)
    print(f"{len(CASES) + 2} passed, 0 failed" if not failed
          else f"{len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
