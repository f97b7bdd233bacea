"""The two ways between a node and its load: the loopback, and a wire between two network namespaces.

Over the loopback a send runs the receiver's half of the kernel within it, so a node pays for what its peer receives,
acknowledgements included, and not for what it receives itself. Over the wire the half of each end runs in a thread of
its own (NAPI), which is counted to that end: a node pays what one with a network card pays.
"""

import array
import fcntl
import os
import pathlib
import socket
import struct
import subprocess
import sys

SIOCETHTOOL, ETHTOOL_STSO, ETHTOOL_SGRO = 0x8946, 0x1F, 0x2C


class Loopback:
    """Both ends are in one namespace, and all that is spent is spent by processes."""

    name, sources, allow = "loopback", "127.0.0.0/8", 'allow = ["loopback"]'
    options = []

    def __init__(self, near, far):
        self.near, self.far = near, far

    def at(self, _address):
        """What goes before a command that runs there."""
        return []

    def receiving(self):
        """CPU seconds the kernel has spent receiving for the node, beside its processes."""
        return 0.0


class Wire:
    """A veth pair, MTU 1500, with GRO: the node has one end and core 1, the load the other and core 0."""

    name, sources, allow = "wire", "10.99.0.0/24", ""
    near, far = "10.99.0.1", "10.99.0.2"
    # The generator keeps to its own machine unless it is told; the other namespace is still that.
    options = ["--allow-remote"]

    def __init__(self, goes_ahead):
        self.goes_ahead = goes_ahead
        self.ends = {self.near: f"tandem-near-{os.getpid()}", self.far: f"tandem-far-{os.getpid()}"}

    def __enter__(self):
        try:
            self.lay()
        except BaseException:
            self.__exit__()
            raise
        return self

    def lay(self):
        devices = [f"near{os.getpid()}", f"far{os.getpid()}"]
        near, far = self.ends.values()
        for end in (near, far):
            ip(f"netns add {end}")
            ip(f"-n {end} link set lo up")
        ip(f"link add {devices[0]} netns {near} mtu 1500 type veth peer name {devices[1]} netns {far} mtu 1500")
        for address, device in zip(self.ends, devices):
            ip(f"-n {self.ends[address]} addr add {address}/24 dev {device}")
            ip(f"-n {self.ends[address]} link set {device} up")
            subprocess.run([*self.at(address), sys.executable, __file__, device], check=True)
        threads = [napi_thread(device) for device in devices]
        for thread, core in zip(threads, (1, 0)):
            os.sched_setaffinity(thread, {core})
            if self.goes_ahead:
                os.setpriority(os.PRIO_PROCESS, thread, -20)
        self.thread = threads[0]

    def at(self, address):
        """What goes before a command that runs at the end with this address."""
        return ["ip", "netns", "exec", self.ends[address]]

    def receiving(self):
        """CPU seconds the kernel has spent receiving for the node, beside its processes."""
        return int(pathlib.Path(f"/proc/{self.thread}/schedstat").read_text().split()[0]) / 1e9

    def __exit__(self, *_):
        for end in self.ends.values():
            subprocess.run(["ip", "netns", "del", end], stderr=subprocess.DEVNULL)


def ip(arguments):
    subprocess.run(["ip", *arguments.split()], check=True)


def receive_by_thread(device):
    """What makes veth receive in NAPI, and a thread for that: GRO here, and at the other end no TSO, whose segments it
    takes for too large already. For a process within the namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command, value in ((ETHTOOL_STSO, 0), (ETHTOOL_SGRO, 1)):
            words = array.array("I", [command, value])
            request = struct.pack("16sP", device.encode(), words.buffer_info()[0])
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)
    pathlib.Path(f"/sys/class/net/{device}/threaded").write_text("1")


def napi_thread(device):
    """The id of the kernel's thread that receives for the device."""
    for entry in pathlib.Path("/proc").glob("[0-9]*/comm"):
        if entry.read_text().startswith(f"napi/{device}-"):
            return int(entry.parent.name)
    raise SystemExit(f"compare: the kernel gave {device} no NAPI thread (veth has them since Linux 5.13)")


if __name__ == "__main__":
    receive_by_thread(sys.argv[1])
