# Reads paths of GGUF files from stdin, one a line, and says for each what the Python package `gguf` makes of it: one
# line of JSON. Run with its virtual environment; see python-oracle.ts.
import json
import resource
import signal
import sys

from gguf import GGUFReader

# A file of a few kilobytes that needs more has made the reader allocate what a header claims.
MEMORY_BYTES_MAX = 2 << 30
SECONDS_MAX = 3


class Late(Exception):
    pass


def on_alarm(_signal, _frame):
    raise Late()


def judge(path):
    signal.setitimer(signal.ITIMER_REAL, SECONDS_MAX)
    try:
        GGUFReader(path)
        return {"verdict": "accepts", "reason": ""}
    except Late:
        return {"verdict": "hangs", "reason": "no answer in time"}
    except MemoryError:
        return {"verdict": "crashes", "reason": "MemoryError"}
    except Exception as error:
        return {"verdict": "refuses", "reason": f"{type(error).__name__}: {error}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
signal.signal(signal.SIGALRM, on_alarm)
for line in sys.stdin:
    print(json.dumps(judge(line.rstrip("\n"))), flush=True)
