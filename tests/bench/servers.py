"""The servers that are compared: started on free ports of the loopback interface, in a directory
below one that all share, pinned to one CPU; stopped from running (SIGSTOP) while others are
measured, so that each pays for its background work in its own rounds. The end of this program is
theirs too."""

import base64
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/release"

PATIENCE_S = 30
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Void(Exception):
    """A server answered wrongly, or what measures failed: nothing that was measured counts."""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise Void(f"{what}: nothing in {PATIENCE_S} s")
        time.sleep(0.02)


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def on_cpu(cpu, command):
    return ["taskset", "-c", str(cpu), *map(str, command)]


def descendants(pid):
    """The process and all below it."""
    found = [pid]
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                found += descendants(int(child))
    return found


def cpu_s_of(pid):
    """User and system time of all threads and children, those that have ended too. A process that has
    just ended, as Redis' do that rewrite its log, counts with its parent."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def is_asleep(pid):
    """Whether no thread of it has anything to do."""
    return all(path.read_text().rpartition(")")[2].split()[0] == "S"
               for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"))


def disk_read_bytes_of(pid):
    """What it caused to be read from the disk, page faults too."""
    lines = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def answer_to(connection, request):
    """Sends a whole request; returns the status and the body of the answer."""
    connection.sendall(request)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def connect(port):
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


class Server:
    """One peer. A subclass says how it is configured and started, and what is asked of it."""

    name = ""
    speaks_http = True
    stores = True
    value_max_bytes = 1 << 30

    def __init__(self, base, cpu):
        self.dir = base / self.name
        self.cpu = cpu
        self.port = free_port()
        self.processes = []
        self.dir.mkdir()

    # What subclasses say.

    def configure(self):
        """Writes configuration files; returns {what: text}, which goes into the results."""
        return {}

    def commands(self):
        """The command lines of its processes, in the order in which they start."""
        raise NotImplementedError

    def get_request(self, key, size):
        return self._http("GET", f"/kv/{key}")

    def put_request(self, key, value):
        return self._http("PUT", f"/kv/{key}", value)

    def value_in(self, body):
        """The value in the body of an answer to GET."""
        return body

    def expected(self, value):
        """What GET answers once `value` was put."""
        return value

    # Life.

    def start(self):
        self.configuration = self.configure()
        with (self.dir / "log").open("ab") as log:
            for i, command in enumerate(self.commands()):
                self.processes.append(subprocess.Popen(
                    on_cpu(self.cpu, command), cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, process_group=0, preexec_fn=die_with_parent))
                wait_until(lambda: self.is_up(i), f"start of {self.name}")
        self.configuration["command"] = "; ".join(
            " ".join(map(str, on_cpu(self.cpu, command))) for command in self.commands())

    def is_up(self, index):
        if self.processes[index].poll() is not None:
            text = (self.dir / "log").read_text(errors="replace")
            raise Void(f"{self.name} ended at its start:\n{text[-2000:]}")
        with contextlib.suppress(OSError):
            connect(self.port_of(index)).close()
            return True
        return False

    def port_of(self, index):
        return self.port

    def stop(self):
        self.resume()
        self.signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                process.wait()
        self.processes = []

    def signal(self, number):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def awake(self):
        self.resume()
        try:
            yield
        finally:
            self.pause()

    def pids(self):
        return [pid for process in self.processes for pid in descendants(process.pid)]

    def cpu_s(self):
        return sum(cpu_s_of(pid) for pid in self.pids())

    def disk_read_bytes(self):
        return sum(disk_read_bytes_of(pid) for pid in self.pids())

    def answers(self, target):
        """The body of a GET; None unless it is 200."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            with connect(self.port) as connection:
                status, body = answer_to(connection, self._http("GET", target))
                return body if status == 200 else None
        return None

    # Single requests.

    def _http(self, method, target, body=None):
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + (body or b"")

    def ask_all(self, requests):
        """One after the other, on one connection; returns the last answer's body."""
        try:
            with connect(self.port) as connection:
                for request in requests:
                    status, body = answer_to(connection, request)
                    if status // 100 != 2:
                        raise Void(f"{self.name}: status {status}: {body[:200]!r}")
                return body
        except (OSError, http.client.HTTPException) as why:
            raise Void(f"{self.name}: {why!r}") from why

    def ask(self, request):
        return self.ask_all([request])

    def get(self, key, size):
        return self.value_in(self.ask(self.get_request(key, size)))

    def put(self, key, value):
        self.ask(self.put_request(key, value))

    def put_all(self, keys, value):
        self.ask_all(self.put_request(key, value) for key in keys)

    def stored(self, key, size):
        """As get(), asked in the surest way."""
        return self.get(key, size)

    def settle(self):
        """Waits for what clients have left behind that went without their answers."""


class Varve(Server):
    name = "varve"

    def commands(self):
        return [[BUILD / "varve", "serve", "--listen", f"127.0.0.1:{self.port}",
                 "--data-dir", self.dir / "data", "--threads", 1]]

    def is_up(self, index):
        return super().is_up(index) and self.answers("/readyz") is not None

    def metrics(self):
        """Those without labels."""
        lines = self.ask(self._http("GET", "/metrics")).decode().splitlines()
        pairs = (line.split() for line in lines if not line.startswith("#") and "{" not in line)
        return {name: float(value) for name, value in pairs}

    def admin(self, what):
        self.ask(self._http("POST", f"/admin/{what}", b""))


class Ceiling(Server):
    name = "ceiling"
    stores = False

    def commands(self):
        return [[BUILD / "tests/bench/bench_ceiling", self.port]]

    def get_request(self, key, size):
        return self._http("GET", f"/kv/{size}/{key}")

    def expected(self, value):
        return b"x" * len(value)


class Nginx(Server):
    """Static files by sendfile; put() writes the file."""

    name = "nginx"
    CONFIGURATION = """\
{user}daemon off;
pid {dir}/nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{
    worker_connections 4096;
}}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    open_file_cache max=100000 inactive=1h;
    open_file_cache_valid 1h;
    default_type application/octet-stream;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {dir}/www;
    }}
}}
"""

    def configure(self):
        (self.dir / "www/kv").mkdir(parents=True)
        # As root it would give its worker to somebody who may not read here.
        text = self.CONFIGURATION.format(dir=self.dir, port=self.port,
                                         user="user root;\n" if os.geteuid() == 0 else "")
        (self.dir / "nginx.conf").write_text(text)
        return {"nginx.conf": text}

    def commands(self):
        return [[shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin"), "-c",
                 self.dir / "nginx.conf", "-e", "stderr"]]

    def put(self, key, value):
        (self.dir / "www/kv" / key).write_bytes(value)

    def put_all(self, keys, value):
        for key in keys:
            self.put(key, value)


class Redis(Server):
    """Spoken to in its own protocol."""

    name = "redis"
    speaks_http = False
    CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir {dir}
daemonize no
appendonly yes
appendfsync always
save ""
"""

    def __init__(self, base, cpu):
        super().__init__(base, cpu)
        self.redis_port = self.port

    def configure(self):
        text = self.CONFIGURATION.format(dir=self.dir, port=self.redis_port)
        (self.dir / "redis.conf").write_text(text)
        return {"redis.conf": text}

    def commands(self):
        return [["redis-server", self.dir / "redis.conf"]]

    def call(self, *words):
        """One command; returns the line or the bulk string that answers it."""
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        request = b"*%d\r\n" % len(parts)
        request += b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with connect(self.redis_port) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as answer:
                line = answer.readline().rstrip()
                if line[:1] == b"-" or line == b"$-1":
                    raise Void(f"{self.name}: {line!r}")
                return answer.read(int(line[1:])) if line[:1] == b"$" else line[1:]

    def get(self, key, size):
        return self.call("GET", key)

    def put(self, key, value):
        self.call("SET", key, value)

    def put_all(self, keys, value):
        self.call("MSET", *(word for key in keys for word in (key, value)))

    def counts(self):
        """What INFO counts."""
        pairs = (line.partition(":") for line in self.call("INFO", "stats").decode().splitlines())
        return {name: int(value) for name, _, value in pairs if value.isdigit()}


class Webdis(Redis):
    """Redis behind HTTP; the two share the CPU.

    An answer to a client that has gone can reach the next one with its descriptor. So after wrk,
    which doesn't wait for its last answers, these have to be over first; and what is stored is
    asked of Redis. Of a large answer the rest does even then, and voided runs."""

    name = "webdis"
    value_max_bytes = 64 << 10
    QUIET_LOOKS = 5
    speaks_http = True

    def __init__(self, base, cpu):
        super().__init__(base, cpu)
        self.redis_port = free_port()

    def configure(self):
        redis = Redis.CONFIGURATION.format(dir=self.dir, port=self.redis_port)
        webdis = json.dumps({
            "redis_host": "127.0.0.1", "redis_port": self.redis_port, "http_host": "127.0.0.1",
            "http_port": self.port, "threads": 1, "daemonize": False, "database": 0,
            "verbosity": 0, "logfile": "/dev/null"}, indent=4)  # more threads do less on one CPU
        (self.dir / "redis.conf").write_text(redis)
        (self.dir / "webdis.json").write_text(webdis)
        return {"redis.conf": redis, "webdis.json": webdis}

    def commands(self):
        return [["redis-server", self.dir / "redis.conf"], ["webdis", self.dir / "webdis.json"]]

    def port_of(self, index):
        return [self.redis_port, self.port][index]

    def get_request(self, key, size):
        return self._http("GET", f"/GET/{key}.bin")

    def put_request(self, key, value):
        return self._http("PUT", f"/SET/{key}", value)

    get = Server.get
    put = Server.put

    def stored(self, key, size):
        return Redis.get(self, key, size)

    def settle(self):
        quiet = 0
        while quiet < self.QUIET_LOOKS:
            time.sleep(0.01)
            quiet = quiet + 1 if all(is_asleep(pid) for pid in self.pids()) else 0


class Etcd(Server):
    """Its JSON gateway: keys and values in base64."""

    name = "etcd"

    def __init__(self, base, cpu):
        super().__init__(base, cpu)
        self.peer_port = free_port()

    def commands(self):
        url, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer_port}"
        # The default quota of 2 GiB is less than what is put.
        return [["etcd", "--name", "bench", "--data-dir", self.dir / "data",
                 "--listen-client-urls", url, "--advertise-client-urls", url,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                 "--initial-cluster", f"bench={peer}", "--logger", "zap", "--log-level", "error",
                 "--quota-backend-bytes", 16 << 30]]

    def is_up(self, index):
        return super().is_up(index) and self.answers("/health") is not None

    def get_request(self, key, size):
        return self._http("POST", "/v3/kv/range", json.dumps(
            {"key": base64.b64encode(key.encode()).decode()}).encode())

    def put_request(self, key, value):
        return self._http("POST", "/v3/kv/put", json.dumps(
            {"key": base64.b64encode(key.encode()).decode(),
             "value": base64.b64encode(value).decode()}).encode())

    def value_in(self, body):
        kvs = json.loads(body).get("kvs", [{}])
        return base64.b64decode(kvs[0].get("value", ""))


@contextlib.contextmanager
def running(base, cpu, classes):
    """Starts one of each, paused; stops them all in the end."""
    servers = []
    try:
        for cls in classes:
            servers.append(cls(base, cpu))
            servers[-1].start()
            servers[-1].pause()
        yield servers
    finally:
        for server in servers:
            server.stop()
            shutil.rmtree(server.dir, ignore_errors=True)
