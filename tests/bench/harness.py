"""What run and soak share: building, a directory that goes away, CPUs, a seed."""

import contextlib
import datetime
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile

import servers

OUT = servers.ROOT / "build/bench"


def build(*targets):
    """Installs what is missing, builds the release."""
    subprocess.run([servers.ROOT / "deploy/install-packages", "build", "test", "bench", "peers"],
                   check=True)
    for command in (["cmake", "--preset", "release"],
                    ["cmake", "--build", "--preset", "release", "--target", "varve", *targets]):
        done = subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stdout + done.stderr)


def cpus():
    """One for the servers, one for the clients."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        sys.exit("two CPUs are needed: one for the servers, one for the clients")
    return usable[:2]


def seed():
    return os.environ.get("VARVE_TEST_SEED") or str(random.SystemRandom().getrandbits(64))


def name_of(began):
    """What names of results start with."""
    return str(OUT / began.strftime("%Y%m%dT%H%M%SZ"))


def now():
    return datetime.datetime.now(datetime.timezone.utc)


@contextlib.contextmanager
def directory(base=OUT):
    """For all that is only needed meanwhile. Signals and wrong answers end the program orderly:
    nothing is left running, and the directory goes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("stopped"))
    OUT.mkdir(parents=True, exist_ok=True)
    path = pathlib.Path(tempfile.mkdtemp(prefix="data-", dir=base)).resolve()
    try:
        yield path
    except servers.Void as why:
        sys.exit(f"VOID, nothing of this run counts: {why}")
    except KeyboardInterrupt:
        sys.exit("stopped")
    finally:
        shutil.rmtree(path, ignore_errors=True)
