"""The comparison: the same load on ourselves and on the peers, one after the other.

What is measured has one core, the generator the other. CPU time is that of the measured processes, as
the kernel counts it, over a window in which the load is steady; it says more than wall time on a machine
that is shared. Peers are programs of others, started with their own configuration and ended here.
"""

import contextlib
import itertools
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import tempfile
import time

from wire import Loopback, Wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "bench/compare"
BIN = ROOT / "target/release"
# Another run on this machine has another address.
NET = f"127.88.{os.getpid() % 250 + 1}"
IP = f"{NET}.1"
LOOPBACK = Loopback(IP, IP)
QUICK = os.environ.get("QUICK") == "1"
# On a machine that others use, what is measured and its load go ahead of everything else.
AHEAD = ["nice", "-n", "-20"] if os.environ.get("AHEAD") == "1" else []
PAGE = os.sysconf("SC_PAGE_SIZE")
SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix="tandem-compare-", dir="/dev/shm"))
RESULTS = ROOT / "target/compare/results.jsonl"
STARTED = []
PORTS = range(10_000, 12_000, 2)
UNGIVEN = iter(PORTS)


def free_port():
    """A port that is free with its neighbour, given once, and none that the kernel gives to whoever asks for any."""
    for port in UNGIVEN:
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for kind in socket.SOCK_DGRAM, socket.SOCK_STREAM:
                for number in port, port + 1:
                    probes.enter_context(socket.socket(socket.AF_INET, kind)).bind((IP, number))
            return port
    raise SystemExit(f"compare: no port is left at {IP} from {PORTS.start} to {PORTS.stop}")


def start(core, command, log, **more):
    output = open(SCRATCH / log, "ab")
    process = subprocess.Popen([*AHEAD, "taskset", "-c", str(core), *map(str, command)], stdin=subprocess.DEVNULL,
                               stdout=output, stderr=output, start_new_session=True, **more)
    go_ahead(process.pid)
    STARTED.append(process)
    return process


def go_ahead(pid):
    """Sessions share a core evenly, however nice their processes are, unless the session goes ahead as well."""
    group = pathlib.Path(f"/proc/{pid}/autogroup")
    if AHEAD and group.exists():
        group.write_text("-20")


def end(process):
    """SIGTERM, then SIGKILL to its session: some peers have children."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def await_udp(port, process, log):
    for _ in range(200):
        if process.poll() is not None:
            break
        # The sockets of its namespace, whichever that is.
        if f":{port:04X} " in pathlib.Path(f"/proc/{process.pid}/net/udp").read_text():
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise SystemExit(f"compare: did not start:\n{(SCRATCH / log).read_text()[-2000:]}")


def stat(pid):
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return text.rsplit(")", 1)[1].split()


def ran(task):
    """Seconds of CPU of a thread, to the nanosecond; ticks are a twentieth of a short turn."""
    try:
        return int((task / "schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


def family(pid):
    """A process and its children."""
    found = [pid]
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(stat(entry.name)[1]) in found:
                found.append(int(entry.name))
        except (OSError, IndexError):
            pass
    return found


class Measured:
    """Something under load: its processes, the port calls go to, and where it sends them."""

    def __init__(self, name, way=LOOPBACK):
        self.name, self.way, self.callee, self.port = name, way, free_port(), free_port()
        self.processes, self.aside = [], []
        # What ended before gives its kernel memory back a moment later.
        time.sleep(2)
        self.slab = slab()

    def pids(self):
        return [pid for process in self.processes for pid in family(process.pid)]

    def cpu(self):
        """CPU seconds so far, of the threads there are and of the kernel's that receives for them."""
        tasks = [task for pid in self.pids() for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
        return self.way.receiving() + sum(map(ran, tasks))

    def memory(self):
        """Bytes: resident, shared memory files, and what the kernel took for sockets since the start."""
        resident = 0
        for pid in self.pids():
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            resident += next(int(l.split()[1]) for l in text.splitlines() if l.startswith("Pss:")) * 1024
        return resident, max(0, slab() - self.slab)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes + self.aside:
            end(process)


def slab():
    """Bytes of kernel memory for sockets and their files."""
    total = 0
    for line in pathlib.Path("/proc/slabinfo").read_text().splitlines()[2:]:
        name, objects, _all, size, *_ = line.split()
        if name in ("UDP", "UDPv6", "sock_inode_cache", "filp", "dentry", "skbuff_head_cache"):
            total += int(objects) * int(size)
    return total


class Ours(Measured):
    def __init__(self, driver, sockets="shared", caller="", calls=4900):
        super().__init__(f"sbcd ({driver}, {sockets} sockets)")
        run = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=SCRATCH))
        config = run / "sbcd.toml"
        config.write_text(f"""
[node]
name = "compare"
max_calls = {calls}
max_cps = 10000
shards = 1
pin = false
driver = "{driver}"
media_sockets = "{sockets}"
[[interface]]
name = "loop"
bind = "{IP}:{self.port}"
media_ports = "12000-32000"
allow = ["loopback"]
[[trunk]]
name = "in"
interface = "loop"
sources = ["127.0.0.0/8"]
{caller}
[[trunk]]
name = "out"
interface = "loop"
endpoints = ["{IP}:{self.callee}"]
sources = ["{IP}:{self.callee}"]
[[route]]
prefix = ""
to = ["out"]
""")
        log = f"sbcd-{run.name}.log"
        environment = {**os.environ, "TANDEM_RUN": str(run)}
        self.processes = [start(1, [BIN / "sbcd", "--config", config], log, env=environment)]
        await_udp(self.port, self.processes[0], log)
        time.sleep(1)


class Between(Measured):
    """Two of us: calls come over UDP, cross to the second over a transport, and leave over UDP. The first is
    measured, so half of its signalling is over the transport, on one connection that stays."""

    def __init__(self, transport, first_media_port, way):
        super().__init__(transport.upper(), way)
        self.middle, self.media = free_port(), f"{first_media_port}-{first_media_port + 5999}"
        run = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=SCRATCH))
        certificate(run, "ECDSA P-256", way.far)
        over = "" if transport == "udp" else f'transport = "{transport}"\n'
        second = self.node(run, "second", (way.far, self.middle), (over, ""), self.callee, 0)
        first = self.node(run, "first", (way.near, self.port), ("", over), self.middle, 1)
        self.processes, self.aside = [first], [second]

    def node(self, run, name, at, transports, callee, core):
        folder = run / name
        folder.mkdir()
        (address, port), (near, far) = at, transports
        streams, keys = "", ""
        if near or far:
            streams = f"tcp_port = {port + 1}\ntls_port = {port}\n"
            keys = f'[tls]\ncertificate = "{run}/tls.pem"\nkey = "{run}/key.pem"\nca = "{run}/tls.pem"\n'
        (folder / "sbcd.toml").write_text(f"""
[node]
name = "{name}"
max_calls = 1500
max_cps = 10000
shards = 1
pin = false
{keys}
[[interface]]
name = "{self.way.name}"
bind = "{address}:{port}"
media_ports = "{self.media}"
{self.way.allow}
{streams}
[[trunk]]
name = "in"
interface = "{self.way.name}"
sources = ["{self.way.sources}"]
{near}
[[trunk]]
name = "out"
interface = "{self.way.name}"
endpoints = ["{self.way.far}:{callee + 1 if 'tcp' in far else callee}"]
sources = ["{self.way.far}:{callee}"]
{far}
[[route]]
prefix = ""
to = ["out"]
""")
        environment = {**os.environ, "TANDEM_RUN": str(folder)}
        process = start(core, [*self.way.at(address), BIN / "sbcd", "--config", folder / "sbcd.toml"], f"{name}.log",
                        env=environment)
        await_udp(port, process, f"{name}.log")
        time.sleep(1)
        return process


def certificate(run, key, address=IP):
    """A certificate that is its own root, in `tls.pem`, its key in `key.pem`."""
    kinds = {"ECDSA P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "RSA-2048": ["rsa:2048"]}
    command = ["openssl", "req", "-x509", "-newkey", *kinds[key], "-nodes", "-subj", "/CN=compare", "-addext",
               f"subjectAltName=IP:{address}", "-addext", "basicConstraints=CA:FALSE", "-days", "2",
               "-keyout", run / "key.pem", "-out", run / "tls.pem"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


class Listening(Measured):
    """A node to which TLS connections come, beside calls over UDP."""

    def __init__(self, key, asks=False):
        super().__init__(key + (", both sides" if asks else ""))
        self.run = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=SCRATCH))
        certificate(self.run, key)
        self.tls = free_port()
        (self.run / "sbcd.toml").write_text(f"""
[node]
name = "compare"
max_calls = 4900
max_cps = 10000
shards = 1
pin = false
[tls]
certificate = "{self.run}/tls.pem"
key = "{self.run}/key.pem"
ca = "{self.run}/tls.pem"
verify_clients = {str(asks).lower()}
[[interface]]
name = "loop"
bind = "{IP}:{self.port}"
media_ports = "12000-32000"
allow = ["loopback"]
tls_port = {self.tls}
[[trunk]]
name = "in"
interface = "loop"
sources = ["127.0.0.0/8"]
[[trunk]]
name = "in-tls"
interface = "loop"
transport = "tls"
sources = ["127.0.0.0/8"]
[[trunk]]
name = "out"
interface = "loop"
endpoints = ["{IP}:{self.callee}"]
sources = ["{IP}:{self.callee}"]
[[route]]
prefix = ""
to = ["out"]
""")
        environment = {**os.environ, "TANDEM_RUN": str(self.run)}
        command = [BIN / "sbcd", "--config", self.run / "sbcd.toml"]
        self.processes = [start(1, command, "listening.log", env=environment)]
        await_udp(self.port, self.processes[0], "listening.log")
        time.sleep(1)


class Kamailio(Measured):
    def __init__(self, name, *defines, core=1):
        super().__init__(name)
        ng = free_port()
        if "WITH_MEDIA" in defines:
            command = ["rtpengine", "-f", f"--interface={IP}", f"--listen-ng={IP}:{ng}", "--table=-1",
                       "--num-threads=1", "--port-min=12000", "--port-max=32000", "--log-level=3",
                       "--log-stderr", "--delete-delay=0", f"--pidfile={SCRATCH}/rtpengine.pid"]
            self.processes.append(start(1, command, "rtpengine.log"))
            await_udp(ng, self.processes[0], "rtpengine.log")
            core = 0
        config = SCRATCH / f"kamailio-{self.port}.cfg"
        text = (HERE / "kamailio.cfg").read_text()
        for word, value in (("IP:PORT", f"{IP}:{self.port}"), ("NEXT", f"{IP}:{self.callee}"),
                            ("udp:NG", f"udp:{IP}:{ng}")):
            text = text.replace(word, value)
        config.write_text(text)
        command = ["kamailio", "-DD", "-E", "-m", "1024", "-M", "16", "-n", "2", "-f", config,
                   "-P", SCRATCH / "kamailio.pid", "-Y", SCRATCH]
        command += [word for define in defines for word in ("-A", define)]
        process = start(core, command, "kamailio.log")
        await_udp(self.port, process, "kamailio.log")
        (self.aside if "WITH_MEDIA" in defines else self.processes).append(process)


def load(target, calls, rate, hold, *more):
    return start_load(target, calls, rate, hold, *more)()


def start_load(target, calls, rate, hold, *more, measured=False):
    """Begins a load; the result waits for its report. `measured`: nothing else on its core goes before it."""
    first = ["chrt", "-f", "10"] if measured else AHEAD
    near, far = target.way.near, target.way.far
    command = [*first, "taskset", "-c", "0", *target.way.at(far), BIN / "sbcload", "call", "--json",
               "--expect-failures", *target.way.options, "--to", f"{near}:{target.port}", "--uac", f"{far}:{free_port()}",
               "--uas", f"{far}:{target.callee}", "--media-ip", far,
               "--calls", calls, "--rate", rate, "--hold", hold, *more]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)

    def finish():
        text = process.communicate(timeout=240)[0]
        return json.loads(text.strip().splitlines()[-1])

    return finish


def probe(target, count=200):
    command = ["taskset", "-c", "0", BIN / "sbcload", "probe", "--json", "--to", f"{IP}:{target.port}",
               "--uac", f"{IP}:{free_port()}", "--count", count, "--interval-ms", "10"]
    output = subprocess.run([str(word) for word in command], capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def record(name, load_text, unit, ours, peer=None, theirs=None):
    ratio = ours / theirs if theirs else None
    line = {"name": name, "load": load_text, "unit": unit, "ours": round(ours, 3), "peer": peer,
            "theirs": None if theirs is None else round(theirs, 3),
            "ratio": None if ratio is None else round(ratio, 3)}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


def table(title, heads, rows):
    rows = [[str(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    print(f"\n{title}\n")
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(flush=True)


def media_window(target, calls, seconds, *more):
    """Holds calls with G.711 both ways; CPU per relayed packet in a steady window, and the report. Of calls
    that are encrypted none is set up beside: the probe has no keys."""
    ramp = calls / 200
    hold = seconds + ramp + 4
    finish = start_load(target, calls, 200, hold, *more)
    time.sleep(ramp + 2)
    before, begin = target.cpu(), time.monotonic()
    beside = None if more else probe(target)
    time.sleep(max(0.0, seconds - (time.monotonic() - begin)))
    spent, lasted = target.cpu() - before, time.monotonic() - begin
    memory = target.memory()
    report = finish()
    # What arrived, not what was offered: a peer that loses calls has less to relay.
    return spent / (lasted * report["rtp"]["received"] / hold) * 1e6, spent / lasted, beside, memory, report


def media():
    """The relay and its peer in turns: of several rounds the one in the middle counts, by CPU per packet."""
    seconds, rounds, peer, rows = 3 if QUICK else 8, 1 if QUICK else 3, "rtpengine (userspace)", []
    makers = [lambda: Ours("io_uring"), lambda: Kamailio(peer, "WITH_MEDIA"),
              lambda: Ours("epoll"), lambda: Ours("io_uring", "own")]
    for calls, turns in ((500, rounds),) if QUICK else ((500, rounds), (2000, 1)):
        seen = {}
        for _ in range(turns):
            for make in makers if calls == 500 else makers[:2]:
                with make() as target:
                    seen.setdefault(target.name, []).append(media_window(target, calls, seconds))
        other = middle(seen[peer])
        for name, runs in seen.items():
            cost, share, beside, memory, report = mine = middle(runs)
            rtp, setup = report["rtp"], beside["setup_us"]
            delay = rtp["delay_us"]
            each = " ".join(f"{ours[0] / theirs[0]:.2f}" for ours, theirs in zip(runs, seen[peer]))
            rows.append([name, calls, f"{cost:.2f}", f"{cost / other[0]:.2f}", each, f"{share * 100:.0f} %",
                         f"{rtp['loss_percent']:.3f} %", delay["p50"], delay["p99"],
                         f"{setup['p50']} / {setup['p99']}", f"{memory[0] / calls / 1000:.1f}",
                         f"{memory[1] / calls / 1000:.1f}", f"{report['clean']} of {calls}"])
            if name.startswith("sbcd"):
                beat(f"{calls} calls, {name}", mine, other, calls)
    table("Media: calls with G.711 both ways, 100 packets a second each, relay on one core",
          ["relay", "calls", "CPU us/packet", "of rtpengine", "each round", "core", "loss", "delay p50 us", "p99 us",
           "set-up beside p50/p99 us", "kB/call", "kernel kB/call", "clean"], rows)


def middle(runs):
    """The run with the median CPU per packet."""
    return sorted(runs, key=lambda run: run[0])[len(runs) // 2]


def beat(what, mine, other, calls):
    """Records a run of ours beside the peer's."""
    (cost, _, beside, memory, report), (their_cost, _, their_beside, their_memory, their_report) = mine, other
    record("relay CPU per packet", what, "us", cost, "rtpengine", their_cost)
    if calls == 2000:
        record("memory per call", what, "kB", sum(memory) / calls / 1000, "rtpengine", sum(their_memory) / calls / 1000)
    rtp, their_rtp = report["rtp"], their_report["rtp"]
    record("packet delay p99", what, "us", rtp["delay_us"]["p99"], "rtpengine", their_rtp["delay_us"]["p99"])
    record("packet loss", what, "percent", rtp["loss_percent"], "rtpengine", their_rtp["loss_percent"])
    record("set-up p99 beside media", what, "us", beside["setup_us"]["p99"], "Kamailio and rtpengine",
           their_beside["setup_us"]["p99"])


def srtp():
    """The caller encrypted (SDES), the callee plain; libsrtp2 seals and checks every packet of the caller."""
    calls, seconds = 300, 3 if QUICK else 8
    keyed = 'srtp = "required"\nsrtp_over_plain_sip = true\n'
    suites = {"cm": "AES_CM_128_HMAC_SHA1_80", "gcm": "AEAD_AES_128_GCM"}
    costs, rows = {}, []
    for suite, name in suites.items():
        for make in (lambda: Ours("io_uring", caller=keyed),
                     lambda: Kamailio("rtpengine (userspace)", "WITH_MEDIA", "WITH_SRTP")):
            with make() as target:
                cost, share, _, memory, report = media_window(target, calls, seconds, "--srtp", suite)
                rtp = report["rtp"]
                costs[target.name, name] = cost
                rows.append([target.name, name, f"{cost:.2f}", f"{share * 100:.0f} %",
                             f"{rtp['loss_percent']:.3f} %", rtp["received"], rtp["bad"],
                             rtp["delay_us"]["p50"], rtp["delay_us"]["p99"],
                             f"{memory[0] / calls / 1000:.1f}", f"{report['clean']} of {calls}"])
    table(f"SRTP (SDES) to RTP: {calls} calls with G.711 both ways, relay on one core",
          ["relay", "suite", "CPU us/packet", "core", "loss", "authentic", "not", "delay p50 us", "p99 us",
           "kB/call", "clean"], rows)
    for name in suites.values():
        ours = costs["sbcd (io_uring, shared sockets)", name]
        record("SRTP to RTP, CPU per packet", f"{calls} calls, {name}", "us", ours, "rtpengine",
               costs["rtpengine (userspace)", name])


def callee(target):
    """The called side alone, beside what the caller's program does."""
    command = [BIN / "sbcload", "uas", "--listen", f"{IP}:{target.callee}", "--no-media", "--seconds", 120]
    process = start(0, command, "uas.log")
    target.aside.append(process)
    await_udp(target.callee, process, "uas.log")


def shake(target, calls, hold):
    """Begins calls that all shake hands at once; the result waits for their report."""
    command = ["taskset", "-c", "0", BIN / "sbcload", "shake", "--json", "--to", f"{IP}:{target.port}",
               "--uac", f"{IP}:{free_port()}", "--calls", calls, "--rate", 200, "--hold", hold]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    return lambda: json.loads(process.communicate(timeout=120)[0].strip().splitlines()[-1])


def secured():
    """What an encrypted call takes of memory, and what handshakes do to the packets of others."""
    sdes = 'srtp = "required"\nsrtp_over_plain_sip = true\n'
    dtls = 'srtp = "required"\nsrtp_keys = ["dtls"]\n'
    calls, at_once, rows = (300, 300, []) if QUICK else (2000, 1000, [])
    with Ours("io_uring", calls=1) as idle:
        empty = idle.memory()[0]
    for name, caller in (("plain", ""), ("keys in SIP", sdes), ("DTLS", dtls)):
        with Ours("io_uring", caller=caller, calls=calls) as target:
            if name == "DTLS":
                callee(target)
                finish = shake(target, calls, 8)
            else:
                more = ["--srtp", "cm"] if caller else []
                finish = start_load(target, calls, 200, calls / 200 + 8, "--no-media", *more)
            # Up, and some seconds on: what a handshake needs is kept for half a minute.
            time.sleep(calls / 200 + 4)
            each = (target.memory()[0] - empty) / calls / 1000
            report = finish()
            clean = report["over"] if name == "DTLS" else report["clean"]
            rows.append([name, f"{each:.1f}", f"{clean} of {calls}"])
            record("memory per call, caller encrypted", f"{calls} calls, {name}", "kB", each)
    table(f"Memory: a node with {calls} calls against an idle one of capacity 1; the caller's side encrypted",
          ["caller", "kB/call", "clean"], rows)
    rows = []
    for burst in (0, at_once):
        with Ours("io_uring", caller=dtls.replace("required", "preferred")) as target:
            # What measures goes first, so that the peers' own arithmetic is not taken for the relay's.
            finish = start_load(target, 100, 200, at_once / 200 + 6, measured=True)
            time.sleep(1)
            shaken = {"keyed": 0, "lasted_ms": 0, "keyed_us": {"p50": 0, "max": 0}}
            if burst:
                shaken = shake(target, burst, 0)()
            rtp = finish()["rtp"]
            delay, keyed = rtp["delay_us"], shaken["keyed_us"]
            rows.append([burst, shaken["keyed"], shaken["lasted_ms"], f"{keyed['p50'] / 1000:.0f}",
                         f"{rtp['loss_percent']:.3f} %", delay["p50"], delay["p99"], delay["p999"], delay["max"]])
            record("packet delay p99.9", f"{burst} DTLS handshakes at once", "us", delay["p999"])
    table("100 calls with G.711 both ways, and DTLS handshakes that begin at once beside them",
          ["at once", "got keys", "all within ms", "half within ms", "loss", "delay p50 us", "p99 us", "p99.9 us",
           "max us"], rows)


def signalling():
    seconds = 2 if QUICK else 5
    makers = [lambda: Ours("io_uring"), lambda: Kamailio("Kamailio, stateful proxy"),
              lambda: Kamailio("Kamailio, dialog + topoh", "WITH_DIALOG", "WITH_TOPOH")]
    rows, seen = [], {}
    for rate in (1000, 3000, 4000):
        for make in makers if rate < 4000 else makers[:2]:
            with make() as target:
                calls = rate * seconds
                before = target.cpu()
                finish = start_load(target, calls, rate, 0.5, "--no-media")
                time.sleep(1)
                beside = probe(target, 100)["setup_us"]
                report = finish()
                cost = (target.cpu() - before) / (calls + 100) * 1e6
                seen[target.name, rate] = (cost, beside, report)
                failed = calls - report["clean"]
                rows.append([target.name, rate, f"{cost:.0f}", f"{beside['p50']} / {beside['p99']}",
                             failed, report["retransmissions"]["caller"]])
    table("Signalling: INVITE, 180, 200, ACK, BYE, 200 without media, on one core",
          ["element", "calls/s", "CPU us/call", "INVITE to 200 p50/p99 us", "not clean", "repeated"], rows)
    ours = next(name for name, _ in seen if name.startswith("sbcd"))
    for (name, rate), (cost, setup, report) in seen.items():
        if name == ours:
            continue
        mine = seen[ours, rate]
        record("CPU per call", f"{rate} cps", "us", mine[0], name, cost)
        record("set-up p50", f"{rate} cps", "us", mine[1]["p50"], name, setup["p50"])
        record("set-up p99", f"{rate} cps", "us", mine[1]["p99"], name, setup["p99"])
        record("calls not clean", f"{rate} cps", "calls", rate * seconds - mine[2]["clean"], name,
               rate * seconds - report["clean"])


def transports():
    """CPU per call of a node whose outgoing side is a connection, beside one whose is not: on a wire, as with a
    network card, and over the loopback."""
    with Wire(bool(AHEAD)) as wire:
        for way in (wire, Loopback(IP, f"{NET}.2")):
            between(way)


def between(way):
    """The machine is never as fast twice: a node for each transport is up, and they take short turns. Nor are two
    processes of one program, by a tenth: there are some of each, one after the other. What counts is the median of
    each turn's ratio."""
    over, (starts, turns) = ("udp", "tcp", "tls"), (1, 2) if QUICK else (4, 3)
    rates = (500,) if QUICK else (500, 1000, 2000)
    spent, received, setups = ({(transport, rate): [] for transport in over for rate in rates} for _ in range(3))
    unclean = dict.fromkeys(spent, 0)
    for _ in range(starts):
        with contextlib.ExitStack() as stack:
            targets = {transport: stack.enter_context(Between(transport, 12000 + n * 6000, way))
                       for n, transport in enumerate(over)}
            # The first turn warms them up.
            for rate, turn in itertools.product(rates, range(-1, turns)):
                for transport in over if turn % 2 else over[::-1]:
                    target, what, calls = targets[transport], (transport, rate), min(rate, 1000)
                    before = target.cpu(), way.receiving()
                    report = load(target, calls, rate, 0.2, "--no-media")
                    unclean[what] += calls - report["clean"]
                    if turn >= 0:
                        spent[what].append((target.cpu() - before[0]) / calls * 1e6)
                        received[what].append((way.receiving() - before[1]) / calls * 1e6)
                        setups[what].append(report["setup_us"])
    rows = []
    for transport, rate in sorted(spent, key=lambda what: what[1]):
        costs, udp = (spent[which, rate] for which in (transport, "udp"))
        low, ratio, high = statistics.quantiles((mine / other for mine, other in zip(costs, udp)), n=4)
        cost = statistics.median(costs)
        setup = (statistics.median(each[part] for each in setups[transport, rate]) / 1000 for part in ("p50", "p99"))
        rows.append([transport.upper(), rate, f"{cost:.0f}", f"{statistics.median(received[transport, rate]):.0f}",
                     f"{ratio:.2f}", f"{low:.2f} to {high:.2f}", " / ".join(f"{each:.1f}" for each in setup),
                     unclean[transport, rate]])
        record(f"CPU per call, outgoing side, {way.name}", f"{rate} cps over {transport}, median of turns",
               "us", cost, "UDP", statistics.median(udp))
    table(f"Transports, {way.name}: the same call, incoming over UDP, outgoing over one connection that stays; "
          f"{turns} turns of each of {starts} processes",
          ["outgoing over", "calls/s", "CPU us/call", "of them kernel's receiving", "of UDP", "half of the turns",
           "setup ms p50 / p99", "not clean"], rows)


OPTIONS = (f"OPTIONS sip:{IP} SIP/2.0\r\nVia: SIP/2.0/TLS {IP};branch=z9hG4bKidle;rport\r\nMax-Forwards: 70\r\n"
           f"From: <sip:t@{IP}>;tag=f\r\nTo: <sip:{IP}>\r\nCall-ID: idle\r\nCSeq: 1 OPTIONS\r\n"
           "Content-Length: 0\r\n\r\n").encode()


def sessions(target, count):
    """Connections that have carried one request each and are idle; of several addresses, as one may have 1,024."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(target.run / "tls.pem")
    opened = []
    for number in range(count):
        source = (f"127.0.0.{2 + number % 4}", 0)
        plain = socket.create_connection((IP, target.tls), timeout=5, source_address=source)
        session = context.wrap_socket(plain, server_hostname=IP)
        session.sendall(OPTIONS)
        assert session.recv(4096).startswith(b"SIP/2.0 200 ")
        opened.append(session)
    return opened


def hellos(target, count):
    """As many peers begin a handshake at once: each gets its answer, which is the dearest step of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(heard, said, server_hostname=IP)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello, opened = said.read(), []
    for number in range(count):
        source = (f"127.0.0.{2 + number % 4}", 0)
        opened.append(socket.create_connection((IP, target.tls), timeout=5, source_address=source))
    for plain in opened:
        plain.sendall(hello)
    return sum(1 for plain in opened if is_answered(plain))


def is_answered(plain):
    try:
        return len(plain.recv(64)) > 0
    except OSError:
        return False


def tls():
    """Handshakes by kind of key, and memory of idle connections."""
    rows, seconds = [], 2 if QUICK else 5
    for key, asks in (("ECDSA P-256", False), ("ECDSA P-256", True), ("RSA-2048", False)):
        with Listening(key, asks) as target:
            command = ["taskset", "-c", "0", "openssl", "s_time", "-connect", f"{IP}:{target.tls}", "-new",
                       "-time", seconds, "-CAfile", target.run / "tls.pem"]
            if asks:
                command += ["-cert", target.run / "tls.pem", "-key", target.run / "key.pem"]
            before = target.cpu()
            said = subprocess.run([str(word) for word in command], capture_output=True, text=True).stdout
            spent = target.cpu() - before
            count = int(re.search(r"(\d+) connections in \d+ real seconds", said).group(1))
            rows.append([target.name, count, f"{spent / count * 1e6:.0f}", f"{count / spent:.0f}"])
            record("handshakes per core-second", target.name, "handshakes", count / spent)
    table("TLS 1.3 handshakes, one after the other, connection and its end included",
          ["keys", "made", "CPU us each", "per core-second"], rows)
    with Listening("ECDSA P-256") as target:
        count = 200 if QUICK else 1000
        sessions(target, 20)
        before = target.memory()[0]
        opened = sessions(target, count)
        own = (target.memory()[0] - before) / len(opened) / 1000
        table("Idle TLS connections, each after one request and its answer; the kernel's own share apart",
              ["connections", "kB each"], [[len(opened), f"{own:.1f}"]])
        record("memory of an idle TLS connection", f"{len(opened)} connections", "kB", own)


def waited(target):
    """Seconds that the shard's thread has been ready to run and did not, so far."""
    for task in pathlib.Path(f"/proc/{target.processes[0].pid}/task").iterdir():
        if (task / "comm").read_text().startswith("shard-"):
            return int((task / "schedstat").read_text().split()[1]) / 1e9
    return 0.0


def handshakes():
    """What many TLS handshakes that begin at once do to media: each time beside a run without them."""
    rows = []
    for burst in (0, 2000) * (1 if QUICK else 3):
        with Listening("ECDSA P-256") as target:
            # What measures goes first, so that the peers' own arithmetic is not taken for the relay's.
            finish = start_load(target, 100, 200, 6, measured=True)
            time.sleep(3)
            begun, answered, queued = time.monotonic(), 0, waited(target)
            if burst:
                # The peers have the generator's core.
                cores = os.sched_getaffinity(0)
                os.sched_setaffinity(0, {0})
                answered = hellos(target, burst)
                os.sched_setaffinity(0, cores)
            lasted, queued = time.monotonic() - begun, waited(target) - queued
            rtp = finish()["rtp"]
            delay = rtp["delay_us"]
            rows.append([burst, answered, f"{lasted:.2f}", f"{queued * 1000:.0f}", f"{rtp['loss_percent']:.3f} %",
                         delay["p50"], delay["p99"], delay["p999"], delay["max"]])
            record("packet delay p99.9", f"{burst} TLS handshakes at once", "us", delay["p999"])
    table("100 calls with G.711 both ways, and TLS handshakes that begin at once beside them",
          ["at once", "answered", "s", "shard waited for its core ms", "loss", "delay p50 us", "p99 us", "p99.9 us",
           "max us"], rows)


def stopped(*_):
    """Who is told to stop ends what was started, namespaces among it."""
    raise SystemExit("compare: stopped")


def main():
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            cwd=ROOT).stdout.strip()
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), "")
    print(f"commit {commit}; {os.cpu_count()} cores, {model}; Linux {platform.release()}; "
          f"load average {os.getloadavg()[0]:.1f}", flush=True)
    go_ahead(os.getpid())
    signal.signal(signal.SIGTERM, stopped)
    try:
        parts = {part.__name__: part for part in (media, srtp, secured, signalling, transports, tls, handshakes)}
        asked = os.environ.get("PARTS", " ".join(parts)).split()
        if unknown := [name for name in asked if name not in parts]:
            raise SystemExit(f"compare: no part is called {' or '.join(unknown)}; there are {', '.join(parts)}")
        for name in filter(asked.__contains__, parts):
            parts[name]()
        print(f"appended to {RESULTS.relative_to(ROOT)}; load average {os.getloadavg()[0]:.1f}")
    finally:
        # Also what had not come up when something failed.
        for process in STARTED:
            end(process)
        shutil.rmtree(SCRATCH, ignore_errors=True)


if __name__ == "__main__":
    main()
