"""What a script finds in its environment is what README promises, and no key of Kelpie's."""

from __future__ import annotations

from tests.end_to_end.stage import Stage

SCRIPT = """
env > env
pwd > where
[ -d "$INPUT_DIR" ] && [ -d "$OUTPUT_DIR" ] && [ -d "$CHECKPOINT_DIR" ]
"""


async def test_a_script_has_the_variables_of_readme_and_no_key(stage: Stage) -> None:
    """The worker's own, then the job's, then Kelpie's, which win; it runs in the worker's directory."""
    machine = stage.machine("a", OF_THE_MACHINE="1", SALAD_API_KEY="salad-secret")
    job = await stage.submit(SCRIPT, environment={"OF_THE_JOB": "2", "KELPIE_JOB_ID": "forged"})
    await stage.completed(job)
    lines = (machine.disk / "env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    expected = {
        "OF_THE_MACHINE": "1",
        "OF_THE_JOB": "2",
        "KELPIE_JOB_ID": job.id,
        "KELPIE_ATTEMPT": "1",
        "KELPIE_RESTORED": "false",
        "INPUT_DIR": f"{machine.disk}/input",
        "OUTPUT_DIR": f"{machine.disk}/output",
        "CHECKPOINT_DIR": f"{machine.disk}/checkpoint",
        "AWS_ACCESS_KEY_ID": stage.s3.access_key,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "KELPIE_PROGRESS_FILE" in found
    assert (machine.disk / "where").read_text().strip() == str(machine.disk)
    assert not {stage.worker_key, "salad-secret"} & set(found.values())
