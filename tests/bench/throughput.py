"""The groups `get` and `put`: requests a second over HTTP, and what a request costs the server."""

import load
import servers

GET_PEERS = [servers.Varve, servers.Ceiling, servers.Nginx, servers.Redis, servers.Webdis,
             servers.Etcd]
PUT_PEERS = [servers.Varve, servers.Ceiling, servers.Redis, servers.Webdis, servers.Etcd]

KIB, MIB = 1 << 10, 1 << 20
# (bytes of a value, connections, keys)
GET_WORKS = [(100, 64, 1), (100, 1, 1), (100, 512, 1), (100, 64, 10000), (KIB, 64, 1),
             (64 * KIB, 64, 1), (MIB, 64, 1)]
PUT_WORKS = [(100, 64, 10000), (100, 1, 10000), (100, 512, 10000), (KIB, 64, 10000),
             (64 * KIB, 64, 500)]
ROUND_S = 1
FIRST_GUESS, LEAST_GUESS = 5000, 1000  # requests of redis-benchmark, which takes no time
SAMPLE_OF_ORDERED, SAMPLE_OF_RANDOM = 10, 100  # values read back after PUTs


def size_text(size):
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


class Work:
    """One kind of request, with the keys and values that it is about."""

    def __init__(self, bench, number, group, size, connections, n_keys):
        self.bench, self.group, self.size, self.connections = bench, group, size, connections
        self.text = f"{group.upper()} {size_text(size)}, {connections} connection"
        self.text += "s" if connections > 1 else ""
        if group == "get" and n_keys > 1:
            self.text += f", {n_keys:,} keys"
        self.prefix = f"{group[0]}{number:02d}-"
        self.keys = [f"{self.prefix}{i:012d}" for i in range(n_keys)]
        # PUTs alternate between two, so that what is read back was written in this round.
        self.values = [load.text_value(size, f"{bench.seed} {self.text} {i}") for i in range(2)]
        self.requests = {}
        self.guesses = {}

    def value(self, turn):
        return self.values[turn % 2 if self.group == "put" else 0]

    def file(self, server, what):
        return self.bench.dir / f"requests-{server.name}-{what}"

    def puts(self, server, turn):
        return load.Requests(self.file(server, f"put-{turn % 2}"), [
            server.put_request(key, self.value(turn)) for key in self.keys])

    def sample(self, server):
        """The keys whose values are checked. Of PUTs some were among the first, where keys come in
        order, or were picked with near certainty, where at random."""
        if self.group == "get":
            return [self.keys[0], self.keys[-1]]
        return self.keys[:SAMPLE_OF_ORDERED if server.speaks_http else SAMPLE_OF_RANDOM]

    def prepare(self, server):
        """Files of requests; and values, where they must be there before."""
        with server.awake():
            if self.group == "put":
                self.prepare_put(server)
            else:
                self.prepare_get(server)

    def prepare_put(self, server):
        server.put_all(self.sample(server), self.value(1))
        if server.speaks_http:
            self.requests[server.name] = [self.puts(server, turn) for turn in (0, 1)]

    def prepare_get(self, server):
        server.put_all(self.keys, self.value(0))
        if server.speaks_http:
            gets = [server.get_request(key, self.size) for key in self.keys]
            self.requests[server.name] = 2 * [load.Requests(self.file(server, "get"), gets)]

    def check(self, server, turn):
        if not server.stores and self.group == "put":
            return
        server.settle()
        wanted = server.expected(self.value(turn))
        read = server.get if self.group == "get" else server.stored
        found = {read(key, self.size) for key in self.sample(server)}
        if self.group == "get":
            right = found == {wanted}
        else:
            right = wanted in found and found <= set(self.values)
        if not right:
            raise servers.Void(f"{server.name}: a wrong value")

    def run_redis(self, server, turn):
        command = ["GET"] if self.group == "get" else ["SET"]
        command.append(f"{self.prefix}__rand_int__")
        if self.group == "put":
            command.append(self.value(turn).decode())
        n = self.guesses.get(server.name, FIRST_GUESS)
        n, seconds = load.redis_benchmark(server, command, len(self.keys), self.connections, n,
                                          self.bench.client_cpu)
        self.guesses[server.name] = max(LEAST_GUESS, int(n / seconds * ROUND_S))
        return n, seconds

    def run(self, server, turn):
        if server.speaks_http:
            return load.wrk(server, self.requests[server.name][turn % 2], self.connections,
                            ROUND_S, self.bench.client_cpu)
        return self.run_redis(server, turn)

    def measure(self, server, turn):
        with server.awake():
            if self.group == "get":
                self.check(server, turn)
            cpu = load.Cpu(server, self.bench.client_cpu)
            n, seconds = self.run(server, turn)
            figures = cpu.figures(n)
            self.check(server, turn)
        if turn > 0:
            self.bench.emit({"group": self.group, "work": self.text, "peer": server.name,
                             "round": turn, "value": n / seconds, "unit": "requests/s"} | figures)


def run(bench, group):
    peers, works = (GET_PEERS, GET_WORKS) if group == "get" else (PUT_PEERS, PUT_WORKS)
    with servers.running(bench.dir, bench.server_cpu, peers) as running:
        for server in running:
            bench.configurations[server.name] = server.configuration
        for number, (size, connections, keys) in enumerate(works[:1] if bench.quick else works):
            work = Work(bench, number, group, size, connections, keys)
            bench.note(work.text)
            able = [server for server in running if size <= server.value_max_bytes]
            for server in able:
                work.prepare(server)
            for turn in range(bench.rounds + 1):  # the first only warms up
                for server in able:
                    work.measure(server, turn)
