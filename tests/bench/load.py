"""Clients, pinned to one CPU: wrk, redis-benchmark and bench_openloop; and requests for them."""

import csv
import json
import pathlib
import random
import resource
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


class Cpu:
    """What server and client use from here on."""

    def __init__(self, server):
        self.server = server
        self.server_before = server.cpu_s()
        self.client_before = self.client_s()
        self.began = time.monotonic()

    @staticmethod
    def client_s():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def figures(self, n, seconds):
        """For n requests in so many seconds; `wall_s` has the client's start and end as well."""
        used = self.server.cpu_s() - self.server_before
        return {"requests": n, "wall_s": time.monotonic() - self.began,
                "cpu_us_per_op": used / n * 1e6, "server_cpu": used / seconds,
                "client_cpu": (self.client_s() - self.client_before) / seconds}
