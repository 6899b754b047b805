"""Clients, pinned to one CPU: wrk, redis-benchmark and bench_openloop; and requests for them."""

import csv
import json
import pathlib
import random
import subprocess
import time

import servers

LUA = pathlib.Path(__file__).with_name("load.lua")
OPENLOOP = servers.BUILD / "tests/bench/bench_openloop"
CLIENT_PATIENCE_S = 120


def text_value(size, seed):
    """Bytes that compress badly and that a command line can hold."""
    return random.Random(seed).randbytes(size // 2 + 1).hex()[:size].encode()


class Requests:
    """Whole requests of one length, one behind another in a file."""

    def __init__(self, path, requests):
        self.path = path
        self.bytes = len(requests[0])
        assert all(len(request) == self.bytes for request in requests)
        with path.open("wb") as file:
            file.writelines(requests)


def check_call(command, cpu):
    done = subprocess.run(servers.on_cpu(cpu, command), capture_output=True, text=True,
                          timeout=CLIENT_PATIENCE_S)
    if done.returncode != 0:
        raise servers.Void(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wrk(server, requests, connections, seconds, cpu):
    """Returns requests answered and the seconds that took."""
    output = check_call(["wrk", "-t", 1, "-c", connections, "-d", f"{seconds}s", "--timeout", "30s",
                         "-s", LUA, f"http://127.0.0.1:{server.port}/", "--", requests.path,
                         requests.bytes], cpu)
    done = json.loads(output.splitlines()[-1])
    wrong = {name: done[name] for name in ("connect", "read", "write", "status", "timeout")
             if done[name] != 0}
    if wrong or done["requests"] == 0:
        raise servers.Void(f"{server.name}: {done['requests']} requests, errors: {wrong}")
    return done["requests"], done["duration_us"] / 1e6


def redis_benchmark(server, words, keys, connections, n, cpu):
    """As wrk(), for one command, n times; __rand_int__ in it becomes a number below `keys`."""
    before = server.counts()
    output = check_call(["redis-benchmark", "-h", "127.0.0.1", "-p", server.port, "-c", connections,
                         "-n", n, "-r", keys, "--csv", *words], cpu)
    after = server.counts()
    for name in ("total_error_replies", "keyspace_misses"):
        if after[name] != before[name]:
            raise servers.Void(f"{server.name}: {name} went up by {after[name] - before[name]}")
    return n, n / float(list(csv.reader(output.splitlines()))[-1][1])


def openloop_command(server, requests, rate, seconds, connections=64, expect=None, more=()):
    """`expect` is a file with the body of each answer."""
    return [OPENLOOP, "--rate", rate, "--seconds", seconds, "--connections", connections,
            "--requests", requests.path, "--request-bytes", requests.bytes,
            *(["--expect", expect] if expect else []), *more, f"http://127.0.0.1:{server.port}/"]


def openloop(server, *arguments, cpu, **named):
    return json.loads(check_call(openloop_command(server, *arguments, **named), cpu))


def ticks_of(cpu):
    """Those in which it was busy, for whomever, interrupts too; and all."""
    lines = pathlib.Path("/proc/stat").read_text().splitlines()
    fields = next(line.split()[1:] for line in lines if line.startswith(f"cpu{cpu} "))
    # user, nice, system, idle, iowait, irq, softirq, steal; guests are among users
    ticks = list(map(int, fields[:8]))
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


class Cpu:
    """What a server uses from here on, and how busy its CPU and the client's are."""

    def __init__(self, server, client_cpu):
        self.server = server
        self.cpus = {"server_cpu": server.cpu, "client_cpu": client_cpu}
        self.used_before = server.cpu_s()
        self.ticks_before = {name: ticks_of(cpu) for name, cpu in self.cpus.items()}
        self.began = time.monotonic()

    def busy(self, name):
        busy, total = (now - before for now, before in
                       zip(ticks_of(self.cpus[name]), self.ticks_before[name]))
        return busy / max(total, 1)

    def figures(self, n):
        used = self.server.cpu_s() - self.used_before
        return {"requests": n, "wall_s": time.monotonic() - self.began,
                "cpu_us_per_op": used / n * 1e6, **{name: self.busy(name) for name in self.cpus}}
