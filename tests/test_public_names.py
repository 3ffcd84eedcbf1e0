"""What a script imports from `kelpie`, and that the README's CSV example works as it stands."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import kelpie
from tests.kelpie_server import ServerProcess

README = Path(__file__).parents[1] / "README.md"


def test_every_public_name_can_be_imported() -> None:
    """Nothing is promised that is not there."""
    assert all(getattr(kelpie, name) is not None for name in kelpie.__all__)


async def test_the_readme_submits_a_thousand_jobs_from_a_csv(
    shared_server: ServerProcess, tmp_path: Path
) -> None:
    """Pasted, with server and key filled in, it submits them in order, and sent again no second time."""
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "csv" in block
    )
    key = shared_server.new_account().key
    script = example.replace("http://your-server:8787", shared_server.url).replace("klp_...", key)
    rows = "\n".join(f"run-{number},{number}" for number in range(1000))
    (tmp_path / "runs.csv").write_text(f"name,seed\n{rows}\n")

    outputs = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        out, _err = await process.communicate()
        assert process.returncode == 0
        outputs.append(out.decode().split())

    assert len(set(outputs[0])) == 1000
    assert outputs[0] == outputs[1]
    last = shared_server.call("GET", f"/jobs/{outputs[0][-1]}", key=key)
    assert (last["name"], last["arguments"]) == ("run-999", ["train.py", "--seed", "999"])
