"""Pulls the plug of an ext4 file system: `power_cut.py MOUNTPOINT SEED`.

Waits for a line on standard input. Then has the kernel write back random ranges of the files there,
perhaps syncs a file that has nothing to do with them (which commits the journal), and shuts the file
system down without flushing its journal. Says `down` when nothing gets to the disk any more.
"""

import ctypes
import fcntl
import os
import random
import struct
import sys

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
PAGE = 4096
# Wait before, write, wait after.
WRITE_BACK = 7

mountpoint, seed = sys.argv[1:]
rng = random.Random(seed)
libc = ctypes.CDLL(None)
root = os.open(mountpoint, os.O_RDONLY)
print("ready", flush=True)
sys.stdin.readline()

files = [os.path.join(where, name) for where, _, names in os.walk(mountpoint) for name in names]
for path in rng.sample(files, rng.randrange(len(files) + 1)):
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        continue
    pages = os.fstat(file).st_size // PAGE + 1
    for _ in range(rng.randrange(4)):
        start, count = rng.randrange(pages), rng.randrange(1, 20)
        libc.sync_file_range(
            file, ctypes.c_int64(start * PAGE), ctypes.c_int64(count * PAGE), WRITE_BACK
        )
    os.close(file)
if rng.random() < 0.5:
    unrelated = os.open(os.path.join(mountpoint, "unrelated"), os.O_RDWR | os.O_CREAT)
    os.pwrite(unrelated, os.urandom(100), 0)
    os.fsync(unrelated)
fcntl.ioctl(root, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
print("down", flush=True)
