"""The group `latency`: how long answers take at fixed rates, from the moment when each request was
due; alone, beside PUTs and a compaction, and beside reads of values that aren't in memory."""

import contextlib
import os
import random
import subprocess
import threading

import load
import servers

KIB, MIB = 1 << 10, 1 << 20
ROUND_S, ROUND_QUICK_S = 2, 1
CONNECTIONS = 64
VALUE_BYTES = 100  # of the values whose times are measured

# (method, requests a second, peers): what all of them can do at less than their capacity
STEADY = [
    ("GET", 10000, [servers.Varve, servers.Ceiling, servers.Nginx, servers.Webdis]),
    ("GET", 1000, [servers.Varve, servers.Ceiling, servers.Nginx, servers.Webdis, servers.Etcd]),
    ("PUT", 5000, [servers.Varve, servers.Ceiling, servers.Webdis]),
    ("PUT", 1000, [servers.Varve, servers.Ceiling, servers.Webdis, servers.Etcd]),
]
STEADY_PEERS = [servers.Varve, servers.Ceiling, servers.Nginx, servers.Webdis, servers.Etcd]
STEADY_KEYS = 1000

# PUTs and a compaction beside GETs.
LOADED_KEYS, LOADED_KEYS_QUICK, LOADED_BYTES, LOADED_PUTS_PER_S = 100000, 20000, KIB, 1000
LOADED_FILL_PER_S = 5000

# GETs of values that nothing has in memory, beside GETs.
COLD_VALUES, COLD_VALUES_QUICK, COLD_BYTES, COLD_PER_S, HOT_PER_S = 512, 128, MIB, 100, 2000
COLD_FILL_PER_S = 64
COLD_LEAST_SHARE = 0.5  # of the bytes must have come from the disk


class Target:
    """A server, the requests for it, and what it answers."""

    def __init__(self, bench, server):
        self.bench, self.server = bench, server
        self.round_s = ROUND_QUICK_S if bench.quick else ROUND_S
        value = load.text_value(VALUE_BYTES, bench.seed)
        self.get = load.Requests(self.path("get"), [server.get_request("hot", VALUE_BYTES)])
        self.expected = self.path("expected")
        self.expected.write_bytes(server.expected(value))
        server.put("hot", value)
        if server.get("hot", VALUE_BYTES) != server.expected(value):
            raise servers.Void(f"{server.name}: a wrong value")

    def path(self, what):
        return self.bench.dir / f"requests-{self.server.name}-{what}"

    def value(self, name, size):
        return load.text_value(size, f"{self.bench.seed} {name}")

    def puts(self, name, n, size):
        """PUTs to n keys in random order."""
        value = self.value(name, size)
        keys = [f"{name}-{i:012d}" for i in range(n)]
        random.Random(f"{self.bench.seed} {name} keys").shuffle(keys)
        return load.Requests(self.path(name), [self.server.put_request(key, value) for key in keys])

    def send(self, requests, rate, seconds, expect=None):
        return load.openloop(self.server, requests, rate, seconds, CONNECTIONS, expect,
                             cpu=self.bench.client_cpu)

    def send_gets(self, rate, seconds=None):
        """GETs of the small value. Each byte is compared, but not of what etcd's gateway answers,
        which has a revision in it."""
        expect = None if isinstance(self.server, servers.Etcd) else self.expected
        return self.send(self.get, rate, seconds or self.round_s, expect)

    @contextlib.contextmanager
    def sending(self, requests, rate, expect=None):
        """A round of requests in the background; whoever leaves waits for its end."""
        command = load.openloop_command(self.server, requests, rate, self.round_s, CONNECTIONS,
                                        expect)
        with subprocess.Popen(servers.on_cpu(self.bench.client_cpu, command), text=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              preexec_fn=servers.die_with_parent) as process:
            try:
                yield
                error = process.communicate(timeout=load.CLIENT_PATIENCE_S)[1]
            finally:
                process.kill()
        if process.returncode != 0:
            raise servers.Void(error.strip())

    def emit(self, work, peer, turn, figures):
        """A round's p99; the other percentiles go with it. The first round only warms up."""
        if turn > 0:
            self.bench.emit({"group": "latency", "work": work, "peer": peer, "round": turn,
                             "value": figures["p99_us"], "unit": "us, p99",
                             "lower_is_better": True} | figures)


# --- Steady rates ---


def steady_round(target, method, rate, puts):
    with target.server.awake():
        cpu = load.Cpu(target.server, target.bench.client_cpu)
        if method == "GET":
            figures = target.send_gets(rate)
        else:
            figures = target.send(puts, rate, target.round_s)
        return figures | cpu.figures(figures["requests"])


def steady(bench, running):
    targets, puts = {}, {}
    for server in running:
        with server.awake():
            targets[type(server)] = Target(bench, server)
        puts[type(server)] = targets[type(server)].puts("steady", STEADY_KEYS, VALUE_BYTES)
    for method, rate, peers in STEADY[:1] if bench.quick else STEADY:
        work = f"{method} {VALUE_BYTES} B at {rate:,}/s"
        bench.note(work)
        for turn in range(bench.rounds + 1):
            for peer in peers:
                targets[peer].emit(work, peer.name, turn,
                                   steady_round(targets[peer], method, rate, puts[peer]))


# --- Beside PUTs and a compaction ---


def capacity(target):
    """GETs a second."""
    return max(n / seconds for n, seconds in (
        load.wrk(target.server, target.get, CONNECTIONS, 1, target.bench.client_cpu)
        for _ in range(3)))


@contextlib.contextmanager
def compacting(server):
    """One full compaction after another."""
    stop, failures = threading.Event(), []

    def again():
        try:
            while not stop.is_set():
                server.admin("compact")
        except (OSError, servers.Void) as why:
            failures.append(why)

    before = server.metrics()["varve_compaction_written_bytes_total"]
    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
        written = server.metrics()["varve_compaction_written_bytes_total"] - before
    finally:
        stop.set()
        thread.join()
    if failures or written == 0:
        raise servers.Void(f"no compaction ran: {failures}")


def beside_compaction(target):
    bench, server = target.bench, target.server
    n_keys = LOADED_KEYS_QUICK if bench.quick else LOADED_KEYS
    puts = target.puts("load", n_keys, LOADED_BYTES)
    target.send(puts, LOADED_FILL_PER_S, n_keys // LOADED_FILL_PER_S)
    server.admin("compact")
    rate = int(capacity(target) / 2)
    work = f"GET {VALUE_BYTES} B during PUTs and compaction"
    bench.note(f"{work}, at {rate:,}/s")
    for turn in range(bench.rounds + 1):
        target.emit(work, "varve idle", turn, target.send_gets(rate))
        with compacting(server), target.sending(puts, LOADED_PUTS_PER_S):
            figures = target.send_gets(rate)
        target.emit(work, "varve", turn, figures)


# --- Beside cold reads ---


def drop_cache(directory):
    """All files leave the page cache. Nobody may have them mapped."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def restart_cold(target):
    target.server.stop()
    drop_cache(target.server.dir / "data")
    target.server.start()
    target.send_gets(HOT_PER_S, 1)  # only the values are to be cold


def cold_gets(target, n_values, turn):
    """Each value once, in an order of its own each time."""
    order = list(range(n_values))
    random.Random(f"{target.bench.seed} {turn}").shuffle(order)
    return load.Requests(target.path("cold"), [
        target.server.get_request(f"cold-{i:012d}", COLD_BYTES) for i in order])


def beside_cold_reads(target):
    bench, server = target.bench, target.server
    work = f"GET {VALUE_BYTES} B at {HOT_PER_S:,}/s during cold GETs of 1 MiB"
    bench.note(work)
    n_values = COLD_VALUES_QUICK if bench.quick else COLD_VALUES
    target.send(target.puts("cold", n_values, COLD_BYTES), COLD_FILL_PER_S,
                n_values // COLD_FILL_PER_S)
    server.admin("compact")
    expected = target.path("expected-cold")
    expected.write_bytes(target.value("cold", COLD_BYTES))
    for turn in range(bench.rounds + 1):
        restart_cold(target)
        target.emit(work, "varve idle", turn, target.send_gets(HOT_PER_S))
        gets = cold_gets(target, n_values, turn)
        before = server.disk_read_bytes()
        with target.sending(gets, COLD_PER_S, expected):
            figures = target.send_gets(HOT_PER_S)
        share = (server.disk_read_bytes() - before) / (COLD_PER_S * target.round_s * COLD_BYTES)
        if share < COLD_LEAST_SHARE:
            raise servers.Void(f"only {share:.0%} of the cold bytes came from the disk")
        target.emit(work, "varve", turn, figures | {"cold_share": share})


def run(bench):
    with servers.running(bench.dir, bench.server_cpu, STEADY_PEERS) as running:
        for server in running:
            bench.configurations[server.name] = server.configuration
        steady(bench, running)
    with servers.running(bench.dir, bench.server_cpu, [servers.Varve]) as (varve,), varve.awake():
        target = Target(bench, varve)
        beside_compaction(target)
        beside_cold_reads(target)
