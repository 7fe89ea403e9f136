"""Holds one thread of another process still, as a debugger does, until this process ends.

Owns: one ptrace seizure. The thread's number is the argument; says `held`, or why it can't.
"""

import ctypes
import os
import sys

SEIZE, INTERRUPT, WAIT_ALL_THREADS = 0x4206, 0x4207, 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
thread = int(sys.argv[1])
for request in (SEIZE, INTERRUPT):
    if libc.ptrace(request, thread, None, None) != 0:
        print(os.strerror(ctypes.get_errno()), flush=True)
        sys.exit(1)
os.waitpid(thread, WAIT_ALL_THREADS)
print("held", flush=True)
# Until the thread dies: its process is not gone before its tracer has heard of that.
os.waitpid(thread, WAIT_ALL_THREADS)
