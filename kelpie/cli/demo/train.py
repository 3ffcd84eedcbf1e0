"""What a user's script looks like: it counts, writes a checkpoint after each step, and resumes from one.

Nothing in it knows of Kelpie: it reads and writes two directories and takes
everything else from its arguments.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

steps, step_s = int(sys.argv[1]), float(sys.argv[2])
checkpoint = Path("checkpoint/state.json")
result = Path("output/result.json")

state: dict[str, Any] = {"step": 0, "total": 0, "starts": []}
if checkpoint.exists():
    state = json.loads(checkpoint.read_text())
state["starts"].append({"machine": os.environ.get("DEMO_MACHINE", "?"), "from_step": state["step"]})
print(f"starting from step {state['step']} of {steps}", flush=True)

while state["step"] < steps:
    time.sleep(step_s)  # the work
    state["step"] += 1
    state["total"] += state["step"]
    # Written whole, then renamed: nobody ever sees half a checkpoint.
    partial = checkpoint.with_suffix(".partial")
    partial.write_text(json.dumps(state))
    partial.rename(checkpoint)
    print(f"step {state['step']} of {steps}", flush=True)

result.write_text(json.dumps(state))
print("done", flush=True)
