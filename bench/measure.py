"""What the benchmark scripts share: processes that take turns, medians, the machine's description, markdown.

Only the standard library is imported here and in the drivers: a child's peak memory begins with its parent's.
"""
import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ("numpy", "onnx", "onnxruntime", "openvino", "torch", "torchvision", "pycocotools")


class Worker:
    """A process that answers each line with one number: seconds of a run, or a rate.

    Its first line is "ready" and a number. The others wait while one runs.
    """

    def __init__(self, command, threads):
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=env)
        self.processor_seconds = []  # of every run, all threads, in steps of 10 ms
        self.greeting = float(self._line().split()[1])

    def run(self):
        before = self._processor_seconds()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        figure = float(self._line())
        self.processor_seconds.append(self._processor_seconds() - before)
        return figure

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def _processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _line(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))}: stopped with status {self.process.wait()}")
        return line


def serve(greeting, run):
    """The other end of Worker, for peers in Python."""
    run()
    print(f"ready {greeting}", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(f"{time.perf_counter() - start:.6f}", flush=True)


def take_turns(workers, rounds, pause=0.3):
    """{name: a figure for each round}; the order turns by one each round, so that nobody always follows the same."""
    figures = {name: [] for name in workers}
    names = list(workers)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(pause)  # threads that spin after their last run have gone to sleep
            figures[name].append(workers[name].run())
        note(f"round {number + 1} of {rounds}: " + ", ".join(f"{name} {figures[name][-1]:.3g}" for name in names))
    return figures


def run_once(command, threads=None):
    """A fresh process: its standard output, its wall-clock seconds, its peak memory in MiB."""
    env = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, env=env)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: stopped with status {process.returncode}")
    return output, time.perf_counter() - start, usage.ru_maxrss / 1024


def median_of_ratios(theirs, ours):
    """Of each round's own ratio: what slows a whole round slows both."""
    return statistics.median(t / o for t, o in zip(theirs, ours))


def note(text):
    print(text, file=sys.stderr, flush=True)


def table(columns, rows):
    """Markdown; the first column is text, the others figures."""
    lines = ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def cpu_model():
    with contextlib.suppress(OSError):
        fields = {}
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
        return f"{fields.get('model name', 'unknown')}, family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
    return "unknown"


def commit():
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def conditions(command, load_before):
    """The lines that every result needs to be judged and repeated."""
    versions = []
    for name in PEERS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    return "\n".join([
        f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC. Osprey: commit {commit()}.",
        f"- Processor: {cpu_model()}; {os.cpu_count()} cores; load average {load_before:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after.",
        f"- Peers: {', '.join(versions)}; Python {sys.version.split()[0]}.",
        f"- Command: `{command}`"])


def publish(topic, title, text, record):
    """The report to standard output and build/bench/<topic>.md, and to bench/results where it is to be kept."""
    report = f"# {title}, {datetime.date.today()}\n\n{text}\n"
    print(report, flush=True)
    files = [ROOT / "build" / "bench" / f"{topic}.md"]
    if record:
        files.append(ROOT / "bench" / "results" / f"{datetime.date.today()}-{topic}.md")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(report)
    return report


def program(name):
    file = ROOT / "build" / "release" / name
    if not file.exists():
        raise SystemExit(f"{file} is missing: bench/run.sh builds it")
    return file


def parse_json(text):
    return json.loads(text[text.index("{"):])
