"""The program, run as its pod would run it: the rendered arguments and environment, the rendered
probes, the user of the security context, and SIGTERM in the middle of a load.

Only two things differ from the pod: the port is one that the kernel chooses, and the data is in a
temporary directory. $VARVE names the program.
"""
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from manifests import BASE, container, render

WRITERS = 8
ACKED_BEFORE_SIGTERM = 400


def value_of(key):
    """1 byte to 64 KiB, a function of the key: a wrong byte shows."""
    seed = sum(key.encode()) * 7919
    return (key + ";").encode() * (1 + seed % (65536 // (len(key) + 1)))


class Server:
    """varve with the rendered arguments; its log is kept for whoever looks at a failure."""

    def __init__(self, objects, data_dir):
        self.objects = objects
        self.pod = objects["StatefulSet", "varve"]["spec"]["template"]["spec"]
        self.container = container(objects)
        self.lines = []
        self.listening = threading.Event()
        # later options win over earlier ones
        arguments = self.container["args"] + ["--listen", "0.0.0.0:0", "--data-dir", str(data_dir)]
        environment = {e["name"]: e["value"] for e in self.container.get("env", [])}
        # what other Services in a namespace put there
        environment.update({"VARVE_PORT": "tcp://10.0.0.1:7070", "VARVE_SERVICE_HOST": "10.0.0.1"})
        for name in ("ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"):
            if name in os.environ:
                environment[name] = os.environ[name]
        self.process = subprocess.Popen([os.environ["VARVE"], *arguments], env=environment,
                                        cwd="/", stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        **user_of(self.pod, data_dir))
        self.reader = threading.Thread(target=self.read_log)
        self.reader.start()
        if not self.listening.wait(30):
            self.process.kill()
            raise AssertionError("no listening event:\n" + "\n".join(self.lines))

    def read_log(self):
        for line in self.process.stderr:
            line = line.decode(errors="replace").rstrip("\n")
            self.lines.append(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == "listening":
                self.port = int(event["addr"].rsplit(":", 1)[1])
                self.listening.set()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def probe(self, name):
        """One probe as the kubelet sends it: a connection of its own. Returns the status, or None
        where there is no answer in time."""
        probe = self.container[name]
        connection = http.client.HTTPConnection("127.0.0.1", self.port,
                                                timeout=probe["timeoutSeconds"])
        try:
            connection.request("GET", probe["httpGet"]["path"],
                               headers={"User-Agent": "kube-probe/1.30", "Connection": "close"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait_started(self):
        probe = self.container["startupProbe"]
        deadline = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"]
        while self.probe("startupProbe") != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("not started:\n" + "\n".join(self.lines))
            time.sleep(0.02)

    def wait_exit(self):
        """The exit status; kills like the kubelet once the grace period is over."""
        try:
            return self.process.wait(self.pod["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "killed at the end of the grace period"
        finally:
            self.reader.join()
            self.process.stderr.close()

    def events(self):
        return [json.loads(line)["event"] for line in self.lines if line.startswith("{")]


def user_of(pod, data_dir):
    """The user of the security context, where we may become it and it may reach program and
    data."""
    if os.getuid() != 0:
        return {}
    program = pathlib.Path(os.environ["VARVE"]).resolve()
    folders = {*program.parents, *data_dir.resolve().parents}
    if not all(folder.stat().st_mode & 0o001 for folder in folders):
        print("run as root: the pod's user can't reach the program or the data")
        return {}
    context = pod["securityContext"]
    os.chown(data_dir, context["runAsUser"], context["fsGroup"])
    return {"user": context["runAsUser"], "group": context["runAsGroup"], "extra_groups": []}


class Writer(threading.Thread):
    """Puts one key after another over a kept connection until nobody listens any more."""

    def __init__(self, server, number, counter):
        super().__init__()
        self.server = server
        self.name = "writer%d" % number
        self.counter = counter
        self.draining = threading.Event()
        self.acked = []         # keys with a 2xx
        self.acked_late = 0     # of these, begun after readiness was lost
        self.kept_open = 0      # of these, answered without Connection: close
        self.unanswered = []    # keys sent, and the connection closed without an answer
        self.refused = []       # keys with another status
        self.failure = None

    def put(self, connection, key):
        """False once connections are refused."""
        late = self.draining.is_set()
        try:
            if connection.sock is None:
                connection.connect()
        except OSError:
            return False
        try:
            connection.request("PUT", "/kv/" + key, value_of(key))
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self.unanswered.append(key)
            return True
        if answer.status not in (200, 201, 204):
            self.refused.append((key, answer.status))
            return True
        self.acked.append(key)
        self.acked_late += late
        self.kept_open += late and answer.getheader("Connection", "").lower() != "close"
        self.counter.release()
        return True

    def run(self):
        connection = self.server.connect()
        number = 0
        try:
            while self.put(connection, "%s/%d" % (self.name, number)):
                number += 1
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error
        finally:
            connection.close()


class Pod(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.objects = render(BASE)

    def setUp(self):
        self.data_dir = pathlib.Path(tempfile.mkdtemp(prefix="varve-pod-"))
        self.addCleanup(shutil.rmtree, self.data_dir)
        self.servers = []
        self.addCleanup(self.stop_all)

    def start(self):
        server = Server(self.objects, self.data_dir)
        self.servers.append(server)
        server.wait_started()
        return server

    def stop_all(self):
        for server in self.servers:
            if server.process.poll() is None:
                server.process.kill()
                server.wait_exit()

    def assertStops(self, server):
        began = time.monotonic()
        self.assertEqual(server.wait_exit(), 0, "\n".join(server.lines[-20:]))
        return time.monotonic() - began

    def test_an_idle_pod_becomes_ready_and_stops_cleanly(self):
        server = self.start()
        self.assertEqual(server.probe("livenessProbe"), 200)
        self.assertEqual(server.probe("readinessProbe"), 200)
        server.process.send_signal(signal.SIGTERM)
        self.assertStops(server)
        for event in ("ready", "draining", "stopped"):
            self.assertIn(event, server.events())

    def wait_unready(self, server):
        """Sends readiness probes until one fails; the time that took."""
        began = time.monotonic()
        while server.probe("readinessProbe") == 200:
            self.assertLess(time.monotonic() - began, 2)
        return time.monotonic() - began

    def test_a_pod_stopped_under_load_answers_every_write_that_it_took(self):
        server = self.start()
        counter = threading.Semaphore(0)
        writers = [Writer(server, n, counter) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        for _ in range(ACKED_BEFORE_SIGTERM):
            self.assertTrue(counter.acquire(timeout=30), "the load came to a stop")

        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        unready = self.wait_unready(server)
        self.assertEqual(server.probe("readinessProbe"), 503)
        self.assertEqual(server.probe("livenessProbe"), 200)
        for writer in writers:
            writer.draining.set()
        self.assertStops(server)
        took = time.monotonic() - began
        for writer in writers:
            writer.join(30)
            self.assertFalse(writer.is_alive())
            self.assertIsNone(writer.failure)
            self.assertEqual(writer.refused, [])

        acked = [key for writer in writers for key in writer.acked]
        unanswered = [key for writer in writers for key in writer.unanswered]
        late = sum(writer.acked_late for writer in writers)
        print("%d writes answered, %d of them while draining, %d connections closed before an "
              "answer; unready after %.3f s, exit after %.3f s"
              % (len(acked), late, len(unanswered), unready, took))
        self.assertGreater(late, 0)
        self.assertEqual(sum(writer.kept_open for writer in writers), 0)
        self.check_contents(acked, unanswered)

    def check_contents(self, acked, unanswered):
        """After a restart: what was answered is there, what was not answered was not taken."""
        server = self.start()
        connection = server.connect()
        for key in acked:
            connection.request("GET", "/kv/" + key)
            answer = connection.getresponse()
            self.assertEqual(answer.read(), value_of(key), key)
        for key in unanswered:
            connection.request("GET", "/kv/" + key)
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(answer.status, 404, key)
        connection.close()
        server.process.send_signal(signal.SIGTERM)
        self.assertStops(server)


if __name__ == "__main__":
    unittest.main(verbosity=2)
