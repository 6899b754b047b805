"""The group `latency`: how long answers take at fixed rates, from the moment when each request was
due; alone, beside PUTs and a compaction, and beside reads of values that aren't in memory."""

import contextlib
import os
import pathlib
import random
import subprocess
import threading

import load
import servers

KIB, MIB = 1 << 10, 1 << 20
ROUND_S = 3
CONNECTIONS = 64

# (method, requests a second, peers): what all of them can do at less than their capacity
STEADY = [
    ("GET", 10000, [servers.Varve, servers.Ceiling, servers.Nginx, servers.Webdis]),
    ("GET", 1000, [servers.Varve, servers.Ceiling, servers.Nginx, servers.Webdis, servers.Etcd]),
    ("PUT", 5000, [servers.Varve, servers.Ceiling, servers.Webdis]),
    ("PUT", 1000, [servers.Varve, servers.Ceiling, servers.Webdis, servers.Etcd]),
]
STEADY_KEYS = 1000

# PUTs and a compaction beside GETs.
LOADED_KEYS, LOADED_KEYS_QUICK, LOADED_BYTES, LOADED_PUTS_PER_S = 100000, 20000, KIB, 1000
FILL_PER_S = 10000

# Reads of values that nothing has in memory, beside GETs.
COLD_VALUES, COLD_VALUES_QUICK, COLD_BYTES, COLD_PER_S, HOT_PER_S = 512, 128, MIB, 100, 2000
COLD_FILL_PER_S = 64
COLD_LEAST_SHARE = 0.5  # of the bytes must have come from the disk


def emit(bench, work, peer, turn, figures):
    """A round's p99; the other percentiles go with it. The first round only warms up."""
    if turn > 0:
        bench.emit({"group": "latency", "work": work, "peer": peer, "round": turn,
                    "value": figures["p99_us"], "unit": "us, p99",
                    "lower_is_better": True} | figures)


def hot(bench, server, rate, seconds):
    """GETs of one small value, each byte compared."""
    return load.openloop(server, bench.hot[server.name], rate, seconds, CONNECTIONS,
                         bench.hot_value, cpu=bench.client_cpu)


def put_hot(bench, server):
    """Puts the small value, and notes how to ask for it."""
    value = load.text_value(100, bench.seed)
    key = "hot"
    server.put(key, value)
    if server.get(key, len(value)) != server.expected(value):
        raise servers.Void(f"{server.name}: a wrong value")
    path = bench.dir / f"hot-{server.name}"
    bench.hot[server.name] = load.Requests(path, [server.get_request(key, len(value))])


def puts_of(bench, server, name, n, size):
    """PUTs to n keys in random order."""
    value = load.text_value(size, f"{bench.seed} {name}")
    keys = [f"{name}-{i:012d}" for i in range(n)]
    random.Random(f"{bench.seed} {name} keys").shuffle(keys)
    return load.Requests(bench.dir / f"requests-{server.name}-{name}",
                         [server.put_request(key, value) for key in keys])


# --- Steady rates ---


def expectation(bench, server, method):
    """A file with the body of every answer. Those of etcd's gateway differ in a revision."""
    if method == "PUT" or isinstance(server, servers.Etcd):
        return None
    value = server.expected(load.text_value(100, bench.seed))
    path = bench.dir / f"expect-{server.name}"
    path.write_bytes(value)
    return path


def steady(bench, running):
    puts = {}
    for server in running.values():
        with server.awake():
            put_hot(bench, server)
        puts[server.name] = puts_of(bench, server, "steady", STEADY_KEYS, 100)
    for method, rate, peers in STEADY[:1] if bench.quick else STEADY:
        work = f"{method} 100 B at {rate:,}/s"
        bench.note(work)
        for turn in range(bench.rounds + 1):
            for server in (running[cls.name] for cls in peers):
                requests = (bench.hot if method == "GET" else puts)[server.name]
                with server.awake():
                    cpu = load.Cpu(server)
                    figures = load.openloop(server, requests, rate, bench.round_s, CONNECTIONS,
                                            expectation(bench, server, method),
                                            cpu=bench.client_cpu)
                    figures |= cpu.figures(figures["requests"])
                emit(bench, work, server.name, turn, figures)


# --- Beside PUTs and a compaction ---


def capacity(bench, server):
    return max(n / seconds for n, seconds in (
        load.wrk(server, bench.hot[server.name], CONNECTIONS, 1, bench.client_cpu)
        for _ in range(3)))


@contextlib.contextmanager
def client(bench, server, requests, rate, seconds, connections):
    """bench_openloop in the background; whoever leaves before it is done waits for it."""
    command = load.openloop_command(server, requests, rate, seconds, connections)
    with subprocess.Popen(servers.on_cpu(bench.client_cpu, command), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True,
                          preexec_fn=servers.die_with_parent) as process:
        try:
            yield
            error = process.communicate(timeout=load.CLIENT_PATIENCE_S)[1]
        finally:
            process.kill()
    if process.returncode != 0:
        raise servers.Void(error.strip())


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


def beside_compaction(bench, server):
    with server.awake():
        n_keys = LOADED_KEYS_QUICK if bench.quick else LOADED_KEYS
        puts = puts_of(bench, server, "load", n_keys, LOADED_BYTES)
        load.openloop(server, puts, FILL_PER_S, n_keys // FILL_PER_S, cpu=bench.client_cpu)
        server.admin("compact")
        rate = int(capacity(bench, server) / 2)
    work = "GET 100 B during PUTs and compaction"
    bench.note(f"{work}, at {rate:,}/s")
    for turn in range(bench.rounds + 1):
        with server.awake():
            emit(bench, work, "varve idle", turn, hot(bench, server, rate, bench.round_s))
            with compacting(server), client(bench, server, puts, LOADED_PUTS_PER_S, bench.round_s,
                                            CONNECTIONS):
                figures = hot(bench, server, rate, bench.round_s)
        emit(bench, work, "varve", turn, figures)


# --- Beside cold reads ---


def drop_cache(directory):
    """What nobody has mapped leaves the page cache."""
    for path in pathlib.Path(directory).rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def restart_cold(bench, server):
    server.stop()
    drop_cache(server.dir / "data")
    server.start()
    hot(bench, server, HOT_PER_S, 1)


def cold_gets(bench, server, turn):
    order = list(range(COLD_VALUES_QUICK if bench.quick else COLD_VALUES))
    random.Random(f"{bench.seed} {turn}").shuffle(order)
    return load.Requests(bench.dir / "requests-cold", [
        server.get_request(f"cold-{i:012d}", COLD_BYTES) for i in order])


def beside_cold_reads(bench, server):
    work = f"GET 100 B at {HOT_PER_S:,}/s during cold GETs of 1 MiB"
    bench.note(work)
    with server.awake():
        n_values = COLD_VALUES_QUICK if bench.quick else COLD_VALUES
        puts = puts_of(bench, server, "cold", n_values, COLD_BYTES)
        load.openloop(server, puts, COLD_FILL_PER_S, n_values // COLD_FILL_PER_S,
                      cpu=bench.client_cpu)
        server.admin("compact")
        put_hot(bench, server)
    for turn in range(bench.rounds + 1):
        restart_cold(bench, server)
        emit(bench, work, "varve idle", turn, hot(bench, server, HOT_PER_S, bench.round_s))
        gets = cold_gets(bench, server, turn)
        before = server.disk_read_bytes()
        with client(bench, server, gets, COLD_PER_S, bench.round_s, CONNECTIONS):
            figures = hot(bench, server, HOT_PER_S, bench.round_s)
        share = (server.disk_read_bytes() - before) / (COLD_PER_S * bench.round_s * COLD_BYTES)
        if share < COLD_LEAST_SHARE:
            raise servers.Void(f"only {share:.0%} of the cold bytes came from the disk")
        emit(bench, work, "varve", turn, figures | {"cold_share": share})
    server.pause()


def run(bench):
    bench.hot, bench.hot_value = {}, bench.dir / "hot-value"
    bench.hot_value.write_bytes(load.text_value(100, bench.seed))
    bench.round_s = 1 if bench.quick else ROUND_S
    peers = [servers.Varve, servers.Ceiling, servers.Nginx, servers.Webdis, servers.Etcd]
    with servers.running(bench.dir, bench.server_cpu, peers) as running:
        for server in running:
            bench.configurations[server.name] = server.configuration
        steady(bench, {server.name: server for server in running})
    with servers.running(bench.dir, bench.server_cpu, [servers.Varve]) as (varve,):
        with varve.awake():
            put_hot(bench, varve)
        beside_compaction(bench, varve)
        beside_cold_reads(bench, varve)
