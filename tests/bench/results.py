"""From lines of measuring programs to medians, a table, a file of JSON and charts.

A line is an object with group, work, peer, round, value, unit, perhaps lower_is_better, and further
figures. Ratios are varve's value over the peer's, taken within each round; of them the median
counts."""

import collections
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys

import servers

# What varve is to reach: the least ratio, or, where less is better, the greatest.
TARGETS = {
    ("GET 100 B, 64 connections", "nginx"): 1.3,
    ("GET 100 B, 64 connections", "ceiling"): 0.95,
    ("GET 1 MiB, 64 connections", "nginx"): 1.0,
    ("PUT 100 B, 64 connections", "redis"): 1.0,
    ("PUT 100 B, 64 connections", "webdis"): 2.5,
    ("PUT 100 B, 64 connections", "etcd"): 10,
    ("PUT 100 B, 64 connections", "ceiling"): 0.6,
    ("GET 100 B during PUTs and compaction", "varve idle"): 2,
    ("random fill", "leveldb"): 2,
    ("synced fill, 16 threads", "rocksdb"): 3,
    ("random read", "lmdb"): 1.0,
    ("random read", "leveldb"): 2,
    ("full scan", "rocksdb"): 3,
    ("write amplification", "rocksdb"): 1.0,
    ("space amplification", "rocksdb"): 1.0,
}

# Further figures that the table shows, as medians.
SHOWN = {
    "rate": "at {:,.0f}/s",
    "cpu_us_per_op": "CPU {:.1f} us/op",
    "server_cpu": "server's CPU {:.0%}",
    "client_cpu": "client's {:.0%}",
    "p50_us": "p50 {:.0f}",
    "p99_us": "p99 {:.0f}",
    "p999_us": "p99.9 {:.0f}",
    "max_us": "max {:.0f} us",
    "late_p99_us": "client late p99 {:.0f}",
    "cold_share": "{:.0%} from the disk",
}


class Peer:
    """What one peer did at one work."""

    def __init__(self):
        self.rounds = {}
        self.extra = collections.defaultdict(list)
        self.unit, self.lower_is_better = "", False

    def add(self, line):
        self.rounds[line["round"]] = line["value"]
        self.unit = line["unit"]
        self.lower_is_better = line.get("lower_is_better", False)
        for name in SHOWN:
            if name in line:
                self.extra[name].append(line[name])

    def median(self):
        return statistics.median(self.rounds.values())

    def ratios_to(self, other):
        """Of this one's values over the other's, in rounds that both have."""
        return [value / other.rounds[i] for i, value in self.rounds.items() if other.rounds.get(i)]


def summarize(lines):
    """[{group, work, peer, unit, median, rounds, ratio, ratio_least, ratio_most, target, ...}]"""
    works = collections.defaultdict(lambda: collections.defaultdict(Peer))
    for line in lines:
        if "value" in line:
            works[line["group"], line["work"]][line["peer"]].add(line)
    rows = []
    for (group, work), peers in works.items():
        for name, peer in sorted(peers.items(), key=lambda item: item[0] != "varve"):
            row = {"group": group, "work": work, "peer": name, "unit": peer.unit,
                   "median": peer.median(), "rounds": len(peer.rounds)}
            ratios = peers["varve"].ratios_to(peer) if "varve" in peers and name != "varve" else []
            if ratios:
                row |= {"ratio": statistics.median(ratios), "ratio_least": min(ratios),
                        "ratio_most": max(ratios)}
            if (work, name) in TARGETS:
                sign = "<=" if peer.lower_is_better else ">="
                row["target"] = f"{sign} {TARGETS[work, name]:g}"
            row["figures"] = {key: statistics.median(peer.extra[key]) for key in SHOWN
                              if key in peer.extra}
            rows.append(row)
    return rows


def number(value):
    """Four digits at least, and no more of a large one than its own."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def by_group(rows):
    groups = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    return groups


def table(rows):
    """Of one group."""
    cells = [["work", "peer", "median", "", "varve/peer", "least..most", "target", "also"]]
    before = None
    for row in rows:
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        span = f"{row['ratio_least']:.2f}..{row['ratio_most']:.2f}" if "ratio" in row else ""
        also = ", ".join(SHOWN[key].format(value) for key, value in row["figures"].items())
        cells.append([row["work"] if row["work"] != before else "", row["peer"], number(row["median"]),
                      row["unit"], ratio, span, row.get("target", ""), also])
        before = row["work"]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    right = {2, 4, 5}
    return "\n".join(
        "  ".join(cell.rjust(width) if i in right else cell.ljust(width)
                  for i, (cell, width) in enumerate(zip(line, widths))).rstrip()
        for line in cells)


# --- What it ran on ---


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def field_of(path, name):
    """The first `name: value` in a file of such lines."""
    for line in pathlib.Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def machine(directory):
    return {
        "kernel": platform.release(),
        "cpu": field_of("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "memory": field_of("/proc/meminfo", "MemTotal"),
        "file_system": output_of("findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", "-T", directory),
        "system": output_of("sh", "-c", ". /etc/os-release && echo $PRETTY_NAME"),
        "load_before": os.getloadavg(),
    }


# What is measured, measures, or does the work; their versions are part of the results.
PACKAGES = ["etcd-server", "gcc", "libc6", "libisal2", "libleveldb1d", "liblmdb0",
            "libmicrohttpd12", "librocksdb7.8", "liburcu8", "libxxhash0", "nginx", "redis-server", "webdis", "wrk"]


def packages():
    """The versions of those that are installed."""
    versions = {name: output_of("dpkg-query", "-W", "-f", "${Version}", name) for name in PACKAGES}
    return {name: version for name, version in versions.items() if version}


def commit(root):
    text = output_of("git", "-C", root, "rev-parse", "HEAD")
    changed = output_of("git", "-C", root, "status", "--porcelain")
    return f"{text} (changed)" if changed else text


def command_line():
    return shlex.join([os.path.relpath(sys.argv[0]), *sys.argv[1:]])


def about(began, directory, seed, configurations):
    """What results are worth nothing without."""
    return {
        "time": began.isoformat(timespec="seconds"),
        "command": command_line(),
        "seed": seed,
        "commit": commit(servers.ROOT),
        "machine": machine(directory),
        "packages": packages(),
        "configurations": configurations,
    }


def write_json(path, what, lines, summary):
    text = json.dumps(what | {"summary": summary, "lines": lines}, indent=1)
    pathlib.Path(path).write_text(text + "\n", encoding="utf-8")


# --- Charts ---

PANEL_HEIGHT = 230
CHART = """\
set terminal svg size 860,{height} font 'sans-serif,12' background '#ffffff'
set output '{path}'
set multiplot layout {panels},1 title '{title}'
set style fill solid noborder
set boxwidth 0.6
set border 3
set tics nomirror
set ytics format '%.1s%c'
set grid ytics lc rgb '#dddddd'
set yrange [0:*]
set offsets 0.5,0.5,0,0
unset key
"""
PANEL = """\
set title '{title}'
set ylabel '{unit}'
$data << END
{data}
END
plot $data using 0:($2*1.15):(0) with points pt -1, \
     $data using 0:2:3:xtic(1) with boxes lc rgb variable, \
     $data using 0:2:4 with labels offset 0,0.7
"""
COLOUR_OF_VARVE, COLOUR_OF_OTHERS = 0x1F6FB2, 0xA8B4BF


def quoted(text):
    return text.replace("'", "''")


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def write_chart(path, title, rows):
    """One panel a work, one bar a peer."""
    works = {}
    for row in rows:
        works.setdefault(row["work"], []).append(row)
    script = CHART.format(height=60 + PANEL_HEIGHT * len(works), path=quoted(path),
                          panels=len(works), title=quoted(title))
    for work, peers in works.items():
        data = "\n".join(
            f'"{row["peer"]}" {row["median"]} '
            f'{COLOUR_OF_VARVE if row["peer"] == "varve" else COLOUR_OF_OTHERS} '
            f'"{number(row["median"])}"' for row in peers)
        script += PANEL.format(title=quoted(work), unit=quoted(peers[0]["unit"]), data=data)
    gnuplot(script)
